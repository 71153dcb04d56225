//! Records over the network: whole, in order and once, whatever the peer does meanwhile.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::read::GzDecoder;

use crate::support::client::operator;
use crate::support::forward_proxy::forward_proxy;
use crate::support::proxy::Reloaded;
use crate::support::*;

/// What a request of a sink has in its body.
fn body(call: &mut upstream::Call<'_>) -> std::io::Result<Vec<u8>> {
    let body = call.body()?;
    match call.head.header("content-encoding") {
        Some("gzip") => {
            let mut text = Vec::new();
            GzDecoder::new(&*body).read_to_end(&mut text)?;
            Ok(text)
        }
        _ => Ok(body),
    }
}

/// A data stream: documents by their ids, and how often each was created.
#[derive(Clone, Default)]
struct Index {
    documents: Arc<Mutex<BTreeMap<String, Value>>>,
    requests: Arc<Mutex<usize>>,
}

impl Index {
    /// Answers a `_bulk` request. The first two fail as a whole, and the third for its second half.
    fn answer(&self, target: &str, body: &[u8]) -> (u16, Value) {
        let number = {
            let mut requests = self.requests.lock().unwrap();
            *requests += 1;
            *requests
        };
        if number <= 2 {
            return (503, json!({"error": "starting"}));
        }
        assert!(target.starts_with("/logs-bartizan-default/_bulk?filter_path="), "{target}");
        let lines: Vec<Value> = serde_json::Deserializer::from_slice(body).into_iter().map(Result::unwrap).collect();
        let half = lines.len() / 4;
        let create = |(position, pair): (usize, &[Value])| {
            let id = pair[0]["create"]["_id"].as_str().expect("each record has an id").to_owned();
            assert_eq!(pair[1]["event"]["id"], id.as_str());
            if number == 3 && position >= half {
                return json!({"create": {"status": 429, "error": {"type": "busy", "reason": "busy"}}});
            }
            let known = self.documents.lock().unwrap().insert(id, pair[1].clone()).is_some();
            json!({"create": {"status": if known { 409 } else { 201 }}})
        };
        let items: Vec<Value> = lines.chunks(2).enumerate().map(create).collect();
        (200, json!({"items": items}))
    }

    fn server(&self) -> upstream::Builder {
        let index = self.clone();
        upstream().does(move |call| {
            let body = body(call)?;
            let target = call.head.start.split(' ').nth(1).unwrap().to_owned();
            let (status, answer) = index.answer(&target, &body);
            call.answer(status, &[("content-type", "application/json")], answer.to_string())
        })
    }

    /// Records of requests that have arrived.
    fn requests(&self) -> usize {
        self.records().iter().filter(|record| record["event"]["action"] == "request").count()
    }

    /// All records, by their streams and numbers.
    fn records(&self) -> Vec<Value> {
        let mut records: Vec<Value> = self.documents.lock().unwrap().values().cloned().collect();
        records.sort_by_key(|record| {
            (record["bartizan"]["stream"].to_string(), record["event"]["sequence"].as_u64().unwrap())
        });
        records
    }
}

/// A policy with a file, and these sinks behind a spool.
fn spooled(upstream: &Upstream, sinks: &str) -> Policy {
    let audit = format!("{{ spool: {{ path: spool, fsync: 0s }}, to: [file: {{ path: audit.jsonl }}, {sinks}] }}");
    proxy().before(upstream).open("GET /x").audit(&audit)
}

#[test]
fn an_index_has_every_record_once_though_it_failed_and_the_proxy_was_killed() {
    let (upstream, index) = (upstream().start(), Index::default());
    let server = index.server().start();
    let proxy = spooled(&upstream, &format!("elasticsearch: {{ url: \"{}\" }}", server.url())).start();
    for _ in 0..20 {
        client(&proxy).get("/x").send().is(200);
    }
    eventually("all records are there", || (index.requests() == 20).then_some(()));
    let metrics = operator(&proxy).get("/metrics").send().text();
    let sink = format!("elasticsearch {}/logs-bartizan-default", server.url());
    let failures = metrics.lines().find(|line| line.contains("audit_sink_failures") && line.contains(&sink)).unwrap();
    assert!(!failures.ends_with(" 0"), "{failures}");
    let proxy = proxy.again("KILL");
    client(&proxy).get("/x").send().is(200);
    eventually("the records of the next run are there", || (index.requests() == 21).then_some(()));
    // The chain of each run is whole.
    let records = index.records();
    for pair in records.windows(2) {
        let sequence = |record: &Value| record["event"]["sequence"].as_u64().unwrap();
        match pair[0]["bartizan"]["stream"] == pair[1]["bartizan"]["stream"] {
            true => {
                assert_eq!(sequence(&pair[1]), sequence(&pair[0]) + 1);
                assert_eq!(pair[1]["bartizan"]["previous"], pair[0]["event"]["hash"]);
            }
            false => assert_eq!(sequence(&pair[1]), 1),
        }
    }
}

