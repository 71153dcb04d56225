//! Decides a recorded request again, as far as the record has what the stages ask for.
//!
//! What it does not have keeps the decision that was made then: whether a signature was good, a limit was used up, a body was valid.

use std::collections::HashSet;
use std::net::IpAddr;

use http::Method;

use super::holders::{Holder, Holders, Standing};
use crate::evidence::record::Record;
use crate::policy::{Access, Policy, Reporting, Route};
use crate::proxy::request::path::{EncodedSlashes, normalise};
use crate::refusal::{Reason, Stage};
use crate::stages::auth::cache::SentAs;
use crate::stages::scope::ownership::{Condition, Owned};
use crate::stages::scope::{Alternative, By, Requirement};

/// How the chain decides a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It passes.
    Allowed,
    /// It is refused for this reason.
    Refused(&'static str),
}

/// What is not decided again, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// The request was refused before it had a route, or its path is not whole in the record.
    Request,
    /// What is known of its credential does not suffice.
    Credential,
    /// Its route was public, so nothing is known of its credential.
    Caller,
    /// More scopes than a record has.
    Scopes,
    /// `where` with a query, a header or a claim.
    Where,
    /// A proof of possession, a client certificate or the age of a token.
    Proof,
}

impl Gap {
    /// All, with what is said of each.
    pub(crate) const ALL: [(Self, &'static str); 6] = [
        (
            Self::Request,
            "request: refused before it had a route, answered without one, or with a path that is not whole",
        ),
        (Self::Credential, "auth: a credential that was refused, or that only the store may know"),
        (Self::Caller, "auth: the caller of a route that was public then, whose credential was not looked at"),
        (Self::Scopes, "scope: more scopes than a record has"),
        (Self::Where, "scope: `where` with a query, a header or a claim"),
        (Self::Proof, "scope: proofs of possession, client certificates and the age of tokens"),
    ];
}

/// A decision under the other policy.
pub(crate) struct Decision<'p> {
    /// How it is decided; absent: that cannot be said.
    pub(crate) outcome: Option<Outcome>,
    /// The route that it has now.
    pub(crate) route: Option<&'p Route>,
    /// What was not decided again.
    pub(crate) gap: Option<Gap>,
}

/// Decides again under one policy.
pub(crate) struct Replayer {
    policy: Policy,
    holders: Holders,
    /// Attributes that tokens have: what they say is not recorded.
    claimed: HashSet<Box<str>>,
}

/// How a refusal of a stage goes on.
type Settled = Result<(), Outcome>;

/// The decision that was made then.
pub(crate) fn recorded(record: &Record<'_>) -> Outcome {
    match (record.stage(), record.reason()) {
        (Some("request" | "auth" | "scope" | "rate_limit" | "schema"), Some(reason)) => Outcome::Refused(code(reason)),
        // What happens after the chain says nothing of it.
        _ => Outcome::Allowed,
    }
}

fn code(text: &str) -> &'static str {
    Reason::ALL.iter().map(|reason| reason.code()).find(|code| *code == text).unwrap_or("unknown")
}

/// The refusals of a stage then, whether they were given or only reported.
fn refusals<'r>(record: &'r Record<'_>, stage: Stage) -> impl Iterator<Item = &'static str> + 'r {
    let given = record.reason().filter(move |_| record.stage() == Some(stage.as_str())).map(code);
    let is_of = move |code: &&'static str| {
        let reason = Reason::ALL.iter().find(|reason| reason.code() == *code);
        reason.and_then(|reason| main_stage(*reason)) == Some(stage)
    };
    given.into_iter().chain(record.would_refuse().map(code).filter(is_of))
}

/// The stage that a code is of where only the code is recorded.
fn main_stage(reason: Reason) -> Option<Stage> {
    match reason {
        Reason::RateLimited | Reason::LimitsUnavailable => Some(Stage::RateLimit),
        other => other.stages().iter().copied().find(|stage| Stage::REPORTABLE.contains(stage)),
    }
}

impl Replayer {
    pub(crate) fn new(policy: Policy) -> Self {
        let auth = policy.auth();
        let issuers = auth.issuers().map(|issuer| issuer.settings());
        let issuers = issuers.chain(auth.introspection.iter().map(|endpoint| endpoint.settings()));
        let claimed = issuers.flat_map(|one| one.attributes.iter().map(|(name, _)| name.clone())).collect();
        Self { holders: Holders::of(&policy), claimed, policy }
    }

