//! The policy has tests, and they use every scope and see every kind of refusal.

use std::collections::BTreeMap;

use crate::cli::output::counted;
use crate::cli::ready::facts::Facts;
use crate::cli::ready::item::{Check, Finding, Item, LinePlace};
use crate::policy::source::{Place, quote};
use crate::policy::{Access, Route};
use crate::refusal::Stage;

const PASS: Check = Check("tests_pass", "The policy has tests, and all of them pass");
const SCOPES: Check = Check("scopes_tested", "Every scope is used by a test");
const REFUSALS: Check = Check("refusals_tested", "Refusals explain themselves: tests see 401, 403, 422 and 429");

const NO_TESTS: &str = "there are no tests to look at";

pub(super) fn pass(facts: &Facts<'_>) -> Item {
    let tests = match &facts.tests {
        Ok(tests) => tests,
        Err(why) => {
            let help = "write `NAME.test.yaml` beside the policy, or give the files with --tests";
            return PASS.judged("no tests", vec![Finding::new(why.clone(), help).at(facts.at.key_place())]);
        }
    };
    let findings = tests.failed.iter().map(|(file, line, name)| {
        let place = LinePlace { file: file.clone(), line: *line, column: 1 };
        Finding::new(format!("the test {} fails", quote(name)), "run `bartizan test` to see why").at(place)
    });
    PASS.judged(format!("{} passed in {}", counted(tests.passed, "test"), tests.files.join(", ")), findings.collect())
}

/// A scope that no test uses may open nothing, or more than it should.
pub(super) fn scopes(facts: &Facts<'_>) -> Item {
    let mut known: BTreeMap<&str, (&str, Place)> = BTreeMap::new();
    for (role, scopes) in &facts.document.roles {
        let at = facts.at.key("roles").key(role);
        for (position, scope) in scopes.iter().enumerate() {
            known.entry(scope).or_insert_with(|| ("a role grants", at.index(position).place()));
        }
    }
    for route in facts.routes() {
        for scope in route.all_scopes() {
            known.entry(scope).or_insert_with(|| ("a route requires", facts.place_of(route)));
        }
    }
    let tests = match (&facts.tests, known.is_empty()) {
        (_, true) => return SCOPES.not_applicable("the policy has no scopes"),
        (Err(_), _) => return SCOPES.not_looked_at(NO_TESTS),
        (Ok(tests), _) => tests,
    };
    let count = known.len();
    let unused = known.into_iter().filter(|(scope, _)| !tests.used_scopes.contains(*scope));
    let findings = unused.map(|(scope, (who, place))| {
        let message = format!("no test shows what the scope {} is for, which {who}", quote(scope));
        Finding::new(message, "write a test in which it opens a route, or remove it").at(place)
    });
    SCOPES.judged(counted(count, "scope"), findings.collect())
}

/// Those statuses that this policy can answer with.
pub(super) fn refusals(facts: &Facts<'_>) -> Item {
    let possible = possible(facts);
    let tests = match (&facts.tests, possible.is_empty()) {
        (_, true) => return REFUSALS.not_applicable("the policy refuses nobody"),
        (Err(_), _) => return REFUSALS.not_looked_at(NO_TESTS),
        (Ok(tests), _) => tests,
    };
    let seen = |status: &u16| tests.refusals.contains(status);
    let statuses: Vec<String> = possible.iter().map(|(status, ..)| status.to_string()).collect();
    let findings = possible.into_iter().filter(|(status, ..)| !seen(status)).map(|(status, why, place)| {
        let message = format!("no test is refused with {status}, and {why}");
        Finding::new(message, format!("write a test with `expect: {{ status: {status}, code: CODE }}`")).at(place)
    });
    REFUSALS.judged(format!("this policy can refuse with {}", statuses.join(", ")), findings.collect())
}

/// Each status that the policy can refuse with, why, and the first line that says so.
fn possible(facts: &Facts<'_>) -> Vec<(u16, &'static str, Place)> {
    // A stage that only reports refuses nobody.
    let first = |stage: Stage, is: fn(&Route) -> bool| {
        let found = facts.routes().find(|route| is(route) && !route.reporting.contains(stage));
        found.map(|route| facts.place_of(route))
    };
    let plan = facts.document.plans.keys().next().map(|plan| facts.at.key("plans").key(plan).key_place());
    let is_limited = facts.routes().any(|route| !route.reporting.contains(Stage::RateLimit));
    let plan = plan.filter(|_| is_limited);
    [
        (401, "this route asks for a credential", first(Stage::Auth, |route| !matches!(route.access, Access::Public))),
        (403, "this route asks for more than a credential", first(Stage::Scope, is_restricted)),
        (422, "this route has a schema", first(Stage::Schema, |route| route.request.is_checked())),
        (429, "this limits requests", plan.or_else(|| first(Stage::RateLimit, |route| route.limits.rate.is_some()))),
    ]
    .into_iter()
    .filter_map(|(status, why, place)| Some((status, why, place?)))
    .collect()
}

fn is_restricted(route: &Route) -> bool {
    let narrow = match &route.access {
        Access::Public => false,
        Access::Scoped(requirement) => requirement.only().is_some() || requirement.ownership().is_some(),
    };
    narrow || route.networks.is_some() || route.all_scopes().next().is_some()
}
