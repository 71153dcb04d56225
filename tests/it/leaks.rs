//! Secrets stay inside: whatever a proxy writes, logs or answers holds none of those that it was given or shown.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::support::client::{Client, operator};
use crate::support::redis::Server;
use crate::support::vault::{Vault, vault};
use crate::support::*;

/// A secret of the policy, or of a caller, by what it is for.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn new() -> Self {
        let names = [
            "admin",
            "next admin",
            "redis",
            "seal",
            "introspection",
            "sink",
            "sink path",
            "trace",
            "client",
            "wrong",
            "wrong key",
            "wrong token",
        ];
        // Letters and digits alone, so that no place needs quotes; each begins with one of its own.
        let text = |position: usize| {
            let alphabet = b"qwxyz".iter().cycle().skip(position).step_by(position % 3 + 1);
            let text: String = alphabet.take(30).map(|&byte| char::from(byte)).collect();
            format!("s{position:02}{text}")
        };
        Self(names.iter().enumerate().map(|(position, name)| (*name, text(position))).collect())
    }

    fn get(&self, name: &str) -> &str {
        &self.0.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.push((name, text.into()));
    }

    /// Finds secrets in a text: as they are, in Base64 or in hexadecimal, or as a list of bytes.
    #[track_caller]
    fn are_not_in(&self, place: &str, text: &str) {
        for (name, secret) in &self.0 {
            let bytes = secret.as_bytes();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let list = format!("{bytes:?}");
            for form in [
                secret.clone(),
                STANDARD_NO_PAD.encode(bytes),
                URL_SAFE_NO_PAD.encode(bytes),
                hex.to_ascii_uppercase(),
                hex,
                list.trim_matches(['[', ']']).to_owned(),
            ] {
                if let Some(found) = text.find(&form) {
                    let line = text[..found].lines().count();
                    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
                    panic!("{place} holds the secret of `{name}`: {}", line.chars().take(2000).collect::<String>());
                }
            }
        }
    }
}

