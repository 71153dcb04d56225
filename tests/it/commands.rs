//! Operator commands: each has an example, and `consumer add` takes every kind of identity. Completions and manual pages.

use std::process::Command;

use serde_json::{Value, json};

/// Exit code, standard output and standard error.
fn bartizan(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.args(arguments).env_remove("BARTIZAN_POLICY").env_remove("BARTIZAN_ADMIN");
    let output = command.env_remove("BARTIZAN_ADMIN_TOKEN").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_action_of_an_operator_has_an_example() {
    let mut actions = 0;
    for command in ["key", "revoke", "consumer", "drill"] {
        let (code, help, _) = bartizan(&[command, "--help"]);
        assert_eq!(code, Some(0));
        let listed = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
        for action in listed.map(|line| line.split_whitespace().next().unwrap()).filter(|action| *action != "help") {
            let (_, help, _) = bartizan(&[command, action, "--help"]);
            let example = format!("bartizan {command} {action}");
            let examples = help.split("Example").nth(1).unwrap_or_default();
            assert!(examples.contains(&example), "{example}: {help}");
            actions += 1;
        }
    }
    assert!(actions > 20, "{actions}");
}

#[test]
fn a_consumer_is_added_with_identities_of_every_kind() {
    let folder = tempfile::TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\nstore: state\naudit: none\n\
                auth: { issuers: { corp: { issuer: i, audience: [a], algorithms: [HS256], max_lifetime: 1h,\n  \
                secret: 9f86d081884c7d659a2feaa0c55ad015 } } }\n\
                apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { scopes: [s] } } } }\n";
    std::fs::write(&policy, text).unwrap();
    let policy = policy.to_str().unwrap();
    let thumbprint = format!("sha256:{}", "ab".repeat(32));
    let identities = ["--identity", "corp:acme-app", "--certificate", &thumbprint];
    let names = ["--certificate-san", "Client.Acme.example", "--certificate-san", "uri:SPIFFE://Acme/Batch"];
    let add = [&["consumer", "add", "acme", "--policy", policy], identities.as_slice(), names.as_slice()].concat();
    let (code, _, said) = bartizan(&add);
    assert_eq!(code, Some(0), "{said}");
    let (_, listed, _) = bartizan(&["consumer", "list", "--policy", policy, "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        listed["items"][0]["identities"],
        json!([
            {"issuer": "corp", "id": "acme-app"},
            {"certificate": thumbprint},
            {"certificate_san": "dns:client.acme.example"},
            {"certificate_san": "uri:spiffe://acme/Batch"},
        ])
    );
    let wrongs = [
        ["--certificate", "ab"],
        ["--certificate-san", ""],
        ["--certificate-san", "spiffe://acme/batch"],
        ["--certificate-san", "uri:acme.example"],
        ["--identity", "acme"],
    ];
    for wrong in wrongs {
        let (code, _, said) = bartizan(&[&["consumer", "add", "other", "--policy", policy], wrong.as_slice()].concat());
        assert_ne!(code, Some(0), "{wrong:?}: {said}");
    }
}

/// A length of time is written as its habit is, and `--for` is not taken for `--format` (U12).
#[test]
fn how_long_something_holds_has_several_names() {
    let folder = tempfile::TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\nstore: state\naudit: none\nroles: { clerk: [s] }\n\
                consumers: { acme: { roles: [clerk] } }\n\
                apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { scopes: [s] } } } }\n";
    std::fs::write(&policy, text).unwrap();
    for name in ["--until", "--for", "--expires"] {
        for command in [
            &["consumer", "suspend", "acme", "--reason", "r"][..],
            &["consumer", "grant", "acme", "--scope", "s"],
            &["key", "new", "--consumer", "acme"],
            &["revoke", "jti", "a"],
        ] {
            let (code, _, said) = bartizan(&[command, &["--policy", policy.to_str().unwrap(), name, "1h"]].concat());
            assert_eq!(code, Some(0), "{command:?} {name}: {said}");
        }
    }
    let (_, listed, _) = bartizan(&["key", "list", "--policy", policy.to_str().unwrap(), "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let ends: Vec<jiff::Timestamp> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["expires"].as_str().unwrap().parse().unwrap())
        .collect();
    let hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    assert!(ends.len() == 3 && ends.iter().all(|end| *end <= hour), "{ends:?}");
}

/// U20: a mistyped year is reported before it revokes everything that will ever be issued.
#[test]
fn revoking_all_before_a_time_in_the_future_needs_yes() {
    let folder = tempfile::TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\nstore: state\naudit: none\n\
                apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { public: true } } } }\n";
    std::fs::write(&policy, text).unwrap();
    let revoke = |time: &str, more: &[&str]| {
        let policy = policy.to_str().unwrap();
        bartizan(&[&["revoke", "all", "--issued-before", time, "--policy", policy], more].concat())
    };
    let (code, _, said) = revoke("2999-01-01T00:00:00Z", &[]);
    assert!(code == Some(1) && said.contains("in the future") && said.contains("--yes"), "{said}");
    assert_eq!(revoke("2020-01-01T00:00:00Z", &[]).0, Some(0));
    assert_eq!(revoke("2999-01-01T00:00:00Z", &["--yes"]).0, Some(0));
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    let (code, script, said) = bartizan(&["completions", "bash"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(script.contains("revoke") && script.contains("--admin-token"), "{script}");
    let (code, page, said) = bartizan(&["man"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(page.contains(".TH") && page.contains("revoke"), "{page}");
    let (code, page, said) = bartizan(&["man", "key", "rotate"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(page.contains(".TH") && page.contains("overlap"), "{page}");
    let (code, _, said) = bartizan(&["man", "nothing"]);
    assert_eq!((code, said.contains("there is no command")), (Some(2), true), "{said}");
}
