//! The policy's `audit` key: what `bartizan check` says of it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a key of OpenSSL looks like (`openssl genpkey -algorithm ed25519`).
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAWU1t2i+roKdjpuI1u26Bw0jGZ3+APMr3iMhsBb2Oon\n\
                   -----END PRIVATE KEY-----\n";

/// Messages of `bartizan check`, each with the level and the text that it points to.
fn check(audit: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("audit.pem", KEY);
    file("b", "");
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::hard_link(folder.path().join("b"), folder.path().join("hard")).unwrap();
    std::os::unix::fs::symlink("../a", folder.path().join("sub/soft")).unwrap();
    std::os::unix::fs::symlink("sub", folder.path().join("other")).unwrap();
    let api = "apis: { a: { upstream: http://127.0.0.1:2, routes: { GET /: { scopes: [] } } } }";
    let policy = format!("version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\n{api}\naudit: {audit}\n");
    file("policy.yaml", &policy);
    problems(folder.path())
}

fn problems(folder: &Path) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let command = command.current_dir(folder).args(["check", "policy.yaml", "--format", "json"]);
    let report: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let problems = report["problems"].as_array().unwrap().iter();
    problems.map(|problem| problem["message"].as_str().unwrap().to_owned()).collect()
}

/// A spool, and one sink.
fn to(sink: &str) -> String {
    format!("{{ spool: {{ path: spool }}, to: [{{ {sink} }}] }}")
}

#[test]
fn what_is_complete_is_accepted() {
    for audit in [
        "none",
        "[stdout]",
        "{ to: [stdout] }",
        "{ chain: { key: audit.pem, checkpoint: 10s }, to: [stdout] }",
        "{ chain: { key: \"${file:audit.pem}\" }, to: [stdout] }",
        "{ spool: { path: spool/, size: 16MiB, fsync: 0s, on_full: refuse }, to: [{ file: { path: a, rotate: { size: 64KiB } } }] }",
        &to("elasticsearch: { url: http://127.0.0.1:9200, api_key: \"id:key\" }"),
        &to("otlp: { endpoint: http://localhost:4318, headers: { authorization: Bearer x } }"),
        &to("syslog: { address: tcp://127.0.0.1:514, facility: local7 }"),
        &to("http: { url: \"http://127.0.0.1/x?index=1\", format: loki }"),
        // Two of a kind.
        "{ spool: { path: s }, to: [{ syslog: { address: tcp://127.0.0.1:1 } }, { syslog: { address: tcp://127.0.0.1:2 } }] }",
    ] {
        assert_eq!(check(audit), Vec::<String>::new(), "{audit}");
    }
}

#[test]
fn what_is_wrong_is_reported() {
    let needs_spool = "a sink over the network needs a `spool`, which keeps records while it does not answer";
    for (audit, expected) in [
        ("[]", "no audit records are written"),
        ("{ to: [] }", "no audit records are written"),
        ("{}", "no audit records are written"),
        ("[stdout, stdout]", "this sink is listed twice"),
        ("[{ otlp: { endpoint: http://127.0.0.1:4318 } }]", needs_spool),
        ("{ chain: { key: none.pem }, to: [stdout] }", "there is no file `none.pem`"),
        ("{ chain: { key: policy.yaml }, to: [stdout] }", "the key is not a PEM private key of Ed25519"),
        ("{ chain: { checkpoint: 10ms }, to: [stdout] }", "the time between two checkpoints is from 1s to 1d"),
        ("{ chain: { checkpoint: 2d }, to: [stdout] }", "the time between two checkpoints is from 1s to 1d"),
        ("{ spool: { path: none/spool }, to: [stdout] }", "the folder that the spool is in does not exist"),
        ("{ spool: { path: audit.pem }, to: [stdout] }", "this is not a folder"),
        ("{ spool: { size: 1GiB }, to: [stdout] }", "`path` is missing"),
        ("{ spool: { path: s, size: 1MiB }, to: [stdout] }", "a spool has at least 16MiB"),
        ("{ spool: { path: s, fsync: 2h }, to: [stdout] }", "records would be in memory alone for more than 1h"),
        ("{ spool: { path: s, on_full: drop }, to: [stdout] }", "there is no behaviour `drop`"),
        ("[{ file: { path: none/a } }]", "the folder of this file does not exist"),
        ("[{ file: { path: a, rotate: {} } }]", "`rotate` needs `size` or `every`"),
        ("[{ file: { path: a, rotate: { size: 1KiB } } }]", "a file is rotated at 64KiB or more"),
        ("[{ file: { path: a, rotate: { every: 1s } } }]", "a file is rotated every 1m or less often"),
        ("[{ file: { path: a, rotate: { every: 1h, keep: 0 } } }]", "from 1 to 10000 former files are kept"),
        ("[{ file: { path: a } }, { file: { path: a, rotate: { every: 1h } } }]", "this sink is listed twice"),
        ("[{ file: { path: a, on_failure: wait } }]", "`on_failure` is part of the policy language"),
    ] {
        let found = check(audit);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{audit}: {found:?}");
    }
}

