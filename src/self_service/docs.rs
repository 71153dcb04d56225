//! What a caller may call, as a page: plain HTML without scripts, whose only style is the one below.

use std::fmt::Write;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};

use super::kept::{self, Format};
use super::key_use::KeyUse;
use super::offer::{self, Reader, method_and_path};
use super::service::{Service, private};
use crate::exchange::Answer;
use crate::html_text::escaped;
use crate::policy::self_service::{SelfEndpoint, SelfService};
use crate::policy::shown::ShownParameter;
use crate::policy::{Access, Policy, Route};
use crate::stages::auth::Caller;

/// The style of the page, light or dark as its reader's system is.
const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
code,pre{font:14px/1.5 ui-monospace,monospace}pre{padding:.75rem;overflow:auto;background:#8882;border-radius:4px}\
section{border-top:1px solid #8884;margin-top:1.5rem}dt{font-weight:600}dd{margin:0 0 .5rem 1rem}h2 code{font-size:1.1rem}";

/// Nothing is loaded, run or sent from the page, and no other page may frame it. The style is known by its hash.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).ok()
});

/// Answers `GET docs`.
pub(super) fn answer(service: &Service<'_>, caller: &Caller) -> Box<Answer> {
    let request = service.request;
    let server = format!("{}://{}", request.scheme, request.authority);
    let reader = Reader::of(caller, request);
    let make = || page(&service.in_force.policy, service.config, &reader, &server).into();
    let page = kept::document(service, Format::Html, &reader, &server, make);
    let mut answer = private(StatusCode::OK, "text/html; charset=utf-8", page);
    if let Some(policy) = &*POLICY {
        answer.headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    }
    answer.headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// The page for somebody who calls this server.
fn page(policy: &Policy, config: &SelfService, reader: &Reader<'_>, server: &str) -> String {
    let (consumer, key) = (escaped(reader.consumer), KeyUse::of(policy));
    let sent = escaped(&key.words());
    let path = |endpoint| escaped(&config.path_of(endpoint));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>What {consumer} may call</title>\
         <style>{STYLE}</style></head><body>\n<h1>What {consumer} may call</h1>\n\
         <p>Send your API key as <code>{sent}</code>, or a token as <code>Authorization: Bearer</code>. \
         A refused request is answered with <code>application/problem+json</code>: <code>code</code> and \
         <code>detail</code> say why.</p>\n\
         <pre>curl {}</pre>\n\
         <p>The same for programs: <code>{}</code>. Your limits and keys: <code>{}</code>.</p>\n",
        escaped(&key.curl(&format!("{server}{}", config.path_of(SelfEndpoint::Me)), "$KEY")),
        path(SelfEndpoint::OpenApi),
        path(SelfEndpoint::Me),
    );
    for route in offer::open_routes(policy, reader) {
        section(&mut page, route, reader);
    }
    page.push_str("</body></html>\n");
    page
}

fn section(page: &mut String, route: &Route, reader: &Reader<'_>) {
    let (method, path) = method_and_path(route);
    // Writing to a String does not fail.
    let _ = writeln!(page, "<section><h2><code>{method} {}</code></h2>", escaped(path));
    let shown = route.shown.as_deref();
    if let Some(summary) = shown.and_then(|shown| shown.summary.as_ref()) {
        let _ = writeln!(page, "<p>{}</p>", escaped(summary));
    }
    page.push_str("<dl>");
    let mut say = |name: &str, text: &str| {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(text));
    };
    say("API", route.api().name());
    match &route.access {
        Access::Public => say("Scopes", "none; everybody may call it"),
        Access::Scoped(requirement) => {
            let ways = requirement.alternatives().iter().map(|one| one.scopes.join(" "));
            say("Scopes", &ways.collect::<Vec<_>>().join(" or "));
        }
    }
    let parameters = shown.map(|shown| shown.parameters.as_slice()).unwrap_or_default();
    for ShownParameter { name, location, required, .. } in parameters {
        say("Parameter", &format!("{name}, in {location}, {}", if *required { "required" } else { "optional" }));
    }
    if let Some(types) = route.request.media_types() {
        say("Body", &format!("{}, at most {} bytes", types.join(", "), route.request.max_size()));
    }
    for note in offer::notes(route, reader) {
        say("Note", &note);
    }
    page.push_str("</dl></section>\n");
}
