//! Secrets of a vault: a real OpenBao, and answers that no vault should give.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;

use crate::support::client::operator;
use crate::support::proxy::{ADMIN_TOKEN, Reloaded};
use crate::support::vault::{Vault, vault};
use crate::support::*;

/// A token that the tests rotate to.
const NEXT_TOKEN: &str = "another-admin-token-for-tests-only";

/// A policy whose admin token comes from a vault.
fn policy(upstream: &Upstream, url: &str, settings: &str, reference: &str) -> Policy {
    let policy = proxy().before(upstream).open("GET /x");
    let policy = policy.with(&format!("secrets: {{ vault: {{ address: \"{url}\", refresh: 1s, {settings} }} }}"));
    let text = policy.yaml().replace(ADMIN_TOKEN, &format!("\"${{vault:{reference}}}\""));
    policy.text(&text)
}

fn root(vault: &Vault) -> String {
    format!("login: {{ token: \"{}\" }}", vault.root())
}

#[track_caller]
fn knows(proxy: &Proxy, token: &str) {
    assert_eq!(operator(proxy).get("/v1/policy").bearer(token).send().status, 200);
}

/// Waits until the proxy knows a token.
#[track_caller]
fn learns(proxy: &Proxy, token: &str) {
    let mut asks = operator(proxy);
    eventually("the new token is in force", || {
        (asks.get("/v1/policy").bearer(token).send().status == 200).then_some(())
    });
}

#[test]
fn secrets_of_both_versions_and_of_an_old_version_are_read() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    let first = vault.puts("team/app", &json!({"admin": ADMIN_TOKEN}));
    vault.puts("team/app", &json!({"admin": NEXT_TOKEN, "other": 1}));
    vault.does("POST", "kv1/app", &json!({"admin": ADMIN_TOKEN}));
    for (reference, token) in [
        ("secret/team/app#admin".to_owned(), NEXT_TOKEN),
        (format!("secret/team/app@{first}#admin"), ADMIN_TOKEN),
        ("kv1/app#admin".to_owned(), ADMIN_TOKEN),
    ] {
        for kv in ["", if reference.starts_with("kv1") { ", kv: 1" } else { ", kv: 2" }] {
            let proxy = policy(&upstream, &vault.url(), &format!("{}{kv}", root(&vault)), &reference).start();
            knows(&proxy, token);
            proxy.done();
        }
    }
}

#[test]
fn what_cannot_be_read_is_reported_at_its_place_all_at_once() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    vault.puts("app", &json!({"admin": ADMIN_TOKEN, "empty": "", "list": [1]}));
    vault.puts("gone", &json!({"a": "b"}));
    vault.does("DELETE", "secret/data/gone", &Value::Null);
    vault.lets_read("narrow", "path \"secret/data/denied\" { capabilities = [\"deny\"] }");
    let token = vault.does("POST", "auth/token/create", &json!({"policies": ["narrow"]}));
    let login = format!("login: {{ token: \"{}\" }}", token["auth"]["client_token"].as_str().unwrap());
    let cases = [
        ("secret/app#nothing", "the secret `secret/app` has no field `nothing`", "it has `admin`, `empty`, `list`"),
        ("secret/app#empty", "the field `empty` of the secret `secret/app` is empty", ""),
        ("secret/app#list", "the field `list` of the secret `secret/app` is no text", ""),
        ("secret/none#a", "the vault has no secret `secret/none`", "vault kv list secret"),
        ("secret/gone#a", "version 1 of the secret `secret/gone` was deleted", "vault kv undelete secret/gone"),
        ("secret/denied#a", "does not let this login read `secret/denied` (403)", "path \"secret/data/denied\""),
        ("kv1/app@2#a", "`kv1/app` is in a key-value engine of version 1", "leave out `@VERSION`"),
    ];
    let headers: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(at, (reference, ..))| format!("    x-{at}: \"${{vault:{reference}}}\""))
        .collect();
    let traces =
        format!("telemetry:\n  otlp:\n   endpoint: \"http://127.0.0.1:4318\"\n   headers:\n{}\n", headers.join("\n"));
    let policy = policy(&upstream, &vault.url(), &login, "secret/app#admin");
    let text = policy.yaml() + &traces;
    let line = 1 + text.lines().position(|line| line.contains("x-0:")).unwrap();
    let said = policy.text(&text).fails();
    for (position, (reference, message, help)) in cases.iter().enumerate() {
        let place = format!("policy.yaml:{}:11", line + position);
        let block =
            said.split("\n\n").find(|block| block.contains(&place)).unwrap_or_else(|| panic!("{place} in {said}"));
        assert!(block.contains(message) && block.contains(help), "{reference}: {block}");
    }
    assert!(!said.contains(ADMIN_TOKEN), "{said}");
}

