//! The hand-over sheet of an invitation: what the partner may call, the limits, how to claim, and how errors look. In Markdown, for a
//! mail or a ticket; the code is not in it, so that it can take another way.

use std::fmt::Write;

use super::offer::{self, Reader, method_and_path};
use super::partner_steps::Steps;
use crate::policy::Policy;
use crate::policy::self_service::{SelfEndpoint, SelfService};
use crate::stages::auth::{Consumer, CredentialKind};
use crate::stages::rate_limit::Plan;
use crate::state::registry::entry::Invitation;

/// What partners see of refusals, beside those of their credential: status, code, what to do.
const REFUSALS: [(&str, &str, &str); 5] = [
    ("403", "`insufficient_scope`", "ask for the scopes in `required_scopes`"),
    ("403", "`consumer_suspended`, `network_not_allowed`", "ask the API's owner"),
    ("422", "`schema_violation`", "`errors` say what is wrong, and where"),
    ("429", "`rate_limited`, `quota_exceeded`", "wait as many seconds as `Retry-After` says"),
    ("503", "any", "try again shortly, with growing pauses"),
];

/// Writes the sheet of an invitation; `base` is the URL that the partner calls, without a slash at its end.
pub(crate) fn sheet(
    policy: &Policy,
    config: &SelfService,
    consumer: &Consumer,
    invitation: &Invitation,
    base: Option<&str>,
) -> String {
    let (scopes, credential) = (scopes(consumer, invitation), &invitation.credential);
    let kind = if credential.is_client() { CredentialKind::Jwt } else { CredentialKind::ApiKey };
    let reader = Reader { consumer: consumer.name(), scopes: &scopes, kind, place: None };
    let steps = Steps::new(policy, config, credential.clone(), base);
    let (me, docs) = (config.path_of(SelfEndpoint::Me), config.path_of(SelfEndpoint::Docs));
    let (claims, answer) = steps.claim();
    let name = code(consumer.name());
    let mut sheet = format!(
        "# Access for {name}\n\n\
         You get a one-time code beside this sheet. Claim it before {}: {}.\n\n",
        invitation.expires.strftime("%Y-%m-%d %H:%M UTC"),
        steps.gives(),
    );
    // Writing to a String does not fail.
    if let Some(networks) = &invitation.from {
        let networks = code(&networks.to_string());
        let _ = write!(sheet, "Claim it, and use what you get, from these networks only: {networks}.\n\n");
    }
    claims.iter().for_each(|claim| step(&mut sheet, &claim.words, &claim.command));
    let _ = write!(
        sheet,
        "{answer} If the answer gets lost, ask us for a new code. If the code was claimed already, and not by you, tell us at once.\n\n"
    );
    if let Some((token, script)) = steps.token() {
        sheet.push_str("## Getting a token\n\n");
        if let Some(script) = script {
            let _ = write!(sheet, "{}\n\n```text\n{script}```\n\n```sh\n{}\n```\n\n", token.words, token.command);
        } else {
            step(&mut sheet, &token.words, &token.command);
        }
        sheet.push_str(
            "The answer has the token (`access_token`), which is valid for `expires_in` seconds; then get another.\n\n",
        );
    }
    calls(&mut sheet, &steps, policy, &reader, &me);
    limits(&mut sheet, consumer.plan().map(|plan| &**plan));
    sheet.push_str("\n## For yourself\n\n");
    step(
        &mut sheet,
        "Your limits, what is left of them, and your credentials:",
        &format!("curl -s {}", steps.call(&me)),
    );
    match steps.replace() {
        Ok(replace) => step(&mut sheet, &replace.words, &replace.command),
        Err(words) => {
            let _ = write!(sheet, "{words}\n\n");
        }
    }
    let words = format!("All that you may call; {} for programs:", code(&config.path_of(SelfEndpoint::OpenApi)));
    step(&mut sheet, &words, &format!("curl -s {} > docs.html", steps.call(&docs)));
    errors(&mut sheet, &steps);
    sheet
}

/// What the partner may call, and one call of it; of `me`, if none is plain.
fn calls(sheet: &mut String, steps: &Steps<'_>, policy: &Policy, reader: &Reader<'_>, me: &str) {
    sheet.push_str("## Calling\n\n```sh\n");
    let routes: Vec<_> = offer::open_routes(policy, reader).collect();
    let example = routes
        .iter()
        .map(|route| method_and_path(route))
        .find(|(method, path)| *method == "GET" && !path.contains('{'));
    let (_, path) = example.unwrap_or(("GET", me));
    let _ = write!(sheet, "curl -i {}\n```\n\n", steps.call(path));
    sheet.push_str("| you may call | which | |\n|---|---|---|\n");
    for route in &routes {
        let (method, path) = method_and_path(route);
        let mut about: Vec<String> =
            route.shown.iter().filter_map(|shown| shown.summary.as_ref()).map(|summary| cell(summary)).collect();
        about.extend(offer::notes(route, reader).iter().map(|note| cell(note)));
        let _ = writeln!(sheet, "| {method} | {} | {} |", code(path), about.join(" "));
    }
}

/// A step as a paragraph, and its command as a block that can be pasted.
fn step(sheet: &mut String, words: &str, command: &str) {
    let _ = write!(sheet, "{words}\n\n```sh\n{command}\n```\n\n");
}

fn errors(sheet: &mut String, steps: &Steps<'_>) {
    sheet.push_str("## Errors\n\nRefusals are `application/problem+json`: `code` and `detail` say why. Name `instance` when you ask us.");
    if steps.token().is_some() {
        let request = "Those of the token endpoint are as OAuth has them: `error` and `error_description` say why. Name the header \
                       `X-Request-Id` when you ask us.";
        let _ = write!(sheet, " {request}");
    }
    sheet.push_str("\n\n");
    sheet.push_str("| status | code | do |\n|---|---|---|\n");
    for (status, codes, help) in steps.refusals().iter().chain(&REFUSALS) {
        let _ = writeln!(sheet, "| {status} | {codes} | {help} |");
    }
}

/// The scopes that the credential of an invitation will have.
fn scopes(consumer: &Consumer, invitation: &Invitation) -> Vec<Box<str>> {
    let all = consumer.ceiling().unwrap_or_default().iter();
    all.filter(|scope| invitation.scopes.as_ref().is_none_or(|scopes| scopes.contains(scope))).cloned().collect()
}

fn limits(sheet: &mut String, plan: Option<&Plan>) {
    let Some(plan) = plan else {
        sheet.push_str("\n## Limits\n\nNone.\n");
        return;
    };
    let _ = write!(sheet, "\n## Limits\n\nPlan {}. Responses say what is left (`RateLimit`).\n\n", code(plan.name()));
    for limit in plan.limits().chain(plan.user_limit()) {
        let _ = writeln!(sheet, "- {}", limit.words());
    }
}

/// A text in a code span, which nothing in it can end (CommonMark §6.1).
fn code(text: &str) -> String {
    format!("`{}`", text.replace('`', "'").replace('|', "\\|").replace(['\n', '\r'], " "))
}

/// A text in a cell of a table, without markup.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => cell.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '!' | '#' => cell.extend(['\\', c]),
            c => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(code("a`|b\nc"), "`a'\\|b c`");
        assert_eq!(cell("[x](http://evil) <b>\n| y"), "\\[x\\](http://evil) \\<b\\> \\| y");
    }
}
