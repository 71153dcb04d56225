//! Files for TLS that cannot be used, and what is said about them (U17); settings that are risky (U27).

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::*;

const POLICY: &str = "version: 1
listen: [{ address: \"127.0.0.1:0\", tls: { certificate: c.pem, key: k.pem } }]
apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { public: true } } } }
";

/// Checks a policy with these files beside it, and these permissions of `k.pem`. Returns the exit code and what is said.
fn check(policy: &str, certificate: &[u8], key: &[u8], mode: u32) -> (Option<i32>, String) {
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(path("policy.yaml"), policy).unwrap();
    write(path("c.pem"), certificate).unwrap();
    write(path("k.pem"), key).unwrap();
    set_permissions(path("k.pem"), Permissions::from_mode(mode)).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(path("policy.yaml")).output().unwrap();
    (check.status.code(), String::from_utf8(check.stderr).unwrap())
}

#[test]
fn what_is_wrong_with_a_file_is_said_in_words() {
    let authority = authority();
    let (one, other) = (authority.certifies(&["localhost"]), authority.certifies(&["localhost"]));
    let (certificate, key) = (one.certificate.as_bytes(), one.key.as_bytes());
    let reversed = format!("{}{}", authority.pem(), one.certificate);
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let openssl = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let der = one.der();
    let weak = include_bytes!("../cases/rsa-1024.pem");
    let cut = &certificate[..certificate.len() / 2];
    for (name, certificate, key, expected) in [
        ("encrypted", certificate, encrypted.as_bytes(), "the key is encrypted"),
        ("encrypted by OpenSSL", certificate, openssl.as_bytes(), "openssl pkey -in ENCRYPTED -out KEY"),
        ("DER", &*der, key, "openssl x509 -inform DER"),
        ("DER as a key", certificate, &*der, "openssl pkey -inform DER"),
        ("weak", weak, weak, "has an RSA key of 1024 bits; TLS needs at least 2048"),
        ("reversed", reversed.as_bytes(), key, "the one that belongs to the key is number 2; put it first"),
        ("of another", certificate, other.key.as_bytes(), "the key does not belong to the certificate"),
        ("cut", cut, key, "an `-----END …-----` line is missing"),
        ("swapped", key, certificate, "the certificate holds no PEM certificate"),
        ("swapped key", certificate, certificate, "the key is not a PEM private key"),
    ] {
        let (code, said) = check(POLICY, certificate, key, 0o600);
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {said}");
        assert!(!said.contains("[45,") && !said.contains("KeyMismatch"), "words from below: {said}");
    }
}

#[test]
fn mistakes_in_a_list_of_certificates_are_said_at_their_places() {
    let certified = authority().certifies(&["localhost"]);
    let pair = "{ certificate: c.pem, key: k.pem }";
    // The message is about the column in which `place` begins.
    for (tls, code, place, expected) in [
        (format!("certificates: [{pair}]"), 0, "", ""),
        ("certificates: []".to_owned(), 2, "[] }", "there is no certificate"),
        (
            format!("certificate: c.pem, certificates: [{pair}]"),
            2,
            "c.pem, certificates",
            "`certificate` has no effect beside `certificates`",
        ),
        (
            format!("certificates: [{pair}, {{ certificate: c.pem }}]"),
            2,
            "{ certificate: c.pem }]",
            "TLS needs `certificate` and `key`",
        ),
        (
            format!("certificates: [{pair}, {pair}]"),
            0,
            "{ certificate: c.pem, key: k.pem }] }",
            "no client is ever shown this certificate",
        ),
    ] {
        let policy = POLICY.replace("certificate: c.pem, key: k.pem", &tls);
        let (exit, said) = check(&policy, certified.certificate.as_bytes(), certified.key.as_bytes(), 0o600);
        assert_eq!(exit, Some(code), "{tls}: {said}");
        let column = policy.lines().nth(1).and_then(|line| line.find(place)).unwrap() + 1;
        let place = if place.is_empty() { String::new() } else { format!("policy.yaml:2:{column}\n") };
        assert!(said.contains(&place) && said.contains(expected), "{tls}: {said}");
    }
}

#[test]
fn a_key_that_everybody_may_replace_is_warned_of() {
    let certified = authority().certifies(&["localhost"]);
    for (mode, warned) in [(0o600, false), (0o640, false), (0o666, true), (0o602, true)] {
        let (code, said) = check(POLICY, certified.certificate.as_bytes(), certified.key.as_bytes(), mode);
        assert_eq!(
            (code, said.contains("every user of this machine can replace the key")),
            (Some(0), warned),
            "{said}"
        );
    }
}

#[test]
fn risky_settings_are_warned_of() {
    // U27: they are legal, and rarely meant.
    let tokens = |one: &str, other: &str| {
        format!("tokens: [{{ name: ops, token: {one} }}, {{ name: grafana, token: {other} }}]")
    };
    let (a, b) = ("a".repeat(32), "b".repeat(32));
    for (settings, expected) in [
        ("trusted_proxies: [10.0.0.0/8]".to_owned(), None),
        (
            "trusted_proxies: [10.0.0.0/8, 0.0.0.0/0]".to_owned(),
            Some("every client is trusted to say which address it has"),
        ),
        ("trusted_proxies: [\"::/0\"]".to_owned(), Some("every client is trusted")),
        (format!("admin: {{ address: \"127.0.0.1:0\", {} }}", tokens(&a, &b)), None),
        (
            format!("admin: {{ address: \"127.0.0.1:0\", {} }}", tokens(&a, &a)),
            Some("`grafana` has the same token as `ops`"),
        ),
        (
            format!("admin: {{ address: \"127.0.0.1:0\", token: {a}, {} }}", tokens(&b, &a)),
            Some("`grafana` has the same token as `admin`"),
        ),
        (format!("admin: {{ address: \"0.0.0.0:9901\", token: {a} }}"), Some("the admin listener has no TLS")),
        (format!("admin: {{ address: \"[::]:9901\", token: {a} }}"), Some("the admin listener has no TLS")),
        ("admin: { address: \"0.0.0.0:9901\" }".to_owned(), None),
        (
            format!("admin: {{ address: \"0.0.0.0:9901\", token: {a}, tls: {{ certificate: c.pem, key: k.pem }} }}"),
            None,
        ),
    ] {
        let certified = authority().certifies(&["localhost"]);
        let policy = format!("{POLICY}{settings}\n");
        let (code, said) = check(&policy, certified.certificate.as_bytes(), certified.key.as_bytes(), 0o600);
        assert_eq!(code, Some(0), "{said}");
        match expected {
            Some(expected) => assert!(said.contains(expected), "{settings}: {said}"),
            None => assert_eq!(said, "", "{settings}"),
        }
    }
}
