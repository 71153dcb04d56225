//! What a revocation names, and the keys by which it is recognised on a request.
//!
//! A key is computed once, when a credential has been verified, and looked up on every request. It has 128 bits: the
//! first byte is the kind, and the others come from a SHA-256, so that no choice of names or lengths makes two
//! different things collide.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::digest::{Digest, hex};

/// What a revocation names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RevocationTarget {
    /// One token, by a SHA-256: of what was signed, or of its text.
    Token(#[serde(with = "hex")] Digest),
    /// One token, by its `jti` (RFC 7519 §4.1.7).
    Jti(Box<str>),
    /// Tokens of a subject.
    Subject {
        /// Name of the issuer in the policy.
        issuer: Box<str>,
        /// `sub`, or the value of the issuer's `consumer_claim`.
        subject: Box<str>,
    },
    /// Every credential of a consumer.
    Consumer(Box<str>),
    /// One API key.
    Key(Box<str>),
    /// One client certificate, by its thumbprint.
    Certificate(#[serde(with = "hex")] Digest),
    /// Tokens of an issuer.
    Issuer(Box<str>),
    /// The tokens of one grant of the token service: its refresh tokens, and the access tokens they gave (`sid`).
    Family(Box<str>),
    /// Every credential.
    All,
}

/// The kind of a revocation key; its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum TargetKind {
    Token,
    Jti,
    Subject,
    Consumer,
    Key,
    Certificate,
    Issuer,
    All,
    Family,
}

/// How many kinds of revocation keys there are.
pub(super) const KINDS: usize = 9;

/// Something that can be revoked, in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RevocationKey([u8; 16]);

impl RevocationKey {
    fn new(of: TargetKind, parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            // The length before each part: "a" + "bc" is not "ab" + "c".
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let digest = context.finish();
        let mut key = [0; 16];
        key.iter_mut().zip(digest.as_ref()).for_each(|(byte, of_digest)| *byte = *of_digest);
        if let Some(first) = key.first_mut() {
            *first = of as u8;
        }
        Self(key)
    }

    /// Returns the key that a target's id encodes.
    pub(crate) fn of_id(id: &str) -> Option<Self> {
        let mut key = [0; 16];
        let pairs = id.as_bytes().chunks_exact(2);
        if id.len() != 32 {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(pairs) {
            let pair = str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(key))
    }

    /// Returns the id of its target.
    pub(crate) fn id(self) -> String {
        hex::encode(&self.0)
    }

    /// Returns its kind, as an index below [`KINDS`].
    pub(super) fn kind(self) -> usize {
        let Self([first, ..]) = self;
        usize::from(first)
    }

    /// Returns an evenly distributed part of it, for sharding.
    pub(super) fn shard_hash(self) -> usize {
        let Self([_, second, ..]) = self;
        usize::from(second)
    }

    /// The key of a token's text, or of its signed part.
    pub(crate) fn token(text: &[u8]) -> Self {
        Self::new(TargetKind::Token, &[aws_lc_rs::digest::digest(&SHA256, text).as_ref()])
    }

    /// The key of a `jti`.
    pub(crate) fn jti(jti: &str) -> Self {
        Self::new(TargetKind::Jti, &[jti.as_bytes()])
    }

    /// The key of an issuer's subject.
    pub(crate) fn subject(issuer: &str, subject: &str) -> Self {
        Self::new(TargetKind::Subject, &[issuer.as_bytes(), subject.as_bytes()])
    }

    /// The key of a consumer.
    pub(crate) fn consumer(name: &str) -> Self {
        Self::new(TargetKind::Consumer, &[name.as_bytes()])
    }

    /// The key of an API key.
    pub(crate) fn key(id: &str) -> Self {
        Self::new(TargetKind::Key, &[id.as_bytes()])
    }

    /// The key of a client certificate.
    pub(crate) fn certificate(thumbprint: &Digest) -> Self {
        Self::new(TargetKind::Certificate, &[thumbprint])
    }

    /// The key of an issuer.
    pub(crate) fn issuer(name: &str) -> Self {
        Self::new(TargetKind::Issuer, &[name.as_bytes()])
    }

    /// The key of a family of tokens.
    pub(crate) fn family(id: &str) -> Self {
        Self::new(TargetKind::Family, &[id.as_bytes()])
    }

    /// The key that revokes everything.
    pub(crate) fn all() -> Self {
        Self::new(TargetKind::All, &[])
    }
}

impl RevocationTarget {
    /// Returns the key it is recognised by.
    pub(crate) fn revocation_key(&self) -> RevocationKey {
        match self {
            Self::Token(digest) => RevocationKey::new(TargetKind::Token, &[digest]),
            Self::Jti(jti) => RevocationKey::jti(jti),
            Self::Subject { issuer, subject } => RevocationKey::subject(issuer, subject),
            Self::Consumer(name) => RevocationKey::consumer(name),
            Self::Key(id) => RevocationKey::key(id),
            Self::Certificate(thumbprint) => RevocationKey::certificate(thumbprint),
            Self::Issuer(name) => RevocationKey::issuer(name),
            Self::Family(id) => RevocationKey::family(id),
            Self::All => RevocationKey::all(),
        }
    }

    /// Returns its id: the same for the same target, so that revoking is idempotent.
    pub(crate) fn id(&self) -> String {
        self.revocation_key().id()
    }
}
