//! Decides whether what a partner sends of a new client of the token service is good: its public key, or its certificate.
//!
//! Neither is secret. The client proves to have what belongs to it with every request for a token, and to have the key of a certificate
//! also when it sends that: otherwise somebody could take the certificate of another consumer before that one does.

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::{Map, Value};

use super::caller::Consumer;
use super::client::{self, ClientCredential};
use super::client_key;
use super::key_set::KeySet;
use super::{Authentication, certificate};
use crate::exchange::{ClientCertificate, Request};
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::state::registry::entry::{self, ClientKey, Digest};
use crate::state::registry::revocation_key::RevocationKey;

/// Most certificates of a chain.
const MAX_CHAIN: usize = 5;

/// The public key of a new client.
pub(crate) struct NewKey {
    pub(crate) key: ClientKey,
    set: KeySet,
}

/// The certificate of a new client.
pub(crate) struct NewCertificate {
    pub(crate) thumbprint: Digest,
    /// When it was issued.
    pub(crate) issued: Option<Timestamp>,
    /// When it expires.
    pub(crate) expires: Option<Timestamp>,
}

impl Authentication {
    /// Whether there is a listener to which clients can show certificates.
    pub(crate) fn takes_certificates(&self) -> bool {
        !self.rules.trusts.is_empty()
    }

    /// Reads the public key of a new client.
    ///
    /// # Errors
    /// It cannot be used, is private, or is known here already.
    pub(crate) fn new_client_key(&self, jwk: &Map<String, Value>, now: Timestamp) -> Result<NewKey, Refusal> {
        let (key, set) = client_key::read(jwk).map_err(|problem| {
            let pointer = problem.member.map_or("/jwk".to_owned(), |member| format!("/jwk/{member}"));
            wrong(&pointer, problem.detail)
        })?;
        let key = NewKey { key, set };
        if self.has_client_key(&key, now) {
            return Err(known("the key is another client's, or this proxy's own"));
        }
        Ok(key)
    }

    /// Whether a good client has this key, or tokens are signed with it here. Nodes that take the same key at the same moment do not see
    /// each other's; each client is still known by its id, too.
    pub(crate) fn has_client_key(&self, new: &NewKey, now: Timestamp) -> bool {
        let listed = self.rules.clients.values().any(|client| match &client.credential {
            ClientCredential::Keys(keys) => keys.shares_key(&new.set),
            _ => false,
        });
        let made = || {
            self.registry.clients().iter().any(|client| match &client.credential {
                entry::ClientCredential::Key(key) if key.thumbprint == new.key.thumbprint => {
                    !client::has_ended(client, &self.registry, now)
                }
                _ => false,
            })
        };
        listed || self.own_keys(now).shares_key(&new.set) || made()
    }

    /// Reads the certificate of a new client of a consumer, with its chain: PEM, the client's own first. The request must be sent with
    /// it, too, as all that follow.
    ///
    /// # Errors
    /// No listener would accept it, it belongs to somebody else, or tokens would be refused with it from the start.
    pub(crate) fn new_client_certificate(
        &self,
        pem: &str,
        consumer: &Consumer,
        request: &Request<'_>,
    ) -> Result<NewCertificate, Refusal> {
        let now = request.now();
        if pem.contains("PRIVATE KEY-----") {
            let detail = "you sent your private key, so it is no longer private; get a certificate for a new one";
            return Err(wrong("/certificate", detail));
        }
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CHAIN).collect();
        let chain = chain
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| wrong("/certificate", "send a certificate in PEM, and the intermediate ones after it"))?;
        let shown = self.accepted(&chain, now)?;
        if request.certificate().is_none_or(|own| own.thumbprint != shown.thumbprint) {
            let detail = "connect with the certificate that you send, and its key: that shows that they are yours; it needs an address of \
                          this API that takes client certificates";
            return Err(wrong("/certificate", detail));
        }
        if self.has_client_certificate(&shown.thumbprint, consumer.name(), now) {
            return Err(known("a client of another consumer has the certificate"));
        }
        if self.consumer_of(&shown)?.is_some_and(|other| other.name() != consumer.name()) {
            return Err(known("the certificate belongs to another consumer"));
        }
        let names = [
            RevocationKey::certificate(&shown.thumbprint),
            RevocationKey::consumer(consumer.name()),
            RevocationKey::all(),
        ];
        if self.registry.is_revoked(&names, Some(shown.not_before), now) {
            let detail = "the certificate was revoked, or all that were issued at its time";
            return Err(known(detail));
        }
        let [issued, expires] = [shown.not_before, shown.not_after].map(|second| Timestamp::from_second(second).ok());
        Ok(NewCertificate { thumbprint: shown.thumbprint, issued, expires })
    }

    /// Whether a client of another consumer has the certificate with this thumbprint, and has not ended. Clients of one consumer may
    /// follow each other with one certificate: each request says which of them sends it.
    pub(crate) fn has_client_certificate(&self, thumbprint: &Digest, consumer: &str, now: Timestamp) -> bool {
        let listed = self.rules.clients.values().any(|client| match &client.credential {
            ClientCredential::Certificate(known) => known == thumbprint && **client.consumer.name() != *consumer,
            _ => false,
        });
        let made = || {
            self.registry.clients().iter().any(|client| match &client.credential {
                entry::ClientCredential::Certificate(known) if known == thumbprint && *client.consumer != *consumer => {
                    !client::has_ended(client, &self.registry, now)
                }
                _ => false,
            })
        };
        listed || made()
    }

    /// The certificate as the first listener that accepts it will see it.
    fn accepted(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<ClientCertificate, Refusal> {
        let since = u64::try_from(now.as_second()).unwrap_or_default();
        let since = UnixTime::since_unix_epoch(std::time::Duration::from_secs(since));
        let mut why = None;
        for (listener, trust) in &self.rules.trusts {
            let Some((first, rest)) = chain.split_first() else { break };
            match trust.verifier.verify_client_cert(first, rest, since) {
                Ok(_) => return certificate::read(chain, *listener, trust).ok_or_else(unreadable),
                Err(error) => why = Some(error.to_string()),
            }
        }
        let detail = "this certificate is not accepted here: it must be valid, for clients, and signed by an authority that the \
                      API's owner has named";
        Err(wrong("/certificate", detail)
            .cause(why.unwrap_or_else(|| "no listener takes client certificates".to_owned())))
    }
}

fn unreadable() -> Refusal {
    wrong("/certificate", "this certificate cannot be read")
}

/// Refuses what was sent, at this JSON pointer into the body.
fn wrong(pointer: &str, detail: impl Into<String>) -> Refusal {
    let errors = vec![Violation::new(pointer, detail.into())];
    Refusal::new(Stage::Schema, Reason::SchemaViolation, "the credential that you sent cannot be taken; see `errors`")
        .members(Members { errors, ..Members::default() })
}

/// Refuses what is known here. The text is the same for all, so that it does not say whose it is; `cause` is for the log.
fn known(cause: &'static str) -> Refusal {
    let detail = "this key or certificate cannot be taken: it is used here already, or was revoked; get a new one for this client";
    Refusal::new(Stage::Request, Reason::Conflict, detail).cause(cause)
}
