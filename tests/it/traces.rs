//! Traces: W3C Trace Context towards the upstream, and spans for an OpenTelemetry collector.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::client::operator;
use crate::support::collector::{Span, collected, spans, spans_in};
use crate::support::upstream::{Builder, Seen};
use crate::support::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

/// Takes everything.
fn collector() -> Builder {
    upstream().does(|call| call.answer(200, &[("content-type", "application/x-protobuf")], ""))
}

/// The key `telemetry`: spans go to this collector.
fn to(collector: &Upstream, settings: &str) -> String {
    format!("telemetry: {{ otlp: {{ endpoint: \"{}\", {settings} }} }}", collector.url())
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// Trace, parent and flags of the only `traceparent` that the upstream received.
fn continued(seen: &Seen) -> (String, String, String) {
    let all: Vec<_> = seen.head.headers.iter().filter(|(name, _)| name == "traceparent").collect();
    assert_eq!(all.len(), 1, "{seen:?}");
    let parts: Vec<String> = all[0].1.split('-').map(str::to_owned).collect();
    let [version, trace, parent, flags] = <[String; 4]>::try_from(parts).unwrap();
    assert_eq!((version.as_str(), trace.len(), parent.len()), ("00", 32, 16));
    (trace, parent, flags)
}

/// Waits until the page of metrics has these numbers of spans: exported, dropped.
#[track_caller]
fn counted(proxy: &Proxy, check: impl Fn(u64, u64) -> bool) -> (u64, u64) {
    let mut operator = operator(proxy);
    eventually("the metrics count the spans", || {
        let page = operator.get("/metrics").send().text();
        let number = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(&format!("bartizan_trace_spans_{name}_total ")));
            line.unwrap_or_else(|| panic!("no {name} in {page}")).parse::<u64>().unwrap()
        };
        let numbers = (number("exported"), number("dropped"));
        check(numbers.0, numbers.1).then_some(numbers)
    })
}

#[test]
fn a_request_is_a_span_and_its_call_of_the_upstream_is_another() {
    let (upstream, collector, issuer) = (upstream().start(), collector().start(), issuer());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .route("GET /orders/{id}", "scopes: [orders:read]")
        .with(&to(&collector, "traces: 100%"))
        .start();
    let token = issuer.token().text();
    client(&proxy)
        .get("/orders/7?secret=hunter2")
        .host("api.test:81")
        .bearer(&token)
        .header("cookie", "session=hunter3")
        .header("user-agent", "story/1")
        .send()
        .is(200);
    let records = proxy.done();
    let all = spans(&collector);
    let [server, client] = &all[..] else { panic!("{all:#?}") };
    assert_eq!((server.kind, server.name.as_str(), server.parent.as_str()), (SERVER, "GET /orders/{id}", ""));
    assert_eq!((server.flags, client.flags), (0x101, 0x101), "sampled, and their parents are not remote");
    assert_eq!((client.kind, client.name.as_str(), client.parent.as_str()), (CLIENT, "GET", server.id.as_str()));
    assert_eq!(client.trace, server.trace);
    assert_eq!(
        (said(&records[0], "trace.id"), said(&records[0], "span.id")),
        (&json!(server.trace), &json!(server.id))
    );
    let expected = (server.trace.clone(), client.id.clone(), "01".to_owned());
    assert_eq!(continued(&upstream.only()), expected, "the upstream's spans are children of the call");
    for (name, value) in [
        ("http.request.method", json!("GET")),
        ("http.route", json!("/orders/{id}")),
        ("http.response.status_code", json!(200)),
        ("url.path", json!("/orders/7")),
        ("url.scheme", json!("http")),
        ("server.address", json!("api.test")),
        ("client.address", json!("127.0.0.1")),
        ("network.protocol.version", json!("1.1")),
        ("user_agent.original", json!("story/1")),
        ("error.type", json!(null)),
    ] {
        assert_eq!(*server.says(name), value, "{name}: {server:#?}");
    }
    for (name, value) in [
        ("http.request.method", json!("GET")),
        ("http.response.status_code", json!(200)),
        ("server.address", json!("127.0.0.1")),
        ("server.port", json!(upstream.address.port())),
        ("url.full", json!(format!("{}/orders/7", upstream.url()))),
        ("error.type", json!(null)),
    ] {
        assert_eq!(*client.says(name), value, "{name}: {client:#?}");
    }
    assert!(server.start <= client.start && client.end <= server.end);
    assert_eq!((server.resource["service.name"].as_str(), server.status, client.status), (Some("bartizan"), 0, 0));
    let text = format!("{all:?}");
    assert!(!text.contains("hunter") && !text.contains(&token), "{text}");
    let seen = collector.only();
    assert_eq!((seen.target(), seen.header("content-encoding")), ("/v1/traces", Some("gzip")));
}

