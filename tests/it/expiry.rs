//! Certificates and revocation lists that end: told at `check`, in the log, in the metrics, and on `/readyz` (U4).

use std::process::Command;

use crate::support::client::operator;
use crate::support::*;

const LISTENER: &str = r#"{ address: "127.0.0.1:0", tls: { certificate: c.pem, key: k.pem } }"#;

/// A listener with this certificate.
fn listening(upstream: &Upstream, certified: certificates::Certified) -> Policy {
    let policy = proxy().before(upstream).open("GET /x").listen(LISTENER);
    policy.file("c.pem", certified.certificate).file("k.pem", certified.key)
}

/// What `check` writes of a policy that it accepts.
fn warnings(policy: &Policy) -> String {
    let folder = tempfile::TempDir::new().unwrap();
    let file = policy.write(folder.path());
    let check = Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(file).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    String::from_utf8(check.stderr).unwrap()
}

/// Today and a number of days, as year, month and day.
fn day(from_now: i32) -> (i32, u8, u8) {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * i64::from(from_now));
    let text = then.to_string();
    let part = |range: std::ops::Range<usize>| text[range].parse::<u16>().unwrap();
    (part(0..4).into(), u8::try_from(part(5..7)).unwrap(), u8::try_from(part(8..10)).unwrap())
}

#[test]
fn a_certificate_that_is_not_valid_now_or_not_much_longer_is_reported_everywhere() {
    let (upstream, authority) = (upstream().start(), authority());
    for (first, last, state, words, degraded) in [
        ((2019, 1, 1), (2020, 1, 1), "expired", "expired at 2020-01-01", json!(["certificates"])),
        ((2098, 1, 1), (2099, 1, 1), "not_yet_valid", "is not valid before 2098-01-01", json!(["certificates"])),
        (day(-80), day(5), "expires_soon", "expires soon", json!([])),
    ] {
        let policy = listening(&upstream, authority.certifies_between(first, last));
        let reported = warnings(&policy);
        assert!(reported.contains(words) && reported.contains("c.pem"), "{reported}");
        let proxy = policy.start();
        assert_eq!(proxy.stderr.count(words), 1, "told once when it is loaded");
        let ready = operator(&proxy).get("/readyz").send();
        let body = ready.json();
        assert_eq!((ready.status, &body["degraded"]), (200, &degraded), "another node has the same: {body:#}");
        let listed = &body["certificates"][0];
        assert_eq!(listed["state"], state);
        assert!(listed["file"].as_str().is_some_and(|file| file.ends_with("c.pem")), "{listed}");
        let strict = operator(&proxy).get("/readyz?require=certificates").send();
        assert_eq!(strict.status, if degraded == json!([]) { 200 } else { 503 });
        let end = format!("{:04}-{:02}-{:02}T00:00:00Z", last.0, last.1, last.2);
        let end = end.parse::<jiff::Timestamp>().unwrap().as_second();
        let metrics = operator(&proxy).get("/metrics").send().text();
        let series = "bartizan_certificate_expiry_timestamp_seconds{kind=\"certificate\",file=\"";
        let line = metrics.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{metrics}"));
        assert!(line.ends_with(&format!("\"}} {end}")), "{line}");
        proxy.done();
    }
}

#[test]
fn a_certificate_that_is_valid_for_long_is_not_reported() {
    let (upstream, authority) = (upstream().start(), authority());
    let policy = listening(&upstream, authority.certifies_between((2020, 1, 1), (2099, 1, 1)));
    let policy = policy.with("allow: [unused_plan]");
    assert_eq!(warnings(&policy), "");
    let proxy = policy.start();
    assert_eq!(operator(&proxy).get("/readyz").send().json()["certificates"], json!([]));
    proxy.done();
}

#[test]
fn a_revocation_list_past_its_next_update_is_reported() {
    let (upstream, authority) = (upstream().start(), authority());
    let listener = r#"{ address: "127.0.0.1:0",
        tls: { certificate: c.pem, key: k.pem, client_ca: ca.pem, client_crls: [clients.crl] } }"#;
    let certified = authority.certifies_between((2020, 1, 1), (2099, 1, 1));
    let policy = proxy().before(&upstream).open("GET /x").listen(listener);
    let policy = policy.file("c.pem", certified.certificate).file("k.pem", certified.key);
    let policy = policy.file("ca.pem", authority.pem()).file("clients.crl", authority.revokes_until(2021, &[1]));
    let reported = warnings(&policy);
    assert!(
        reported.contains("expired at 2021-01-01T00:00:00Z: client certificates of its issuer are refused"),
        "{reported}"
    );
    let proxy = policy.start();
    let body = operator(&proxy).get("/readyz").send().json();
    assert_eq!((&body["certificates"][0]["kind"], &body["degraded"]), (&json!("client_crl"), &json!(["certificates"])));
    proxy.done();
}