fn sha256(text: &str) -> String {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A policy with a secret wherever one can be.
fn policy(upstream: &Upstream, peer: &Upstream, redis: &Server, vault: &Vault, secrets: &Secrets) -> Policy {
    let certified = authority().certifies(&["localhost"]);
    let (peer, client) = (peer.url(), sha256(secrets.get("client")));
    let policy = proxy()
        .before(upstream)
        .listen("{ address: \"127.0.0.1:0\" }")
        .listen("{ address: \"127.0.0.2:0\", tls: { certificate: tls.crt, key: \"${env:TLS_KEY}\" } }")
        .with(&format!(
            "secrets: {{ vault: {{ address: \"{}\", refresh: 1s, login: {{ token: \"${{env:VAULT_TOKEN}}\" }} }} }}",
            vault.url()
        ))
        .with("store: { redis: \"${env:REDIS}\" }")
        .with("token_service: { issuer: \"http://127.0.0.1\", audience: [orders-api], refresh_token: {}, keys: { seal: \"${file:seal}\" } }")
        .with(&format!(
            "auth:\n  failed_attempts: 1000/min\n  introspection: {{ partner: {{ endpoint: \"{peer}/introspect\", client_id: me, \
             client_secret: \"${{vault:secret/app#introspection}}\", default_plan: free }} }}"
        ))
        .with("roles: { clerk: [\"orders:read\"] }")
        .with(&format!(
            "consumers:\n  acme: {{ plan: free, roles: [clerk], clients: [{{ id: acme-1, secret_sha256: \"{client}\" }}] }}"
        ))
        .with(&format!(
            "telemetry: {{ otlp: {{ endpoint: \"{peer}\", traces: 100%, headers: {{ authorization: \"${{file:trace}}\" }} }} }}"
        ))
        .route("GET /orders", "scopes: [\"orders:read\"]")
        .audit(&format!(
            "{{ spool: {{ path: spool/ }}, to: [stdout, {{ file: {{ path: audit.jsonl }} }}, {{ http: {{ url: \
             \"{peer}/${{env:SINK_PATH}}\", headers: {{ authorization: \"${{file:sink}}\" }} }} }}] }}"
        ))
        .file("tls.crt", certified.certificate)
        .file("seal", secrets.get("seal"))
        .file("sink", secrets.get("sink"))
        .file("trace", secrets.get("trace"))
        .env("BARTIZAN_LOG", "trace")
        .env("SINK_PATH", secrets.get("sink path"))
        .env("VAULT_TOKEN", vault.root())
        .env("TLS_KEY", &certified.key)
        .env("REDIS", &format!("redis://:{}@127.0.0.1:{}", secrets.get("redis"), redis.port));
    let text = policy.yaml().replace(proxy::ADMIN_TOKEN, "\"${vault:secret/app#admin}\"");
    policy.text(&text)
}

/// Answers as a poor peer does: errors that repeat what was sent.
fn peer() -> Upstream {
    let server = upstream().does(|call| {
        let target = call.head.word(1).to_owned();
        let sent = call.head.header("authorization").unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(&call.body()?).into_owned();
        if target.contains("introspect") && body.contains("opaque") {
            let active = json!({"active": true, "client_id": "bob", "exp": issuer::now() + 300});
            return call.answer(200, &[("content-type", "application/json")], active.to_string());
        }
        call.answer(500, &[("content-type", "text/plain")], format!("{target}: {sent}: {body}"))
    });
    server.start()
}

fn sends_form(client: &mut Client, endpoint: &str, secret: &str, form: &str) -> client::Answer {
    let basic = STANDARD.encode(format!("acme-1:{secret}"));
    let request = client.post(endpoint, form).header("content-type", "application/x-www-form-urlencoded");
    request.header("authorization", &format!("Basic {basic}")).send()
}

/// Calls in all the ways in which a credential can be shown, rightly and wrongly. What callers were given is a secret, too.
fn calls(proxy: &Proxy, secrets: &mut Secrets) {
    let (mut client, mut operator) = (client(proxy), operator(proxy));
    let secret = secrets.get("client").to_owned();
    let admin = secrets.get("admin").to_owned();
    let made = operator.post("/v1/consumers/acme/keys", "{}").bearer(&admin).send().json();
    let key = made["key"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    operator.get("/v1/keys").bearer(secrets.get("wrong token")).send();
    let mut tokens = sends_form(&mut client, "/oauth/token", &secret, "grant_type=client_credentials").json();
    let mut given = Vec::new();
    for _ in 0..2 {
        let access = tokens["access_token"].as_str().unwrap_or_else(|| panic!("{tokens}")).to_owned();
        let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
        client.get("/orders").bearer(&access).send().is(200);
        sends_form(&mut client, "/oauth/introspect", &secret, &format!("token={access}"));
        let form = format!("grant_type=refresh_token&refresh_token={refresh}");
        tokens = sends_form(&mut client, "/oauth/token", &secret, &form).json();
        given.push((access, refresh));
    }
    client.get("/orders").key(&key).send().is(200);
    client.get("/orders").bearer("opaque").send();
    for (header, value) in [
        ("x-api-key", secrets.get("wrong key").to_owned()),
        ("authorization", format!("Bearer {}", secrets.get("wrong token"))),
        ("authorization", format!("Bearer {}x", given[0].0)),
        ("authorization", format!("Basic {}", STANDARD.encode(format!("acme-1:{}", secrets.get("wrong"))))),
        ("authorization", format!("DPoP {}", given[0].0)),
        ("authorization", secrets.get("wrong").to_owned()),
        ("proxy-authorization", secrets.get("wrong").to_owned()),
        ("cookie", format!("session={}", secrets.get("wrong"))),
    ] {
        client.get("/orders").header(header, &value).send();
    }
    client.get(&format!("/orders?x-api-key={key}&access_token={}", given[0].0)).send();
    sends_form(&mut client, "/oauth/token", secrets.get("wrong"), "grant_type=client_credentials");
    let form = format!("grant_type=client_credentials&client_id=acme-1&client_secret={secret}");
    client.post("/oauth/token", form).header("content-type", "application/x-www-form-urlencoded").send().is(200);
    let form = format!("grant_type={0}&refresh_token={0}&scope={0}", secrets.get("wrong"));
    sends_form(&mut client, "/oauth/token", &secret, &form);
    let form = format!("token={}", given[1].1);
    sends_form(&mut client, "/oauth/revoke", &secret, &form).is(200);
    secrets.add("API key", key);
    for (access, refresh) in given {
        // The signature is what makes it a token; claims may be on record.
        secrets.add("access token", access.rsplit('.').next().unwrap());
        secrets.add("refresh token", refresh);
    }
}

/// What the admin listener answers to every GET without parameters that it describes, except the live record.
fn admin_answers(proxy: &Proxy, token: &str) -> String {
    let mut operator = operator(proxy);
    let described = operator.get("/v1/openapi.json").bearer(token).send().json();
    let mut answers = String::new();
    for (path, operations) in described["paths"].as_object().unwrap() {
        if operations.get("get").is_some() && !path.contains('{') && path != "/v1/audit" {
            let answer = operator.get(path).bearer(token).send();
            assert!(matches!(answer.status, 200 | 503), "{path}: {}", answer.text());
            answers += &format!("{path}: {}\n", answer.text());
        }
    }
    answers
}

/// What this process left in its folder, but for what it was given.
fn files(folder: &Path, given: &[&str]) -> String {
    let mut text = String::new();
    for entry in walkdir(folder) {
        let name = entry.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        if !given.contains(&name.as_str()) {
            text += &format!("{name}: {}\n", String::from_utf8_lossy(&std::fs::read(&entry).unwrap()));
        }
    }
    text
}

fn walkdir(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walkdir(&path)) } else { found.push(path) }
    }
    found
}