    /// The policy.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Decides a request again.
    pub(crate) fn decide(&self, record: &Record<'_>) -> Decision<'_> {
        let kept = recorded(record);
        let undecided = |outcome| Decision { outcome, route: None, gap: Some(Gap::Request) };
        let is_refused_early = record.stage() == Some("request");
        let is_routing = matches!(record.reason(), Some("no_route" | "method_not_allowed"));
        // Preflights, redirects, and requests that could not be read.
        let has_route = record.route().is_some_and(|(_, name)| !is_preflight(record.method(), name));
        if (is_refused_early && !is_routing) || (!is_refused_early && !has_route) || record.is_cut() {
            return undecided(Some(kept));
        }
        let Ok(path) = normalise(record.path(), EncodedSlashes::of(self.policy.keeps_encoded_slashes())) else {
            return undecided(Some(kept));
        };
        let route = match self.route(record, &path) {
            Ok(route) => route,
            Err(code) => return Decision { outcome: Some(Outcome::Refused(code)), route: None, gap: None },
        };
        // An operation may be closed for some queries, which are not recorded. What comes after the route was not asked.
        if is_refused_early {
            let is_closed = record.cause().is_some();
            return Decision { route: Some(route), ..undecided(is_closed.then_some(kept)) };
        }
        let mut gap = None;
        let outcome = self.stages(record, route, &path, &mut gap).err().unwrap_or(Outcome::Allowed);
        // Callers of a public route send credentials, too, but they are not recorded.
        let is_known = gap != Some(Gap::Caller) || outcome != Outcome::Refused(Reason::MissingCredentials.code());
        Decision { outcome: is_known.then_some(outcome), route: Some(route), gap }
    }

    fn route(&self, record: &Record<'_>, path: &str) -> Result<&Route, &'static str> {
        let method = Method::from_bytes(record.method().as_bytes()).map_err(|_| Reason::MalformedRequest.code())?;
        let found = self.policy.route(record.host(), &method, path, None);
        found.map(|route| &**route).map_err(|refusal| refusal.reason().code())
    }

    /// The client, if its network is known: a proxy may not have named it, and then `client.ip` is that of the proxy.
    fn client(&self, record: &Record<'_>) -> Option<IpAddr> {
        let is_hidden = record.cause().is_some_and(|cause| cause.ends_with("does not name the client"));
        let is_proxy = |client: &IpAddr| self.policy.trusted_proxies().iter().any(|network| network.contains(client));
        record.client().filter(|client| !is_hidden && !is_proxy(client))
    }

    /// The stages in their order, as `chain::admit` has them.
    fn stages(&self, record: &Record<'_>, route: &Route, path: &str, gap: &mut Option<Gap>) -> Settled {
        let reporting = route.reporting;
        if let (Access::Scoped(requirement), None) = (&route.access, route.own) {
            match self.authenticate(record, route, gap) {
                Err(code) => settle(reporting, Stage::Auth, code)?,
                Ok(holder) => {
                    if let Err(code) = self.permit(record, requirement, &holder, path, gap) {
                        settle(reporting, Stage::Scope, code)?;
                    }
                }
            }
        }
        let client = self.client(record);
        if let Some(networks) = &route.networks
            && !client.is_some_and(|client| networks.contain(client))
        {
            settle(reporting, Stage::Scope, Reason::NetworkNotAllowed.code())?;
        }
        for stage in [Stage::RateLimit, Stage::Schema] {
            refusals(record, stage).try_for_each(|code| settle(reporting, stage, code))?;
        }
        Ok(())
    }

    /// The holder of the credential, or the code of its refusal.
    fn authenticate(
        &self,
        record: &Record<'_>,
        route: &Route,
        gap: &mut Option<Gap>,
    ) -> Result<Holder<'_>, &'static str> {
        // Where it was in the request is not recorded.
        if sent_as(record).is_some_and(|kind| !route.api().credentials().takes(kind)) {
            return Err(Reason::MissingCredentials.code());
        }
        let again = |code: &&'static str| {
            [Reason::NetworkNotAllowed, Reason::ExpiredKey].iter().any(|reason| reason.code() == *code)
        };
        if let Some(code) = refusals(record, Stage::Auth).find(|code| !again(code)) {
            *gap = Some(Gap::Credential);
            return Err(code);
        }
        // A public route does not look at credentials; a caller without one was refused elsewhere.
        if record.consumer().is_none() {
            *gap = Some(Gap::Caller);
            return Err(Reason::MissingCredentials.code());
        }
        let holder = match self.holders.holder(record) {
            Standing::Good(holder) => holder,
            Standing::Stored(holder) => {
                *gap = Some(Gap::Credential);
                holder
            }
            Standing::Refused(reason) => return Err(reason.code()),
            Standing::Unknown => {
                *gap = Some(Gap::Credential);
                return refusals(record, Stage::Auth).next().map_or_else(|| Ok(Holder::unknown()), Err);
            }
        };
        let client = self.client(record);
        if holder.is_good_from(client) { Ok(holder) } else { Err(Reason::NetworkNotAllowed.code()) }
    }

    /// Checks scopes, `only`, `where` and the rest in the order of the stage.
    fn permit(
        &self,
        record: &Record<'_>,
        requirement: &Requirement,
        holder: &Holder<'_>,
        path: &str,
        gap: &mut Option<Gap>,
    ) -> Result<(), &'static str> {
        let was = |reason: Reason| refusals(record, Stage::Scope).any(|code| code == reason.code());
        let stronger = was(Reason::StrongerCredentialRequired);
        if record.lacks_scopes() {
            *gap = Some(Gap::Scopes);
            if was(Reason::InsufficientScope) {
                return Err(Reason::InsufficientScope.code());
            }
        } else {
            self.scopes(record, requirement, holder, stronger, gap)?;
        }
        let consumer = holder.name(record);
        if requirement.only().is_some_and(|only| !only.iter().any(|one| **one == *consumer)) {
            return Err(Reason::ConsumerNotApproved.code());
        }
        for condition in requirement.ownership().unwrap_or_default() {
            let owned = self.owns(record, condition, holder, path).unwrap_or_else(|| {
                *gap = Some(Gap::Where);
                !was(Reason::NotYours)
            });
            if !owned {
                return Err(Reason::NotYours.code());
            }
        }
        if requirement.needs_more_than_scopes() {
            *gap = gap.or(Some(Gap::Proof));
            if stronger {
                return Err(Reason::StrongerCredentialRequired.code());
            }
        }
        Ok(())
    }

