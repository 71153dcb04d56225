//! A known caller, and the consumer it is.
//!
//! Only authentication makes a [`Caller`]: all its fields are private, and its constructor is open to this folder alone.

use std::sync::Arc;

use http::header::HeaderValue;

use crate::stages::rate_limit::Plan;
use crate::state::ledger::Account;

/// What a request was known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// A token of a known issuer.
    Jwt,
    /// An API key.
    ApiKey,
}

impl CredentialKind {
    /// As the record writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
        }
    }
}

/// A consumer of the policy: who it is, what it may do at most, how much.
#[derive(Debug)]
pub(crate) struct Consumer {
    name: Arc<str>,
    roles: Box<[Box<str>]>,
    /// What its roles allow; absent: no ceiling.
    ceiling: Option<Box<[Box<str>]>>,
    plan: Option<Arc<Plan>>,
    account: Arc<Account>,
}

impl Consumer {
    /// Compiles a consumer. `ceiling` is the union of its roles' scopes, `None` when it has no `roles`.
    pub(crate) fn new(
        name: &str,
        roles: Vec<String>,
        ceiling: Option<Vec<Box<str>>>,
        plan: Option<Arc<Plan>>,
        account: Arc<Account>,
    ) -> Self {
        Self {
            name: name.into(),
            roles: roles.into_iter().map(Box::from).collect(),
            ceiling: ceiling.map(Vec::into_boxed_slice),
            plan,
            account,
        }
    }

    /// The scopes its roles allow; `None`: no ceiling.
    pub(super) fn ceiling(&self) -> Option<&[Box<str>]> {
        self.ceiling.as_deref()
    }

    fn cut(&self, mut granted: Vec<Box<str>>) -> Box<[Box<str>]> {
        if let Some(ceiling) = &self.ceiling {
            granted.retain(|scope| ceiling.contains(scope));
        }
        granted.sort_unstable();
        granted.dedup();
        granted.into_boxed_slice()
    }
}

/// A known caller: a consumer, by one credential, with what that credential was granted.
///
/// Identity, not a decision: whether what was granted is enough is asked on every request.
#[derive(Debug)]
pub(crate) struct Caller {
    consumer: Arc<Consumer>,
    kind: CredentialKind,
    credential_id: Option<Box<str>>,
    granted: Box<[Box<str>]>,
    /// What the upstream is told, ready to send.
    told: Told,
}

/// The headers that tell an upstream who is calling.
#[derive(Debug)]
pub(crate) struct Told {
    /// `X-Consumer-Id`.
    pub(crate) consumer: HeaderValue,
    /// `X-Consumer-Scopes`.
    pub(crate) scopes: HeaderValue,
    /// `X-Consumer-Plan`.
    pub(crate) plan: Option<HeaderValue>,
    /// `X-Credential-Id`.
    pub(crate) credential: Option<HeaderValue>,
}

impl Caller {
    /// Makes a caller of a verified credential; only authentication does.
    pub(super) fn new(
        consumer: Arc<Consumer>,
        kind: CredentialKind,
        credential_id: Option<Box<str>>,
        granted: Vec<Box<str>>,
    ) -> Self {
        let granted = consumer.cut(granted);
        let told = Told {
            consumer: visible(&consumer.name),
            scopes: visible_list(&granted),
            plan: consumer.plan.as_ref().map(|plan| visible(plan.name())),
            credential: credential_id.as_deref().map(visible),
        };
        Self { consumer, kind, credential_id, granted, told }
    }

    /// The consumer's name.
    pub(crate) fn consumer(&self) -> &Arc<str> {
        &self.consumer.name
    }

    /// The consumer's roles, for the record.
    pub(crate) fn roles(&self) -> &[Box<str>] {
        &self.consumer.roles
    }

    /// The consumer's plan.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.consumer.plan.as_deref()
    }

    /// What it has used of its limits.
    pub(crate) fn account(&self) -> &Account {
        &self.consumer.account
    }

    /// Kind and id of the credential; never the secret.
    pub(crate) fn credential(&self) -> (CredentialKind, Option<&str>) {
        (self.kind, self.credential_id.as_deref())
    }

    /// All scopes that were granted, sorted.
    pub(crate) fn granted(&self) -> &[Box<str>] {
        &self.granted
    }

    /// Whether this scope was granted.
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.granted.iter().any(|granted| **granted == *scope)
    }

    /// What the upstream is told.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// A caller for tests of later stages.
    #[cfg(test)]
    pub(crate) fn sample(consumer: &str, granted: &[&str]) -> Self {
        let consumer = Consumer::new(consumer, Vec::new(), None, None, Arc::default());
        let granted = granted.iter().map(|scope| Box::from(*scope)).collect();
        Self::new(Arc::new(consumer), CredentialKind::ApiKey, None, granted)
    }
}

/// Names of the outside may hold anything; a header holds visible ASCII, so all else (and `%`) is percent-encoded.
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
