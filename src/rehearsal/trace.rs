//! The outcome of a request, stage by stage, and why.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};

use crate::chain::Trace;
use crate::exchange::Request;
use crate::policy::{Access, Policy, Route};
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::stages::auth::cache::SentAs;
use crate::stages::auth::token::{Presented, Token};
use crate::stages::auth::{Caller, CredentialKind};
use crate::stages::mask::Hidden;

/// The trace of one request.
pub(crate) struct RehearsalTrace {
    /// Its method, as sent.
    pub(crate) method: String,
    /// Path and query: as sent, and normalised once parsed.
    pub(crate) target: String,
    /// Its path: as sent, and normalised once parsed.
    pub(crate) path: String,
    /// The path, as sent.
    pub(super) sent: String,
    /// Its host; empty until parsed.
    pub(crate) host: String,
    /// The origin of the page that sends it from a browser.
    pub(super) page: Option<HeaderValue>,
    /// The method that a browser asks about, if the request is a preflight that the proxy answers.
    pub(super) preflight: Option<Method>,
    /// Path and query for the upstream, without the base path of a server; absent while its route is not known.
    pub(super) mapped: Option<String>,
    /// Whether its head was valid.
    pub(super) arrived: bool,
    /// Its route.
    pub(crate) route: Option<Arc<Route>>,
    /// The trace of the chain.
    pub(super) chain: Trace,
    /// The limits it counted against: what is left, and what is allowed.
    pub(super) limits: Vec<(Box<str>, u32, u32)>,
    /// The kind of credential that it has, whether its API takes that or not.
    pub(super) sent_as: Option<SentAs>,
    /// Issuer and expiry of its credential.
    pub(super) origin: CredentialOrigin,
    /// Its outcome.
    pub(super) end: Result<(), Refusal>,
}

/// Who issued a valid credential, and when it expires.
#[derive(Default)]
pub(super) struct CredentialOrigin {
    by: Option<Box<str>>,
    /// Where it was sent, unless that is the default.
    place: Option<String>,
    ends: Option<Timestamp>,
    /// What the policy reads from tokens of the issuer, and this one lacks.
    absent: Vec<String>,
}

/// The outcome of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It admitted the request.
    Passed,
    /// It has nothing to decide on this route.
    NotAsked,
    /// It refused the request.
    Refused,
    /// It would have refused the request, but only reports.
    Reported,
    /// An earlier stage refused.
    NotReached,
}

impl Outcome {
    /// The name in JSON.
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

/// One stage and its outcome.
pub(crate) struct Step {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its outcome.
    pub(crate) outcome: Outcome,
    /// Why.
    pub(crate) why: String,
}

/// The stages, in their order.
const STEPS: [&str; 6] = ["path", "route", "auth", "scope", "rate_limit", "schema"];

impl RehearsalTrace {
    /// Makes the trace of a request that has not been processed.
    pub(super) fn of(method: &str, target: &str) -> Self {
        let path = target.split('?').next().unwrap_or_default().to_owned();
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            sent: path.clone(),
            path,
            host: String::new(),
            page: None,
            preflight: None,
            mapped: None,
            arrived: false,
            route: None,
            chain: Trace::default(),
            limits: Vec::new(),
            sent_as: None,
            origin: CredentialOrigin::default(),
            end: Ok(()),
        }
    }

