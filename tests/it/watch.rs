//! `secrets.watch`: files that change are put in force without being asked, whole or not at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::certificates::{Authority, Certified};
use crate::support::client::operator;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

const LISTENER: &str = r#"{ address: "127.0.0.1:0", tls: { certificate: c.pem, key: k.pem } }"#;

/// Watches its files, and has a certificate of this authority.
fn watching(upstream: &Upstream, authority: &Authority, watch: &str) -> Policy {
    let Certified { certificate, key, .. } = authority.certifies(&["localhost"]);
    let policy =
        proxy().before(upstream).open("GET /x").listen(LISTENER).with(&format!("secrets: {{ watch: {watch} }}"));
    policy.file("c.pem", certificate).file("k.pem", key)
}

/// Puts a file in place of another.
fn replace(proxy: &proxy::Proxy, name: &str, content: &str) {
    fs::write(proxy.file("next"), content).unwrap();
    fs::rename(proxy.file("next"), proxy.file(name)).unwrap();
}

/// Waits until new connections are served with a certificate of this authority.
#[track_caller]
fn serves(proxy: &proxy::Proxy, authority: &Authority) {
    eventually("the certificate is in force", || {
        let stream = std::net::TcpStream::connect(proxy.address()).unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut connection = rustls::ClientConnection::new(authority.client(&[]), name).unwrap();
        connection.complete_io(&mut &stream).is_ok().then_some(())
    });
    client(proxy).tls(authority.client(&[])).get("/x").send().is(200);
}