/// What callers send, whether their trace is continued, and what the upstream gets of `tracestate`.
type Case = (&'static [&'static str], &'static [&'static str], bool, &'static [&'static str]);

const CASES: [Case; 9] = [
    (&[], &[], false, &[]),
    (&[], &["a=1"], false, &[]),
    (&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"], &["a=1,b=2", "c=3"], true, &["a=1,b=2", "c=3"]),
    (&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"], &["a=1", "B=2"], true, &[]),
    (&["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more"], &["a=1"], true, &["a=1"]),
    (&["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"], &["a=1"], false, &[]),
    (&["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00"], &["a=1"], false, &[]),
    (&["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00"], &["a=1"], false, &[]),
    (
        &[
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ],
        &["a=1"],
        false,
        &[],
    ),
];

#[track_caller]
fn continues_as_it_should(seen: &[Seen], records: &[Value]) {
    assert_eq!((seen.len(), records.len()), (CASES.len(), CASES.len()));
    let mut ids = BTreeSet::new();
    for ((case, seen), record) in CASES.iter().zip(seen).zip(records) {
        let (trace, parent, flags) = continued(seen);
        assert_eq!((trace == TRACE, flags.as_str()), (case.2, "00"), "{case:?}");
        let states: Vec<_> = seen.head.headers.iter().filter(|(name, _)| name == "tracestate").collect();
        assert_eq!(states.iter().map(|(_, state)| state.as_str()).collect::<Vec<_>>(), case.3, "{case:?}");
        assert_eq!((said(record, "trace.id"), said(record, "span.id")), (&json!(trace), &json!(parent)), "{case:?}");
        assert!(parent != PARENT && ids.insert(parent), "the parent is our own span");
    }
}

#[test]
fn traces_of_callers_are_continued_or_begun_over_http_1() {
    let (upstream, collector) = (upstream().start(), collector().start());
    let proxy = proxy().before(&upstream).open("GET /x").with(&to(&collector, "traces: 0%")).start();
    let mut client = client(&proxy);
    for (traceparents, tracestates, ..) in CASES {
        let mut request = client.get("/x");
        for value in traceparents {
            request = request.header("traceparent", value);
        }
        for value in tracestates {
            request = request.header("tracestate", value);
        }
        request.send().is(200);
    }
    let records = proxy.done();
    continues_as_it_should(&upstream.seen(), &records);
    collector.saw_nothing();
}

#[test]
fn traces_of_callers_are_continued_or_begun_over_http_2() {
    let (upstream, collector) = (upstream().start(), collector().start());
    let proxy = proxy().before(&upstream).open("GET /x").with(&to(&collector, "traces: 0%")).start();
    proxy.owes(CASES.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        for (traceparents, tracestates, ..) in CASES {
            let mut request = http::Request::get("http://a.example/x");
            for value in traceparents {
                request = request.header("traceparent", *value);
            }
            for value in tracestates {
                request = request.header("tracestate", *value);
            }
            let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap();
        }
    });
    let records = proxy.done();
    continues_as_it_should(&upstream.seen(), &records);
    collector.saw_nothing();
}

#[test]
fn refused_requests_are_spans_without_a_call_and_failed_calls_are_errors() {
    let (upstream, collector) = (upstream().answers(503, "broken").start(), collector().start());
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = proxy_with_two_apis(&upstream, &gone.to_string(), &to(&collector, "traces: 100%")).start();
    let mut caller = client(&proxy);
    caller.get("/locked").send().refused(401, "missing_credentials");
    caller.get("/nowhere").send().refused(404, "no_route");
    caller.get("/x").send().is(503);
    caller.get("/x").host("gone.test").send().refused(502, "upstream_unreachable");
    caller.raw("broken\r\n\r\n", 1).answer().refused(400, "malformed_request");
    proxy.done();
    let all = spans(&collector);
    let said: Vec<_> = all
        .iter()
        .map(|span| {
            let status = span.says("http.response.status_code").as_u64();
            (span.kind, span.name.as_str(), status, span.says("error.type").as_str(), span.status)
        })
        .collect();
    assert_eq!(
        said,
        [
            (SERVER, "GET /locked", Some(401), Some("missing_credentials"), 0),
            (SERVER, "GET", Some(404), Some("no_route"), 0),
            (SERVER, "GET /x", Some(503), Some("503"), ERROR),
            (CLIENT, "GET", Some(503), Some("503"), ERROR),
            (SERVER, "GET /x", Some(502), Some("upstream_unreachable"), ERROR),
            (CLIENT, "GET", None, Some("upstream_unreachable"), ERROR),
            (SERVER, "HTTP", Some(400), Some("malformed_request"), 0),
        ],
        "{all:#?}"
    );
}

/// `GET /x` and a route that needs a token at one upstream, and `GET /x` of another host at an address where nobody listens.
fn proxy_with_two_apis(upstream: &Upstream, gone: &str, telemetry: &str) -> Policy {
    proxy().text(&format!(
        "version: 1\nworkers: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\n\
         admin: {{ address: \"127.0.0.1:0\" }}\n{telemetry}\napis:\n\
         \x20 here: {{ upstream: \"{}\", routes: {{ GET /x: {{ public: true }}, GET /locked: {{ scopes: [] }} }} }}\n\
         \x20 gone: {{ hosts: [gone.test], upstream: \"http://{gone}\", routes: {{ GET /x: {{ public: true }} }} }}\n\
         audit: [{{ file: {{ path: audit.jsonl }} }}]\n",
        upstream.url()
    ))
}

#[test]
fn sampled_traces_of_strangers_are_followed_up_to_a_limit_and_those_of_trusted_proxies_always() {
    for (trusted, followed) in [(false, 1), (true, 5)] {
        let (upstream, collector) = (upstream().start(), collector().start());
        let mut policy =
            proxy().before(&upstream).open("GET /x").with(&to(&collector, "traces: 0%, sampled_parents: 1/h"));
        if trusted {
            policy = policy.with("trusted_proxies: [127.0.0.1/32]");
        }
        let proxy = policy.start();
        let mut client = client(&proxy);
        for _ in 0..5 {
            client.get("/x").header("traceparent", &traceparent("01")).send().is(200);
        }
        proxy.done();
        let flags: Vec<_> = upstream.seen().iter().map(|seen| continued(seen).2).collect();
        let expected = ["01"; 5].iter().take(followed).chain(["00"; 5].iter().skip(followed)).copied();
        assert_eq!(flags, expected.collect::<Vec<_>>(), "the upstream is told who was sampled");
        let spans = spans(&collector);
        assert_eq!(spans.len(), 2 * followed);
        let servers = spans.iter().filter(|span| span.kind == SERVER);
        servers.for_each(|span| assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PARENT)));
    }
}

