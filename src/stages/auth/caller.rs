//! An authenticated caller, and its consumer.
//!
//! Only authentication can make a [`Caller`]: its fields are private, and its constructor is visible in this folder only.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};

use super::attributes::{Attributes, ClaimedAttributes, Values};
use super::claims::Confirmation;
use crate::exchange::networks::Networks;
use crate::stages::rate_limit::Plan;
use crate::state::ledger::{Account, Ledger, Tick};
use crate::state::registry::Usage;
use crate::state::registry::revocation_key::RevocationKey;

/// The kind of credential that authenticated a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// A token of a known issuer.
    Jwt,
    /// A token verified by an introspection endpoint.
    Introspected,
    /// An API key.
    ApiKey,
    /// A client certificate.
    Certificate,
    /// The secret of a client of the token service.
    ClientSecret,
    /// A JWT that a client of the token service has signed (RFC 7523).
    ClientAssertion,
    /// The code of an invitation, which is good for claiming a credential and nothing else.
    Invitation,
}

impl CredentialKind {
    /// The name used in audit records.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Introspected => "introspected",
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
            Self::ClientSecret => "client_secret",
            Self::ClientAssertion => "private_key_jwt",
            Self::Invitation => "invitation",
        }
    }
}

/// A consumer: its name, its rights and its limits.
#[derive(Debug)]
pub(crate) struct Consumer {
    name: Arc<str>,
    roles: Box<[Box<str>]>,
    /// Scopes that its roles allow; absent: no ceiling.
    ceiling: Option<Box<[Box<str>]>>,
    plan: Option<Arc<Plan>>,
    organization: Option<Box<str>>,
    attributes: Values,
    /// Where its credentials are good from; absent: anywhere.
    networks: Option<Networks>,
}

impl Consumer {
    /// Compiles a consumer. `ceiling` is the union of its roles' scopes, `None` when it has no `roles`.
    pub(crate) fn new(name: &str, roles: Vec<String>, ceiling: Option<Vec<Box<str>>>, plan: Option<Arc<Plan>>) -> Self {
        Self {
            name: name.into(),
            roles: roles.into_iter().map(Box::from).collect(),
            ceiling: ceiling.map(Vec::into_boxed_slice),
            plan,
            organization: None,
            attributes: Values::new(),
            networks: None,
        }
    }

    /// Sets the networks that its credentials are good from.
    pub(crate) fn only_from(self, networks: Option<Networks>) -> Self {
        Self { networks, ..self }
    }

    /// The networks that its credentials are good from; absent: any.
    pub(crate) fn networks(&self) -> Option<&Networks> {
        self.networks.as_ref()
    }

    /// Its attributes.
    pub(crate) fn attributes(&self) -> &Values {
        &self.attributes
    }

    /// Sets its attributes.
    pub(crate) fn with_attributes(self, attributes: Values) -> Self {
        Self { attributes, ..self }
    }

    /// Sets the organization that it belongs to.
    pub(crate) fn of_organization(mut self, name: Option<&str>) -> Self {
        self.organization = name.map(Box::from);
        self
    }

    /// The organization that it belongs to.
    pub(crate) fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    /// Whether its requests are counted together with those of its organization, as its plan says.
    pub(crate) fn counted_by(&self) -> Option<&str> {
        self.organization.as_deref().filter(|_| self.plan.as_ref().is_some_and(|plan| plan.counts_by_organization()))
    }

    /// Where its requests are counted: alone, or with those of its organization if its plan says so.
    pub(crate) fn account(&self, ledger: &Ledger) -> Arc<Account> {
        self.counted_by().map_or_else(|| ledger.listed(&self.name), |name| ledger.organization(name))
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn roles(&self) -> &[Box<str>] {
        &self.roles
    }

    pub(crate) fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// The scopes that its roles allow; `None`: no ceiling.
    pub(crate) fn ceiling(&self) -> Option<&[Box<str>]> {
        self.ceiling.as_deref()
    }

    /// Splits scopes into those within the ceiling and those beyond it, each sorted.
    fn cut(&self, mut granted: Vec<Box<str>>) -> [Box<[Box<str>]>; 2] {
        granted.sort_unstable();
        granted.dedup();
        let (granted, cut): (Vec<_>, Vec<_>) =
            granted.into_iter().partition(|scope| self.ceiling.as_ref().is_none_or(|ceiling| ceiling.contains(scope)));
        [granted.into(), cut.into()]
    }
}

/// A verified credential.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) kind: CredentialKind,
    /// For the record; never the secret.
    pub(super) id: Option<Box<str>>,
    /// Who issued it, by its name in the policy; absent: not a token.
    pub(super) issuer: Option<Box<str>>,
    /// The user that the consumer acts for.
    pub(super) user: Option<Box<str>>,
    /// Where it is good from, within what its consumer may; absent: anywhere.
    pub(super) networks: Option<Arc<Networks>>,
    /// What it says of the caller beside its scopes.
    pub(super) attributes: ClaimedAttributes,
    /// What the upstream gets of its claims.
    pub(super) forwarded: Box<[(HeaderName, HeaderValue)]>,
    pub(super) granted: Vec<Box<str>>,
    /// The keys by which it can be revoked.
    pub(super) revocation_keys: Vec<RevocationKey>,
    /// When it was issued, in seconds since 1970.
    pub(super) issued: Option<i64>,
    /// What the sender must prove to possess.
    pub(super) confirmation: Confirmation,
    /// Where its uses are recorded.
    pub(super) usage: Option<Arc<Usage>>,
}

