//! Every policy that is shipped passes `bartizan check`: the configurations, the examples, the one in the README.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::authority;

/// What a key's digest looks like.
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const DIGEST_OF_ANOTHER: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

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
fn the_sidecar_refuses_an_unset_key() {
    let policy = repository().join("examples/sidecar/policy.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.arg("check").arg(&policy).env_remove("REPORTS_KEY_SHA256").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("`REPORTS_KEY_SHA256` is not set"));
}

/// What a policy refers to: files beside it, and variables.
#[derive(Default)]
struct Needs {
    files: Vec<(String, String)>,
    env: Vec<(&'static str, &'static str)>,
}

/// What the policy of each example needs to be checked.
fn needs(example: &str) -> Needs {
    let file = |name: &str, content: String| (name.to_owned(), content);
    let token = || file("admin-token", DIGEST.to_owned());
    let files = |files: Vec<(String, String)>| Needs { files, ..Needs::default() };
    match example {
        "mtls" => {
            let authority = authority();
            let made = authority.certifies(&["localhost"]);
            files(vec![
                file("tls/server.crt", made.certificate),
                file("tls/server.key", made.key),
                file("tls/ca.crt", authority.pem()),
                file("tls/ca.crl", authority.revokes(&[7])),
                file("tls/batch.sha256", DIGEST.to_owned()),
            ])
        }
        "kubernetes-secrets" => {
            let made = authority().certifies(&["localhost"]);
            files(vec![
                file("tls/tls.crt", made.certificate),
                file("tls/tls.key", made.key),
                file("keys/admin-token", DIGEST.to_owned()),
                file("keys/reports.sha256", DIGEST.to_owned()),
            ])
        }
        "browser" | "elk" | "identity-providers" | "monitoring" | "oauth-issuer" => Needs::default(),
        // Copies of what lies beside them.
        "response-contract" | "xml-soap" => {
            let schemas = std::fs::read_dir(repository().join("examples").join(example).join("schemas")).unwrap();
            let read = |entry: std::io::Result<std::fs::DirEntry>| {
                let entry = entry.unwrap();
                let name = format!("schemas/{}", entry.file_name().to_str().unwrap());
                (name, std::fs::read_to_string(entry.path()).unwrap())
            };
            files(schemas.map(read).collect())
        }
        "launch" => {
            let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAWU1t2i+roKdjpuI1u26Bw0jGZ3+APMr3iMhsBb2Oon\n-----END PRIVATE KEY-----\n";
            let schema = std::fs::read_to_string(repository().join("examples/launch/order.json")).unwrap();
            files(vec![token(), file("audit.pem", key.to_owned()), file("order.json", schema)])
        }
        "invitation" | "partner-key" => files(vec![token()]),
        "token-service" => {
            let digest = |client: &str| file(&format!("{client}.sha256"), DIGEST.to_owned());
            files(vec![token(), digest("acme-1"), digest("files-api")])
        }
        "grpc" => {
            let env = vec![("SHOP_KEY_SHA256", DIGEST), ("WAREHOUSE_KEY_SHA256", DIGEST_OF_ANOTHER)];
            Needs { env, ..Needs::default() }
        }
        "sidecar" => Needs { env: vec![("REPORTS_KEY_SHA256", DIGEST)], ..Needs::default() },
        "systemd-edge" => {
            let made = authority().certifies(&["api.example.com"]);
            files(vec![file("tls/server.crt", made.certificate), file("tls/server.key", made.key), token()])
        }
        "two-nodes-redis" => Needs { files: vec![token()], env: vec![("PROXY_PORT", "8080"), ("ADMIN_PORT", "9901")] },
        other => panic!("say here what examples/{other} needs"),
    }
}

#[test]
fn every_example_is_good() {
    let mut found = 0;
    for example in std::fs::read_dir(repository().join("examples")).unwrap() {
        let example = example.unwrap().path();
        let policy = example.join("policy.yaml");
        // `documented` checks that of the vault, beside a vault.
        if !policy.exists() || example.ends_with("vault") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let needs = needs(example.file_name().unwrap().to_str().unwrap());
        for (name, content) in needs.files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let copy = folder.path().join("policy.yaml");
        std::fs::copy(&policy, &copy).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.arg("check").arg(&copy).env_clear().envs(needs.env).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{}", policy.display());
        found += 1;
    }
    assert!(found >= 7, "{found}");
}

#[test]
fn the_volume_of_the_kubernetes_example_has_what_its_policy_names() {
    let deployment = repository().join("examples/kubernetes-secrets/deployment.yaml");
    let deployment = std::fs::read_to_string(deployment).unwrap();
    let names = needs("kubernetes-secrets").files.into_iter().map(|(name, _)| name);
    for name in names.chain(["policy.yaml".to_owned()]) {
        assert!(deployment.contains(&format!("path: {name} }}")), "{name}");
    }
}

#[test]
fn what_is_measured_beside_peers_is_good() {
    let (folder, made) = (tempfile::tempdir().unwrap(), authority().certifies(&["localhost"]));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let files = [("cert.pem", &made.certificate), ("cert.key", &made.key), ("public.pem", &key.public_key_pem())];
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let conf = repository().join("benches/peers/conf");
    let beside = conf.to_str().unwrap();
    let values = [
        ("workers", "1"),
        ("port", "18080"),
        ("tls_port", "18443"),
        ("upstream_port", "18081"),
        ("certificate", "cert.pem"),
        ("certificate_key", "cert.key"),
        ("public_key", "public.pem"),
        ("issuer", "https://issuer.test"),
        ("audience", "orders-api"),
        ("scope", "orders:read"),
        ("conf", beside),
        ("log", "log"),
    ];
    for name in ["bartizan-plain.yaml", "bartizan-secured.yaml"] {
        let text = std::fs::read_to_string(conf.join(name)).unwrap();
        let text = values.iter().fold(text, |text, (name, value)| text.replace(&format!("@{name}@"), value));
        assert!(!text.contains('@'), "a value is missing: {text}");
        let policy = folder.path().join(name);
        std::fs::write(&policy, text).unwrap();
        let output = check(&policy);
        let said = String::from_utf8(output.stderr).unwrap();
        // It warns: there is no bound on how long tokens live, and no key for the algorithm here.
        assert_eq!((output.status.code(), said.contains("error")), (Some(0), false), "{name}: {said}");
    }
}

/// The texts between `cat > policy.yaml <<EOF` (or `>>`) and `EOF` in the README.
fn readme_policies() -> Vec<String> {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks = readme.split("policy.yaml <<EOF\n").skip(1);
    let written =
        |rest: &str| rest.split("\nEOF\n").next().unwrap().replace("$DIGEST", DIGEST).replace("\\$", "$") + "\n";
    blocks.map(written).collect()
}

#[test]
fn the_policy_of_the_readme_is_good() {
    let policies = readme_policies();
    assert_eq!(policies.len(), 2, "the policy, and what is added for an issuer");
    assert!(policies[0].lines().count() <= 20, "the policy in the README has at most 20 lines");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(folder.path().join("admin-token"), "only-for-this-test-of-the-readme").unwrap();
    std::fs::write(&file, &policies[0]).unwrap();
    is_good(&file);
    std::fs::write(&file, policies.concat()).unwrap();
    is_good(&file);

    let readme = std::fs::read_to_string(repository().join("examples/oauth-issuer/README.md")).unwrap();
    let tests = readme.split("policy.test.yaml <<EOF\n").nth(1).unwrap().split("\nEOF\n").next().unwrap();
    std::fs::write(folder.path().join("policy.test.yaml"), tests).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.current_dir(folder.path()).args(["test", "policy.test.yaml"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
