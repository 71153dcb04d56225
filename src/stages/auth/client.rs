//! Clients of the token service (RFC 6749 §2).
//!
//! A client has one kind of credential: secrets (two may overlap, so that they can be replaced), keys with which it signs
//! assertions (RFC 7523), or a certificate (RFC 8705 §2). What it may do is what its consumer may do.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::caller::Consumer;
use super::claims::{OWN_ISSUER, refuse};
use super::key_set::KeySet;
use crate::refusal::{Reason, Refusal};
use crate::state::registry::Registry;
use crate::state::registry::entry::Digest;
use crate::state::registry::revocation_key::RevocationKey;

/// All clients, by id.
pub(crate) type Clients = HashMap<Box<str>, Client>;

/// A client of the token service.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: Box<str>,
    /// The consumer that it belongs to.
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) credential: ClientCredential,
    /// Whether its tokens must be bound to a DPoP key.
    pub(crate) dpop: bool,
    /// The issuers whose tokens it may exchange.
    pub(crate) exchange: Box<[Box<str>]>,
    /// Whether it may introspect the tokens of others: it is an API.
    pub(crate) introspect: bool,
}

impl Client {
    /// The keys by which it, and all it was given, can be revoked.
    fn revocation_keys(&self) -> Vec<RevocationKey> {
        let mut keys = vec![
            RevocationKey::subject(OWN_ISSUER, &self.id),
            RevocationKey::consumer(self.consumer.name()),
            RevocationKey::all(),
        ];
        if let ClientCredential::Certificate(thumbprint) = &self.credential {
            keys.push(RevocationKey::certificate(thumbprint));
        }
        keys
    }

    /// Decides whether operators have left it, and what `more` names, as they are. `issued`: when that was given, in seconds
    /// since 1970.
    ///
    /// # Errors
    /// It is revoked, or its consumer is suspended.
    pub(crate) fn check_standing(
        &self,
        registry: &Registry,
        more: &[RevocationKey],
        issued: Option<i64>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let keys = [&self.revocation_keys(), more].concat();
        if registry.is_revoked(&keys, issued, now) {
            return Err(refuse(Reason::Revoked, "the client has been revoked; ask the API's owner"));
        }
        if registry.consumer_state(self.consumer.name(), now).suspended {
            return Err(refuse(Reason::ConsumerSuspended, "the consumer is suspended; ask the API's owner"));
        }
        Ok(())
    }
}

/// What a client proves its identity by.
#[derive(Debug)]
pub(crate) enum ClientCredential {
    Secrets(Vec<ClientSecret>),
    /// It signs assertions with one of these keys.
    Keys(Arc<KeySet>),
    /// Thumbprint of its certificate.
    Certificate(Digest),
}

/// A secret of a client.
#[derive(Debug)]
pub(crate) struct ClientSecret {
    pub(crate) sha256: Digest,
    /// When it was created.
    pub(crate) created: Option<Timestamp>,
    /// It is refused from this instant on.
    pub(crate) expires: Option<Timestamp>,
}

/// How a request says which client sends it. Nothing is verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    Secret {
        id: &'a str,
        secret: &'a str,
    },
    Assertion {
        id: Option<&'a str>,
        assertion: &'a str,
    },
    /// By the certificate of its connection, if it has one.
    Id(&'a str),
}
