//! A policy and the store that it names: what one uses and the other lacks is reported by name, and no name is in both (U21).

use std::process::Command;

use tempfile::TempDir;

use crate::support::client::{Answer, operator};
use crate::support::proxy::{ADMIN_TOKEN, Reloaded};
use crate::support::*;

const ROLES: &str = "roles: { reader: [orders:read] }\n";

fn keeping(store: &TempDir, upstream: &Upstream, issuer: &issuer::Issuer) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with(&format!("store: \"{}\"", store.path().display()))
        .with(ROLES.trim_end())
        .with("consumers: { acme: { roles: [reader], plan: free } }")
        .plan("gold: { rate: 1/s }")
        .route("GET /x", "scopes: [orders:read]")
}

/// The policy without what its store uses: a plan, a role, a consumer and an issuer are renamed.
fn without_what_the_store_uses(policy: &str) -> String {
    let renamed = [("gold:", "golden:"), ("reader", "readers"), ("acme:", "globex:"), ("    corp:", "    corpo:")];
    renamed.into_iter().fold(policy.to_owned(), |text, (before, after)| {
        assert!(text.contains(before), "{before}: {text}");
        text.replace(before, after)
    })
}

/// What is reported of that policy.
const REPORTED: [&str; 4] = [
    "the consumer `partner` of the store has the plan `gold`, which the policy lacks",
    "the consumer `partner` of the store has the role `reader`, which the policy lacks",
    "the consumer `partner` of the store has the issuer `corp`, which the policy lacks",
    "the consumer `acme` no longer exists, but the store has its keys: `acme-1`",
];

fn operates(proxy: &Proxy, method: &str, path: &str, body: &Value) -> Answer {
    operator(proxy).request(method, path).bearer(ADMIN_TOKEN).body(body.to_string()).send()
}

/// Fills a store: a consumer with all kinds of names, and keys of a consumer of the policy, of which one is live.
fn fill(proxy: &Proxy) {
    let identities = json!([{"issuer": "corp", "id": "partner-app"}]);
    let partner = json!({"name": "partner", "roles": ["reader"], "plan": "gold", "identities": identities});
    for (path, body) in [
        ("/v1/consumers", partner),
        ("/v1/consumers/acme/keys", json!({"id": "acme-1"})),
        ("/v1/consumers/acme/keys", json!({"id": "acme-2"})),
        ("/v1/revocations", json!({"key": "acme-2"})),
    ] {
        let answer = operates(proxy, "POST", path, &body);
        assert_eq!(answer.status, 201, "{body}: {}", answer.text());
    }
}

/// Exit code and standard error of `check --with-store`.
fn check(policy: &str, proxy: Option<&Proxy>) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("policy.yaml");
    // The listener has another port than the policy says.
    let policy = proxy.map_or(policy.to_owned(), |proxy| at_admin(policy, proxy));
    std::fs::write(&file, policy).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.arg("check").arg(&file).arg("--with-store").output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn at_admin(policy: &str, proxy: &Proxy) -> String {
    let (before, after) = policy.split_once("admin:").unwrap();
    format!("{before}admin:{}", after.replacen("127.0.0.1:0", &proxy.admin().to_string(), 1))
}

/// U21: a policy that drops what the store uses is reported of it by name when it is loaded, and before that by `check`.
#[test]
fn what_the_store_uses_and_the_policy_lacks_is_reported_by_name() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let policy = keeping(&store, &upstream, &issuer);
    let (good, bad) = (policy.yaml(), without_what_the_store_uses(&policy.yaml()));
    let mut proxy = policy.start();
    fill(&proxy);
    // The folder is in use: the daemon is asked.
    let (code, said) = check(&good, Some(&proxy));
    assert!(code == Some(0) && !said.contains("of the store") && !said.contains("no longer exists"), "{said}");
    let (code, said) = check(&bad, Some(&proxy));
    assert!(code == Some(0) && REPORTED.iter().all(|reported| said.contains(reported)), "{said}");
    assert!(said.contains("did you mean `golden`?") && !said.contains("acme-2"), "{said}");

    assert_eq!(proxy.reload_to(|policy| policy.text(&bad)), Reloaded::Loaded);
    for reported in REPORTED {
        proxy.stderr.wait(reported, 1);
    }
    proxy.done();
    // Nobody has the folder open.
    let (code, said) = check(&bad, None);
    assert!(code == Some(0) && REPORTED.iter().all(|reported| said.contains(reported)), "{said}");
}

/// U21: revoking a key id that both have would end two keys, so the one that comes second is refused.
#[test]
fn a_name_is_in_the_policy_or_in_the_store_and_what_comes_second_is_refused() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let policy = keeping(&store, &upstream, &issuer);
    let key = format!("keys: [{{ id: acme-1, sha256: \"{}\" }}]", "ab".repeat(32));
    let good = policy.yaml();
    let same_key = good.replace("acme: { roles: [reader],", &format!("acme: {{ {key}, roles: [reader],"));
    let same_consumer = good.replace("consumers: { acme:", "consumers: { partner: { plan: free }, acme:");
    assert!(same_key != good && same_consumer != good, "{good}");
    let mut proxy = policy.clone().start();
    let answer = operates(&proxy, "POST", "/v1/consumers", &json!({"name": "acme"}));
    answer.refused(409, "conflict");
    fill(&proxy);
    for (second, reported) in [
        (&same_key, "the key `acme-1` is in the policy and in the store"),
        (&same_consumer, "the consumer `partner` is in the policy and in the store"),
    ] {
        assert_eq!(proxy.reload_to(|policy| policy.text(second)), Reloaded::Failed);
        proxy.stderr.wait(reported, 1);
        let (code, said) = check(second, Some(&proxy));
        assert!(code == Some(2) && said.contains(reported), "{said}");
    }
    proxy.done();
    let (code, said) = check(&same_consumer, None);
    assert!(code == Some(2) && said.contains("bartizan consumer remove partner"), "{said}");
    // At the start there is no other policy to keep: what another node put into the store must not stop this one.
    let proxy = policy.text(&same_consumer).start();
    proxy.stderr.wait("the consumer `partner` is in the policy and in the store", 1);
    proxy.done();
}
