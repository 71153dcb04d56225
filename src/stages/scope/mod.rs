//! Authorization: decides whether an authenticated caller may use a route.
//!
//! The caller needs all scopes of the route (or of one alternative, if it has several), a route with `only` accepts only
//! approved consumers, one with `where` only requests for objects of the caller ([`ownership`]), and one with `from` only those
//! from its networks. The decision is made for
//! every request, and is never cached.

pub(crate) mod ownership;

use std::sync::Arc;

use jiff::Timestamp;

use self::ownership::Condition;
use super::auth::{Authenticated, Caller, CredentialKind};
use crate::exchange::Request;
use crate::exchange::networks::Networks;
use crate::refusal::{Members, Reason, Refusal, Stage};

/// What a route requires of its callers.
#[derive(Debug)]
pub(crate) struct Requirement {
    /// One of them must be met; there is at least one.
    alternatives: Box<[Alternative]>,
    only: Option<Box<[Arc<str>]>>,
    /// All of them must be met.
    ownership: Option<Box<[Condition]>>,
    proofs: Option<Box<[ProofOfPossession]>>,
    /// In seconds.
    max_age: Option<i64>,
}

/// One way to be authorized. All of its conditions must be met.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Alternative {
    /// Scopes that must be granted.
    pub(crate) scopes: Box<[Box<str>]>,
    /// The required kind of credential; any if `None`.
    pub(crate) by: Option<By>,
    /// Whether the consumer's own client certificate is required.
    pub(crate) certificate: bool,
}

/// A kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A token, from a JWT or from introspection.
    Token,
    /// An API key.
    Key,
}

impl Alternative {
    fn missing(&self, caller: &Caller) -> Vec<&str> {
        self.scopes.iter().map(|scope| &**scope).filter(|scope| !caller.has(scope)).collect()
    }

    fn accepts(&self, caller: &Caller) -> bool {
        self.accepts_kind(caller.credential().0)
    }

    fn accepts_kind(&self, kind: CredentialKind) -> bool {
        match self.by {
            None => true,
            Some(By::Token) => matches!(kind, CredentialKind::Jwt | CredentialKind::Introspected),
            Some(By::Key) => kind == CredentialKind::ApiKey,
        }
    }

    fn is_met(&self, authenticated: &Authenticated) -> bool {
        let caller = &*authenticated.caller;
        self.accepts(caller)
            && self.scopes.iter().all(|scope| caller.has(scope))
            && (!self.certificate || authenticated.certificate)
    }
}

/// Decides whether a route with these networks, if it has any, may be called from the client's address.
pub(crate) fn permit_client(networks: Option<&Networks>, request: &Request<'_>) -> Result<(), Refusal> {
    match networks.filter(|networks| !request.is_from(networks)) {
        None => Ok(()),
        Some(networks) => {
            let detail = "this operation cannot be called from your network; ask the API's owner";
            let refusal = Refusal::new(Stage::Scope, Reason::NetworkNotAllowed, request.network_detail(detail));
            Err(refusal.cause(request.is_not_in(networks)))
        }
    }
}

/// A proof that the sender possesses more than a copy of the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProofOfPossession {
    /// A client certificate that is the consumer's own.
    Certificate,
    /// A token bound to the client certificate (RFC 8705).
    BoundToken,
    /// A token bound to a key, with a proof of possession (RFC 9449).
    Dpop,
}

impl ProofOfPossession {
    /// With their names in the policy.
    pub(crate) const ALL: [(&str, Self); 3] =
        [("certificate", Self::Certificate), ("bound_token", Self::BoundToken), ("dpop", Self::Dpop)];

    fn is_given(self, authenticated: &Authenticated) -> bool {
        let confirmation = authenticated.caller.confirmation();
        match self {
            Self::Certificate => authenticated.certificate,
            // Authentication has already verified what the token is bound to.
            Self::BoundToken => confirmation.certificate.is_some(),
            Self::Dpop => confirmation.key.is_some(),
        }
    }

    /// Its name in the policy.
    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, proof)| *proof == self).map_or("", |(name, _)| name)
    }
}