#[test]
fn a_rotated_secret_is_in_force_without_a_signal_and_on_record() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    vault.puts("app", &json!({"admin": ADMIN_TOKEN}));
    let proxy = policy(&upstream, &vault.url(), &root(&vault), "secret/app#admin").start();
    knows(&proxy, ADMIN_TOKEN);
    client(&proxy).get("/x").send().is(200);
    vault.puts("app", &json!({"admin": NEXT_TOKEN}));
    learns(&proxy, NEXT_TOKEN);
    operator(&proxy).get("/v1/policy").bearer(ADMIN_TOKEN).send().refused(401, "invalid_token");
    client(&proxy).get("/x").send().is(200);
    let record = eventually("the reload is on record", || {
        let mut records = proxy.records().into_iter();
        records.find(|record| record["event"]["action"] == "policy_reload")
    });
    assert_eq!(record["event"]["outcome"], "success", "{record}");
    assert!(record.to_string().contains("\"vault\""), "{record}");
    assert!(!record.to_string().contains(NEXT_TOKEN));
    assert!(proxy.stderr.all().iter().all(|line| !line.contains(NEXT_TOKEN)));
}

#[test]
fn a_change_that_does_not_fit_is_not_taken_and_the_last_good_value_stays() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    vault.puts("app", &json!({"admin": ADMIN_TOKEN}));
    let proxy = policy(&upstream, &vault.url(), &root(&vault), "secret/app#admin").start();
    // An empty field, a missing one, a deleted secret, and a sealed vault: nothing of it has an effect.
    vault.puts("app", &json!({"admin": ""}));
    proxy.stderr.wait("a secret could not be read again", 1);
    knows(&proxy, ADMIN_TOKEN);
    vault.does("DELETE", "secret/metadata/app", &Value::Null);
    vault.seal();
    assert_eq!(proxy.reload(), Reloaded::Unchanged);
    knows(&proxy, ADMIN_TOKEN);
    let ready = operator(&proxy).get("/readyz").send().json();
    assert!(ready["degraded"].as_array().unwrap().contains(&json!("secrets")), "{ready}");
    let metrics = operator(&proxy).get("/metrics").send().text();
    assert!(!metrics.contains("bartizan_secret_failures_total{secret=\"secret/app\"} 0"), "{metrics}");
    assert!(metrics.contains("bartizan_secret_age_seconds{secret=\"secret/app\"} "), "{metrics}");
    vault.unseal();
    vault.puts("app", &json!({"admin": NEXT_TOKEN}));
    learns(&proxy, NEXT_TOKEN);
    proxy.stderr.wait("the vault gives this secret again", 1);
    assert_eq!(proxy.stderr.count("a secret could not be read again"), 1);
}

#[test]
fn without_the_vault_nothing_starts_and_every_reference_is_named() {
    let upstream = upstream().start();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let policy = policy(&upstream, &format!("http://{gone}"), "login: { token: t }", "secret/app#admin");
    let said = policy.fails();
    assert!(said.contains("`secret/app` could not be read: the vault does not answer"), "{said}");
    assert!(said.contains("policy.yaml:5:"), "{said}");
}

#[test]
fn a_login_by_approle_is_done_again_before_its_token_ends() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    let (role, secret) = vault.approle(2);
    vault.puts("app", &json!({"admin": ADMIN_TOKEN}));
    let login = format!("login: {{ approle: {{ role_id: \"{role}\", secret_id: \"{secret}\" }} }}");
    let proxy = policy(&upstream, &vault.url(), &login, "secret/app#admin").start();
    // Each of these is read with a token that the first login did not give.
    for round in 0..4 {
        let token = format!("{NEXT_TOKEN}-{round}");
        vault.puts("app", &json!({"admin": token}));
        learns(&proxy, &token);
    }
    assert_eq!(proxy.stderr.count("could not be read"), 0);
    // All of its tokens end at once, before their time: the next one is refused, and there is a new login.
    vault.does("POST", "sys/leases/revoke-prefix/auth/approle", &json!({}));
    vault.puts("app", &json!({"admin": NEXT_TOKEN}));
    learns(&proxy, NEXT_TOKEN);
    assert_eq!(proxy.stderr.count("could not be read"), 0);
}

