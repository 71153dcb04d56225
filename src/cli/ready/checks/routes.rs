//! Powerful routes are narrow, and what goes through routes is checked.

use crate::cli::output::counted;
use crate::cli::ready::facts::Facts;
use crate::cli::ready::item::{Check, Finding, Item};
use crate::policy::source::quote;
use crate::policy::{Access, Route};
use crate::refusal::Stage;

const POWERFUL: Check = Check("powerful_routes", "Powerful routes have `only`, `proof_of_possession` or `max_age`");
const REQUESTS: Check = Check("requests", "Every writing route has a schema");
const RESPONSES: Check = Check("responses", "Responses are checked, or violations are reported");

/// The methods whose requests carry what is to be written.
const WRITING: [&str; 3] = ["POST", "PUT", "PATCH"];

fn method(route: &Route) -> &str {
    route.name().split(' ').next().unwrap_or_default()
}

/// Powerful are routes of the method DELETE, and those that require one of `powerful_scopes`.
pub(super) fn powerful(facts: &Facts<'_>) -> Item {
    let scopes = &facts.document.powerful_scopes;
    let why = |route: &Route| match route.all_scopes().find(|scope| scopes.iter().any(|one| one == scope)) {
        Some(scope) => Some(format!("it requires the powerful scope {}", quote(scope))),
        None => (method(route) == "DELETE").then(|| "it deletes".to_owned()),
    };
    let powerful: Vec<(&Route, String)> = facts.routes().filter_map(|route| Some((route, why(route)?))).collect();
    if powerful.is_empty() {
        return POWERFUL.not_applicable("no route deletes, and none requires one of `powerful_scopes`");
    }
    let findings = powerful.iter().filter_map(|(route, why)| {
        let (problem, help) = if !is_narrow(route) {
            ("a stolen credential is enough for", "write `only`, `proof_of_possession` or `max_age`")
        } else if route.reporting.contains(Stage::Scope) {
            ("the stage `scope` only reports at", "write `mode: enforce`")
        } else {
            return None;
        };
        let message = format!("{problem} {}, which is powerful: {why}", quote(route.name()));
        Some(Finding::new(message, help).at(facts.place_of(route)))
    });
    POWERFUL.judged(counted(powerful.len(), "powerful route"), findings.collect())
}

/// Whether more is needed than a credential with the scopes.
fn is_narrow(route: &Route) -> bool {
    match &route.access {
        Access::Public => false,
        Access::Scoped(requirement) => {
            requirement.only().is_some()
                || requirement.proofs().is_some()
                || requirement.oldest().is_some()
                || requirement.alternatives().iter().all(|alternative| alternative.certificate)
        }
    }
}

/// A WebSocket is opened without a body, and what follows has no schema.
pub(super) fn requests(facts: &Facts<'_>) -> Item {
    let writing = |route: &&Route| WRITING.contains(&method(route)) && route.websocket.is_none();
    let writing: Vec<&Route> = facts.routes().filter(writing).collect();
    if writing.is_empty() {
        return REQUESTS.not_applicable("no route has the method POST, PUT or PATCH");
    }
    let findings = writing.iter().filter_map(|route| {
        let (problem, help) = if route.request.media_types().is_none() {
            ("any body is let through to", "write `request: { json: FILE }`, or describe it in `openapi`")
        } else if route.reporting.contains(Stage::Schema) {
            ("the stage `schema` only reports at", "write `mode: enforce`")
        } else {
            return None;
        };
        Some(Finding::new(format!("{problem} {}", quote(route.name())), help).at(facts.place_of(route)))
    });
    REQUESTS.judged(counted(writing.len(), "writing route"), findings.collect())
}

/// A response has a contract if the policy or the description says what some status looks like; to report violations is enough.
pub(super) fn responses(facts: &Facts<'_>) -> Item {
    let answering = |route: &&Route| !matches!(method(route), "HEAD" | "OPTIONS") && route.websocket.is_none();
    let answering: Vec<&Route> = facts.routes().filter(answering).collect();
    if answering.is_empty() {
        return RESPONSES.not_applicable("no route has responses with a body");
    }
    let is_open = |route: &&&Route| !route.response.as_ref().is_some_and(|response| response.has_contract());
    let findings = answering.iter().filter(is_open).map(|route| {
        let message = format!("nothing looks at the responses of {}", quote(route.name()));
        let help = "write `response: { json: FILE, mode: report }`, or describe them in `openapi`";
        Finding::new(message, help).at(facts.place_of(route))
    });
    RESPONSES.judged(counted(answering.len(), "route"), findings.collect())
}