/// What is wrong with a file, as operators see it.
fn error(proxy: &proxy::Proxy, file: &str) -> String {
    let answer = operator(proxy).get("/v1/secrets").bearer(ADMIN_TOKEN).send().json();
    let items = answer["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["reference"] == file).unwrap();
    item["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_new_pair_is_put_in_force_without_a_word_from_anybody() {
    let (upstream, before, after) = (upstream().start(), authority(), authority());
    let proxy = watching(&upstream, &before, "100ms").start();
    let mut old = client(&proxy).tls(before.client(&[]));
    old.get("/x").send().is(200);
    let next = after.certifies(&["localhost"]);
    replace(&proxy, "c.pem", &next.certificate);
    replace(&proxy, "k.pem", &next.key);
    serves(&proxy, &after);
    old.get("/x").send().is(200);
    proxy.stderr.wait("the policy was reloaded because ", 1);
    assert_eq!(proxy.stderr.count("ERROR"), 0, "a pair in the making is no error");
    let records = proxy.done();
    let reload = records.iter().find(|record| said(record, "event.action") == "policy_reload").unwrap();
    assert_eq!(said(reload, "user.id"), "watch", "{reload:#}");
}

#[test]
fn the_key_of_a_certificate_may_come_later() {
    let (upstream, before, after) = (upstream().start(), authority(), authority());
    let proxy = watching(&upstream, &before, "100ms").start();
    let next = after.certifies(&["localhost"]);
    replace(&proxy, "c.pem", &next.certificate);
    proxy.stderr.wait("the key does not belong to the certificate", 1);
    proxy.stderr.wait("the policy was not reloaded although ", 1);
    assert!(error(&proxy, "c.pem").contains("does not belong"), "{}", error(&proxy, "c.pem"));
    serves(&proxy, &before);
    replace(&proxy, "k.pem", &next.key);
    serves(&proxy, &after);
    assert_eq!(proxy.stderr.count("the policy was not reloaded although "), 1, "it is reported once");
    assert_eq!((error(&proxy, "c.pem"), error(&proxy, "k.pem")), (String::new(), String::new()));
    proxy.done();
}

#[test]
fn a_file_that_vanishes_keeps_what_was_in_it() {
    let (upstream, authority) = (upstream().start(), authority());
    let proxy = watching(&upstream, &authority, "100ms").start();
    let key = fs::read_to_string(proxy.file("k.pem")).unwrap();
    fs::remove_file(proxy.file("k.pem")).unwrap();
    proxy.stderr.wait("what was read before stays in force", 1);
    assert!(error(&proxy, "k.pem").contains("there is no file"), "{}", error(&proxy, "k.pem"));
    let page = operator(&proxy).get("/metrics").send().text();
    assert!(page.contains("bartizan_secret_up{source=\"file\",reference=\"k.pem\"} 0"), "{page}");
    client(&proxy).tls(authority.client(&[])).get("/x").send().is(200);
    replace(&proxy, "k.pem", &key);
    eventually("the error is gone", || error(&proxy, "k.pem").is_empty().then_some(()));
    assert_eq!(proxy.stderr.count("what was read before stays in force"), 1);
    proxy.done();
}

/// As the kubelet does: the names lead through `..data`, which is renamed to another folder.
fn mount(folder: &Path, version: &str, certified: &Certified) {
    let inside = format!("..{version}");
    fs::create_dir_all(folder.join(&inside)).unwrap();
    fs::write(folder.join(&inside).join("tls.crt"), &certified.certificate).unwrap();
    fs::write(folder.join(&inside).join("tls.key"), &certified.key).unwrap();
    symlink(&inside, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn the_swap_of_a_mounted_secret_is_seen() {
    let (upstream, before, after) = (upstream().start(), authority(), authority());
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "2026_11_01", &before.certifies(&["localhost"]));
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let mounted = folder.path().display();
    let listener = format!(
        "{{ address: \"127.0.0.1:0\", tls: {{ certificate: \"{mounted}/tls.crt\", key: \"{mounted}/tls.key\" }} }}"
    );
    let proxy = proxy().before(&upstream).open("GET /x").listen(&listener).with("secrets: { watch: 100ms }").start();
    serves(&proxy, &before);
    mount(folder.path(), "2026_11_02", &after.certifies(&["localhost"]));
    fs::remove_dir_all(folder.path().join("..2026_11_01")).unwrap();
    serves(&proxy, &after);
    proxy.stderr.wait("tls.crt, ", 1);
    assert_eq!(proxy.stderr.count("ERROR"), 0);
    proxy.done();
}

/// A secret that rotates must not put a policy in force that nobody has asked for.
#[test]
fn the_policy_file_waits_unless_it_is_watched() {
    let (upstream, before, after) = (upstream().start(), authority(), authority());
    let mut proxy = watching(&upstream, &before, "100ms").start();
    let policy = proxy.policy.clone().open("GET /new");
    policy.write(proxy.folder.path());
    proxy.stderr.wait("the policy has changed, and waits for a reload", 1);
    let next = after.certifies(&["localhost"]);
    replace(&proxy, "c.pem", &next.certificate);
    replace(&proxy, "k.pem", &next.key);
    serves(&proxy, &after);
    client(&proxy).tls(after.client(&[])).get("/new").send().refused(404, "no_route");
    let policy = policy.file("c.pem", next.certificate).file("k.pem", next.key);
    assert_eq!(proxy.reload_to(|_| policy), proxy::Reloaded::Loaded);
    client(&proxy).tls(after.client(&[])).get("/new").send().is(200);
    proxy.done();
}

#[test]
fn the_policy_file_is_watched_where_it_says_so() {
    let (upstream, authority) = (upstream().start(), authority());
    let proxy = watching(&upstream, &authority, "{ every: 100ms, policy: true }").start();
    replace(&proxy, "policy.yaml", "version: 1\nlisten: [{ adress: oops }]\n");
    proxy.stderr.wait("the policy was not reloaded although ", 1);
    client(&proxy).tls(authority.client(&[])).get("/x").send().is(200);
    replace(&proxy, "policy.yaml", &proxy.policy.clone().open("GET /new").yaml());
    proxy.stderr.wait("the policy was reloaded because ", 1);
    client(&proxy).tls(authority.client(&[])).get("/new").send().is(200);
    proxy.done();
}