#[test]
fn a_sink_is_reached_by_tls_through_a_proxy_that_a_reload_can_change() {
    let (upstream, index, authority) = (upstream().start(), Index::default(), authority());
    let server = index.server().tls(&authority.certifies(&["es.example.test"])).start();
    let url = format!("https://es.example.test:{}", server.url().rsplit(':').next().unwrap());
    let (first, second) = (forward_proxy("200 OK"), forward_proxy("200 OK"));
    let egress = |address| format!("egress: {{ proxy: \"http://{address}\" }}");
    let sink = format!("elasticsearch: {{ url: \"{url}\", ca: ca.pem, api_key: \"id:key\" }}");
    let policy = spooled(&upstream, &sink).file("ca.pem", authority.pem()).with(&egress(first.address()));
    let mut proxy = policy.start();
    client(&proxy).get("/x").send().is(200);
    eventually("the record is there", || (index.requests() == 1).then_some(()));
    assert!(!first.heads().is_empty() && second.heads().is_empty());
    let text = proxy.policy.yaml().replace(&first.address().to_string(), &second.address().to_string());
    assert_eq!(proxy.reload_to(|policy| policy.text(&text)), Reloaded::Loaded);
    client(&proxy).get("/x").send().is(200);
    eventually("the next record is there", || (index.requests() == 2).then_some(()));
    assert!(!second.heads().is_empty());
    assert!(server.seen().iter().all(|seen| seen.header("authorization") == Some("ApiKey aWQ6a2V5")));
    proxy.done();
}

/// Lines of a syslog receiver without TLS.
fn receiver() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let text = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&text);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, seen) = (stream.unwrap(), Arc::clone(&seen));
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            });
        }
    });
    (address, text)
}

#[test]
fn several_sinks_have_every_record_each_in_its_way() {
    let upstream = upstream().start();
    let collector = crate::support::upstream().does(|call| {
        let body = body(call)?;
        assert!(!body.is_empty());
        call.answer(200, &[("content-type", "application/x-protobuf")], "")
    });
    let (collector, splunk, loki) = (collector.start(), answering().start(), answering().start());
    let (syslog, messages) = receiver();
    let sinks = format!(
        "otlp: {{ endpoint: \"{}\", gzip: false }}, syslog: {{ address: \"{syslog}\" }}, \
         http: {{ url: \"{}/hec\", format: splunk, gzip: false, headers: {{ authorization: Splunk x }} }}, \
         http: {{ url: \"{}/loki\", format: loki, gzip: false }}",
        collector.url(),
        splunk.url(),
        loki.url()
    );
    let proxy = spooled(&upstream, &sinks).start();
    let ids: Vec<String> = (0..5).map(|_| client(&proxy).get("/x").send().is(200).id()).collect();
    let bodies = |server: &Upstream| -> String {
        server.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect()
    };
    for id in &ids {
        for (name, text) in [
            ("otlp", Box::new(|| bodies(&collector)) as Box<dyn Fn() -> String>),
            ("splunk", Box::new(|| bodies(&splunk))),
            ("loki", Box::new(|| bodies(&loki))),
            ("syslog", Box::new(|| messages.lock().unwrap().clone())),
        ] {
            eventually(&format!("{name} has {id}"), || text().contains(id).then_some(()));
        }
    }
    assert_eq!(splunk.seen()[0].header("authorization"), Some("Splunk x"));
    proxy.done();
}

fn answering() -> upstream::Builder {
    upstream().answers(200, "{}")
}

