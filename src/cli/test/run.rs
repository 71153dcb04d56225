//! Runs the requests of a plan and compares the results with the expectations.

use std::collections::HashMap;
use std::time::Duration;

use super::coverage::Coverage;
use super::file::{ALLOW, Facts, GRPC_OK, REFUSE};
use super::plan::{Case, Group, Plan};
use crate::grpc;
use crate::rehearsal::mint::Credential;
use crate::rehearsal::request::Moment;
use crate::rehearsal::trace::RehearsalTrace;

/// Result of one test.
pub(super) struct Tested {
    pub(super) name: String,
    pub(super) line: usize,
    /// Differences from the expectation; empty if the test passed.
    pub(super) differences: Vec<Difference>,
    /// Result of the last request.
    pub(super) got: Got,
}

/// A fact that differs from the expectation.
pub(super) struct Difference {
    pub(super) fact: &'static str,
    pub(super) expected: String,
    pub(super) got: String,
}

/// Result of a request.
#[derive(Default)]
pub(super) struct Got {
    pub(super) status: u16,
    /// Of a call of gRPC.
    pub(super) grpc_status: Option<&'static str>,
    pub(super) code: Option<&'static str>,
    pub(super) stage: Option<&'static str>,
    /// The detail that the caller would read.
    pub(super) detail: Option<String>,
    /// Pointer and detail.
    pub(super) violations: Vec<(String, String)>,
    pub(super) scopes: Vec<String>,
    pub(super) granted: Vec<String>,
    pub(super) consumer: Option<String>,
    pub(super) route: Option<String>,
    pub(super) would_refuse: Vec<String>,
    pub(super) upstream_path: Option<String>,
    /// The paths of what the caller does not see of responses.
    pub(super) hidden: Vec<String>,
    pub(super) cors: Option<&'static str>,
}

/// Runs the tests whose names contain the filter. Needs a tokio runtime with time enabled.
pub(super) async fn run(plan: &mut Plan, filter: Option<&str>) -> (Vec<Tested>, Coverage) {
    let (mut tested, mut coverage) = (Vec::new(), Coverage::default());
    let groups = std::mem::take(&mut plan.groups);
    let wanted = |group: &&Group| filter.is_none_or(|text| group.cases.iter().any(|case| case.name.contains(text)));
    for group in groups.iter().filter(wanted) {
        plan.rehearsal.forget();
        let (mut since, mut credentials) = (Duration::ZERO, HashMap::new());
        for case in &group.cases {
            since = since.saturating_add(case.after);
            tested.push(ask(plan, case, since, &mut credentials, &mut coverage).await);
        }
    }
    (tested, coverage)
}

async fn ask<'c>(
    plan: &Plan,
    case: &'c Case,
    since: Duration,
    credentials: &mut HashMap<&'c str, Credential>,
    coverage: &mut Coverage,
) -> Tested {
    let tested = |differences, got| Tested { name: case.name.clone(), line: case.line, differences, got };
    let impossible =
        |got: String| tested(vec![Difference { fact: "credential", expected: "one".to_owned(), got }], Got::default());
    let Ok(at) = plan.now.checked_add(since) else { return impossible("a time past the year 9999".to_owned()) };
    let in_force = plan.rehearsal.in_force();
    let credential = match &case.caller {
        None => None,
        Some((name, persona)) => match credentials.get(name.as_str()) {
            Some(known) => Some(known.clone()),
            None => match plan.mint.credential(in_force, persona, at) {
                Ok(made) => {
                    credentials.insert(name, made.clone());
                    Some(made)
                }
                Err(problem) => return impossible(problem),
            },
        },
    };
    let mut got = Got::default();
    for _ in 0..case.repeat {
        let mut request = case.request.build();
        if let Some(credential) = &credential
            && let Err(problem) = credential.add_to(in_force, &mut request, at)
        {
            return impossible(problem);
        }
        let is_grpc = request.is_grpc();
        let trace = plan.rehearsal.trace(request, Moment { at, since }).await;
        coverage.note(&trace);
        got = Got::of(&trace, is_grpc);
    }
    tested(differences(&case.expect, &got), got)
}

impl Got {
    fn of(trace: &RehearsalTrace, is_grpc: bool) -> Self {
        let refusal = trace.refusal();
        let owned = |names: &[Box<str>]| names.iter().map(ToString::to_string).collect();
        let refusals = trace.would_refuse().iter().chain(refusal);
        let violations = refusals.flat_map(|refusal| refusal.violations());
        Self {
            status: match refusal {
                Some(refusal) => refusal.reason().status().as_u16(),
                None if trace.ends_here() => 204,
                None => 200,
            },
            grpc_status: is_grpc.then(|| refusal.map_or(GRPC_OK, |refusal| grpc::status(refusal.reason()).1)),
            code: refusal.map(|refusal| refusal.reason().code()),
            stage: refusal.map(|refusal| refusal.stage().as_str()),
            detail: refusal.map(|refusal| refusal.detail().to_owned()),
            violations: violations.map(|found| (found.pointer.clone(), found.detail.clone())).collect(),
            scopes: trace.route.as_ref().map(|route| owned(route.required_scopes())).unwrap_or_default(),
            granted: trace.caller().map(|caller| owned(caller.granted())).unwrap_or_default(),
            consumer: trace.caller().map(|caller| caller.consumer().to_string()),
            route: trace.route.as_ref().map(|route| route.name().to_string()),
            would_refuse: trace.would_refuse().iter().map(|refusal| refusal.reason().code().to_owned()).collect(),
            upstream_path: trace.upstream_target(),
            hidden: trace.hidden(),
            cors: trace.cors().map(|may_read| if may_read { ALLOW } else { REFUSE }),
        }
    }
}

/// Returns the expected facts that differ.
fn differences(expect: &Facts, got: &Got) -> Vec<Difference> {
    let or_none = |text: Option<&str>| text.unwrap_or("none").to_owned();
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        // An empty JSON pointer names the whole body (RFC 6901 §5).
        let names: Vec<&str> = names.iter().map(|name| if name.is_empty() { "\"\"" } else { name }).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let pointers: Vec<String> = got.violations.iter().map(|(pointer, _)| pointer.clone()).collect();
    let facts = [
        ("status", expect.status.map(|status| status.to_string()), got.status.to_string()),
        ("grpc_status", expect.grpc_status.clone(), or_none(got.grpc_status)),
        ("code", expect.code.clone(), or_none(got.code)),
        ("stage", expect.stage.clone(), or_none(got.stage)),
        ("route", expect.route.clone(), or_none(got.route.as_deref())),
        ("consumer", expect.consumer.clone(), or_none(got.consumer.as_deref())),
        ("scopes", expect.scopes.as_deref().map(sorted), sorted(&got.scopes)),
        ("granted", expect.granted.as_deref().map(sorted), sorted(&got.granted)),
        ("violations", expect.violations.as_deref().map(sorted), sorted(&pointers)),
        ("would_refuse", expect.would_refuse.as_deref().map(sorted), sorted(&got.would_refuse)),
        ("upstream_path", expect.upstream_path.clone(), or_none(got.upstream_path.as_deref())),
        ("hidden", expect.hidden.as_deref().map(sorted), sorted(&got.hidden)),
        ("cors", expect.cors.clone(), or_none(got.cors)),
    ];
    let differs = |(fact, expected, got): (&'static str, Option<String>, String)| {
        expected.filter(|expected| *expected != got).map(|expected| Difference { fact, expected, got })
    };
    facts.into_iter().filter_map(differs).collect()
}