#[test]
fn a_wrapped_secret_id_is_opened_once_and_used_for_every_login() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    let (role, _) = vault.approle(2);
    vault.puts("app", &json!({"admin": ADMIN_TOKEN}));
    let login = format!(
        "login: {{ approle: {{ role_id: \"{role}\", secret_id: \"{}\", wrapped: true }} }}",
        vault.wrapped_secret_id()
    );
    let policy = policy(&upstream, &vault.url(), &login, "secret/app#admin");
    // Checking it uses nothing up, and says what it did not check.
    let folder = tempfile::TempDir::new().unwrap();
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
        .arg("check")
        .arg(policy.write(folder.path()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success() && said.contains("the vault was not asked"), "{said}");
    let mut proxy = policy.clone().start();
    for round in 0..3 {
        let token = format!("{NEXT_TOKEN}-{round}");
        vault.puts("app", &json!({"admin": token}));
        learns(&proxy, &token);
    }
    assert_eq!(proxy.reload(), Reloaded::Unchanged);
    // Other settings of the vault are no reason to open it again.
    let slower = policy.yaml().replace("refresh: 1s", "refresh: 2s") + "egress: { timeout: 9s }\n";
    assert_eq!(proxy.reload_to(|policy| policy.text(&slower)), Reloaded::Loaded);
    // Another one, in a policy that is put in force only once a mistake in it is mended.
    let first = slower.split("secret_id: ").nth(1).unwrap().split('"').nth(1).unwrap();
    let other = slower.replace(first, &vault.wrapped_secret_id());
    assert_eq!(proxy.reload_to(|policy| policy.text(&format!("{other}nothing: 1\n"))), Reloaded::Failed);
    assert_eq!(proxy.reload_to(|policy| policy.text(&other)), Reloaded::Loaded);
    // Another process comes too late.
    let said = policy.fails();
    assert!(said.contains("the wrapped `secret_id` was opened before"), "{said}");
}

#[test]
fn a_login_by_certificate_is_that_of_the_connection() {
    let authority = authority();
    let (upstream, Some(vault)) = (upstream().start(), vault(Some(&authority.certifies(&["localhost"])))) else {
        return;
    };
    vault.lets_read("reader", "");
    vault.does("POST", "sys/auth/cert", &json!({"type": "cert"}));
    vault.does("POST", "auth/cert/certs/proxy", &json!({"certificate": authority.pem(), "token_policies": "reader"}));
    vault.puts("app", &json!({"admin": ADMIN_TOKEN}));
    let own = authority.vouches_for(7, &["proxy.example"]);
    let login = "ca: ca.pem, login: { certificate: { certificate: own.pem, key: own.key, role: proxy } }";
    let policy = policy(&upstream, &vault.https(), login, "secret/app#admin").file("ca.pem", authority.pem());
    let policy = policy.file("own.pem", own.certificate).file("own.key", own.key);
    let proxy = policy.start();
    knows(&proxy, ADMIN_TOKEN);
    proxy.done();
}

#[test]
fn a_login_by_service_account_sends_what_is_in_the_file() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    // What Kubernetes says of a token.
    let reviews = crate::support::upstream().does(|call| {
        let user = json!({"username": "system:serviceaccount:default:proxy", "uid": "u", "groups": ["system:serviceaccounts"]});
        let review = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": {"authenticated": true, "user": user, "audiences": ["vault"]}});
        call.answer(201, &[("content-type", "application/json")], review.to_string())
    });
    let (kubernetes, account) = (reviews.start(), issuer());
    vault.lets_read("reader", "");
    vault.does("POST", "sys/auth/kubernetes", &json!({"type": "kubernetes"}));
    let config = json!({"kubernetes_host": kubernetes.url(), "token_reviewer_jwt": "j", "disable_local_ca_jwt": true,
        "disable_iss_validation": true, "kubernetes_ca_cert": authority().pem()});
    vault.does("POST", "auth/kubernetes/config", &config);
    let role = json!({"bound_service_account_names": "proxy", "bound_service_account_namespaces": "default",
        "token_policies": "reader", "token_ttl": 2, "audience": ""});
    vault.does("POST", "auth/kubernetes/role/proxy", &role);
    vault.puts("app", &json!({"admin": ADMIN_TOKEN}));
    let of_pod = json!({"namespace": "default", "serviceaccount": {"name": "proxy", "uid": "u"}});
    let token = |jti: &str| {
        account.token().claim("aud", json!(["vault"])).claim("kubernetes.io", of_pod.clone()).claim("jti", jti).text()
    };
    let login = "login: { kubernetes: { role: proxy, token_file: account } }";
    let proxy = policy(&upstream, &vault.url(), login, "secret/app#admin").file("account", token("first")).start();
    knows(&proxy, ADMIN_TOKEN);
    let next = token("second");
    std::fs::write(proxy.file("account"), &next).unwrap();
    eventually("the next login sends the next token", || {
        kubernetes.seen().iter().any(|seen| String::from_utf8_lossy(&seen.body).contains(&next)).then_some(())
    });
    assert_eq!(proxy.stderr.count("could not be read"), 0);
}

