//! Coverage of a policy by its tests: finds routes, scopes, schemas and consumers that no test exercises.

use std::collections::BTreeSet;

use crate::policy::{Policy, Route};
use crate::refusal::{Reason, Refusal, Stage};
use crate::rehearsal::trace::RehearsalTrace;
use crate::stages::mask::Mask;

/// What tests have covered so far. Routes are named `API · METHOD /path`.
#[derive(Default)]
pub(super) struct Coverage {
    routes: BTreeSet<String>,
    /// Route and scope, where a caller without the scope was refused.
    lacked: BTreeSet<(String, String)>,
    broken: BTreeSet<String>,
    kept: BTreeSet<String>,
    consumers: BTreeSet<String>,
    /// Scopes that opened a route to a caller, or showed it what a mask hides.
    used: BTreeSet<String>,
}

/// What no test covers.
#[derive(Default)]
pub(super) struct Gaps {
    /// Routes without a request.
    pub(super) routes: Vec<String>,
    /// Routes, and their scopes for which no test has a caller refused.
    pub(super) scopes: Vec<(String, Vec<String>)>,
    /// Routes whose schema no test violates.
    pub(super) unbroken: Vec<String>,
    /// Routes whose schema no test satisfies.
    pub(super) unkept: Vec<String>,
    /// Consumers of the policy that no test uses.
    pub(super) consumers: Vec<String>,
}

fn name(route: &Route) -> String {
    format!("{} · {}", route.api().name(), route.name())
}

impl Coverage {
    /// Adds what a request covers.
    pub(super) fn note(&mut self, trace: &RehearsalTrace) {
        if let Some(caller) = trace.caller() {
            self.consumers.insert(caller.consumer().to_string());
        }
        let Some(route) = &trace.route else { return };
        let name = name(route);
        // A stage that only reports makes the same decision.
        if let (Some(caller), None) = (trace.caller(), trace.refusal()) {
            let mask = route.response.iter().filter_map(|response| response.mask()).flat_map(Mask::scopes);
            let scopes = route.all_scopes().chain(mask).filter(|scope| caller.has(scope));
            self.used.extend(scopes.map(str::to_owned));
        }
        let refusals = || trace.would_refuse().iter().chain(trace.refusal());
        if refusals().any(|refusal| refusal.reason() == Reason::InsufficientScope) {
            let granted = trace.caller().map(|caller| caller.granted()).unwrap_or_default();
            let lacked = route.required_scopes().iter().filter(|scope| !granted.contains(scope));
            self.lacked.extend(lacked.map(|scope| (name.clone(), scope.to_string())));
        }
        let breaks = |refusal: &Refusal| {
            refusal.stage() == Stage::Schema
                && matches!(refusal.reason(), Reason::SchemaViolation | Reason::MalformedBody)
        };
        if refusals().any(breaks) {
            self.broken.insert(name.clone());
        } else if trace.refusal().is_none() && route.request.is_checked() {
            self.kept.insert(name.clone());
        }
        self.routes.insert(name);
    }

    /// The scopes that opened a route to a caller, or showed it what a mask hides.
    pub(super) fn used(self) -> BTreeSet<String> {
        self.used
    }

    /// Returns what no test of the policy covers.
    pub(super) fn gaps(&self, policy: &Policy) -> Gaps {
        let mut gaps = Gaps::default();
        for route in policy.routes() {
            let name = name(route);
            let required = route.required_scopes().iter().map(ToString::to_string);
            let scopes: Vec<String> =
                required.filter(|scope| !self.lacked.contains(&(name.clone(), scope.clone()))).collect();
            if !scopes.is_empty() {
                gaps.scopes.push((name.clone(), scopes));
            }
            if route.request.is_checked() && !self.broken.contains(&name) {
                gaps.unbroken.push(name.clone());
            }
            if route.request.is_checked() && !self.kept.contains(&name) {
                gaps.unkept.push(name.clone());
            }
            if !self.routes.contains(&name) {
                gaps.routes.push(name);
            }
        }
        let listed = policy.auth().directory.listed().keys().map(ToString::to_string);
        gaps.consumers = listed.filter(|consumer| !self.consumers.contains(consumer)).collect();
        gaps
    }
}
