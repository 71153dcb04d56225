//! What came of a request, stage by stage, and why.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::{SignedDuration, Timestamp};

use super::request::RehearsalRequest;
use crate::chain::Trace;
use crate::exchange::Peer;
use crate::policy::{Access, Policy, Route};
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::stages::auth::jwt::Token;
use crate::stages::auth::{Caller, CredentialKind};

/// Everything about one request.
pub(crate) struct RehearsalTrace {
    /// Its method, as sent.
    pub(crate) method: String,
    /// Path and query: as sent, and in their normal form once they were read.
    pub(crate) target: String,
    /// Its path: as sent, and in its normal form once it was read.
    pub(crate) path: String,
    /// The path, as sent.
    pub(super) sent: String,
    /// Host it was for; empty until it was read.
    pub(crate) host: String,
    /// Whether its head was good.
    pub(super) arrived: bool,
    /// Its route.
    pub(crate) route: Option<Arc<Route>>,
    /// What the chain learnt.
    pub(super) trace: Trace,
    /// Who vouches for its credential.
    pub(super) vouched: Vouched,
    /// How it ended.
    pub(super) end: Result<(), Refusal>,
}

/// Who vouches for a good credential, and until when it is good.
#[derive(Default)]
pub(super) struct Vouched {
    by: Option<Box<str>>,
    ends: Option<Timestamp>,
}

/// What a stage came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It let the request pass.
    Passed,
    /// It has nothing to decide here.
    NotAsked,
    /// It refused it.
    Refused,
    /// It would have refused it, and only reports.
    Reported,
    /// One before it refused.
    NotReached,
}

impl Outcome {
    /// As programs read it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::NotAsked => "not_asked",
            Self::Refused => "refused",
            Self::Reported => "reported",
            Self::NotReached => "not_reached",
        }
    }
}

/// One stage on the way, and what it came to.
pub(crate) struct Step {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it came to.
    pub(crate) outcome: Outcome,
    /// Why.
    pub(crate) why: String,
}

/// The stages, in their order.
const STEPS: [&str; 6] = ["path", "route", "auth", "scope", "rate_limit", "schema"];

impl RehearsalTrace {
    /// Before its first step.
    pub(super) fn of(question: &RehearsalRequest) -> Self {
        let path = question.target.split('?').next().unwrap_or_default().to_owned();
        Self {
            method: question.method.clone(),
            target: question.target.clone(),
            sent: path.clone(),
            path,
            host: String::new(),
            arrived: false,
            route: None,
            trace: Trace::default(),
            vouched: Vouched::default(),
            end: Ok(()),
        }
    }