/// When the certificate of the listener ends, as the metrics say.
fn end(proxy: &Proxy) -> String {
    let page = operator(proxy).get("/metrics").send().text();
    let line = page.lines().find(|line| line.starts_with("bartizan_certificate_expiry_timestamp_seconds{")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_certificate_is_issued_and_renewed_without_a_dropped_connection() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    vault.mounts("pki", &json!({"type": "pki"}));
    let root = vault.does(
        "POST",
        "pki/root/generate/internal",
        &json!({"common_name": "root", "key_type": "ec", "ttl": "1h"}),
    );
    let role = json!({"allow_any_name": true, "key_type": "ec", "max_ttl": "1h"});
    vault.does("POST", "pki/roles/edge", &role);
    vault.lets_read("edge", "path \"pki/sign/edge\" { capabilities = [\"update\"] }");
    let token = vault.does("POST", "auth/token/create", &json!({"policies": ["edge"]}));
    let login = format!("login: {{ token: \"{}\" }}", token["auth"]["client_token"].as_str().unwrap());
    let policy = |names: &str| {
        let issue = format!("issue: {{ vault: pki/edge, names: [{names}], lifetime: 10s }}");
        let policy = proxy().before(&upstream).open("GET /x");
        let policy = policy.listen(&format!("{{ address: \"127.0.0.1:0\", tls: {{ {issue} }} }}"));
        // Certificates have a time of their own.
        policy.with(&format!("secrets: {{ vault: {{ address: \"{}\", refresh: 1h, {login} }} }}", vault.url()))
    };
    let proxy = policy("localhost, 127.0.0.1").start();
    let trusts = crate::support::certificates::trusting(root["data"]["certificate"].as_str().unwrap());
    let mut before = client(&proxy).tls(Arc::clone(&trusts));
    before.get("/x").send().is(200);
    let first = end(&proxy);
    eventually("it is renewed", || (end(&proxy) != first).then_some(()));
    // The connection of before goes on, and a new one is good as well.
    before.get("/x").send().is(200);
    client(&proxy).tls(Arc::clone(&trusts)).get("/x").send().is(200);
    // One that cannot be renewed stays in use, and that is told.
    vault.seal();
    proxy.stderr.wait("a certificate could not be renewed", 1);
    client(&proxy).tls(trusts).get("/x").send().is(200);
    vault.unseal();
    proxy.stderr.wait("the vault issues this certificate again", 1);
    proxy.done();
    let said = policy("localhost").with("limits: { headers: 100 }").yaml().replace("pki/edge", "pki/other");
    let said = crate::support::proxy().text(&said).fails();
    assert!(said.contains("no certificate was issued"), "{said}");
}

/// The public keys of a transit key, in PEM, by version.
fn public(vault: &Vault, version: u64) -> String {
    let keys = vault.does("GET", "transit/keys/audit", &Value::Null);
    let key = keys["data"]["keys"][version.to_string()]["public_key"].as_str().unwrap().to_owned();
    let key = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    // RFC 8410 §4: what comes before the key.
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = base64::engine::general_purpose::STANDARD.encode([&prefix[..], &key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn checkpoints_that_the_vault_signs_are_verified_without_it() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    vault.mounts("transit", &json!({"type": "transit"}));
    vault.does("POST", "transit/keys/audit", &json!({"type": "ed25519"}));
    let policy = proxy().before(&upstream).open("GET /x").with(&format!(
        "secrets: {{ vault: {{ address: \"{}\", refresh: 1s, {} }} }}",
        vault.url(),
        root(&vault)
    ));
    let policy =
        policy.audit("{ chain: { transit: transit/audit, checkpoint: 1s }, to: [{ file: { path: audit.jsonl } }] }");
    let proxy = policy.start();
    let signed = || {
        let records = proxy.records();
        records.iter().filter(|record| record["event"]["action"] == "checkpoint").count()
    };
    let mut calls = client(&proxy);
    calls.get("/x").send().is(200);
    eventually("there is a checkpoint", || (signed() > 0).then_some(()));
    // Sealed: requests go on, and what was not signed is covered later.
    vault.seal();
    calls.get("/x").send().is(200);
    proxy.stderr.wait("a checkpoint of the record could not be signed", 1);
    calls.get("/x").send().is(200);
    vault.unseal();
    proxy.stderr.wait("checkpoints of the record are signed again", 1);
    // Another version is named by the one before.
    vault.does("POST", "transit/keys/audit/rotate", &json!({}));
    proxy.stderr.wait("the policy was reloaded", 1);
    calls.get("/x").send().is(200);
    let before = signed();
    eventually("there is another checkpoint", || (signed() > before).then_some(()));
    let (file, key) = (proxy.folder.path().join("audit.jsonl"), proxy.folder.path().join("audit.pub"));
    std::fs::write(&key, public(&vault, 1)).unwrap();
    let verify = |key: &std::path::Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.args(["audit", "verify", "--public-key"]).arg(key).arg(&file).output().unwrap();
        (output.status.success(), format!("{output:?}"))
    };
    proxy.signal("TERM");
    proxy.stderr.wait("stopping", 1);
    let (good, said) = eventually("the record ends", || Some(verify(&key)).filter(|(good, _)| *good));
    assert!(good, "{said}");
    let other = authority().pem();
    std::fs::write(&key, other).unwrap();
    assert!(!verify(&key).0);
}

/// What a vault of our own was asked.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// A vault of our own: it answers `admin` as the secret, unless the test wants something else for this request (by its number).
pub fn scripted(answer: impl Fn(usize, &str) -> Option<(u16, String)> + Send + Sync + 'static) -> (Upstream, Asked) {
    let (asked, count) = (Asked::default(), AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let server = upstream().does(move |call| {
        let body = String::from_utf8(call.body()?).unwrap();
        let target = call.head.word(1).to_owned();
        let number = count.fetch_add(1, Ordering::SeqCst);
        seen.lock().unwrap().push(format!("{target} {body} {}", call.head.header("x-vault-token").unwrap_or("-")));
        let (status, text) = answer(number, &target).unwrap_or_else(|| (200, usual(&target)));
        call.answer(status, &[("content-type", "application/json"), ("location", "http://127.0.0.1:1/")], text)
    });
    (server.start(), asked)
}

fn usual(target: &str) -> String {
    if target.contains("/login") {
        json!({"auth": {"client_token": "t", "lease_duration": 3600, "renewable": true}}).to_string()
    } else if target.contains("/internal/") {
        json!({"data": {"path": "secret/", "type": "kv", "options": {"version": "2"}}}).to_string()
    } else {
        json!({"data": {"data": {"admin": ADMIN_TOKEN}, "metadata": {"version": 1}}}).to_string()
    }
}

#[test]
fn an_answer_that_no_vault_gives_is_an_error_and_never_a_value() {
    let upstream = upstream().start();
    for (status, answer, said) in [
        (200, "{}".to_owned(), "its answer is not one of a vault"),
        (200, "not json".to_owned(), "its answer is not one of a vault"),
        (
            200,
            format!("{{\"data\": {{\"data\": {{\"admin\": \"{}\"}}}}}}", "x".repeat(5 << 20)),
            "length limit exceeded",
        ),
        (
            200,
            format!("{{\"data\": {{\"data\": {{\"admin\": \"{}\"}}}}}}", "x".repeat(2 << 20)),
            "is no text of at most 1 MiB",
        ),
        (307, String::new(), "another server is to be asked"),
        (500, "{\"errors\": [\"oh no\"]}".to_owned(), "it answers 500: oh no"),
        (503, "{\"errors\": [\"Vault is sealed\"]}".to_owned(), "the vault is sealed"),
        (429, "hunter2".to_owned(), "it answers 429"),
    ] {
        let shown = answer.chars().take(60).collect::<String>();
        let (vault, _) = scripted(move |_, target| target.contains("/data/").then(|| (status, answer.clone())));
        let text = policy(&upstream, &vault.url(), "login: { token: t }", "secret/app#admin").fails();
        assert!(text.contains(said) && !text.contains("hunter2"), "{status} {shown}: {text}");
    }
}

/// A token that a worker knows already needs the secret as much as any other.
#[test]
fn a_stale_secret_refuses_cached_tokens_as_well() {
    const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let upstream = upstream().start();
    let gone = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&gone);
    let (vault, _) = scripted(move |_, target| {
        let data = json!({"data": {"data": {"hmac": SECRET}, "metadata": {"version": 1}}});
        (target.contains("/data/")).then(|| match now.load(Ordering::SeqCst) {
            0 => (200, data.to_string()),
            _ => (503, "{\"errors\": [\"Vault is sealed\"]}".to_owned()),
        })
    });
    let settings = "address: \"URL\", login: { token: t }, refresh: 1s, stale_for: 2s".replace("URL", &vault.url());
    let issuer = "secret: \"${vault:secret/app#hmac}\", algorithms: [HS256], default_plan: free, max_lifetime: 1h";
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", issuer)
        .with(&format!("secrets: {{ vault: {{ {settings} }} }}"))
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let token = issuer::Token::signed_by(Arc::new(issuer::Key::shared(SECRET.as_bytes()))).text();
    let mut client = client(&proxy);
    client.get("/x").bearer(&token).send().is(200);
    gone.store(1, Ordering::SeqCst);
    let refused = eventually("the secret is stale", || {
        let answer = client.get("/x").bearer(&token).send();
        (answer.status != 200).then_some(answer)
    });
    refused.refused(503, "identity_unavailable");
    // A reload does not open the door.
    assert_eq!(proxy.reload(), Reloaded::Unchanged);
    client.get("/x").bearer(&token).send().refused(503, "identity_unavailable");
}

/// What changes by itself must not bring along an edit that nobody has asked to put in force.
#[test]
fn a_rotated_secret_puts_no_edited_policy_in_force() {
    let upstream = upstream().start();
    let rotated = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&rotated);
    let (vault, _) = scripted(move |_, target| {
        let version = now.load(Ordering::SeqCst);
        let token = if version > 2 { "a-third-admin-token-for-tests-only" } else { NEXT_TOKEN };
        let data = json!({"data": {"data": {"admin": token}, "metadata": {"version": version}}});
        (target.contains("/data/") && version > 0).then(|| (200, data.to_string()))
    });
    let asks = policy(&upstream, &vault.url(), "login: { token: t }", "secret/app#admin");
    let posts = asks
        .yaml()
        .replace("    routes:\n", "    routes:\n      POST /x: { public: true, request: { json: s.json } }\n");
    let proxy = asks.text(&posts).file("s.json", "{\"type\": \"object\"}").start();
    knows(&proxy, ADMIN_TOKEN);
    let policy = proxy.file("policy.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, text.replace("GET /x:", "GET /edited:")).unwrap();
    rotated.store(2, Ordering::SeqCst);
    learns(&proxy, NEXT_TOKEN);
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    client.get("/edited").send().is(404);
    assert_eq!(proxy.reload(), Reloaded::Loaded);
    client.get("/edited").send().is(200);

    // Nor does it a schema that was edited: the last value stays until somebody asks for both.
    std::fs::write(proxy.file("s.json"), "{\"type\": \"array\"}").unwrap();
    rotated.store(3, Ordering::SeqCst);
    proxy.stderr.wait("s.json has changed as well", 1);
    let json =
        |client: &mut client::Client| client.post("/x", "{}").header("content-type", "application/json").send().status;
    assert_eq!(json(&mut client), 200);
    assert_eq!(proxy.reload(), Reloaded::Loaded);
    assert_eq!(json(&mut client), 422);
}

/// A value that the policy cannot have is tried with every round, and reported and recorded once.
#[test]
fn a_change_that_cannot_be_put_in_force_is_said_once() {
    let upstream = upstream().start();
    let rotated = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&rotated);
    let (vault, asked) = scripted(move |_, target| {
        let version = now.load(Ordering::SeqCst);
        let data = json!({"data": {"data": {"admin": "no scope"}, "metadata": {"version": version}}});
        (target.contains("/data/scope") && version > 0).then(|| (200, data.to_string()))
    });
    let proxy = policy(&upstream, &vault.url(), "login: { token: t }", "secret/app#admin");
    let text = proxy.yaml() + "roles: { one: [\"${vault:secret/scope#admin}\"] }\n";
    let proxy = proxy.text(&text).start();
    rotated.store(2, Ordering::SeqCst);
    proxy.stderr.wait("was not reloaded although a secret of the vault changed", 1);
    let reads = || asked.lock().unwrap().iter().filter(|line| line.contains("/data/scope")).count();
    let before = reads();
    eventually("it is read some more times", || (reads() > before + 5).then_some(()));
    assert_eq!(proxy.stderr.count("was not reloaded although"), 1);
    let ready = operator(&proxy).get("/readyz").send().json();
    assert_eq!(ready["secrets"]["failing"][0]["secret"], "secret/scope", "{ready}");
    let listed = operator(&proxy).get("/v1/secrets").bearer(ADMIN_TOKEN).send().text();
    assert_eq!(listed.matches("its new value is not in force").count(), 1, "{listed}");
    let failed = proxy.done().into_iter().filter(|record| record["event"]["action"] == "policy_reload");
    assert_eq!(failed.count(), 1);
}

#[test]
fn a_token_that_may_not_ask_for_the_engine_gets_by() {
    let upstream = upstream().start();
    for (version, path) in [(2, "/v1/secret/data/app"), (1, "/v1/secret/app")] {
        let (vault, asked) = scripted(move |_, target| match target {
            _ if target.contains("/internal/") => Some((403, "{}".to_owned())),
            "/v1/secret/data/app" if version == 1 => Some((404, "{\"errors\": []}".to_owned())),
            "/v1/secret/app" => Some((200, json!({"data": {"admin": ADMIN_TOKEN}}).to_string())),
            _ => None,
        });
        let proxy = policy(&upstream, &vault.url(), "login: { token: t }", "secret/app#admin").start();
        knows(&proxy, ADMIN_TOKEN);
        proxy.done();
        assert!(asked.lock().unwrap().iter().any(|line| line.starts_with(&format!("{path} "))), "{asked:?}");
    }
}

#[test]
fn a_refused_token_is_replaced_once_and_a_namespace_goes_with_every_request() {
    let upstream = upstream().start();
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let (number, refuses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let refused = Arc::clone(&refuses);
    let (vault, asked) = scripted(move |_, target| {
        if target.contains("/login") {
            let text = format!("token-{}", number.fetch_add(1, Ordering::SeqCst));
            return Some((200, json!({"auth": {"client_token": text, "lease_duration": 3600}}).to_string()));
        }
        let refuses = refused.load(Ordering::SeqCst);
        (target.contains("/data/") && refuses > 0).then(|| {
            refused.fetch_sub(1, Ordering::SeqCst);
            (403, "{\"errors\": [\"permission denied\"]}".to_owned())
        })
    });
    let login =
        format!("namespace: team-a, login: {{ kubernetes: {{ role: proxy, token_file: \"{}\" }} }}", file.display());
    let proxy = policy(&upstream, &vault.url(), &login, "secret/app#admin").start();
    let logins =
        || -> Vec<String> { asked.lock().unwrap().iter().filter(|line| line.contains("/login")).cloned().collect() };
    assert_eq!(logins().len(), 1, "{:?}", logins());
    // One 403: a new login, with what is in the file now, and no error.
    std::fs::write(&file, "second").unwrap();
    refuses.store(1, Ordering::SeqCst);
    eventually("there is a second login", || (logins().len() == 2).then_some(()));
    eventually("it is used", || asked.lock().unwrap().iter().any(|line| line.ends_with(" token-1")).then_some(()));
    assert!(logins()[0].contains("\"jwt\":\"first\"") && logins()[1].contains("\"jwt\":\"second\""), "{:?}", logins());
    assert_eq!(proxy.stderr.count("could not be read"), 0);
    // 403 again: reported, and no more logins than rounds.
    refuses.store(2, Ordering::SeqCst);
    proxy.stderr.wait("could not be read again", 1);
    assert_eq!(logins().len(), 3);
    for seen in vault.seen() {
        assert_eq!((seen.header("x-vault-namespace"), seen.header("x-vault-request")), (Some("team-a"), Some("true")));
        assert_eq!(seen.header("user-agent"), Some(concat!("bartizan/", env!("CARGO_PKG_VERSION"))));
    }
    proxy.done();
}

#[test]
fn what_the_login_may_not_read_is_no_reason_for_ever_more_logins() {
    let upstream = upstream().start();
    let denied = Arc::new(AtomicUsize::new(0));
    let denies = Arc::clone(&denied);
    let (vault, asked) = scripted(move |_, target| {
        (target.contains("/data/") && denies.load(Ordering::SeqCst) > 0).then(|| {
            denies.fetch_add(1, Ordering::SeqCst);
            (403, "{\"errors\": [\"permission denied\"]}".to_owned())
        })
    });
    let login = "login: { approle: { role_id: r, secret_id: s } }";
    let proxy = policy(&upstream, &vault.url(), login, "secret/app#admin").start();
    denied.store(1, Ordering::SeqCst);
    eventually("it was refused in several rounds", || (denied.load(Ordering::SeqCst) > 5).then_some(()));
    let logins = || asked.lock().unwrap().iter().filter(|line| line.contains("/login")).count();
    assert_eq!(logins(), 2, "one at the start, and one because the token could have ended");
    proxy.done();
}

#[test]
fn while_there_is_no_new_login_the_token_of_the_last_one_is_used() {
    let upstream = upstream().start();
    let logins = AtomicUsize::new(0);
    let (vault, asked) = scripted(move |_, target| {
        let first = json!({"auth": {"client_token": "first", "lease_duration": 9}}).to_string();
        target.contains("/login").then(|| match logins.fetch_add(1, Ordering::SeqCst) {
            0 => (200, first),
            _ => (500, "{\"errors\": [\"not now\"]}".to_owned()),
        })
    });
    let login = "login: { approle: { role_id: r, secret_id: s } }";
    let proxy = policy(&upstream, &vault.url(), login, "secret/app#admin").start();
    proxy.stderr.wait("the token of the last one is used until it ends", 1);
    let reads = || asked.lock().unwrap().iter().filter(|line| line.contains("/data/")).count();
    let before = reads();
    eventually("it is used once more", || (reads() > before).then_some(()));
    assert_eq!(proxy.stderr.count("could not be read"), 0);
    proxy.done();
}

#[test]
fn a_reload_that_waits_for_the_vault_does_not_keep_the_process_from_stopping() {
    let upstream = upstream().start();
    let (holds, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(())));
    let (held_now, lock) = (Arc::clone(&holds), Arc::clone(&held));
    let (vault, _) = scripted(move |_, target| {
        if target.contains("/data/") && held_now.load(Ordering::SeqCst) > 0 {
            held_now.fetch_add(1, Ordering::SeqCst);
            drop(lock.lock());
        }
        None
    });
    let mut proxy = policy(&upstream, &vault.url(), "login: { token: t }", "secret/app#admin").start();
    let silent = held.lock();
    holds.store(1, Ordering::SeqCst);
    proxy.signal("HUP");
    eventually("the vault is asked", || (holds.load(Ordering::SeqCst) > 1).then_some(()));
    // One of these may have been the refresh; the other is the reload.
    eventually("the reload asks as well", || (holds.load(Ordering::SeqCst) > 2).then_some(()));
    proxy.signal("TERM");
    proxy.stderr.wait("the process is stopping", 1);
    assert!(proxy.ended().success());
    drop(silent);
}

/// A reload that a stop interrupts has not failed: nothing was wrong with the secret.
#[test]
fn a_change_that_a_stop_interrupts_is_no_failure() {
    let upstream = upstream().start();
    let (reads, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(())));
    let (counted, lock) = (Arc::clone(&reads), Arc::clone(&held));
    let rotated = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&rotated);
    let (vault, _) = scripted(move |_, target| {
        if !target.contains("/data/") || now.load(Ordering::SeqCst) == 0 {
            return None;
        }
        // The first finds the change, the next is that of the reload.
        if counted.fetch_add(1, Ordering::SeqCst) > 0 {
            drop(lock.lock());
        }
        Some((200, json!({"data": {"data": {"admin": NEXT_TOKEN}, "metadata": {"version": 2}}}).to_string()))
    });
    let mut proxy = policy(&upstream, &vault.url(), "login: { token: t }", "secret/app#admin").start();
    let silent = held.lock();
    rotated.store(1, Ordering::SeqCst);
    eventually("the reload asks the vault", || (reads.load(Ordering::SeqCst) > 1).then_some(()));
    proxy.signal("TERM");
    assert!(proxy.ended().success());
    drop(silent);
    assert_eq!(proxy.stderr.count("was not reloaded"), 0);
    assert_eq!(proxy.records().iter().filter(|record| record["event"]["action"] == "policy_reload").count(), 0);
}

