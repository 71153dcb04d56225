//! The admin listener on a Unix socket: who may connect is said by its mode, and who it was by tokens.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use crate::support::client::operator;
use crate::support::proxy::{ADMIN_TOKEN, Reloaded};
use crate::support::*;

/// A policy whose admin listener is only there.
fn on_socket(upstream: &Upstream, admin: &str) -> Policy {
    let policy = proxy().before(upstream).open("GET /x").with("store: state");
    let admin = format!("admin: {{ token: {ADMIN_TOKEN}, {admin} }}\n");
    let text = policy.yaml().replace(&admin_of(&policy), &admin);
    policy.text(&text)
}

/// The line of a policy that has its admin listener.
fn admin_of(policy: &Policy) -> String {
    policy.yaml().lines().find(|line| line.starts_with("admin:")).unwrap().to_owned() + "\n"
}

/// Status and body of an answer to an operator.
#[track_caller]
fn asks(socket: &Path, path: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{token}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn mode(socket: &Path) -> u32 {
    std::fs::metadata(socket).unwrap().permissions().mode() & 0o777
}

/// Reloads with this part of the policy replaced.
#[track_caller]
fn changes(proxy: &mut Proxy, from: &str, to: &str) -> Reloaded {
    proxy.reload_to(|policy| {
        assert!(policy.yaml().contains(from), "{from}");
        let text = policy.yaml().replace(from, to);
        policy.text(&text)
    })
}

/// Exit code, and what was said on both streams.
fn commands(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.args(arguments).env_remove("BARTIZAN_POLICY").env_remove("BARTIZAN_ADMIN").env_remove("NOTIFY_SOCKET");
    let output = command.env_remove("BARTIZAN_ADMIN_TOKEN").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

#[test]
fn a_token_is_revoked_with_the_admin_token_by_flag_by_environment_and_by_policy() {
    let upstream = upstream().start();
    let proxy = on_socket(&upstream, "socket: { path: admin.sock }").start();
    let url = format!("unix:{}", proxy.file("admin.sock").display());
    let file = proxy.file("policy.yaml");
    let revoke = |way: &[&str], environment: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.args(["revoke", "token", "eyJhbGciOiJub25lIn0.e30.c2ln"]).args(way);
        command.env_remove("BARTIZAN_POLICY").env_remove("BARTIZAN_ADMIN").env_remove("BARTIZAN_ADMIN_TOKEN");
        command.envs(environment.map(|token| ("BARTIZAN_ADMIN_TOKEN", token)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    for (way, environment) in [
        (["--admin", &url, "--admin-token", ADMIN_TOKEN].as_slice(), None),
        (&["--admin", &url], Some(ADMIN_TOKEN)),
        (&["--policy", file.to_str().unwrap()], None),
    ] {
        let (code, said) = revoke(way, environment);
        assert_eq!(code, Some(0), "{way:?}: {said}");
    }
    let (code, said) = revoke(&["--admin", &url], Some("guess"));
    assert_eq!((code, said.contains("401")), (Some(1), true), "{said}");
    let (code, said) = revoke(&["--admin", &url], None);
    assert_eq!((code, said.contains("--admin-token")), (Some(2), true), "{said}");
    proxy.done();
}

#[test]
fn operators_come_in_by_a_socket_with_their_tokens() {
    let upstream = upstream().start();
    let proxy = on_socket(&upstream, "socket: { path: admin.sock, mode: \"0660\" }").start();
    let socket = proxy.file("admin.sock");
    assert_eq!(proxy.stderr.count(&format!("admin on unix:{}", socket.display())), 1);
    assert_eq!(mode(&socket), 0o660);
    assert_eq!(asks(&socket, "/healthz", None).0, 200);
    assert_eq!(asks(&socket, "/v1/policy", None).0, 401);
    assert_eq!(asks(&socket, "/v1/policy", Some("guess")).0, 401);
    assert_eq!(asks(&socket, "/v1/policy", Some(ADMIN_TOKEN)).0, 200);

    // Commands find it by the policy, or are reported where it is.
    let (file, url) = (proxy.file("policy.yaml"), format!("unix:{}", socket.display()));
    let file = file.to_str().unwrap();
    let (code, said_by) = commands(&["consumer", "add", "acme", "--policy", file]);
    assert_eq!(code, Some(0), "{said_by}");
    let (code, listed) = commands(&["consumer", "list", "--admin", &url, "--admin-token", ADMIN_TOKEN]);
    assert_eq!((code, listed.contains("acme")), (Some(0), true), "{listed}");
    let (code, refused) = commands(&["consumer", "list", "--admin", &url, "--admin-token", "guess"]);
    assert_eq!((code, refused.contains("401")), (Some(1), true), "{refused}");

    let records = proxy.recorded(3);
    let record = records.iter().find(|record| said(record, "event.action") == "consumer_created").unwrap();
    assert_eq!(
        (said(record, "event.action"), said(record, "user.id"), said(record, "client.ip")),
        (&json!("consumer_created"), &json!("admin"), &json!("127.0.0.1")),
    );
    proxy.done();
    assert!(!socket.exists(), "it is taken away at the end");
}

#[test]
fn a_socket_stays_at_a_reload_and_takes_another_mode_and_comes_and_goes_with_the_policy() {
    let upstream = upstream().start();
    let mut proxy = on_socket(&upstream, "address: \"127.0.0.1:0\", socket: { path: a.sock }").start();
    let (first, second) = (proxy.file("a.sock"), proxy.file("b.sock"));
    assert_eq!(mode(&first), 0o600, "its owner alone, unless something else is said");
    let identity = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = identity(&first);
    let mut held = UnixStream::connect(&first).unwrap();
    assert_eq!(changes(&mut proxy, "path: a.sock", "path: a.sock, mode: \"0666\""), Reloaded::Loaded);
    assert_eq!((mode(&first), identity(&first)), (0o666, before));
    // What was connected before is served still.
    held.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(held, "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    assert_eq!(changes(&mut proxy, "path: a.sock", "path: b.sock"), Reloaded::Loaded);
    assert!(!first.exists());
    assert_eq!(asks(&second, "/healthz", None).0, 200);
    // A path that is taken fails the whole reload.
    std::fs::write(proxy.file("c.sock"), "").unwrap();
    assert_eq!(changes(&mut proxy, "path: b.sock", "path: c.sock"), Reloaded::Failed);
    assert_eq!(asks(&second, "/healthz", None).0, 200);
    assert_eq!(changes(&mut proxy, ", socket: { path: c.sock, mode: \"0666\" }", ""), Reloaded::Loaded);
    assert!(!second.exists());
    assert_eq!(operator(&proxy).get("/healthz").send().status, 200);
    proxy.done();
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
    let (upstream, folder) = (upstream().start(), tempfile::TempDir::new().unwrap());
    let socket = folder.path().join("admin.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let policy = on_socket(&upstream, &format!("socket: {{ path: \"{}\" }}", socket.display()));
    let proxy = policy.clone().start();
    assert_eq!(asks(&socket, "/healthz", None).0, 200);
    let other = tempfile::TempDir::new().unwrap();
    let file = policy.write(other.path());
    let (code, said_by) = commands(&["run", "--policy", file.to_str().unwrap()]);
    assert_eq!((code, said_by.contains("in use by another process")), (Some(1), true), "{said_by}");
    assert_eq!(asks(&socket, "/healthz", None).0, 200);
    proxy.done();
}

#[test]
fn an_admin_listener_is_somewhere_and_its_socket_has_a_mode() {
    let (upstream, folder) = (upstream().start(), tempfile::TempDir::new().unwrap());
    let long = format!("socket: {{ path: \"{}\" }}", "x".repeat(108));
    for (admin, reported) in [
        ("tokens: []", "`address` is missing"),
        ("socket: {}", "`path` is missing"),
        ("socket: { path: a, mode: 660 }", ""),
        ("socket: { path: a, mode: \"0660\" }", ""),
        ("socket: { path: a, mode: \"0666\" }", "every user of this machine may connect"),
        ("socket: { path: a, mode: \"1660\" }", "not the permissions of a file"),
        ("socket: { path: a, mode: \"rw\" }", "not the permissions of a file"),
        ("socket: { path: a, mode: \"0680\" }", "not the permissions of a file"),
        (&long, "at most 107 bytes"),
        ("socket: { path: a }, tls: { certificate: c.pem, key: k.pem }", "`tls` is for the `address`"),
    ] {
        let file = on_socket(&upstream, admin).write(folder.path());
        let (code, said_by) = commands(&["check", file.to_str().unwrap()]);
        let good = reported.is_empty() || reported.starts_with("every user");
        assert_eq!((code == Some(0), said_by.contains(reported)), (good, true), "{admin}: {said_by}");
        assert!(!reported.is_empty() || !said_by.contains("warning"), "{admin}: {said_by}");
    }
}
