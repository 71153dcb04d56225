//! Every policy that is shipped passes `bartizan check`: the configurations, the examples, the one in the README.

use std::path::Path;
use std::process::{Command, Output};

/// What a key's digest looks like.
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `bartizan check`, with the environment that examples ask for.
fn check(policy: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.arg("check").arg(policy).env("REPORTS_KEY_SHA256", DIGEST).output().unwrap()
}

#[track_caller]
fn is_good(policy: &Path) {
    let output = check(policy);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{}", policy.display());
    assert!(output.stdout.starts_with(b"ok: "));
}

#[test]
fn configurations_are_good() {
    let folder = std::fs::read_dir(repository().join("config")).unwrap();
    let policies: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    assert!(policies.len() >= 2, "{policies:?}");
    policies.iter().for_each(|policy| is_good(policy));
}

#[test]
fn the_sidecar_is_good_and_refuses_an_unset_key() {
    let policy = repository().join("examples/sidecar/policy.yaml");
    is_good(&policy);
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.arg("check").arg(&policy).env_remove("REPORTS_KEY_SHA256").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("`REPORTS_KEY_SHA256` is not set"));
}

#[test]
fn the_edge_is_good_with_a_certificate_and_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["api.example.com".to_owned()]).unwrap();
    std::fs::create_dir(folder.path().join("tls")).unwrap();
    std::fs::write(folder.path().join("tls/server.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("tls/server.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("admin-token"), DIGEST).unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::copy(repository().join("examples/systemd-edge/policy.yaml"), &policy).unwrap();
    is_good(&policy);
}

/// The texts between `cat > policy.yaml <<EOF` (or `>>`) and `EOF` in the README.
fn readme_policies() -> Vec<String> {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks = readme.split("policy.yaml <<EOF\n").skip(1);
    blocks.map(|rest| rest.split("\nEOF\n").next().unwrap().replace("$DIGEST", DIGEST) + "\n").collect()
}

#[test]
fn the_policy_of_the_readme_is_good() {
    let policies = readme_policies();
    assert_eq!(policies.len(), 2, "the policy, and what is added for an issuer");
    assert!(policies[0].lines().count() <= 20, "the README promises 20 lines");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, &policies[0]).unwrap();
    is_good(&file);
    std::fs::write(&file, policies.concat()).unwrap();
    is_good(&file);

    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let tests = readme.split("policy.test.yaml <<EOF\n").nth(1).unwrap().split("\nEOF\n").next().unwrap();
    std::fs::write(folder.path().join("policy.test.yaml"), tests).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.current_dir(folder.path()).args(["test", "policy.test.yaml"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