    /// The refusal; `None` if it would have been forwarded, or answered by the proxy itself.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.end.as_ref().err()
    }

    /// Whether the proxy itself answers it, and it is not forwarded.
    pub(crate) fn ends_here(&self) -> bool {
        self.end.is_ok() && (self.route.is_none() || self.preflight.is_some())
    }

    /// Whether the page that sends it from a browser may read the response; `None` if no page of another origin sends it, or `cors`
    /// does not decide.
    pub(crate) fn cors(&self) -> Option<bool> {
        let cors = self.route.as_ref()?.api().cors()?;
        Some(cors.allows(self.page.as_ref()?))
    }

    /// The paths of what the caller does not see of responses.
    pub(crate) fn hidden(&self) -> Vec<String> {
        let mask = self.route.as_ref().and_then(|route| route.response.as_ref()?.mask());
        let hidden = mask.and_then(|mask| mask.hidden(|scope| self.caller().is_some_and(|caller| caller.has(scope))));
        hidden.iter().flat_map(Hidden::paths).map(str::to_owned).collect()
    }

    /// Path and query that the upstream gets, with the base path of its first server; `None` if it gets nothing.
    pub(crate) fn upstream_target(&self) -> Option<String> {
        let (route, mapped) = (self.route.as_ref()?, self.mapped.as_ref()?);
        let base = route.api().upstream().servers.first().map(|server| &*server.base)?;
        self.end.is_ok().then(|| format!("{base}{mapped}"))
    }

    /// The refusals of stages that only report.
    pub(crate) fn would_refuse(&self) -> &[Refusal] {
        &self.chain.would_refuse
    }

    /// The authenticated caller.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.chain.caller.as_deref()
    }

    /// The step that a refusal belongs to.
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

    /// The refusal of this step, if it only reports.
    fn reported(&self, name: &str) -> Option<&Refusal> {
        self.would_refuse().iter().find(|refusal| self.step_of(refusal) == name)
    }

    /// Returns the outcome of each stage. `now` is for the remaining lifetime of the credential.
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
        let mut steps: Vec<Step> = STEPS.iter().enumerate().map(step).collect();
        if let (Some(may_read), Some(origin)) = (self.cors(), self.page.as_ref()) {
            let may = if may_read { "may" } else { "may not" };
            let why = format!("pages of {} {may} read the response", String::from_utf8_lossy(origin.as_bytes()));
            steps.push(Step { name: "cors", outcome: Outcome::Passed, why });
        }
        let hidden = self.hidden();
        if self.end.is_ok() && !hidden.is_empty() {
            let why = format!("the caller does not see {}", hidden.join(", "));
            steps.push(Step { name: "mask", outcome: Outcome::Passed, why });
        }
        steps
    }

    fn passed(&self, name: &str, now: Timestamp) -> (Outcome, String) {
        let Some(route) = &self.route else {
            // Without a refusal, a request without a route is for the proxy itself.
            return match name {
                "path" => (Outcome::Passed, self.path.clone()),
                _ if self.ends_here() => (Outcome::NotAsked, "the proxy itself answers, with 204".to_owned()),
                _ => (Outcome::Passed, String::new()),
            };
        };
        if self.preflight.is_some() && !matches!(name, "path" | "route") {
            return (Outcome::NotAsked, "the proxy itself answers the preflight, with 204".to_owned());
        }
        let public = matches!(route.access, Access::Public);
        let passed = |why| (Outcome::Passed, why);
        let not_asked = |why: &str| (Outcome::NotAsked, why.to_owned());
        match name {
            "path" if self.path != self.sent => passed(format!("{} (sent as {})", self.path, self.sent)),
            "path" => passed(self.path.clone()),
            "route" => passed(format!("{} · {}", route.api().name(), route.name())),
            "auth" if public => not_asked("the route is public"),
            "auth" => passed(self.caller().map(|caller| self.origin.words(caller, now)).unwrap_or_default()),
            "scope" if public && route.networks.is_none() => not_asked("the route is public"),
            "scope" if public => passed(format!("the route is public{}", self.network_summary())),
            "scope" if self.caller().is_none() => not_asked("no caller is authenticated, and auth only reports"),
            "scope" => passed(self.scope_summary() + &self.network_summary() + &self.ownership_summary()),
            "rate_limit" => match self.limits() {
                limits if limits.is_empty() => not_asked("neither the route nor a plan has a limit"),
                limits => passed(limits.join(", ")),
            },
            _ if route.request.is_checked() => passed("the request matches the schemas of the route".to_owned()),
            _ => not_asked("the route has no schema"),
        }
    }

    fn why_refused(&self, name: &str, refusal: &Refusal) -> String {
        let Members { errors, allowed_methods, .. } = refusal.own_members();
        let mut why = match refusal.reason() {
            Reason::InsufficientScope => self.scope_summary(),
            Reason::ConsumerNotApproved => format!("{} (is {})", refusal.detail(), self.name()),
            Reason::MissingCredentials => refusal.detail().to_owned() + &self.unlisted_summary(),
            Reason::NotYours => refusal.detail().to_owned() + &self.ownership_summary(),
            _ => refusal.detail().to_owned(),
        };
        if let Some(methods) = allowed_methods {
            why.push_str(&format!(" (allowed: {})", methods.join(", ")));
        }
        for violation in errors {
            why.push_str(&format!("\n{}: {}", shown(&violation.pointer), violation.detail));
        }
        match refusal.logged() {
            Some(cause) if name != "schema" => format!("{why} ({cause})"),
            _ => why,
        }
    }

    /// The credential that the request has, and its API does not look at.
    fn unlisted_summary(&self) -> String {
        let api = self.route.as_ref().map(|route| route.api());
        let unlisted = self.sent_as.filter(|kind| api.is_some_and(|api| !api.credentials().takes(*kind)));
        let kind = match unlisted {
            None => return String::new(),
            Some(SentAs::Token) => "a token",
            Some(SentAs::Key) => "an API key",
            Some(SentAs::Certificate) => "a client certificate",
        };
        format!("; the request has {kind}, which `authenticate_by` of this API does not list")
    }

    fn name(&self) -> &str {
        self.caller().map_or("nobody", |caller| caller.consumer())
    }

    /// The scopes that the route requires, and those that the caller has.
    fn scope_summary(&self) -> String {
        let needed = self.route.as_ref().map_or(&[][..], |route| route.required_scopes());
        let needs = if needed.is_empty() { "no scope".to_owned() } else { needed.join(", ") };
        let Some(caller) = self.caller() else { return format!("needs {needs}") };
        let has = if caller.granted().is_empty() { "none".to_owned() } else { caller.granted().join(", ") };
        let mut details = Vec::new();
        if !caller.roles().is_empty() {
            details.push(format!("roles: {}", caller.roles().join(", ")));
        }
        if !caller.cut().is_empty() {
            details.push(format!("ceiling cut: {}", caller.cut().join(", ")));
        }
        let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
        format!("needs {needs}; has {has}{details}")
    }

    /// The networks that the route may be called from.
    fn network_summary(&self) -> String {
        let networks = self.route.as_ref().and_then(|route| route.networks.as_ref());
        networks.map(|networks| format!("; from {networks}")).unwrap_or_default()
    }

    /// What requests name that must be the caller's, and what the caller has.
    fn ownership_summary(&self) -> String {
        let (Some(route), Some(caller)) = (&self.route, self.caller()) else { return String::new() };
        let Access::Scoped(requirement) = &route.access else { return String::new() };
        let conditions = requirement.ownership().unwrap_or_default().iter();
        conditions.map(|one| format!("; {} must be {}", one.name(), one.describe(caller))).collect()
    }

    /// What remains of each limit that the request counted against.
    fn limits(&self) -> Vec<String> {
        self.limits.iter().map(|(name, left, allowed)| format!("{name}: {left} of {allowed} left")).collect()
    }

    /// The headers that identify the caller to the upstream.
    pub(crate) fn identity_headers(&self) -> Vec<(Cow<'static, str>, String)> {
        let Some(identity) = self.caller().map(Caller::identity_headers) else { return Vec::new() };
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let mut headers =
            vec![("X-Consumer-Id", text(&identity.consumer)), ("X-Consumer-Scopes", text(&identity.scopes))];
        headers.extend(identity.user.as_ref().map(|user| ("X-Consumer-User", text(user))));
        headers.extend(identity.plan.as_ref().map(|plan| ("X-Consumer-Plan", text(plan))));
        headers.extend(identity.credential.as_ref().map(|id| ("X-Credential-Id", text(id))));
        let claims = identity.claims.iter().map(|(name, value)| (Cow::Owned(name.to_string()), text(value)));
        headers.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).chain(claims).collect()
    }
}