impl Requirement {
    /// Requires all of `scopes` and, if given, one of the consumers in `only`.
    pub(crate) fn new(scopes: Vec<String>, only: Option<Vec<String>>) -> Self {
        let scopes = scopes.into_iter().map(Box::from).collect();
        Self::any_of(vec![Alternative { scopes, ..Alternative::default() }], only)
    }

    /// Requires one of the (at least one) `alternatives` and, if given, one of the consumers in `only`.
    pub(crate) fn any_of(alternatives: Vec<Alternative>, only: Option<Vec<String>>) -> Self {
        Self {
            alternatives: alternatives.into(),
            only: only.map(|names| names.into_iter().map(Arc::from).collect()),
            ownership: None,
            proofs: None,
            max_age: None,
        }
    }

    /// Also requires, if given, that what a request names is the caller's, in each of these places.
    pub(crate) fn owned(self, conditions: Option<Vec<Condition>>) -> Self {
        Self { ownership: conditions.map(Vec::into_boxed_slice), ..self }
    }

    /// Also requires one of these proofs of possession, if given.
    pub(crate) fn proof_of_possession(self, proofs: Option<Vec<ProofOfPossession>>) -> Self {
        Self { proofs: proofs.map(Vec::into_boxed_slice), ..self }
    }

    /// Also requires, if given, a token issued at most this many seconds ago.
    pub(crate) fn issued_within(self, max_age: Option<i64>) -> Self {
        Self { max_age, ..self }
    }

    /// The required scopes; those of the first alternative if there are several.
    pub(crate) fn scopes(&self) -> &[Box<str>] {
        self.alternatives.first().map_or(&[], |first| &first.scopes)
    }

    pub(crate) fn alternatives(&self) -> &[Alternative] {
        &self.alternatives
    }

    /// The approved consumers, if the route is not open to all.
    pub(crate) fn only(&self) -> Option<&[Arc<str>]> {
        self.only.as_deref()
    }

    /// Whether a consumer with these scopes may use the route at all, with some request and a credential of this kind.
    pub(crate) fn is_open_to(&self, consumer: &str, has: impl Fn(&str) -> bool, kind: CredentialKind) -> bool {
        let is_met = |one: &Alternative| one.accepts_kind(kind) && one.scopes.iter().all(|scope| has(scope));
        let is_approved = self.only.as_ref().is_none_or(|only| only.iter().any(|name| **name == *consumer));
        is_approved && self.alternatives.iter().any(is_met)
    }

    /// What requests name that must be the caller's; `None` if the policy does not say.
    pub(crate) fn ownership(&self) -> Option<&[Condition]> {
        self.ownership.as_deref()
    }

    /// The proofs of possession, one of which a request must have; `None` if it needs none.
    pub(crate) fn proofs(&self) -> Option<&[ProofOfPossession]> {
        self.proofs.as_deref()
    }