#[test]
fn what_is_refused_for_good_is_kept_beside_the_spool() {
    let upstream = upstream().start();
    let server = crate::support::upstream().does(|call| {
        let item = |pair: &[Value]| match pair[1]["url"]["path"] == "/x/spoilt" {
            true => json!({"create": {"status": 400, "error": {"type": "document_parsing_exception", "reason": "r"}}}),
            false => json!({"create": {"status": 201}}),
        };
        let lines: Vec<Value> =
            serde_json::Deserializer::from_slice(&body(call)?).into_iter().map(Result::unwrap).collect();
        let items: Vec<Value> = lines.chunks(2).map(item).collect();
        call.answer(200, &[("content-type", "application/json")], json!({"items": items}).to_string())
    });
    let server = server.start();
    let proxy = spooled(&upstream, &format!("elasticsearch: {{ url: \"{}\" }}", server.url()));
    let proxy = proxy.open("GET /x/{name}").start();
    let id = client(&proxy).get("/x/spoilt").send().is(200).id();
    // A record is refused for good only when another one is taken.
    client(&proxy).get("/x").send().is(200);
    let kept = eventually("the record is kept", || {
        let text = std::fs::read_to_string(proxy.file("spool/rejected-elasticsearch.jsonl")).ok()?;
        text.contains(&id).then_some(text)
    });
    let lines: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let why = "400: document_parsing_exception: r";
    assert!(lines.iter().all(|line| line["error"] == why && line["record"]["event"]["id"].is_string()));
    let rejected = eventually("the metric counts it", || {
        let metrics = operator(&proxy).get("/metrics").send().text();
        let line = metrics.lines().find(|line| line.contains("audit_sink_rejected") && line.contains("elasticsearch"));
        line.filter(|line| !line.ends_with(" 0")).map(str::to_owned)
    });
    assert!(rejected.starts_with("bartizan_audit_sink_rejected"), "{rejected}");
    proxy.done();
}

#[test]
fn a_record_that_is_refused_waits_for_one_that_is_taken_and_holds_up_nobody() {
    let upstream = upstream().start();
    let server = crate::support::upstream().does(|call| {
        let spoilt = String::from_utf8_lossy(&body(call)?).contains("/x/spoilt");
        call.answer(if spoilt { 400 } else { 200 }, &[], "no")
    });
    let server = server.start();
    let seen = |id: &str| {
        let has = |text: &[u8]| String::from_utf8_lossy(text).contains(id);
        server.seen().iter().any(|seen| has(&seen.body)).then_some(())
    };
    let sink = format!("http: {{ url: \"{}\", gzip: false }}", server.url());
    let proxy = spooled(&upstream, &sink).open("GET /x/{name}").start();
    let spoilt = client(&proxy).get("/x/spoilt").send().is(200).id();
    eventually("the sink has refused it", || seen(&spoilt));
    let good = client(&proxy).get("/x/good").send().is(200).id();
    let kept = || std::fs::read_to_string(proxy.file("spool/rejected-http.jsonl")).unwrap_or_default();
    eventually("it is kept", || kept().contains(&spoilt).then_some(()));
    eventually("the other one is there", || seen(&good));
    assert!(!kept().contains(&good));
    proxy.done();
}

/// What an index answers.
fn asked(address: &str, path: &str) -> Value {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(format!("GET /logs-bartizan-default/{path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap_or_default()
}

/// The policy of `examples/elk`, with a real index.
#[test]
fn the_example_fills_a_real_index() {
    let Some(engine) = std::env::var_os("OSMEM") else { return skipped("OSMEM is not set; `.ci/run` installs it") };
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = std::process::Command::new(std::path::Path::new(&engine).join("osmem_server/bin/osmem-server"));
    let quiet = std::process::Stdio::null;
    let mut osmem =
        command.args(["-addr", &address, "-no-stdin-watch"]).stdout(quiet()).stderr(quiet()).spawn().unwrap();
    eventually("osmem listens", || std::net::TcpStream::connect(&address).ok());
    let upstream = upstream().start();
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/elk/policy.yaml");
    let text = std::fs::read_to_string(example).unwrap();
    let text = text.replace("127.0.0.1:9200", &address).replace("http://127.0.0.1:9000", &upstream.url());
    let text = text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9901", "127.0.0.1:0");
    let text = text.replace("  to:\n", "  to:\n    - file: { path: audit.jsonl }\n");
    let proxy = proxy().text(&text).start();
    for _ in 0..10 {
        client(&proxy).get("/").send().is(200);
        client(&proxy).get("/private/x").send().is(401);
    }
    eventually("the index has them", || {
        asked(&address, "_refresh");
        (asked(&address, "_count?q=event.action:request")["count"] == 20).then_some(())
    });
    assert_eq!(asked(&address, "_count?q=event.reason:missing_credentials")["count"], 10);
    proxy.done();
    osmem.kill().unwrap();
    osmem.wait().unwrap();
}
