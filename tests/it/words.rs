//! Messages are in words: what is wrong, then what to do; nothing that a library or the system says to its programmers (U12).

use std::process::{Command, Output};

use tempfile::TempDir;

/// Words of libraries and of the system.
const FROM_BELOW: [&str; 8] = [
    "os error",
    "Kind(",
    "Error {",
    "magic number",
    "MissingSectionEnd",
    "KeyMismatch",
    "InvalidCertificate",
    "[80, 82",
];

fn bartizan(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.env_remove("BARTIZAN_POLICY").env_remove("BARTIZAN_ADMIN").env_remove("BARTIZAN_ADMIN_TOKEN");
    command.current_dir(folder.path()).args(arguments).output().unwrap()
}

fn policy(listen: &str, route: &str, more: &str) -> String {
    format!(
        "version: 1\nlisten: [{{ address: \"{listen}\" }}]\n{more}\
         apis: {{ a: {{ upstream: \"http://127.0.0.1:9\", routes: {{ GET /x: {{ {route} }} }} }} }}\n"
    )
}

/// U12: files that are there or not, addresses that are in use, and files that are something else.
#[test]
fn an_error_from_below_is_reported_in_words() {
    let folder = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (admin, node) = (format!("http://{free}"), format!("https://{free}"));
    let open = "public: true";
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("here.yaml", "");
    std::fs::create_dir(folder.path().join("here")).unwrap();
    file("not.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    file(
        "api.yaml",
        "openapi: 3.1.0\ninfo: { title: a, version: '1' }\npaths: { /a: { get: { responses: { default: { description: any } } } } }\n",
    );
    file("good.yaml", &policy("127.0.0.1:0", open, "audit: none\n"));
    file("taken.yaml", &policy(&taken, open, "audit: none\n"));
    file("audit.yaml", &policy("127.0.0.1:0", open, "audit: [{ file: { path: here } }]\n"));
    file("store.yaml", &policy("127.0.0.1:0", open, "store: here.yaml/store\naudit: none\n"));
    file("good.test.yaml", "policy: good.yaml\ntests: { x: { request: GET /x, expect: allow } }\n");
    let init = ["init", "--openapi", "api.yaml", "--upstream", "http://127.0.0.1:9", "--out"];
    let drill = ["drill", "revocation", "--path", "/x", "--consumer", "c", "--policy", "good.yaml", "--node"];
    for (arguments, reported) in [
        ([&init[..], &["here.yaml"]].concat(), "here.yaml cannot be written: it exists already; remove it"),
        ([&init[..], &["no/where.yaml"]].concat(), "--out: there is no folder no; create it first"),
        (vec!["test", "good.test.yaml", "--junit", "no/where.xml"], "cannot be written: it does not exist"),
        (
            vec!["explain", "--policy", "good.yaml", "POST", "/x", "--body", "none.json"],
            "cannot be read: it does not exist",
        ),
        (
            vec!["consumer", "list", "--admin", &admin, "--admin-token", "t"],
            "nothing listens there; check address and port",
        ),
        (
            vec!["consumer", "list", "--admin", "unix:no.sock", "--admin-token", "t"],
            "it does not exist; check the path",
        ),
        ([&drill[..], &[&node, "--ca", "none.pem"]].concat(), "none.pem: it does not exist; check the path"),
        ([&drill[..], &[&node, "--ca", "not.pem"]].concat(), "not.pem: its PEM is damaged or cut short"),
        ([&drill[..], &[&node, "--ca", "good.yaml"]].concat(), "it holds no PEM certificate"),
        (vec!["run", "--policy", "taken.yaml"], "the address is in use; stop what listens there"),
        (vec!["run", "--policy", "audit.yaml"], "this is a folder"),
        (vec!["check", "store.yaml"], "a part of its path is not a folder; check the path"),
    ] {
        let output = bartizan(&folder, &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(reported), "{arguments:?}: {said}");
        assert!(FROM_BELOW.iter().all(|words| !said.contains(words)), "{arguments:?}: {said}");
    }
}

/// U12: a value of the wrong type is one error, and not also "this is missing".
#[test]
fn a_value_of_the_wrong_type_is_one_error() {
    let issuer = |key: &str| {
        let settings = "issuer: corp, audience: [a], algorithms: [ES256], max_lifetime: 1h";
        format!("auth: {{ issuers: {{ corp: {{ {settings}, {key}: [x] }} }} }}\n")
    };
    for (route, more, reported) in [
        ("public: yes", String::new(), "`true`"),
        ("public: 1", String::new(), "`true`"),
        ("public: true", issuer("jwks"), "expected"),
        ("public: true", issuer("public_key"), "expected"),
        ("public: true", "store: { redis: [x] }\n".to_owned(), "expected"),
    ] {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("policy.yaml"), policy("127.0.0.1:0", route, &more)).unwrap();
        let output = bartizan(&folder, &["check", "policy.yaml"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.matches("error: ").count() == 1 && said.contains(reported), "{route} {more}: {said}");
    }
}
