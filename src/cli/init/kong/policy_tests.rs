//! Writes policy tests: who is admitted to each route, and who is refused.

use std::fmt::Write;

use super::consumers::{Consumer, Verifier};
use super::routes::{Access, Api, Draft, Route};
use crate::cli::init::yaml;

/// Most tests, and most callers of a route.
const MOST: usize = 400;
const MOST_CALLERS: usize = 4;

/// A consumer's credential in a test.
struct Caller<'a, 't> {
    name: String,
    consumer: &'a Consumer<'t>,
    is_token: bool,
}

/// The text of the tests for the policy in `file`.
pub(super) fn text(file: &str, draft: &Draft, consumers: &[Consumer<'_>]) -> String {
    let mut text = format!(
        "# What Kong admits and refuses, as tests of the policy: bartizan test FILE\npolicy: {}\n",
        yaml::value(file)
    );
    let variables = consumers.iter().flat_map(|one| &one.issuers).filter_map(|one| match &one.verifier {
        Verifier::Variable(name) => Some(name),
        Verifier::Pem(_) => None,
    });
    for (position, name) in variables.enumerate() {
        if position == 0 {
            text.push_str("# Stand-ins: tests sign with these.\nenv:\n");
        }
        let _ = writeln!(text, "  {name}: stand-in-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    }
    let callers = callers(consumers);
    if !callers.is_empty() {
        text.push_str("\ncallers:\n");
    }
    for caller in &callers {
        let (key, issuer) = (caller.consumer.keys.first(), caller.consumer.issuers.first());
        let written = match (caller.is_token, key, issuer) {
            (true, _, Some(issuer)) => {
                format!("issuer: {}, id: {}", yaml::value(&issuer.name), yaml::value(&issuer.iss))
            }
            (_, Some(key), _) => format!("key: {}", yaml::value(&key.id)),
            _ => continue,
        };
        let _ = writeln!(text, "  {}: {{ {written} }}", yaml::value(&caller.name));
    }
    text.push_str("\ntests:\n");
    let mut left = MOST;
    for (api, route) in draft.apis.iter().flat_map(|api| api.routes.iter().map(move |route| (api, route))) {
        // Not for nothing: each route looks at all callers.
        if left == 0 {
            break;
        }
        // One that takes some networks only depends on where the test comes from.
        if route.from.is_empty() {
            of_route(&mut text, api, route, &callers, &mut left);
        }
    }
    if left == MOST {
        text.push_str(
            "  - { name: what is not written is not there, request: GET /not/there/at/all, expect: { status: 404 } }\n",
        );
    }
    text
}

fn callers<'a, 't>(consumers: &'a [Consumer<'t>]) -> Vec<Caller<'a, 't>> {
    let mut callers = Vec::new();
    for consumer in consumers.iter().filter(|one| one.from.is_empty()) {
        if !consumer.keys.is_empty() {
            callers.push(Caller { name: consumer.name.clone(), consumer, is_token: false });
        }
        if !consumer.issuers.is_empty() {
            callers.push(Caller { name: format!("{}, with a token", consumer.name), consumer, is_token: true });
        }
    }
    callers
}

fn of_route(text: &mut String, api: &Api, route: &Route, callers: &[Caller<'_, '_>], left: &mut usize) {
    let host =
        api.hosts.first().map(|host| format!(", host: {}", yaml::value(&host.replace('*', "a")))).unwrap_or_default();
    let request = format!("{{ method: {}, path: {}{host} }}", route.method, yaml::value(&example(&route.path)));
    let mut test = |who: Option<&str>, expect: &str| {
        let Some(less) = left.checked_sub(1) else { return };
        *left = less;
        let name = format!("{} {} {}: {}", api.name, route.method, route.path, who.unwrap_or("nobody"));
        let caller = who.map(|who| format!("\n    as: {}", yaml::value(who))).unwrap_or_default();
        let _ = write!(
            text,
            "  - name: {}{caller}\n    request: {request}\n    expect: {{ {expect} }}\n",
            yaml::value(&name)
        );
    };
    let upstream_path = example(route.rewrite.as_deref().unwrap_or(&route.path));
    let upstream_path = format!("upstream_path: {}", yaml::value(&upstream_path));
    if matches!(route.access, Access::Public) {
        test(None, &format!("status: 200, {upstream_path}"));
        return;
    }
    test(None, "status: 401, code: missing_credentials");
    let taken =
        callers.iter().filter(|caller| if caller.is_token { api.credentials.token() } else { api.credentials.key() });
    let (admitted, refused): (Vec<_>, Vec<_>) = taken.partition(|caller| admits(&route.access, caller.consumer));
    for caller in admitted.into_iter().take(MOST_CALLERS) {
        let consumer = yaml::value(&caller.consumer.name);
        test(Some(&caller.name), &format!("status: 200, consumer: {consumer}, {upstream_path}"));
    }
    for caller in refused.into_iter().take(MOST_CALLERS) {
        let code = if matches!(route.access, Access::Only(_)) { "consumer_not_approved" } else { "insufficient_scope" };
        test(Some(&caller.name), &format!("status: 403, code: {code}"));
    }
}

fn admits(access: &Access, consumer: &Consumer<'_>) -> bool {
    match access {
        Access::Public | Access::Any => true,
        Access::Scope(_, acl) => acl.admits(&consumer.groups.iter().copied().collect::<Vec<_>>()),
        Access::Only(names) => names.contains(&consumer.name),
    }
}

/// A path of a template.
fn example(template: &str) -> String {
    let segments = template.split('/').map(|segment| match segment.strip_prefix('{') {
        Some(name) if name.ends_with("...}") => "x",
        Some(_) => "1",
        None => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}
