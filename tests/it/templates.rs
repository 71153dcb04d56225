//! `bartizan audit install-template`, against clusters that ask for everything in its order.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::*;

/// A cluster: what was put where.
#[derive(Clone)]
struct Cluster {
    kept: Arc<Mutex<BTreeMap<String, Value>>>,
    puts: Arc<Mutex<Vec<String>>>,
}

const STREAM: &str = "logs-bartizan-default";

impl Cluster {
    /// Starts one that is `opensearch`, or not; without lifecycle policies if `bare`.
    fn start(opensearch: bool, bare: bool) -> (Self, Upstream) {
        let cluster = Self { kept: Arc::default(), puts: Arc::default() };
        let of_server = cluster.clone();
        let server = upstream().does(move |call| {
            let body = call.body()?;
            let line = call.head.start.clone();
            let mut words = line.split(' ');
            let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            let authorized = call.head.header("authorization") == Some("ApiKey aW5zdGFsbDprZXk=");
            let (status, answer) = match target.as_str() {
                _ if !authorized => (403, json!({"error": {"reason": "no\u{7}"}})),
                "/" if opensearch => (200, json!({"version": {"distribution": "opensearch", "number": "3.8.0"}})),
                "/" => (200, json!({"version": {"number": "9.1.0"}})),
                _ if bare && (target.contains("_ilm") || target.contains("_ism")) => {
                    (400, json!({"error": format!("no handler found for uri [{target}] and method [{method}]")}))
                }
                _ => of_server.answer(&method, &target, &body, opensearch),
            };
            call.answer(status, &[("content-type", "application/json")], answer.to_string())
        });
        (cluster, server.start())
    }

    fn answer(&self, method: &str, target: &str, body: &[u8], opensearch: bool) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut kept = self.kept.lock().unwrap();
        let there = kept.contains_key(path);
        if method == "GET" {
            return match there {
                true if opensearch && path.contains("_ism") => {
                    (200, json!({"_seq_no": 7, "_primary_term": 1, "policy": {}}))
                }
                true => (200, json!({})),
                false => (404, json!({"error": {"reason": "absent"}})),
            };
        }
        let body: Value = if body.is_empty() { json!({}) } else { serde_json::from_slice(body).unwrap() };
        let has = |path: &str| kept.contains_key(path);
        let ilm = body.pointer("/template/settings/index.lifecycle.name");
        let ok = match path {
            _ if path.starts_with("/_component_template/") => body.pointer("/template/mappings/properties").is_some(),
            _ if path.starts_with("/_index_template/") => {
                let lifecycle = ilm.is_none_or(|name| has(&format!("/_ilm/policy/{}", name.as_str().unwrap())));
                has("/_component_template/bartizan-record") && body["data_stream"].is_object() && lifecycle
            }
            _ if path.starts_with("/_data_stream/") => {
                !there && has(&format!("/_index_template/bartizan-record-{STREAM}")) && body == json!({})
            }
            _ if path.starts_with("/_ilm/policy/") => !opensearch,
            _ if path.starts_with("/_plugins/_ism/policies/") => {
                opensearch && (!there || query == "if_seq_no=7&if_primary_term=1")
            }
            _ => false,
        };
        if !ok {
            return (400, json!({"error": {"reason": format!("wrong: {target} {body}")}}));
        }
        self.puts.lock().unwrap().push(target.to_owned());
        kept.insert(path.to_owned(), body);
        (200, json!({"acknowledged": true}))
    }

    /// What was put since the last look.
    fn puts(&self) -> Vec<String> {
        std::mem::take(&mut *self.puts.lock().unwrap())
    }
}

fn install(url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("elasticsearch: {{ url: \"{url}\", api_key: \"sink:key\" }}");
    let text = format!(
        "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\naudit: {{ spool: {{ path: spool }}, to: [stdout, {{ {sink} }}] }}\n\
         apis: {{ a: {{ upstream: http://127.0.0.1:2, routes: {{ GET /: {{ scopes: [] }} }} }} }}\n"
    );
    std::fs::write(folder.path().join("policy.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.args(["audit", "install-template", "--policy", "policy.yaml"]).args(arguments);
    let output = command.current_dir(folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const KEY: [&str; 2] = ["--api-key", "install:key"];

#[test]
fn everything_is_installed_in_its_order_and_again() {
    for (opensearch, policy) in [
        (false, "/_ilm/policy/bartizan-record".to_owned()),
        (true, format!("/_plugins/_ism/policies/bartizan-record-{STREAM}")),
    ] {
        let (cluster, server) = Cluster::start(opensearch, false);
        let (component, index) =
            ("/_component_template/bartizan-record", format!("/_index_template/bartizan-record-{STREAM}"));
        let (code, said, error) = install(&server.url(), &KEY);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{said}");
        assert_eq!(said.matches(": created\n").count(), 4, "{said}");
        assert_eq!(cluster.puts(), [policy.as_str(), component, &index, &format!("/_data_stream/{STREAM}")]);
        // A lifecycle policy that is there may have been adapted.
        let (code, said, _) = install(&server.url(), &KEY);
        assert_eq!((code, said.matches(": is there\n").count(), said.matches(": updated\n").count()), (Some(0), 2, 2));
        assert_eq!(cluster.puts(), [component, index.as_str()]);
        let (code, _, error) = install(&server.url(), &[&KEY[..], &["--delete-after", "400d"]].concat());
        assert_eq!(code, Some(0), "{error}");
        assert!(cluster.puts()[0].starts_with(&policy));
        assert!(cluster.kept.lock().unwrap()[&policy].to_string().contains("400d"));
    }
}

#[test]
fn a_cluster_without_lifecycles_has_templates_without_one() {
    for opensearch in [false, true] {
        let (cluster, server) = Cluster::start(opensearch, true);
        let (code, said, error) = install(&server.url(), &KEY);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{said}");
        assert!(said.contains(": this cluster has none\n"), "{said}");
        assert_eq!(cluster.puts().len(), 3);
    }
}

#[test]
fn what_goes_wrong_is_said() {
    let (cluster, server) = Cluster::start(false, false);
    let (code, _, said) = install(&server.url(), &[]);
    assert_eq!(code, Some(1));
    let expected = format!(
        "error: {}: the status is 403 Forbidden: no ; give --api-key with the privileges to install\n",
        server.url()
    );
    assert_eq!(said, expected);
    assert_eq!(cluster.puts(), [""; 0]);
    let other = upstream().answers(200, "{}").start();
    let (code, _, said) = install(&other.url(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("this is neither Elasticsearch nor OpenSearch"), "{said}");
    let (code, _, said) = install(&other.url(), &["--delete-after", "1h"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("it is at least 1d"), "{said}");
}

#[test]
fn requests_can_be_printed() {
    for (argument, expected) in [("--print", "PUT _ilm/policy/"), ("--print=opensearch", "PUT _plugins/_ism/policies/")]
    {
        let (code, said, _) = install("http://127.0.0.1:1", &[argument]);
        assert_eq!(code, Some(0));
        assert!(said.starts_with(expected) && !said.contains("sink:key"), "{said}");
        let bodies = said.split("PUT ").skip(1).map(|part| part.split_once('\n').unwrap().1);
        let bodies: Vec<Value> = bodies.map(|body| serde_json::from_str(body).unwrap()).collect();
        assert_eq!(bodies.len(), 4);
        assert_eq!(bodies[1]["template"]["mappings"]["properties"]["client"]["properties"]["ip"]["type"], "ip");
    }
}