#[test]
fn a_traceparent_that_the_policy_drops_is_not_continued() {
    let (upstream, collector) = (upstream().start(), collector().start());
    let proxy = proxy()
        .before(&upstream)
        .open("GET /x")
        .with("headers: { drop: [traceparent] }")
        .with(&to(&collector, "traces: 0%"))
        .start();
    client(&proxy).get("/x").header("traceparent", &traceparent("01")).header("tracestate", "a=1").send().is(200);
    let records = proxy.done();
    let seen = upstream.only();
    let (trace, span, flags) = continued(&seen);
    assert_ne!(trace, TRACE);
    assert_eq!((flags.as_str(), seen.header("tracestate")), ("00", None));
    assert_eq!((said(&records[0], "trace.id"), said(&records[0], "span.id")), (&json!(trace), &json!(span)));
}

#[test]
fn a_share_of_all_requests_is_sampled_by_trace_id() {
    let (upstream, collector) = (upstream().answers(200, "ok").start(), collector().start());
    let proxy = proxy().before(&upstream).open("GET /x").with(&to(&collector, "traces: 50%")).start();
    let mut client = client(&proxy);
    for _ in 0..200 {
        client.get("/x").send().is(200);
    }
    let records = proxy.done();
    let low = |trace: &str| u64::from_str_radix(&trace[16..], 16).unwrap() < 1 << 63;
    let expected: BTreeSet<_> = records.iter().map(|record| said(record, "trace.id").as_str().unwrap()).collect();
    let expected: BTreeSet<_> = expected.into_iter().filter(|trace| low(trace)).map(str::to_owned).collect();
    let sampled: BTreeSet<String> = spans(&collector).into_iter().map(|span| span.trace).collect();
    assert_eq!(sampled, expected);
    // Seven standard deviations.
    assert!((50..150).contains(&sampled.len()), "{}", sampled.len());
}

