//! `GET /`: the page of operators, for browsers. It needs no token, because it shows nothing by itself: it asks for a token,
//! keeps it in memory, and asks the admin API with it. It is one document that loads nothing else, so it works without a
//! network.
//!
//! Callers control much of what it shows (paths, user agents, names in tokens). So scripts of the page write text only, never
//! HTML, and the browser runs no other script, sends nothing elsewhere, and shows the page in no frame.
//! Tokens are sent in a header, which other sites cannot do (no cookies), so no site can act for an operator.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http_body_util::Full;

/// The document; its style and its script are put in their places once.
const DOCUMENT: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// One script: these share a scope.
const SCRIPTS: [&str; 6] = [
    include_str!("script/base.js"),
    include_str!("script/dialogs.js"),
    include_str!("script/metrics.js"),
    include_str!("script/live.js"),
    include_str!("script/changes.js"),
    include_str!("script/views.js"),
];
const STYLE_PLACE: &str = "/* style */";
const SCRIPT_PLACE: &str = "/* script */";

/// The page, and the content security policy (CSP Level 3) that fits it.
struct Page {
    document: Bytes,
    policy: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let script = SCRIPTS.concat();
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; \
         form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        source(&script),
        source(STYLE),
    );
    Page {
        document: DOCUMENT.replace(STYLE_PLACE, STYLE).replace(SCRIPT_PLACE, &script).into(),
        policy: HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")),
    }
});

/// Text that the browser may run, by its hash.
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

/// Returns the page.
pub(super) fn answer() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(PAGE.document.clone()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, PAGE.policy.clone());
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text between two marks, which are there once.
    fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
        let (_, rest) = text.split_once(begin).unwrap();
        let (inside, rest) = rest.split_once(end).unwrap();
        assert!(!rest.contains(begin), "{begin} is there twice");
        inside
    }

    #[test]
    fn the_policy_allows_exactly_what_is_in_the_document() {
        let document = std::str::from_utf8(&PAGE.document).unwrap();
        let policy = PAGE.policy.to_str().unwrap();
        let script = between(document, "<script type=\"module\">", "</script>");
        let style = between(document, "<style>", "</style>");
        assert!(policy.contains(&format!("script-src '{}';", source(script))), "{policy}");
        assert!(policy.contains(&format!("style-src '{}';", source(style))), "{policy}");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn it_is_small_and_loads_nothing() {
        let document = std::str::from_utf8(&PAGE.document).unwrap();
        assert!(document.len() < 80 * 1024, "{} bytes", document.len());
        for text in [" src=", "href=\"http", "<link", "@import", "url(", " style=", " onclick", "import("] {
            assert!(!document.contains(text), "the page contains `{text}`");
        }
    }

    /// What callers control must never be read as HTML or script, nor end up in storage.
    #[test]
    fn its_scripts_write_text_only() {
        let sinks = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "srcdoc",
            "eval(",
            "new Function",
            "setHTML",
            "DOMParser",
            "createContextualFragment",
            "localStorage",
            "sessionStorage",
            "indexedDB",
            "document.cookie",
        ];
        for sink in sinks {
            assert!(!SCRIPTS.concat().contains(sink), "a script of the page uses `{sink}`");
        }
    }
}
