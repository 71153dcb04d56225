//! The page that the demo prints at start: addresses, and six requests to paste.
//!
//! The lines work unchanged and in any order: the caller that exceeds its rate has a plan of its own.

use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;

use anstyle::{AnsiColor, Style};

use super::issuer::Issuer;
use super::places::Places;

/// The API key whose digest is in `config/demo.yaml`. A real key is random, and only its owner knows it.
const KEY: &str = "demo-warehouse-key";

/// One request to paste.
struct Call {
    heading: &'static str,
    /// Expected status.
    expect: &'static str,
    line: String,
}

/// The whole page.
pub(super) fn page(
    places: &Places,
    issuer: &Issuer,
    admin_token: &str,
    policy: &Path,
    colour: bool,
) -> io::Result<String> {
    let calls = calls(places, issuer)?;
    let mut page = String::new();
    // Writing to a `String` does not fail.
    let _ = write(&mut page, places, admin_token, policy, &calls, &Styles::new(colour));
    Ok(page)
}

fn calls(places: &Places, issuer: &Issuer) -> io::Result<[Call; 6]> {
    const CURL: &str = r"curl -siw '\n'";
    const JSON: &str = "-H 'Content-Type: application/json' -d";
    let orders = format!("http://{}/v1/orders", places.proxy);
    let bearer = |client: &str, scope: &str| {
        issuer.token(client, scope).map(|token| format!("-H 'Authorization: Bearer {token}'"))
    };
    let shop = bearer("shop", "orders:read orders:write")?;
    let dashboard = bearer("dashboard", "orders:read")?;
    let crawler = bearer("crawler", "orders:read")?;
    Ok([
        Call {
            heading: "Allowed: the shop's token reaches the API with the caller's name",
            expect: "200",
            line: format!("{CURL} {orders} {shop}"),
        },
        Call { heading: "No token", expect: "401", line: format!("{CURL} {orders}") },
        Call {
            heading: "Wrong scope: the dashboard's token may read orders, not place them",
            expect: "403",
            line: format!(r#"{CURL} {orders} {dashboard} {JSON} '{{"item":"map","quantity":1}}'"#),
        },
        Call {
            heading: "Invalid body: the API never sees it, and every mistake is reported at once",
            expect: "422",
            line: format!(r#"{CURL} {orders} {shop} {JSON} '{{"item":"","quantity":0,"discount":90}}'"#),
        },
        Call {
            heading: "Too fast: 15 requests on a plan with a burst of 5 and a rate of 1/s",
            expect: "200 five times, then 429",
            line: format!("curl -so /dev/null -w '%{{http_code}} ' '{orders}?n=[1-15]' {crawler}; echo"),
        },
        Call {
            heading: "API key: the warehouse places an order with its key, without a token",
            expect: "201",
            line: format!(r#"{CURL} {orders} -H 'X-API-Key: {KEY}' {JSON} '{{"item":"compass","quantity":3}}'"#),
        },
    ])
}

struct Styles {
    bold: Style,
    dim: Style,
    place: Style,
    good: Style,
    bad: Style,
}

impl Styles {
    fn new(colour: bool) -> Self {
        let style = |style: Style| if colour { style } else { Style::new() };
        let foreground = |colour: AnsiColor| style(Style::new().fg_color(Some(colour.into())));
        Self {
            bold: style(Style::new().bold()),
            dim: style(Style::new().dimmed()),
            place: foreground(AnsiColor::Cyan),
            good: foreground(AnsiColor::Green),
            bad: foreground(AnsiColor::Yellow),
        }
    }
}

fn write(
    page: &mut String,
    places: &Places,
    admin_token: &str,
    policy: &Path,
    calls: &[Call],
    styles: &Styles,
) -> fmt::Result {
    let Styles { bold, dim, place, good, bad } = styles;
    let process = std::process::id();
    writeln!(page, "{bold}Bartizan demo{bold:#}: one process, loopback only, until Ctrl-C\n")?;
    for (name, address, what) in [
        ("proxy", places.proxy, "what callers use; every request passes auth, scope, rate limit and schema".to_owned()),
        ("API", places.api, "orders, kept in memory; knows nothing of tokens".to_owned()),
        (
            "issuer",
            places.issuer,
            "signs any token: `-d client_id=finance -d scope=orders:refund` to /token".to_owned(),
        ),
        ("admin", places.admin, "for operators: a page, an API, /healthz, /readyz, /metrics".to_owned()),
    ] {
        let address = format!("http://{address}");
        writeln!(page, "  {bold}{name:<8}{bold:#}{place}{address:<24}{place:#}{dim}{what}{dim:#}")?;
    }
    let file = policy.display();
    writeln!(page, "  {bold}{:<8}{bold:#}{place}{file}{place:#}", "policy")?;
    writeln!(
        page,
        "  {:<8}{dim}edit it, then `kill -HUP {process}`: it applies at once if valid; otherwise nothing changes{dim:#}\n",
        ""
    )?;
    // The part after `#` stays in the browser: it is in no request, and so in no log.
    writeln!(page, "{bold}Watch it in a browser:{bold:#}\n")?;
    writeln!(page, "  {place}http://{}/#token={admin_token}{place:#}\n", places.admin)?;
    writeln!(page, "{bold}Paste these into another terminal:{bold:#}\n")?;
    for (number, call) in (1..).zip(calls) {
        let style = if call.expect.starts_with("20") { good } else { bad };
        writeln!(page, "{bold}{number}. {}{bold:#} → {style}{}{style:#}", call.heading, call.expect)?;
        writeln!(page, "{}\n", call.line)?;
    }
    writeln!(page, "{bold}Audit records, one line per request:{bold:#}")?;
    writeln!(
        page,
        "{dim}{:<12}  {:>3}  {:<6} {:<28}  {:<16}  {:<40}  {:>8}{dim:#}",
        "time", "", "method", "path", "consumer", "decision", "took"
    )
}

#[cfg(test)]
mod tests {
    use super::super::places::USUAL;
    use super::*;

    fn page_of(colour: bool) -> String {
        let issuer = Issuer::new(USUAL.issuer).unwrap();
        page(&USUAL, &issuer, "token", Path::new("/tmp/p/demo.yaml"), colour).unwrap()
    }

    #[test]
    fn the_key_is_the_one_of_the_policy() {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, KEY.as_bytes());
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(include_str!("../../../config/demo.yaml").contains(&digest), "{digest}");
    }

    #[test]
    fn there_are_six_lines_and_colour_only_when_asked_for() {
        let (plain, coloured) = (page_of(false), page_of(true));
        assert_eq!(plain.lines().filter(|line| line.starts_with("curl ")).count(), 6, "{plain}");
        assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
        let bare = |line: &str| line.trim_end().to_owned();
        let stripped = anstream::adapter::strip_str(&coloured).to_string();
        // Tokens differ; nothing else does.
        let rest = |text: &str| text.lines().filter(|line| !line.starts_with("curl ")).map(bare).collect::<Vec<_>>();
        assert_eq!(rest(&stripped), rest(&plain));
    }
}