#[test]
fn after_its_time_a_stale_secret_refuses_what_needs_it_or_serves() {
    let upstream = upstream().start();
    for (on_failure, status) in [("refuse", 503), ("serve", 200)] {
        let fails = Arc::new(AtomicUsize::new(0));
        let failing = Arc::clone(&fails);
        let (vault, _) = scripted(move |_, target| {
            (target.contains("/data/") && failing.load(Ordering::SeqCst) > 0).then(|| (500, "{}".to_owned()))
        });
        let settings = format!("stale_for: 2s, on_failure: {on_failure}, login: {{ token: t }}");
        let proxy = policy(&upstream, &vault.url(), &settings, "secret/app#admin").start();
        knows(&proxy, ADMIN_TOKEN);
        fails.store(1, Ordering::SeqCst);
        proxy.stderr.wait("secrets are stale", 1);
        assert_eq!(operator(&proxy).get("/v1/policy").bearer(ADMIN_TOKEN).send().status, status, "{on_failure}");
        client(&proxy).get("/x").send().is(200);
        fails.store(0, Ordering::SeqCst);
        proxy.stderr.wait("no secret is stale any more", 1);
        knows(&proxy, ADMIN_TOKEN);
        proxy.done();
    }
}

#[test]
fn what_is_wrong_with_the_settings_is_reported() {
    let upstream = upstream().start();
    for (settings, said) in [
        ("{ }", "`address` is missing"),
        ("{ address: \"http://vault.example:8200\", login: { token: t } }", "would cross the network in clear text"),
        ("{ address: \"http://127.0.0.1:1\" }", "`login` is missing"),
        ("{ address: \"http://127.0.0.1:1\", login: { } }", "this is not a login"),
        ("{ address: \"http://127.0.0.1:1\", login: { token: t, approle: { } } }", "there is more than one login"),
        ("{ address: \"http://127.0.0.1:1\", login: { approle: { role_id: r } } }", "needs `role_id` and `secret_id`"),
        ("{ address: \"http://127.0.0.1:1\", login: { kubernetes: { } } }", "`role` is missing"),
        ("{ address: \"http://127.0.0.1:1\", login: { certificate: { } } }", "needs `certificate` and `key`"),
        ("{ address: \"http://127.0.0.1:1\", login: { token: t }, kv: 3 }", "of version 1 and 2"),
        ("{ address: \"http://127.0.0.1:1\", login: { token: t }, refresh: 10ms }", "asked all the time"),
        ("{ address: \"http://127.0.0.1:1\", login: { token: t }, stale_for: 1s }", "stale before it is read again"),
        (
            "{ address: \"http://127.0.0.1:1\", login: { token: \"${vault:a/b#c}\" } }",
            "`secrets` cannot refer to the vault",
        ),
        ("{ address: \"http://127.0.0.1:1\", login: { token: t }, namespace: \"a//b\" }", "this is not a namespace"),
    ] {
        let text = proxy().before(&upstream).open("GET /x").with(&format!("secrets: {{ vault: {settings} }}")).fails();
        assert!(text.contains(said), "{settings}: {text}");
    }
    let text = policy(&upstream, "http://127.0.0.1:1", "login: { token: t }", "a/b#c").yaml();
    let text = text.lines().filter(|line| !line.starts_with("secrets:")).collect::<Vec<_>>().join("\n");
    let said = proxy().text(&text).fails();
    assert!(said.contains("the policy does not say where the vault is"), "{said}");
}
