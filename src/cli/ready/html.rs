//! The checklist as one page: no scripts, nothing that is loaded, and only the style below. Names in it come from policies that other
//! teams write, so every text is escaped.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::item::{Finding, Item};
use super::report::Report;
use crate::html_text::escaped;

/// Light or dark as the reader's system is; on paper, no item is split.
const STYLE: &str = "\
:root{color-scheme:light dark;--passed:light-dark(#1a7f37,#3fb950);--failed:light-dark(#cf222e,#ff7b72);--open:light-dark(#9a6700,#d29922);--quiet:light-dark(#59636e,#9198a1)}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
code{font:14px/1.5 ui-monospace,monospace;overflow-wrap:anywhere}h1{margin-bottom:.25rem}h1 code,h2 code{font-size:inherit}\
section{border-top:1px solid #8884;padding:.75rem 0;display:grid;grid-template-columns:8.5rem 1fr;gap:0 1rem;break-inside:avoid}\
h2{font-size:1rem;margin:0}p,ul{margin:0;grid-column:2}ul{padding-left:1.2rem;margin-top:.25rem}\
.status{font-weight:600;grid-column:1;color:var(--quiet)}.passed{color:var(--passed)}.failed{color:var(--failed)}\
.not_looked_at{color:var(--open)}.verdict{font-size:1.25rem;font-weight:600}\
@media(max-width:40rem){section{grid-template-columns:1fr}p,ul{grid-column:1}}";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let class = if report.is_ready() { "passed" } else { "failed" };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'; \
         base-uri 'none'; form-action 'none'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"referrer\" content=\"no-referrer\">\
         <title>Launch checklist of {file}</title><style>{STYLE}</style></head><body>\n\
         <h1>Launch checklist of <code>{file}</code></h1>\n\
         <p class=\"verdict {class}\">{}: {}</p>\n<p>{} · policy <code>{}</code></p>\n",
        report.verdict(),
        report.summary(),
        escaped(&report.at.to_string()),
        escaped(&report.digest),
        file = escaped(&report.file),
    );
    report.items.iter().for_each(|item| section(&mut page, item));
    page.push_str("</body></html>\n");
    page
}

fn section(page: &mut String, item: &Item) {
    let Item { asks, status, evidence, findings, .. } = item;
    // Writing to a String does not fail.
    let _ = write!(
        page,
        "<section><span class=\"status {}\">{}</span><h2>{}</h2><p>{}</p>",
        status.as_str(),
        status.words(),
        prose(asks),
        prose(evidence)
    );
    if !findings.is_empty() {
        page.push_str("<ul>");
        for Finding { message, help, line } in findings {
            let line = line.as_ref().map(|line| format!("<code>{}</code>: ", escaped(&line.to_string())));
            let _ = write!(page, "<li>{}{}; {}</li>", line.unwrap_or_default(), prose(message), prose(help));
        }
        page.push_str("</ul>");
    }
    page.push_str("</section>\n");
}

/// A sentence for HTML, in which what is between two backticks is code.
fn prose(text: &str) -> String {
    let text = escaped(text);
    let parts: Vec<&str> = text.split('`').collect();
    // One that has no pair stays as it is.
    if parts.len().is_multiple_of(2) {
        return text;
    }
    let code = |(position, part): (usize, &&str)| match position % 2 {
        0 => (*part).to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    parts.iter().enumerate().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_escaped_before_their_code_is_marked() {
        for (text, expected) in [
            ("write `only`", "write <code>only</code>"),
            ("`a` and `b`", "<code>a</code> and <code>b</code>"),
            ("the scope `<b>` & 'c'", "the scope <code>&lt;b&gt;</code> &amp; &#39;c&#39;"),
            ("a lone ` stays", "a lone ` stays"),
            ("", ""),
        ] {
            assert_eq!(prose(text), expected);
        }
    }
}