#[test]
fn a_collector_that_does_not_answer_slows_no_request_and_what_finds_no_place_is_dropped() {
    let upstream = upstream().answers(200, "ok").start();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let collector = collector_that(move |_| _ = wait.lock().unwrap().recv());
    let proxy = proxy().before(&upstream).open("GET /x").with(&to(&collector, "traces: 100%, timeout: 5m")).start();
    let mut client = client(&proxy);
    // The queue, the batch that is being sent, and more.
    let (requests, waiting) = (5000, 4096 + 256);
    let pipelined = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20);
    for _ in 0..requests / 20 {
        client.raw(&pipelined, 20);
        for _ in 0..20 {
            client.answer().is(200);
        }
    }
    let (exported, dropped) = counted(&proxy, |_, dropped| dropped > 0);
    assert_eq!(exported, 0);
    assert!(dropped >= 2 * (requests as u64 - waiting) && dropped < 2 * requests as u64, "{dropped}");
    // It answers again: all others arrive.
    drop(go);
    counted(&proxy, |exported, dropped| exported + dropped == 2 * requests as u64);
    proxy.done();
    let all: Vec<Span> = spans(&collector);
    assert_eq!(all.len() as u64, 2 * requests as u64 - dropped);
    assert_eq!(all.iter().map(|span| &span.id).collect::<BTreeSet<_>>().len(), all.len(), "none came twice");
}

/// A collector that does something with each request, by its number, before it takes it.
fn collector_that(first: impl Fn(usize) + Send + Sync + 'static) -> Upstream {
    let number = AtomicUsize::new(0);
    upstream()
        .does(move |call| {
            call.body()?;
            first(number.fetch_add(1, Ordering::SeqCst));
            call.answer(200, &[("content-type", "application/x-protobuf")], "")
        })
        .start()
}

#[test]
fn spans_that_a_collector_puts_off_arrive_and_those_that_it_rejects_are_counted() {
    let upstream = upstream().start();
    let number = AtomicUsize::new(0);
    let collector = self::upstream()
        .does(move |call| match number.fetch_add(1, Ordering::SeqCst) {
            0 => call.answer(429, &[("retry-after", "0")], "slow down"),
            1 => call.answer(503, &[], ""),
            // ExportTraceServiceResponse { partial_success: { rejected_spans: 1, error_message: "no" } }
            2 => call.answer(200, &[("content-type", "application/x-protobuf")], b"\x0a\x06\x08\x01\x12\x02no"),
            _ => call.answer(400, &[], "bad"),
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").with(&to(&collector, "traces: 100%, gzip: false")).start();
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    assert_eq!(counted(&proxy, |exported, _| exported > 0), (1, 1));
    let bodies: Vec<_> = collector.seen().into_iter().map(|seen| (seen.body, seen.head.headers.len())).collect();
    assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == bodies[0]), "the same, three times");
    proxy.stderr.wait("slow down", 1);
    client.get("/x").send().is(200);
    assert_eq!(counted(&proxy, |_, dropped| dropped > 1), (1, 3));
    assert_eq!(collector.seen().len(), 4, "what is wrong is not sent again");
    proxy.done();
}

