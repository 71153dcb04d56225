//! The admin listener over TLS (U17): who may connect, whom commands trust, and certificates that are renewed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::support::certificates::{Authority, Certified};
use crate::support::client::Client;
use crate::support::proxy::{ADMIN_TOKEN, Reloaded};
use crate::support::*;

/// A policy whose admin listener has this certificate, and more of its `tls`.
fn secured(upstream: &Upstream, certified: Certified, more: &str) -> Policy {
    let policy = proxy().before(upstream).open("GET /x").with("store: state");
    let tls = format!("admin: {{ tls: {{ certificate: a.pem, key: a-key.pem{more} }},");
    let text = policy.yaml().replace("admin: {", &tls);
    policy.text(&text).file("a.pem", certified.certificate).file("a-key.pem", certified.key)
}

/// An operator who trusts this authority alone.
fn over_tls(proxy: &Proxy, authority: &Authority) -> Client {
    Client::new(proxy.admin(), Arc::default()).tls(authority.client(&["http/1.1"]))
}

/// The file of a policy that has the real port of the admin listener, for commands.
fn for_commands(proxy: &Proxy) -> String {
    let text = proxy.policy.yaml();
    let (before, after) = text.split_once("admin: {").unwrap();
    let after = after.replacen("127.0.0.1:0", &proxy.admin().to_string(), 1);
    let file = proxy.file("for-commands.yaml");
    std::fs::write(&file, format!("{before}admin: {{{after}")).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Lists consumers with these arguments. Exit code, and what was said on both streams.
fn lists(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.args(["consumer", "list"]).args(arguments).current_dir(folder);
    for name in ["BARTIZAN_POLICY", "BARTIZAN_ADMIN", "BARTIZAN_ADMIN_TOKEN", "BARTIZAN_ADMIN_CA"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn operators_and_their_commands_come_in_over_tls_and_trust_the_right_certificate() {
    let (upstream, authority) = (upstream().start(), authority());
    let (certified, other) = (authority.certifies(&["localhost"]), authority.certifies(&["localhost"]));
    let proxy = secured(&upstream, certified, "").file("ca.pem", authority.pem()).start();
    assert_eq!(proxy.stderr.count("admin on https://127.0.0.1:"), 1);
    let mut operator = over_tls(&proxy, &authority);
    let added = operator.post("/v1/consumers", json!({"name": "acme"}).to_string()).bearer(ADMIN_TOKEN).send();
    assert_eq!(added.status, 201);
    let record = proxy.recorded(1).remove(0);
    assert_eq!(
        (said(&record, "event.action"), said(&record, "tls.version")),
        (&json!("consumer_created"), &json!("1.3"))
    );

    let (url, clear) = (format!("https://localhost:{}", proxy.admin().port()), format!("http://{}", proxy.admin()));
    let policy = for_commands(&proxy);
    let another = proxy.file("another.yaml");
    std::fs::write(
        &another,
        std::fs::read_to_string(&policy).unwrap().replace("a.pem, key: a-key", "b.pem, key: b-key"),
    )
    .unwrap();
    std::fs::write(proxy.file("b.pem"), &other.certificate).unwrap();
    std::fs::write(proxy.file("b-key.pem"), &other.key).unwrap();
    let another = another.to_str().unwrap();
    for (arguments, code, expected) in [
        (["--admin", &url, "--admin-ca", "ca.pem"], Some(0), "acme"),
        (["--policy", &policy, "--admin-token", ADMIN_TOKEN], Some(0), "acme"),
        // By its authority it must have the name that was asked for, and 127.0.0.1 is none of its names.
        (["--policy", &policy, "--admin-ca", "ca.pem"], Some(1), "not valid for name"),
        (["--admin", &clear, "--admin-ca", "ca.pem"], Some(1), ""),
        (["--policy", another, "--admin-token", ADMIN_TOKEN], Some(1), "its certificate is not the policy's"),
        (["--admin", &url, "--admin-ca", "a-key.pem"], Some(1), "holds no PEM certificate"),
        (["--admin", "ftp://localhost", "--admin-ca", "ca.pem"], Some(2), "`https://`"),
    ] {
        let given = if arguments.contains(&"--policy") { &[][..] } else { &["--admin-token", ADMIN_TOKEN] };
        let (ended, reported) = lists(proxy.folder.path(), &[&arguments[..], given].concat());
        assert_eq!((ended, reported.contains(expected)), (code, true), "{arguments:?}: {reported}");
    }
    proxy.done();
}

#[test]
fn a_renewed_certificate_is_taken_with_the_next_reload() {
    let (upstream, first, second) = (upstream().start(), authority(), authority());
    let mut proxy = secured(&upstream, first.certifies(&["localhost"]), "").start();
    assert_eq!(over_tls(&proxy, &first).get("/healthz").send().status, 200);
    let renewed = second.certifies(&["localhost"]);
    let reloaded = proxy.reload_to(|policy| policy.file("a.pem", renewed.certificate).file("a-key.pem", renewed.key));
    assert_eq!(reloaded, Reloaded::Loaded);
    assert_eq!(over_tls(&proxy, &second).get("/healthz").send().status, 200);
    // One that cannot be used leaves the last one in force.
    assert_eq!(proxy.reload_to(|policy| policy.file("a-key.pem", "nonsense")), Reloaded::Failed);
    assert_eq!(over_tls(&proxy, &second).get("/healthz").send().status, 200);
    proxy.done();
}

#[test]
fn an_operator_without_a_certificate_does_not_come_in_where_one_is_required() {
    let (upstream, authority) = (upstream().start(), authority());
    let (ours, theirs) = (authority.vouches_for(1, &["ops"]), crate::support::authority().vouches_for(1, &["ops"]));
    let required = ", client_ca: ca.pem, client_certificate: required";
    let proxy = secured(&upstream, authority.certifies(&["localhost"]), required)
        .file("ca.pem", authority.pem())
        .file("ops.pem", ours.certificate)
        .file("ops-key.pem", ours.key)
        .file("theirs.pem", theirs.certificate)
        .file("theirs-key.pem", theirs.key)
        .start();
    let policy = for_commands(&proxy);
    for (shown, code) in [
        (&["--admin-certificate", "ops.pem", "--admin-key", "ops-key.pem"][..], 0),
        (&["--admin-certificate", "theirs.pem", "--admin-key", "theirs-key.pem"], 1),
        (&[], 1),
        // Half of it is none.
        (&["--admin-certificate", "ops.pem"], 2),
    ] {
        let (ended, reported) = lists(proxy.folder.path(), &[&["--policy", &policy], shown].concat());
        assert_eq!(ended, Some(code), "{shown:?}: {reported}");
    }
    proxy.done();
}

#[test]
fn its_certificate_is_watched_as_those_of_other_listeners() {
    let (upstream, authority) = (upstream().start(), authority());
    // Valid for 80 days, of which fewer than 14 are left.
    let day = |from_now: i64| {
        let day = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * from_now)).to_string();
        let part = |range: std::ops::Range<usize>| day[range].parse::<u16>().unwrap();
        (i32::from(part(0..4)), u8::try_from(part(5..7)).unwrap(), u8::try_from(part(8..10)).unwrap())
    };
    let proxy = secured(&upstream, authority.certifies_between(day(-75), day(5)), "").start();
    assert_eq!(proxy.stderr.count("expires soon"), 1);
    let mut operator = over_tls(&proxy, &authority);
    let listed = operator.get("/readyz").send().json()["certificates"][0].clone();
    assert_eq!((&listed["kind"], &listed["state"]), (&json!("certificate"), &json!("expires_soon")), "{listed}");
    let page = operator.get("/metrics").send().text();
    let series = "bartizan_certificate_expiry_timestamp_seconds{kind=\"certificate\",file=\"";
    assert!(page.lines().any(|line| line.starts_with(series) && line.contains("a.pem")), "{page}");
    proxy.done();
}