    /// Why it was refused; `None`: it would have been forwarded.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.end.as_ref().err()
    }

    /// Why it would have been refused by stages that only report.
    pub(crate) fn would_refuse(&self) -> &[Refusal] {
        &self.trace.would_refuse
    }

    /// Who is calling.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.trace.caller.as_deref()
    }

    /// The step at which a refusal came.
    fn step_of(&self, refusal: &Refusal) -> &'static str {
        match refusal.stage() {
            Stage::Request if self.arrived => "route",
            Stage::Request => "path",
            Stage::Auth => "auth",
            Stage::Scope => "scope",
            Stage::RateLimit => "rate_limit",
            _ => "schema",
        }
    }

    /// The position of the stage that refused, in [`STEPS`].
    fn refused_at(&self) -> Option<usize> {
        let name = self.step_of(self.refusal()?);
        STEPS.iter().position(|step| *step == name)
    }

    /// Why this step would have refused, where it only reports.
    fn reported(&self, name: &str) -> Option<&Refusal> {
        self.would_refuse().iter().find(|refusal| self.step_of(refusal) == name)
    }

    /// What each stage came to, at this time.
    pub(crate) fn steps(&self, now: Timestamp) -> Vec<Step> {
        let refused_at = self.refused_at();
        let step = |(at, name): (usize, &&'static str)| {
            let refused = refused_at.filter(|refused| at >= *refused);
            let (outcome, why) = match (refused, self.refusal()) {
                (Some(refused), _) if at > refused => (Outcome::NotReached, String::new()),
                (Some(_), Some(refusal)) => (Outcome::Refused, self.why_refused(name, refusal)),
                _ => match self.reported(name) {
                    Some(refusal) => (Outcome::Reported, self.why_refused(name, refusal)),
                    None => self.passed(name, now),
                },
            };
            Step { name, outcome, why }
        };
        STEPS.iter().enumerate().map(step).collect()
    }

    fn passed(&self, name: &str, now: Timestamp) -> (Outcome, String) {
        let Some(route) = &self.route else { return (Outcome::Passed, self.path.clone()) };
        let public = matches!(route.access, Access::Public);
        let passed = |why| (Outcome::Passed, why);
        let not_asked = |why: &str| (Outcome::NotAsked, why.to_owned());
        match name {
            "path" if self.path != self.sent => passed(format!("{} (sent as {})", self.path, self.sent)),
            "path" => passed(self.path.clone()),
            "route" => passed(format!("{} · {}", route.api().name(), route.name())),
            "auth" if public => not_asked("the route is public"),
            "auth" => passed(self.caller().map(|caller| self.vouched.words(caller, now)).unwrap_or_default()),
            "scope" if public => not_asked("the route is public"),
            "scope" if self.caller().is_none() => not_asked("nobody is known, and that is only reported"),
            "scope" => passed(self.reach()),
            "rate_limit" => match self.limits() {
                limits if limits.is_empty() => not_asked("neither the route nor a plan limits it"),
                limits => passed(limits.join(", ")),
            },
            _ if route.request.is_checked() => passed("the request keeps to the schemas of the route".to_owned()),
            _ => not_asked("the route has no schema"),
        }
    }

    fn why_refused(&self, name: &str, refusal: &Refusal) -> String {
        let Members { errors, allowed_methods, .. } = refusal.own_members();
        let mut why = match refusal.reason() {
            Reason::InsufficientScope => self.reach(),
            Reason::ConsumerNotApproved => format!("{} (is {})", refusal.detail(), self.name()),
            _ => refusal.detail().to_owned(),
        };
        if let Some(methods) = allowed_methods {
            why.push_str(&format!(" (it takes {})", methods.join(", ")));
        }
        for violation in errors {
            why.push_str(&format!("\n{}: {}", shown(&violation.pointer), violation.detail));
        }
        match refusal.logged() {
            Some(cause) if name != "schema" => format!("{why} ({cause})"),
            _ => why,
        }
    }

    fn name(&self) -> &str {
        self.caller().map_or("nobody", |caller| caller.consumer())
    }

    /// What the route needs, and what the caller has.
    fn reach(&self) -> String {
        let needed = self.route.as_ref().map_or(&[][..], |route| route.required_scopes());
        let needs = if needed.is_empty() { "no scope".to_owned() } else { needed.join(", ") };
        let Some(caller) = self.caller() else { return format!("needs {needs}") };
        let has = if caller.granted().is_empty() { "none".to_owned() } else { caller.granted().join(", ") };
        let mut beside = Vec::new();
        if !caller.roles().is_empty() {
            beside.push(format!("roles: {}", caller.roles().join(", ")));
        }
        if !caller.cut().is_empty() {
            beside.push(format!("ceiling cut: {}", caller.cut().join(", ")));
        }
        let beside = if beside.is_empty() { String::new() } else { format!(" ({})", beside.join("; ")) };
        format!("needs {needs}; has {has}{beside}")
    }

    /// What is left of each limit the request counted against.
    fn limits(&self) -> Vec<String> {
        let mut headers = HeaderMap::new();
        self.trace.standing.clone().tell(&mut headers);
        let told = headers.get("ratelimit").and_then(|told| told.to_str().ok()).unwrap_or_default();
        let limit = |item: &str| {
            let mut parts = item.split(';');
            let name = parts.next()?.trim().trim_matches('"');
            let left = parts.find_map(|part| part.trim().strip_prefix("r="))?;
            Some(format!("{name} has {left} left"))
        };
        told.split(',').filter_map(limit).collect()
    }

    /// The headers that identify the caller to the upstream.
    pub(crate) fn told(&self) -> Vec<(&'static str, String)> {
        let Some(told) = self.caller().map(Caller::identity_headers) else { return Vec::new() };
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let mut headers = vec![("X-Consumer-Id", text(&told.consumer)), ("X-Consumer-Scopes", text(&told.scopes))];
        headers.extend(told.plan.as_ref().map(|plan| ("X-Consumer-Plan", text(plan))));
        headers.extend(told.credential.as_ref().map(|id| ("X-Credential-Id", text(id))));
        headers
    }
}

/// A JSON pointer as people read it: the empty one names the whole body.
pub(crate) fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "(the whole body)" } else { pointer }
}

impl Vouched {
    /// Of a caller that was made out, by what it was made out with.
    pub(super) fn of(policy: &Policy, headers: &HeaderMap, peer: &Peer, caller: Option<&Caller>) -> Self {
        let Some((kind, id)) = caller.map(Caller::credential) else { return Self::default() };
        match kind {
            CredentialKind::Jwt => {
                let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
                let Some(token) = sent.split_whitespace().nth(1).and_then(|text| Token::parse(text).ok()) else {
                    return Self::default();
                };
                let issuer = policy.auth().issuers().find(|issuer| issuer.iss() == token.iss());
                let ends = token.end().and_then(|end| Timestamp::from_second(end).ok());
                Self { by: issuer.map(|issuer| issuer.name().into()), ends }
            }
            CredentialKind::Introspected => Self::default(),
            CredentialKind::ApiKey => {
                let keys = &policy.auth().keys;
                let key = keys.listed().find(|key| Some(&*key.id) == id);
                Self { by: None, ends: key.and_then(|key| key.end(keys.max_age())) }
            }
            CredentialKind::Certificate => {
                let shown = peer.certificate.as_ref();
                Self { by: None, ends: shown.and_then(|shown| Timestamp::from_second(shown.not_after).ok()) }
            }
        }
    }

    /// The credential and its owner.
    fn words(&self, caller: &Caller, now: Timestamp) -> String {
        let (kind, id) = caller.credential();
        let (what, thing) = match kind {
            CredentialKind::Jwt => ("jwt".to_owned(), "token"),
            CredentialKind::Introspected => ("introspected token".to_owned(), "token"),
            CredentialKind::ApiKey => (format!("API key {}", id.unwrap_or_default()), "key"),
            CredentialKind::Certificate => ("client certificate".to_owned(), "certificate"),
        };
        let mut words = vec![match &self.by {
            Some(issuer) => format!("{what} of {issuer}"),
            None => what,
        }];
        words.push(format!("consumer {}", caller.consumer()));
        words.push(match caller.plan() {
            Some(plan) => format!("plan {}", plan.name()),
            None => "no plan".to_owned(),
        });
        if let Some(ends) = self.ends {
            let left = SignedDuration::from_secs(ends.as_second().saturating_sub(now.as_second()));
            words.push(format!("{thing} ends in {left:#}"));
        }
        words.join(", ")
    }
}