/// An authenticated caller: a consumer, one of its credentials, and the scopes granted to it.
///
/// This is an identity and not a decision: whether the scopes suffice is decided on every request.
#[derive(Debug)]
pub(crate) struct Caller {
    consumer: Arc<Consumer>,
    /// How much its consumer has used of its limits.
    account: Arc<Account>,
    /// The user that it acts for.
    user: Option<Box<str>>,
    /// How much that user has used, if users are limited.
    user_account: Option<Arc<Account>>,
    /// Where its credential is good from, within what its consumer may.
    networks: Option<Arc<Networks>>,
    /// What its credential says of it beside its scopes.
    attributes: Arc<ClaimedAttributes>,
    kind: CredentialKind,
    credential_id: Option<Box<str>>,
    issuer: Option<Box<str>>,
    granted: Box<[Box<str>]>,
    /// Those of them that are granted for a time.
    lent: Box<[Box<str>]>,
    /// Scopes of the credential that are beyond the ceiling.
    cut: Box<[Box<str>]>,
    revocation_keys: Arc<[RevocationKey]>,
    issued: Option<i64>,
    confirmation: Confirmation,
    usage: Option<Arc<Usage>>,
    /// The headers that identify it to the upstream, ready to send.
    identity_headers: IdentityHeaders,
}

/// The headers that identify the caller to the upstream.
#[derive(Debug, Clone)]
pub(crate) struct IdentityHeaders {
    /// `X-Consumer-Id`.
    pub(crate) consumer: HeaderValue,
    /// `X-Consumer-Scopes`.
    pub(crate) scopes: HeaderValue,
    /// `X-Consumer-User`.
    pub(crate) user: Option<HeaderValue>,
    /// `X-Consumer-Plan`.
    pub(crate) plan: Option<HeaderValue>,
    /// `X-Credential-Id`.
    pub(crate) credential: Option<HeaderValue>,
    /// What the policy forwards of the token's claims.
    pub(crate) claims: Arc<[(HeaderName, HeaderValue)]>,
}

impl Caller {
    /// Makes a caller from a verified credential.
    pub(super) fn new(consumer: Arc<Consumer>, account: Arc<Account>, verified: Verified) -> Self {
        let [granted, cut] = consumer.cut(verified.granted);
        let mut revocation_keys = verified.revocation_keys;
        revocation_keys.extend([RevocationKey::consumer(&consumer.name), RevocationKey::all()]);
        let identity_headers = IdentityHeaders {
            consumer: visible(&consumer.name),
            scopes: visible_list(&granted),
            user: verified.user.as_deref().map(visible),
            plan: consumer.plan.as_ref().map(|plan| visible(plan.name())),
            credential: verified.id.as_deref().map(visible),
            claims: verified.forwarded.into(),
        };
        Self {
            consumer,
            account,
            user: verified.user,
            user_account: None,
            networks: verified.networks,
            attributes: verified.attributes.into(),
            kind: verified.kind,
            credential_id: verified.id,
            issuer: verified.issuer,
            granted,
            lent: Box::default(),
            cut,
            revocation_keys: revocation_keys.into(),
            issued: verified.issued,
            confirmation: verified.confirmation,
            usage: verified.usage,
            identity_headers,
        }
    }

    /// Returns the same caller with the temporary grants of its consumer.
    pub(super) fn with(&self, granted: &[Box<str>]) -> Self {
        let lent = granted.iter().filter(|scope| !self.has(scope)).cloned().collect();
        let mut all = [&*self.granted, granted].concat();
        all.sort_unstable();
        all.dedup();
        Self {
            consumer: Arc::clone(&self.consumer),
            account: Arc::clone(&self.account),
            user: self.user.clone(),
            user_account: self.user_account.clone(),
            networks: self.networks.clone(),
            attributes: Arc::clone(&self.attributes),
            kind: self.kind,
            credential_id: self.credential_id.clone(),
            issuer: self.issuer.clone(),
            lent,
            cut: self.cut.clone(),
            revocation_keys: Arc::clone(&self.revocation_keys),
            issued: self.issued,
            confirmation: self.confirmation.clone(),
            usage: self.usage.clone(),
            identity_headers: IdentityHeaders { scopes: visible_list(&all), ..self.identity_headers.clone() },
            granted: all.into(),
        }
    }