/// A JSON pointer for display: the empty one is the whole body.
pub(crate) fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "(the whole body)" } else { pointer }
}

impl CredentialOrigin {
    /// Finds the issuer and expiry of the caller's credential.
    pub(super) fn of(policy: &Policy, request: &Request<'_>, caller: Option<&Caller>) -> Self {
        let Some((kind, id)) = caller.map(Caller::credential) else { return Self::default() };
        let origin = match kind {
            CredentialKind::Jwt => {
                let sent = policy.auth().locations.token_of(request.headers);
                let token = match sent.map(Token::read) {
                    Some(Presented::Jwt(token)) => token,
                    _ => return Self::default(),
                };
                let issuer = policy.auth().issuers().find(|issuer| Some(issuer.iss()) == token.iss());
                let ends = token.end().and_then(|end| Timestamp::from_second(end).ok());
                let absent = issuer.map(|issuer| issuer.settings().absent(token.claims())).unwrap_or_default();
                Self { by: issuer.map(|issuer| issuer.name().into()), ends, absent, place: None }
            }
            CredentialKind::Introspected
            | CredentialKind::ClientSecret
            | CredentialKind::ClientAssertion
            | CredentialKind::Invitation => Self::default(),
            CredentialKind::ApiKey => {
                let keys = &policy.auth().keys;
                let key = keys.listed().find(|key| Some(&*key.id) == id);
                Self { ends: key.and_then(|key| key.end(keys.max_age())), ..Self::default() }
            }
            CredentialKind::Certificate => {
                let shown = request.certificate();
                Self { ends: shown.and_then(|shown| Timestamp::from_second(shown.not_after).ok()), ..Self::default() }
            }
        };
        Self { place: policy.auth().locations.place_of(request), ..origin }
    }