#[test]
fn a_file_has_one_use_whatever_its_names() {
    let files =
        |first: &str, second: &str| format!("[{{ file: {{ path: {first} }} }}, {{ file: {{ path: {second} }} }}]");
    let http = "http: { url: \"http://127.0.0.1:1/x\"";
    let in_spool =
        |path: &str| format!("{{ spool: {{ path: sub }}, to: [{{ file: {{ path: {path} }} }}, {{ {http} }} }}] }}");
    let sink = "this is also the file of another sink";
    let spool = "this is also a file of the spool";
    for (audit, expected) in [
        (files("a", "./a"), sink),
        (files("a", "sub/../a"), sink),
        (files("sub/c", "other/c"), sink),
        (files("sub/c", "other/d"), ""),
        (files("a", "sub/soft"), sink),
        (files("b", "hard"), sink),
        (files("/dev/null", "/dev/zero"), ""),
        (
            "[{ file: { path: a, rotate: { size: 64KiB } } }, { file: { path: ./.a.lock } }]".to_owned(),
            "this is also the lock of a file that is rotated",
        ),
        (in_spool("a"), ""),
        (in_spool("sub/a"), ""),
        (in_spool("other/rejected-http.jsonl"), sink),
        (in_spool("sub/lock"), spool),
        (in_spool("sub/cut.json"), spool),
        (in_spool("sub/00000000000000000007.jsonl"), spool),
        (in_spool("sub/0123456789abcdef.cursor"), spool),
        ("{ spool: { path: s }, to: [{ file: { path: ./s } }] }".to_owned(), "this is also the folder of the spool"),
        (
            format!("{{ spool: {{ path: s }}, to: [{{ file: {{ path: a }} }}, {{ {http}, rejected: ./a }} }}] }}"),
            "this is also the file of another sink",
        ),
        (
            format!("{{ spool: {{ path: s }}, to: [{{ {http}, rejected: a }} }}, {{ file: {{ path: ./a }} }}] }}"),
            "this is also the file for records that a sink rejects",
        ),
        ("[{ file: { path: sub } }]".to_owned(), "this is a folder"),
    ] {
        let found = check(&audit);
        assert!(found.len() == usize::from(!expected.is_empty()), "{audit}: {found:?}");
        assert!(found.iter().all(|found| found.starts_with(expected)), "{audit}: {found:?}");
    }
}

#[test]
fn what_is_wrong_with_a_sink_over_the_network_is_reported() {
    let es = |more: &str| to(&format!("elasticsearch: {{ url: http://127.0.0.1:9200, {more} }}"));
    let http = |more: &str| to(&format!("http: {{ url: http://127.0.0.1:9200, {more} }}"));
    let syslog = |more: &str| to(&format!("syslog: {{ address: tcp://127.0.0.1:1, {more} }}"));
    for (audit, expected) in [
        (to("elasticsearch: {}"), "`url` is missing"),
        (to("elasticsearch: { url: 127.0.0.1:9200 }"), "the URL has no scheme"),
        (to("elasticsearch: { url: \"http://elastic:changeme@127.0.0.1\" }"), "the URL has a user name or password"),
        (to("elasticsearch: { url: \"http://10.1.1.1:9200\" }"), "records, and the credentials of this sink, cross"),
        (es("data_stream: Logs"), "this cannot be the name of a data stream"),
        (es("data_stream: _bulk"), "this cannot be the name of a data stream"),
        (es("username: a"), "`username` and `password` go together"),
        (es("username: \"a:b\", password: c"), "a user name has no colon"),
        (es("api_key: a, username: b"), "a sink has an `api_key`, or `username` and `password`"),
        (es("ca: audit.pem"), "`ca` has no effect"),
        (es("timeout: 0s"), "this duration must be greater than zero"),
        (es("timeout: 1h"), "a request that takes longer than 5m has failed"),
        (es("max_batch: 1KiB"), "one request has from 64KiB to 32MiB of records"),
        (es("rejected: none/rejected"), "the folder of this file does not exist"),
        (to("elasticsearch: { url: https://es, ca: none.pem }"), "there is no file `none.pem`"),
        (to("elasticsearch: { url: https://es, ca: policy.yaml }"), "policy.yaml holds no PEM certificate"),
        (to("otlp: { endpoint: \"http://127.0.0.1/v1/logs\" }"), "the endpoint is a base URL"),
        (to("otlp: { endpoint: \"http://127.0.0.1?x=1\" }"), "the URL has a query"),
        (http("headers: { content-type: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { Accept: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { accept-encoding: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { user-agent: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { expect: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { trailer: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { keep-alive: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { proxy-authorization: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { connection: x }"), "this header is not for the policy to set; remove it"),
        (http("headers: { \"a b\": c }"), "this is not the name of a header"),
        (http("headers: { X-A: c, x-a: d }"), "this header is there twice"),
        (http("headers: { authorization: \"a\\nb\" }"), "this cannot be the value of a header"),
        (http("format: json"), "there is no format `json`"),
        (to("syslog: { address: siem }"), "the URL has no scheme"),
        (to("syslog: { address: tcp://siem }"), "records cross the network in clear text"),
        (syslog("facility: log"), "there is no facility `log`"),
        (syslog("app_name: \"my proxy\""), "an APP-NAME has 1 to 48 visible ASCII characters"),
        (syslog("max_message: 512B"), "a message has from 1KiB to 1MiB"),
        (syslog("certificate: audit.pem"), "`certificate` has no effect"),
    ] {
        let found = check(&audit);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{audit}: {found:?}");
    }
    let half = check(&to("elasticsearch: { url: https://es, certificate: audit.pem }"));
    assert_eq!(half, ["`certificate` and `key` go together"]);
}