#[test]
fn a_collector_that_is_away_keeps_nobody_from_stopping() {
    let upstream = upstream().start();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let telemetry = format!("telemetry: {{ otlp: {{ endpoint: \"http://{gone}\", traces: 100% }} }}");
    let proxy = proxy().before(&upstream).open("GET /x").with(&telemetry).start();
    client(&proxy).get("/x").send().is(200);
    proxy.stderr.wait("spans cannot be exported", 1);
    proxy.done();
}

#[test]
fn a_reload_sends_spans_elsewhere_or_nowhere() {
    let (upstream, one, two) = (upstream().start(), collector().start(), collector().start());
    let base = proxy().before(&upstream).open("GET /x");
    let (first, second) = (base.clone().with(&to(&one, "traces: 100%")), base.clone().with(&to(&two, "traces: 100%")));
    let mut proxy = first.start();
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    assert_eq!(proxy.reload_to(|_| second), proxy::Reloaded::Loaded);
    client.get("/x").send().is(200);
    assert_eq!(collected(&one, 2).len(), 2, "what the former tracer had is sent");
    assert_eq!(collected(&two, 2).len(), 2);
    assert_eq!(proxy.reload_to(|_| base.open("GET /y")), proxy::Reloaded::Loaded);
    client.get("/x").header("traceparent", &traceparent("01")).send().is(200);
    proxy.done();
    assert_eq!((spans(&one).len(), spans(&two).len()), (2, 2));
    let seen = upstream.seen();
    assert_eq!(seen[2].header("traceparent"), Some(traceparent("01").as_str()), "off: as the caller sent it");
}

#[test]
fn requests_to_a_collector_carry_the_headers_of_the_policy() {
    let (upstream, collector) = (upstream().start(), collector().start());
    let settings = "traces: 100%, headers: { authorization: \"${env:OTLP}\", x-tenant: t1 }";
    let proxy = proxy().before(&upstream).open("GET /x").with(&to(&collector, settings)).env("OTLP", "Bearer s3cret");
    let proxy = proxy.start();
    client(&proxy).get("/x").send().is(200);
    collected(&collector, 2);
    assert_eq!(proxy.stderr.count("s3cret"), 0);
    proxy.done();
    let seen = collector.only();
    assert_eq!((seen.header("authorization"), seen.header("x-tenant")), (Some("Bearer s3cret"), Some("t1")));
}

#[test]
fn a_collector_over_tls_is_believed_only_with_a_certificate_of_its_authority() {
    for trusted in [true, false] {
        let (ours, theirs, upstream) = (authority(), authority(), upstream().start());
        let collector = collector().tls(&ours.certifies(&["127.0.0.1"])).start();
        let ca = if trusted { &ours } else { &theirs };
        let proxy = proxy().before(&upstream).open("GET /x").with(&to(&collector, "traces: 100%, ca: ca.pem"));
        let proxy = proxy.file("ca.pem", ca.pem()).start();
        client(&proxy).get("/x").send().is(200);
        if trusted {
            collected(&collector, 2);
        } else {
            proxy.stderr.wait("spans cannot be exported", 1);
        }
        proxy.done();
        assert_eq!(spans(&collector).len(), if trusted { 2 } else { 0 });
    }
}