    /// Whether one of the alternatives is met.
    fn scopes(
        &self,
        record: &Record<'_>,
        requirement: &Requirement,
        holder: &Holder<'_>,
        stronger: bool,
        gap: &mut Option<Gap>,
    ) -> Result<(), &'static str> {
        let accepts = |alternative: &&Alternative| match (alternative.by, record.credential().0) {
            (None, _) => true,
            (Some(By::Token), kind) => matches!(kind, Some("jwt" | "introspected")),
            (Some(By::Key), kind) => kind == Some("api_key"),
        };
        let mut is_near = false;
        for alternative in requirement.alternatives().iter().filter(accepts) {
            if !alternative.scopes.iter().all(|scope| holder.has(scope, record)) {
                is_near = true;
                continue;
            }
            if !alternative.certificate {
                return Ok(());
            }
            *gap = Some(Gap::Proof);
            if !stronger {
                return Ok(());
            }
        }
        Err(if is_near { Reason::InsufficientScope.code() } else { Reason::StrongerCredentialRequired.code() })
    }

    /// Whether what a request names is the caller's; `None` if that is not recorded.
    fn owns(&self, record: &Record<'_>, condition: &Condition, holder: &Holder<'_>, path: &str) -> Option<bool> {
        let is_token = record.credential().0.is_none_or(|kind| !matches!(kind, "api_key" | "certificate"));
        let consumer = holder.name(record);
        if let Some(name) = condition.attribute()
            && (holder.consumer.is_none() || (is_token && self.claimed.contains(name)))
        {
            return None;
        }
        condition.is_met_by_path(path, |owned, value| match owned {
            Owned::Consumer => consumer == value,
            // Without a user, the record has the consumer there.
            Owned::User => record.user() == value && Some(record.user()) != record.consumer(),
            Owned::Attribute(name) => {
                let values = holder.consumer.and_then(|consumer| consumer.attributes().get(name));
                values.is_some_and(|values| values.iter().any(|one| **one == *value))
            }
        })
    }
}

/// What the credential of a record was sent as; `None` if it has none.
fn sent_as(record: &Record<'_>) -> Option<SentAs> {
    match record.credential().0? {
        "jwt" | "introspected" => Some(SentAs::Token),
        "api_key" => Some(SentAs::Key),
        "certificate" => Some(SentAs::Certificate),
        // Those of the token service are not for APIs.
        _ => None,
    }
}

/// Whether a request was answered by `cors`: it has the route that the page asked about, which is of another method.
fn is_preflight(method: &str, route: &str) -> bool {
    method == "OPTIONS" && !route.starts_with("OPTIONS ")
}

fn settle(reporting: Reporting, stage: Stage, code: &'static str) -> Settled {
    if reporting.contains(stage) { Ok(()) } else { Err(Outcome::Refused(code)) }
}
