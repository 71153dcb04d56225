//! Clients of the token service (RFC 6749 §2).
//!
//! A client has one kind of credential: secrets (two may overlap, so that they can be replaced), keys with which it signs
//! assertions (RFC 7523), or a certificate (RFC 8705 §2). What it may do is what its consumer may do. Clients of the policy take
//! precedence over those that were made at run time.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::caller::{Consumer, CredentialKind};
use super::claims::{OWN_ISSUER, refuse};
use super::key_set::KeySet;
use crate::exchange::networks::Networks;
use crate::refusal::{Reason, Refusal};
use crate::state::registry::Registry;
use crate::state::registry::entry::{self, ClientKey, Digest};
use crate::state::registry::revocation_key::RevocationKey;

/// All clients, by id.
pub(crate) type Clients = HashMap<Box<str>, Arc<Client>>;

/// A client of the token service.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: Box<str>,
    /// The consumer that it belongs to.
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) credential: ClientCredential,
    /// Restricts what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// Where it and its tokens are good from, within what its consumer may.
    pub(crate) networks: Option<Arc<Networks>>,
    /// When it was made; absent: it is of the policy.
    pub(crate) created: Option<Timestamp>,
    /// It and its tokens are refused from this instant on.
    pub(crate) expires: Option<Timestamp>,
    /// Whether its tokens must be bound to a DPoP key.
    pub(crate) dpop: bool,
    /// The issuers whose tokens it may exchange.
    pub(crate) exchange: Box<[Box<str>]>,
    /// Whether it may introspect the tokens of others: it is an API.
    pub(crate) introspect: bool,
}

impl Client {
    /// A client that was made at run time, which this consumer owns.
    pub(crate) fn of_registry(stored: &entry::Client, consumer: Arc<Consumer>) -> Self {
        let (credential, last) = match &stored.credential {
            entry::ClientCredential::Secrets(secrets) => {
                let ends: Option<Vec<_>> = secrets.iter().map(|secret| secret.expires).collect();
                let secrets = secrets.iter().map(|secret| ClientSecret {
                    sha256: secret.sha256,
                    created: Some(secret.created),
                    expires: secret.expires,
                });
                (ClientCredential::Secrets(secrets.collect()), ends.and_then(|ends| ends.into_iter().max()))
            }
            entry::ClientCredential::Key(key) => (ClientCredential::Key(key.clone()), None),
            entry::ClientCredential::Certificate(thumbprint) => (ClientCredential::Certificate(*thumbprint), None),
        };
        Self {
            id: stored.id.clone(),
            consumer,
            credential,
            scopes: stored.scopes.clone(),
            networks: stored.from.clone().map(Arc::new),
            created: Some(stored.created),
            expires: stored.expires.or(last),
            dpop: false,
            exchange: Box::default(),
            introspect: false,
        }
    }

    /// What it may do, at most.
    pub(crate) fn ceiling(&self) -> Vec<Box<str>> {
        let all = self.consumer.ceiling().unwrap_or_default().iter();
        all.filter(|scope| self.scopes.as_ref().is_none_or(|scopes| scopes.contains(scope))).cloned().collect()
    }

    /// Whether it is good now: `active`, `expired` or `revoked`.
    pub(crate) fn state(&self, registry: &Registry, now: Timestamp) -> &'static str {
        let issued = match &self.credential {
            // Whatever was issued before a time is revoked; the newest secret is what counts.
            ClientCredential::Secrets(secrets) => secrets.last().and_then(|secret| secret.created),
            ClientCredential::Keys(_) | ClientCredential::Key(_) | ClientCredential::Certificate(_) => self.created,
        };
        match self.expires {
            _ if registry.is_revoked(&self.revocation_keys(), issued.map(Timestamp::as_second), now) => "revoked",
            Some(end) if end <= now => "expired",
            _ => "active",
        }
    }

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
    /// It is revoked or has expired, or its consumer is suspended.
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
        if self.expires.is_some_and(|end| end <= now) {
            return Err(refuse(Reason::InvalidClient, "the client has expired; ask the API's owner for a new one"));
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
    /// It signs assertions with this key, which is read when one comes: it was checked when it was registered.
    Key(ClientKey),
    /// Thumbprint of its certificate.
    Certificate(Digest),
}

impl ClientCredential {
    /// How it authenticates, by the name that records have.
    pub(crate) fn kind(&self) -> CredentialKind {
        match self {
            Self::Secrets(_) => CredentialKind::ClientSecret,
            Self::Keys(_) | Self::Key(_) => CredentialKind::ClientAssertion,
            Self::Certificate(_) => CredentialKind::Certificate,
        }
    }
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