/// Commands that read the policy.
const COMMANDS: [&[&str]; 2] = [&["check", "policy.yaml"], &["explain", "--policy", "policy.yaml", "GET", "/orders"]];

/// Runs a command beside the policy, with the environment of the proxy.
fn runs(proxy: &Proxy, arguments: &[&str], env: &[(String, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.args(arguments).current_dir(proxy.folder.path());
    command.envs(env.iter().map(|(name, value)| (name, value))).output().unwrap()
}

fn said_by(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

#[test]
fn no_secret_is_logged_recorded_answered_or_left_behind() {
    let mut secrets = Secrets::new();
    let (Some(redis), Some(vault)) =
        (Server::start(&format!("rdbcompression no\nrequirepass {}", secrets.get("redis")), &[]), vault(None))
    else {
        return;
    };
    let (upstream, peer) = (upstream().start(), peer());
    vault.puts("app", &json!({"admin": secrets.get("admin"), "introspection": secrets.get("introspection")}));
    let policy = policy(&upstream, &peer, &redis, &vault, &secrets);
    let env: Vec<_> = policy.variables().to_vec();
    for (name, value) in &env {
        if name == "TLS_KEY" {
            let line = value.lines().nth(1).unwrap().to_owned();
            secrets.add("TLS key", line);
        }
    }
    secrets.add("vault token", vault.root());
    let proxy = policy.start();
    calls(&proxy, &mut secrets);
    let mut answers = admin_answers(&proxy, secrets.get("admin"));
    for arguments in COMMANDS {
        let output = runs(&proxy, arguments, &env);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {}", said_by(&output));
        secrets.are_not_in("a command", &said_by(&output));
    }
    // A rotation, and a reload that fails.
    vault.puts("app", &json!({"admin": secrets.get("next admin"), "introspection": secrets.get("introspection")}));
    let mut asks = operator(&proxy);
    eventually("the new token is in force", || {
        (asks.get("/v1/policy").bearer(secrets.get("next admin")).send().status == 200).then_some(())
    });
    let mut file = std::fs::OpenOptions::new().append(true).open(proxy.file("policy.yaml")).unwrap();
    writeln!(file, "roles2: {{ a: \"${{file:seal}}\", b: \"${{env:REDIS}}\" }}").unwrap();
    let reload = asks.post("/v1/policy/reload", "").bearer(secrets.get("next admin")).send();
    answers += &reload.text();
    answers += &admin_answers(&proxy, secrets.get("next admin"));
    secrets.are_not_in("an answer of the admin listener", &answers);
    for arguments in COMMANDS {
        let output = runs(&proxy, arguments, &env);
        assert!(said_by(&output).contains("roles2"), "{arguments:?} reports the mistake: {}", said_by(&output));
        secrets.are_not_in("a command", &said_by(&output));
    }
    redis.asks(&format!("-a {} SAVE", secrets.get("redis")));
    let folder = redis.asks(&format!("-a {} CONFIG GET dir", secrets.get("redis")));
    let kept = std::fs::read(Path::new(folder.lines().nth(1).unwrap()).join("dump.rdb")).unwrap();
    assert!(kept.len() > 500, "something is kept");
    secrets.are_not_in("the store", &String::from_utf8_lossy(&kept));
    let left = files(proxy.folder.path(), &["policy.yaml", "tls.crt", "seal", "sink", "trace"]);
    secrets.are_not_in("a file", &left);
    let (stdout, stderr) = (proxy.stdout.clone(), proxy.stderr.clone());
    let (_, records) = proxy.stop();
    secrets.are_not_in("the log", &stderr.all().join("\n"));
    secrets.are_not_in("the record", &stdout.all().join("\n"));
    assert!(
        records.len() > 20 && stdout.all().len() >= records.len() && stderr.all().len() > 30,
        "there is something to find"
    );
}

#[test]
fn a_process_that_dies_leaves_no_memory_behind() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").after("ulimit -c unlimited").start();
    client(&proxy).get("/x").send().is(200);
    proxy.signal("ABRT");
    let status = proxy.ended();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}
