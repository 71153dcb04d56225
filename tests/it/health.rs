//! `bartizan health`: what health checks of containers and scripts get to know, at every door of the admin listener.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// Exit code, and what was said on both streams.
fn health(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.arg("health").args(arguments).current_dir(folder);
    for name in ["BARTIZAN_POLICY", "BARTIZAN_ADMIN", "BARTIZAN_ADMIN_CA"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// A policy with this admin listener, and a token that a health check neither has nor needs.
fn admitting(upstream: &Upstream, admin: &str) -> Policy {
    let policy = proxy().before(upstream).open("GET /x");
    let line = policy.yaml().lines().find(|line| line.starts_with("admin:")).unwrap().to_owned();
    let text = policy.yaml().replace(&line, &format!("admin: {{ token: {ADMIN_TOKEN}, {admin} }}"));
    policy.text(&text)
}

/// A file with this `admin` alone, such as a health check needs.
fn only(proxy: &Proxy, admin: &str) {
    std::fs::write(proxy.file("only.yaml"), format!("admin: {{ {admin} }}\n")).unwrap();
}

#[test]
fn a_running_proxy_is_ready_whatever_has_become_of_its_policy_file() {
    let upstream = upstream().start();
    let proxy = admitting(&upstream, "address: \"127.0.0.1:0\", socket: { path: admin.sock }").start();
    let (folder, url) = (proxy.folder.path(), format!("http://{}", proxy.admin()));
    let ready =
        |arguments: &[&str]| assert_eq!(health(folder, arguments), (Some(0), "ready\n".to_owned()), "{arguments:?}");
    ready(&["--policy", "policy.yaml"]);
    ready(&["--admin", &url]);
    ready(&["--admin", "unix:admin.sock", "--require", "audit,store"]);
    assert_eq!(health(folder, &["--admin", &url, "--live"]), (Some(0), "alive\n".to_owned()));
    let (code, answer) = health(folder, &["--admin", &url, "--format", "json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (code, &answer["ready"], answer["policy"].as_str().is_some()),
        (Some(0), &json!(true), true),
        "{answer}"
    );
    assert_eq!(health(folder, &["--admin", &url, "--require", "luck"]).0, Some(2));

    // Edited since, with mistakes, a variable that only the daemon has, and a vault that must not be asked.
    let vault = "secrets: { vault: { address: \"http://127.0.0.1:9\", login: { token: t } } }";
    let edited = format!(
        "{}roles: {{ a: [\"${{vault:kv/a#b}}\", \"${{env:NOT_SET_HERE}}\"] }}\n{vault}\nno: key\ninclude: [gone.yaml]\n",
        proxy.policy.yaml()
    );
    std::fs::write(proxy.file("policy.yaml"), edited).unwrap();
    ready(&["--policy", "policy.yaml"]);
    proxy.done();
}

#[test]
fn one_that_cannot_serve_is_alive_and_not_ready() {
    let upstream = upstream().start();
    let policy = proxy()
        .before(&upstream)
        .issuer("corp", "jwks: \"http://127.0.0.1:9/keys\", algorithms: [RS256], default_plan: free");
    let proxy = policy.route("GET /x", "scopes: [x]").start();
    let url = format!("http://{}", proxy.admin());
    let folder = proxy.folder.path();
    assert_eq!(health(folder, &["--admin", &url]), (Some(1), "not ready; degraded: issuers\n".to_owned()));
    let (code, answer) = health(folder, &["--admin", &url, "--format", "json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, &answer["degraded"]), (Some(1), &json!(["issuers"])), "{answer}");
    assert_eq!(health(folder, &["--admin", &url, "--live"]).0, Some(0));
    proxy.done();
}

#[test]
fn over_tls_it_trusts_the_certificate_of_the_policy_or_an_authority() {
    let (upstream, authority) = (upstream().start(), authority());
    let (ours, theirs) = (authority.certifies(&["localhost"]), authority.certifies(&["localhost"]));
    let proxy = admitting(&upstream, "address: \"127.0.0.1:0\", tls: { certificate: a.pem, key: a-key.pem }")
        .file("a.pem", ours.certificate)
        .file("a-key.pem", ours.key)
        .file("b.pem", theirs.certificate)
        .file("ca.pem", authority.pem())
        .start();
    let folder = proxy.folder.path();
    let address = format!("address: \"{}\"", proxy.admin());
    let url = format!("https://localhost:{}", proxy.admin().port());
    for (tls, code) in [
        // The key is not needed, and a health check may not be allowed to read it.
        ("tls: { certificate: a.pem, key: unreadable.pem }", 0),
        ("tls: { certificates: [{ certificate: b.pem }, { certificate: a.pem }] }", 0),
        ("tls: { certificate: b.pem, key: unreadable.pem }", 1),
    ] {
        only(&proxy, &format!("{address}, {tls}"));
        let (ended, said) = health(folder, &["--policy", "only.yaml"]);
        assert_eq!(ended, Some(code), "{tls}: {said}");
    }
    assert_eq!(health(folder, &["--admin", &url, "--admin-ca", "ca.pem"]), (Some(0), "ready\n".to_owned()));
    assert_eq!(health(folder, &["--admin", &url, "--admin-ca", "b.pem"]).0, Some(1));
    proxy.done();
}

#[test]
fn where_nobody_answers_or_nothing_is_named_it_fails_and_says_why() {
    let folder = tempfile::TempDir::new().unwrap();
    for (text, code, reported) in [
        ("version: 1\n", 2, "the policy has no `admin`"),
        ("admin: { token: abc }\n", 2, "`address` is missing"),
        ("admin: { address: nonsense }\n", 2, "not an address"),
        ("admin: [\n", 2, "error"),
        ("admin: { socket: { path: gone.sock } }\n", 1, "gone.sock"),
    ] {
        std::fs::write(folder.path().join("policy.yaml"), text).unwrap();
        let (ended, said) = health(folder.path(), &["--policy", "policy.yaml"]);
        assert_eq!((ended, said.contains(reported)), (Some(code), true), "{text}: {said}");
    }
    // It accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (code, said) = health(folder.path(), &["--admin", &url]);
    assert_eq!((code, said.contains("no answer within 3s")), (Some(1), true), "{said}");
    let (code, said) = health(folder.path(), &[]);
    assert_eq!((code, said.contains("--policy FILE")), (Some(2), true), "{said}");
}
