//! What a revocation names, and the marks by which it is recognised on a request.
//!
//! A mark is made once, when a credential has been verified, and looked up on every request. It is 128 bits: the first
//! byte says of what, the others are of a SHA-256, so that neither the length nor the choice of a name can make two
//! different things look alike.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::digest::{Digest, hex};

/// What a revocation names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
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
    /// Every credential.
    All,
}

/// Of what a mark is; the first byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Of {
    Token,
    Jti,
    Subject,
    Consumer,
    Key,
    Certificate,
    Issuer,
    All,
}

/// How many kinds of marks there are.
pub(super) const KINDS: usize = 8;

/// Something that can be revoked, in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RevocationKey([u8; 16]);

impl RevocationKey {
    fn new(of: Of, parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            // The length before each part: "a" + "bc" is not "ab" + "c".
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let digest = context.finish();
        let mut mark = [0; 16];
        mark.iter_mut().zip(digest.as_ref()).for_each(|(byte, of_digest)| *byte = *of_digest);
        if let Some(first) = mark.first_mut() {
            *first = of as u8;
        }
        Self(mark)
    }

    /// The mark of a target's id.
    pub(super) fn of_id(id: &str) -> Option<Self> {
        let mut mark = [0; 16];
        let pairs = id.as_bytes().chunks_exact(2);
        if id.len() != 32 {
            return None;
        }
        for (byte, pair) in mark.iter_mut().zip(pairs) {
            let pair = str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(mark))
    }

    /// Of what it is.
    pub(super) fn kind(self) -> usize {
        let Self([first, ..]) = self;
        usize::from(first)
    }

    /// A part of it that is spread evenly.
    pub(super) fn spread(self) -> usize {
        let Self([_, second, ..]) = self;
        usize::from(second)
    }

    /// Of a token's text, or of what of it was signed.
    pub(crate) fn token(text: &[u8]) -> Self {
        Self::new(Of::Token, &[aws_lc_rs::digest::digest(&SHA256, text).as_ref()])
    }

    /// Of a `jti`.
    pub(crate) fn jti(jti: &str) -> Self {
        Self::new(Of::Jti, &[jti.as_bytes()])
    }

    /// Of an issuer's subject.
    pub(crate) fn subject(issuer: &str, subject: &str) -> Self {
        Self::new(Of::Subject, &[issuer.as_bytes(), subject.as_bytes()])
    }

    /// Of a consumer.
    pub(crate) fn consumer(name: &str) -> Self {
        Self::new(Of::Consumer, &[name.as_bytes()])
    }

    /// Of an API key.
    pub(crate) fn key(id: &str) -> Self {
        Self::new(Of::Key, &[id.as_bytes()])
    }

    /// Of a client certificate.
    pub(crate) fn certificate(thumbprint: &Digest) -> Self {
        Self::new(Of::Certificate, &[thumbprint])
    }

    /// Of an issuer.
    pub(crate) fn issuer(name: &str) -> Self {
        Self::new(Of::Issuer, &[name.as_bytes()])
    }

    /// Of everything.
    pub(crate) fn all() -> Self {
        Self::new(Of::All, &[])
    }
}

impl Target {
    /// The mark it is recognised by.
    pub(crate) fn mark(&self) -> RevocationKey {
        match self {
            Self::Token(digest) => RevocationKey::new(Of::Token, &[digest]),
            Self::Jti(jti) => RevocationKey::jti(jti),
            Self::Subject { issuer, subject } => RevocationKey::subject(issuer, subject),
            Self::Consumer(name) => RevocationKey::consumer(name),
            Self::Key(id) => RevocationKey::key(id),
            Self::Certificate(thumbprint) => RevocationKey::certificate(thumbprint),
            Self::Issuer(name) => RevocationKey::issuer(name),
            Self::All => RevocationKey::all(),
        }
    }

    /// Its id: the same for the same target, so that revoking twice is revoking once.
    pub(crate) fn id(&self) -> String {
        hex::encode(&self.mark().0)
    }
}