#[test]
fn what_is_wrong_in_the_policy_is_reported() {
    let otlp = |settings: &str| format!("{{ otlp: {{ endpoint: \"http://127.0.0.1:4318\", {settings} }} }}");
    for (telemetry, expected) in [
        ("{}".to_owned(), None),
        (otlp("traces: 0.01%"), None),
        (otlp("sampled_parents: 5/min, timeout: 1s, gzip: false"), None),
        ("{ otlp: {} }".to_owned(), Some("`endpoint` is missing")),
        ("{ otlp: { endpoint: \"http://127.0.0.1/v1/traces\" } }".to_owned(), Some("the endpoint is a base URL")),
        ("{ otlp: { endpoint: \"http://127.0.0.1?x=1\" } }".to_owned(), Some("the URL has a query")),
        ("{ otlp: { endpoint: \"http://otel.example.com:4318\" } }".to_owned(), Some("in clear text")),
        (otlp("traces: 2"), Some("`2` has no percent sign")),
        (otlp("traces: 101%"), Some("`101%` is more than all")),
        (otlp("sampled_parents: 5"), Some("`5` has no unit of time")),
        (otlp("ca: missing.pem"), Some("`ca` has no effect because of this URL, which is plain http")),
        (otlp("headers: { content-type: x }"), Some("this header is not for the policy to set")),
        (otlp("timeout: 10m"), Some("a request that takes longer than 5m has failed")),
        ("{ metrics: {} }".to_owned(), Some("`metrics`")),
    ] {
        let api = "apis: { a: { upstream: http://127.0.0.1:2, routes: { GET /: { scopes: [] } } } }";
        let policy = format!("version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\n{api}\ntelemetry: {telemetry}\n");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(policy.as_bytes()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(file.path()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        match expected {
            None => assert_eq!((text.as_str(), output.status.code()), ("", Some(0)), "{telemetry}"),
            Some(expected) => assert!(text.contains(expected), "{telemetry}: {text}"),
        }
    }
}

/// A program of somebody else takes part in it: rotel, which sends on what it understood of the spans.
#[test]
fn a_real_collector_understands_the_spans() {
    let Some(engine) = std::env::var_os("ROTEL").map(std::path::PathBuf::from) else {
        return skipped("ROTEL names no folder with rotel/rotel-agent; `.ci/run` installs it");
    };
    let (upstream, behind) = (upstream().start(), collector().start());
    let folder = tempfile::tempdir().unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (http, grpc) = (free(), free());
    let log = std::fs::File::create(folder.path().join("rotel.log")).unwrap();
    let mut command = Command::new(engine.join("rotel/rotel-agent"));
    command.arg("start").args(["--otlp-http-endpoint", &http.to_string(), "--otlp-grpc-endpoint", &grpc.to_string()]);
    command.arg("--pid-file").arg(folder.path().join("pid"));
    command.args(["--exporter", "otlp", "--otlp-exporter-endpoint", &behind.url(), "--otlp-exporter-protocol", "http"]);
    let mut rotel = Ended(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    eventually("rotel listens", || std::net::TcpStream::connect(http).ok());
    let telemetry = format!("telemetry: {{ otlp: {{ endpoint: \"http://{http}\", traces: 100% }} }}");
    let proxy = proxy().before(&upstream).open("GET /x").with(&telemetry).start();
    let mut client = client(&proxy);
    client.get("/x").header("traceparent", &traceparent("01")).send().is(200);
    client.get("/y").send().is(404);
    assert_eq!(counted(&proxy, |exported, _| exported > 2), (3, 0));
    let records = proxy.done();
    let mut sent_on: Vec<Span> = eventually("rotel has sent them on", || {
        let seen = behind.seen();
        let spans: Vec<Span> = seen.iter().filter(|seen| !seen.body.is_empty()).flat_map(spans_in).collect();
        (spans.len() == 3).then_some(spans)
    });
    sent_on.sort_by_key(|span| span.start);
    let [first, call, second] = &sent_on[..] else { panic!("{sent_on:#?}") };
    assert_eq!((first.trace.as_str(), first.parent.as_str(), &call.parent), (TRACE, PARENT, &first.id));
    assert_eq!((first.kind, call.kind, second.kind), (SERVER, CLIENT, SERVER));
    assert_eq!((second.says("error.type"), second.parent.as_str()), (&json!("no_route"), ""));
    for (span, record) in [first, second].into_iter().zip(&records) {
        assert_eq!((said(record, "trace.id"), said(record, "span.id")), (&json!(span.trace), &json!(span.id)));
    }
    assert!(rotel.0.try_wait().unwrap().is_none(), "it still runs");
}

/// A program that ends with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
