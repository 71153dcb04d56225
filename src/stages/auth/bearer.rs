//! Tokens: finds the caller that sends one.
//!
//! A JWT of a known issuer is judged by that issuer alone. What is no JWT, or a JWT of nobody known, is introspected. So a
//! token has three outcomes, and what its issuer's rules refuse here is never asked about elsewhere.

use std::sync::Arc;

use super::cache::SentAs;
use super::caller::{Caller, CredentialKind, Verified};
use super::claims::{Claims, OWN_ISSUER, Settings, Times, invalid};
use super::directory::Directory;
use super::token::{self, Presented, Token};
use super::{Authentication, Underway, unavailable, unknown};
use crate::exchange::networks::Networks;
use crate::refusal::{Reason, Refusal};
use crate::state::ledger::Tick;
use crate::state::registry::entry::Identity;
use crate::state::registry::revocation_key::RevocationKey;

/// A caller, when its token is valid, and until when the token need not be verified again.
type Known = (Arc<Caller>, Times, i64);

impl Authentication {
    /// The caller that sends this token.
    pub(super) async fn bearer<'a>(
        &'a self,
        token: &[u8],
        underway: &mut Underway<'a, '_>,
    ) -> Result<Arc<Caller>, Refusal> {
        let (cache, now) = (underway.cache, underway.request.now());
        if let Some((caller, times)) = cache.get(token, SentAs::Token, now) {
            times.check(now).inspect_err(|_| *underway.holder = Some(Arc::clone(&caller)))?;
            return Ok(caller);
        }
        self.reserve(underway).await?;
        let epoch = cache.epoch();
        let text = str::from_utf8(token).ok().filter(|text| text.is_ascii());
        let text = text.ok_or_else(|| invalid("the token is not visible ASCII"))?;
        // Boxed: large and rare; it would be part of every request's future.
        let (caller, times, until) = Box::pin(self.verify(text, underway)).await?;
        cache.insert(token, &caller, times, until, epoch);
        Ok(caller)
    }

    /// Verifies a token by the keys of its issuer, or by introspection.
    pub(super) async fn verify(&self, text: &str, underway: &mut Underway<'_, '_>) -> Result<Known, Refusal> {
        let now = underway.request.now();
        let token = Token::read(text);
        match &token {
            Presented::Jwt(token) => {
                if let Some(issuer) = token.iss().and_then(|iss| self.rules.issuers.get(iss)) {
                    self.secret_is_fresh(issuer.name())?;
                    let claims = issuer.verify(token, &self.keys, now).await?;
                    return self.known(issuer.settings(), CredentialKind::Jwt, (&claims, i64::MAX), text, underway);
                }
            }
            Presented::Ambiguous => return Err(token::malformed()),
            Presented::Opaque => {}
        }
        let mut unavailable = None;
        for (endpoint, client) in self.rules.introspection.iter().zip(&self.introspection) {
            let fresh = self.secret_is_fresh(&endpoint.settings().name);
            let verified = match fresh {
                Ok(()) => endpoint.verify(client, text, now).await,
                Err(refusal) => Err(refusal),
            };
            match verified {
                Ok(Some((claims, until))) => {
                    let kind = CredentialKind::Introspected;
                    return self.known(endpoint.settings(), kind, (&claims, until), text, underway);
                }
                Ok(None) => {}
                Err(refusal) if matches!(refusal.reason(), Reason::IdentityUnavailable | Reason::Overloaded) => {
                    unavailable = Some(refusal);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        // The endpoint that could not be asked might have known the token.
        if let Some(refusal) = unavailable {
            return Err(refusal);
        }
        Err(match token {
            _ if !self.introspection.is_empty() => invalid("the token is not active"),
            Presented::Jwt(token) if token.iss().is_none() => invalid("the token names no issuer (`iss`)"),
            Presented::Jwt(_) => invalid("the token's issuer (`iss`) is not accepted here"),
            Presented::Opaque | Presented::Ambiguous => token::malformed(),
        })
    }

    /// Decides whether the secret of an issuer or an endpoint is fresh enough.
    fn secret_is_fresh(&self, name: &str) -> Result<(), Refusal> {
        if self.stale.has_issuer(name) {
            return Err(unavailable(format!(
                "a secret of `{name}` is stale, and `secrets.vault.on_failure` is `refuse`"
            )));
        }
        Ok(())
    }

    /// Where the tokens of a client that was made at run time are good from.
    fn client_networks(&self, issuer: &str, subject: &str) -> Option<Arc<Networks>> {
        let client = (*issuer == *OWN_ISSUER).then(|| self.registry.client(subject))??;
        client.from.clone().map(Arc::new)
    }

    /// Finds the caller of an authentic token, and decides whether the token is valid now.
    fn known(
        &self,
        settings: &Settings,
        kind: CredentialKind,
        (claims, until): (&Claims, i64),
        text: &str,
        underway: &mut Underway<'_, '_>,
    ) -> Result<Known, Refusal> {
        let valid = settings.check_times(claims, underway.request.now());
        let caller = self.caller_of(settings, kind, claims, text, underway.request.tick).map(Arc::new);
        if let Err(refusal) = valid {
            *underway.holder = caller.ok();
            return Err(refusal);
        }
        Ok((caller?, claims.times, until))
    }

    fn caller_of(
        &self,
        settings: &Settings,
        kind: CredentialKind,
        claims: &Claims,
        text: &str,
        tick: Tick,
    ) -> Result<Caller, Refusal> {
        let identity = Identity::Issuer { issuer: settings.name.clone(), id: claims.subject.clone() };
        let directory = &self.rules.directory;
        let (consumer, account) = match (directory.identified(&identity, &self.registry)?, &settings.default_plan) {
            (Some(consumer), _) => {
                let account = consumer.account(&self.ledger);
                (consumer, account)
            }
            (None, Some(plan)) => {
                let consumer = Directory::unlisted(&settings.name, &claims.subject, plan);
                let account = self.ledger.unlisted(consumer.name(), tick);
                (consumer, account)
            }
            (None, None) => return Err(unknown(format!("issuer {}, id {}", settings.name, claims.subject))),
        };
        let granted = settings.scopes_and_roles.combine(claims.scopes.clone(), directory.scopes(&claims.roles));
        let named = token::name(text);
        let mut revocation_keys = vec![RevocationKey::token(named.as_bytes()), RevocationKey::issuer(&settings.name)];
        // An operator may have revoked it by the digest of the whole text.
        revocation_keys.extend((named != text).then(|| RevocationKey::token(text.as_bytes())));
        revocation_keys.extend(claims.jti.as_deref().map(RevocationKey::jti));
        revocation_keys.extend(claims.family.as_deref().map(RevocationKey::family));
        revocation_keys.extend(claims.sources.iter().copied());
        revocation_keys.extend(claims.confirmation.certificate.as_ref().map(RevocationKey::certificate));
        let other = claims.sub.iter().filter(|sub| **sub != claims.subject);
        revocation_keys.extend(other.map(|sub| RevocationKey::subject(&settings.name, sub)));
        revocation_keys.push(RevocationKey::subject(&settings.name, &claims.subject));
        let verified = Verified {
            kind,
            id: claims.jti.clone(),
            issuer: Some(settings.name.clone()),
            user: claims.user.clone(),
            networks: self.client_networks(&settings.name, &claims.subject),
            attributes: claims.attributes.clone(),
            forwarded: claims.forwarded.clone(),
            granted,
            revocation_keys,
            issued: claims.issued,
            confirmation: claims.confirmation.clone(),
            usage: None,
        };
        Ok(Caller::new(consumer, account, verified).counting_users(&self.ledger, &settings.name, tick))
    }
}