    /// Counts what its user does, if its plan limits users.
    pub(super) fn counting_users(self, ledger: &Ledger, issuer: &str, now: Tick) -> Self {
        let user = self.user.as_deref().filter(|_| self.plan().is_some_and(Plan::limits_users));
        let user_account = user.map(|user| ledger.user(self.consumer(), &format!("{issuer}:{user}"), now));
        Self { user_account, ..self }
    }

    /// The keys by which it can be revoked.
    pub(super) fn revocation_keys(&self) -> &[RevocationKey] {
        &self.revocation_keys
    }

    /// When its credential was issued, in seconds since 1970.
    pub(crate) fn issued(&self) -> Option<i64> {
        self.issued
    }

    /// What its token is bound to.
    pub(crate) fn confirmation(&self) -> &Confirmation {
        &self.confirmation
    }

    /// Where uses of its credential are recorded.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.usage.as_deref()
    }

    /// The consumer's name.
    pub(crate) fn consumer(&self) -> &Arc<str> {
        &self.consumer.name
    }

    /// The consumer.
    pub(crate) fn consumer_itself(&self) -> &Arc<Consumer> {
        &self.consumer
    }

    /// The consumer's roles, for the record.
    pub(crate) fn roles(&self) -> &[Box<str>] {
        &self.consumer.roles
    }

    /// The consumer's plan.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.consumer.plan.as_deref()
    }

    /// The organization of its consumer.
    pub(crate) fn organization(&self) -> Option<&str> {
        self.consumer.organization()
    }

    /// Its attributes.
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes { listed: &self.consumer.attributes, claimed: &self.attributes }
    }

    /// The networks that its credential is good from: all of these lists must have the client's address.
    pub(crate) fn networks(&self) -> impl Iterator<Item = &Networks> {
        self.consumer.networks.iter().chain(self.networks.as_deref())
    }

    /// The usage of its limits.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The user that its consumer acts for.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The usage of the limits of its user, if users are limited.
    pub(crate) fn user_account(&self) -> Option<&Arc<Account>> {
        self.user_account.as_ref()
    }

    /// Kind and id of the credential; never the secret.
    pub(crate) fn credential(&self) -> (CredentialKind, Option<&str>) {
        (self.kind, self.credential_id.as_deref())
    }

    /// Who issued the token, by its name in the policy; `None` if the credential is none.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// All scopes that were granted, sorted.
    pub(crate) fn granted(&self) -> &[Box<str>] {
        &self.granted
    }

    /// Those of the granted scopes that operators have granted for a time.
    pub(crate) fn lent(&self) -> &[Box<str>] {
        &self.lent
    }

    /// Scopes of the credential that are beyond the consumer's ceiling, sorted.
    pub(crate) fn cut(&self) -> &[Box<str>] {
        &self.cut
    }

    /// Whether this scope was granted.
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.granted.iter().any(|granted| **granted == *scope)
    }

    /// The headers that identify it to the upstream.
    pub(crate) fn identity_headers(&self) -> &IdentityHeaders {
        &self.identity_headers
    }

    /// A caller for tests of later stages.
    #[cfg(test)]
    pub(crate) fn sample(consumer: &str, granted: &[&str]) -> Self {
        let consumer = Consumer::new(consumer, Vec::new(), None, None);
        let granted = granted.iter().map(|scope| Box::from(*scope)).collect();
        Self::new(
            Arc::new(consumer),
            Ledger::new(std::time::Instant::now()).listed("sample"),
            Verified {
                kind: CredentialKind::ApiKey,
                id: None,
                issuer: None,
                user: None,
                networks: None,
                attributes: ClaimedAttributes::default(),
                forwarded: Box::default(),
                granted,
                revocation_keys: Vec::new(),
                issued: None,
                confirmation: Confirmation::default(),
                usage: None,
            },
        )
    }
}

/// Encodes a name, which may contain anything, for a header: percent-encodes `%` and all that is not visible ASCII.
fn visible(text: &str) -> HeaderValue {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
    HeaderValue::try_from(utf8_percent_encode(text, ENCODED).to_string())
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn visible_list(items: &[Box<str>]) -> HeaderValue {
    let encoded: Vec<_> = items.iter().map(|item| visible(item)).collect();
    let bytes = encoded.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b' ');
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}