    /// Describes the credential and its consumer.
    fn words(&self, caller: &Caller, now: Timestamp) -> String {
        let (kind, id) = caller.credential();
        let (what, thing) = match kind {
            CredentialKind::Jwt => ("jwt".to_owned(), "token"),
            CredentialKind::Introspected => ("introspected token".to_owned(), "token"),
            CredentialKind::ApiKey => (format!("API key {}", id.unwrap_or_default()), "key"),
            CredentialKind::Certificate => ("client certificate".to_owned(), "certificate"),
            CredentialKind::ClientSecret | CredentialKind::ClientAssertion => {
                (format!("client {}", id.unwrap_or_default()), "credential")
            }
            CredentialKind::Invitation => (format!("invitation {}", id.unwrap_or_default()), "invitation"),
        };
        let mut words = vec![match &self.by {
            Some(issuer) => format!("{what} of {issuer}"),
            None => what,
        }];
        words.extend(self.place.as_ref().map(|place| format!("in {place}")));
        words.push(format!("consumer {}", caller.consumer()));
        words.push(match caller.plan() {
            Some(plan) => format!("plan {}", plan.name()),
            None => "no plan".to_owned(),
        });
        words.extend(caller.networks().map(|networks| format!("good from {networks}")));
        if let Some(ends) = self.ends {
            let left = SignedDuration::from_secs(ends.as_second().saturating_sub(now.as_second()));
            words.push(format!("{thing} expires in {left:#}"));
        }
        let words = words.join(", ");
        match self.absent.is_empty() {
            true => words,
            false => format!("{words}; the token has no {}", self.absent.join(", no ")),
        }
    }
}