    /// How old a token may be, in seconds.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.max_age
    }

    /// Whether it asks for something of the credential that a record does not have: a proof of possession, or when it was issued.
    pub(crate) fn needs_more_than_scopes(&self) -> bool {
        self.proofs.is_some() || self.max_age.is_some()
    }

    /// Checks a caller and its request against all requirements. `now` is the time that tokens are not older than `max_age` at.
    pub(crate) fn permit(
        &self,
        authenticated: &Authenticated,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let caller = &*authenticated.caller;
        if !self.alternatives.iter().any(|alternative| alternative.is_met(authenticated)) {
            return Err(self.refuse(caller));
        }
        if let Some(only) = &self.only
            && !only.contains(caller.consumer())
        {
            return Err(Refusal::new(
                Stage::Scope,
                Reason::ConsumerNotApproved,
                "this operation is open to approved consumers only; ask the API's owner to approve yours",
            ));
        }
        if let Some(ownership) = &self.ownership {
            ownership.iter().try_for_each(|condition| condition.check(caller, request))?;
        }
        self.check_proof_and_age(authenticated, now)
    }

    fn check_proof_and_age(&self, authenticated: &Authenticated, now: Timestamp) -> Result<(), Refusal> {
        let refuse = |detail| Err(Refusal::new(Stage::Scope, Reason::StrongerCredentialRequired, detail));
        if let Some(proofs) = &self.proofs
            && !proofs.iter().any(|proof| proof.is_given(authenticated))
        {
            let names: Vec<_> = proofs.iter().map(|proof| proof.as_str()).collect();
            return refuse(format!("this operation needs one of: {}", names.join(", ")));
        }
        if let Some(max_age) = self.max_age {
            let token =
                matches!(authenticated.caller.credential().0, CredentialKind::Jwt | CredentialKind::Introspected);
            let issued = authenticated.caller.issued().filter(|_| token);
            if issued.is_none_or(|issued| now.as_second().saturating_sub(issued) > max_age) {
                return refuse(format!(
                    "this operation needs a token issued within the last {max_age} s; get a new one"
                ));
            }
        }
        Ok(())
    }

    /// Refuses, naming what is missing from the nearest alternative.
    fn refuse(&self, caller: &Caller) -> Refusal {
        let stronger = |detail| Refusal::new(Stage::Scope, Reason::StrongerCredentialRequired, detail);
        let open = self.alternatives.iter().filter(|alternative| alternative.accepts(caller));
        let Some(nearest) = open.min_by_key(|alternative| alternative.missing(caller).len()) else {
            return stronger("this operation takes another kind of credential");
        };
        let missing = nearest.missing(caller);
        if missing.is_empty() {
            return stronger("this operation needs a client certificate");
        }
        let detail = format!("the credential lacks {}; ask for one that has all required scopes", missing.join(", "));
        Refusal::new(Stage::Scope, Reason::InsufficientScope, detail).members(Members {
            required_scopes: Some(nearest.scopes.to_vec()),
            granted_scopes: Some(caller.granted().to_vec()),
            ..Members::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{RequestId, SampleRequest};
    use http::{HeaderMap, Method};

    #[test]
    fn every_scope_and_an_approved_consumer_are_needed() {
        let (sample, headers) = (SampleRequest::new(&Method::GET, "/"), HeaderMap::new());
        for (needed, only, granted, expected) in [
            (&[] as &[&str], None, &[] as &[&str], None),
            (&["a"], None, &["a"], None),
            (&["a"], None, &["b", "a"], None),
            (&["a", "b"], None, &["b", "a"], None),
            (&["a", "b"], None, &["a"], Some(Reason::InsufficientScope)),
            (&["a"], None, &[], Some(Reason::InsufficientScope)),
            (&["a"], None, &["a:b", "A", " a"], Some(Reason::InsufficientScope)),
            (&["a"], Some(vec!["acme"]), &["a"], None),
            (&["a"], Some(vec!["other", "acme"]), &["a"], None),
            (&["a"], Some(vec!["other"]), &["a"], Some(Reason::ConsumerNotApproved)),
            (&["a"], Some(vec!["acme-2"]), &["a"], Some(Reason::ConsumerNotApproved)),
            (&["a"], Some(vec![]), &["a"], Some(Reason::ConsumerNotApproved)),
            (&["a"], Some(vec!["acme"]), &["b"], Some(Reason::InsufficientScope)),
        ] {
            let requirement = Requirement::new(
                needed.iter().map(ToString::to_string).collect(),
                only.clone().map(|names| names.iter().map(ToString::to_string).collect()),
            );
            let authenticated =
                Authenticated { caller: Arc::new(Caller::sample("acme", granted)), certificate: false, unusual: None };
            let got = requirement
                .permit(&authenticated, &sample.with(None, &headers), Timestamp::UNIX_EPOCH)
                .err()
                .map(|refusal| refusal.reason());
            assert_eq!(got, expected, "needed {needed:?}, only {only:?}, granted {granted:?}");
        }
    }

    #[test]
    fn one_alternative_is_enough_and_the_nearest_is_named() {
        let (sample, headers) = (SampleRequest::new(&Method::GET, "/"), HeaderMap::new());
        let way = |scopes: &[&str], by, certificate| Alternative {
            scopes: scopes.iter().map(|scope| Box::from(*scope)).collect(),
            by,
            certificate,
        };
        let (token, key) = (Some(By::Token), Some(By::Key));
        for (alternatives, granted, certificate, expected) in [
            (vec![way(&["a", "b"], None, false), way(&["c"], None, false)], &["c"] as &[&str], false, Ok(())),
            (vec![way(&["a", "b"], None, false), way(&["c"], None, false)], &["a", "b"], false, Ok(())),
            (vec![way(&["a", "b", "d"], None, false), way(&["c"], None, false)], &["a"], false, Err("c")),
            (vec![way(&["a", "b"], None, false), way(&["c", "d"], None, false)], &["a"], false, Err("a b")),
            // The sample has an API key.
            (vec![way(&["a"], token, false), way(&[], key, false)], &[], false, Ok(())),
            (vec![way(&["a"], key, false), way(&[], token, false)], &[], false, Err("a")),
            (vec![way(&[], token, false)], &[], false, Err("")),
            (vec![way(&[], None, true)], &[], true, Ok(())),
            (vec![way(&[], None, true)], &[], false, Err("")),
            (vec![way(&["a"], None, true)], &["a"], false, Err("")),
            (vec![], &["a"], false, Err("")),
        ] {
            let requirement = Requirement::any_of(alternatives.clone(), None);
            let authenticated =
                Authenticated { caller: Arc::new(Caller::sample("acme", granted)), certificate, unusual: None };
            let got = requirement.permit(&authenticated, &sample.with(None, &headers), Timestamp::UNIX_EPOCH).map_err(
                |refusal| {
                    let (_, _, body) = refusal.answer(&RequestId::new(Timestamp::UNIX_EPOCH));
                    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let required = body["required_scopes"].as_array().cloned().unwrap_or_default();
                    assert_eq!(refusal.reason() == Reason::InsufficientScope, !required.is_empty());
                    required.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(" ")
                },
            );
            assert_eq!(got, expected.map_err(str::to_owned), "{alternatives:?} {granted:?}");
        }
    }

    #[test]
    fn what_somebody_may_use_is_known_before_the_request() {
        let way = |scopes: &[&str], by| Alternative {
            scopes: scopes.iter().map(|scope| Box::from(*scope)).collect(),
            by,
            certificate: false,
        };
        for (alternatives, only, has, open) in [
            (vec![way(&[], None)], None, "", true),
            (vec![way(&["a", "b"], None)], None, "a", false),
            (vec![way(&["a", "b"], None), way(&["a"], None)], None, "a", true),
            (vec![way(&["a"], Some(By::Token))], None, "a", false),
            (vec![way(&["a"], Some(By::Key))], None, "a", true),
            (vec![way(&["a"], None)], Some(vec!["acme"]), "a", true),
            (vec![way(&["a"], None)], Some(vec!["other"]), "a", false),
        ] {
            let only = only.map(|names: Vec<&str>| names.into_iter().map(str::to_owned).collect());
            let requirement = Requirement::any_of(alternatives.clone(), only);
            let got = requirement.is_open_to("acme", |scope| scope == has, CredentialKind::ApiKey);
            assert_eq!(got, open, "{alternatives:?} {has}");
        }
    }

    #[test]
    fn a_route_may_ask_for_a_stronger_or_a_fresher_credential() {
        let (sample, headers) = (SampleRequest::new(&Method::GET, "/"), HeaderMap::new());
        use ProofOfPossession::{BoundToken, Certificate, Dpop};
        for (proofs, max_age, certificate, good) in [
            (Some(vec![Certificate]), None, true, true),
            (Some(vec![Certificate]), None, false, false),
            (Some(vec![BoundToken, Dpop]), None, true, false),
            (Some(vec![BoundToken, Certificate]), None, true, true),
            // An API key is no token, however young.
            (None, Some(60), true, false),
            (None, None, false, true),
        ] {
            let requirement =
                Requirement::new(Vec::new(), None).proof_of_possession(proofs.clone()).issued_within(max_age);
            let authenticated =
                Authenticated { caller: Arc::new(Caller::sample("acme", &[])), certificate, unusual: None };
            let got = requirement
                .permit(&authenticated, &sample.with(None, &headers), Timestamp::UNIX_EPOCH)
                .map_err(|refusal| refusal.reason());
            let expected = if good { Ok(()) } else { Err(Reason::StrongerCredentialRequired) };
            assert_eq!(got, expected, "{proofs:?} {max_age:?} {certificate}");
        }
    }
}
