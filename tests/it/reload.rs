//! Reloads: whole or not at all, under load, nothing dropped, nothing refilled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::client::operator;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::*;

#[test]
fn thirty_reloads_under_load_fail_no_request() {
    let upstream = upstream().answers(200, "hi").start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let (done, address) = (AtomicBool::new(false), proxy.address());
    let requests = std::sync::Arc::clone(&proxy.requests);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = client::Client::new(address, std::sync::Arc::clone(&requests));
                while !done.load(Ordering::SeqCst) {
                    client.get("/x").send().is(200);
                }
            });
        }
        for round in 0..30 {
            let outcome = match round % 3 {
                0 => proxy.reload_to(|policy| policy.open(&format!("GET /new/{round}"))),
                1 => {
                    std::fs::write(proxy.file("policy.yaml"), "version: 1\nlisten: oops\n").unwrap();
                    proxy.reload()
                }
                // The same, with another route: the round before left a broken file.
                _ => proxy.reload_to(|policy| policy.route(&format!("GET /more/{round}"), "scopes: [s]")),
            };
            let expected = if round % 3 == 1 { proxy::Reloaded::Failed } else { proxy::Reloaded::Loaded };
            assert_eq!(outcome, expected, "round {round}");
        }
        done.store(true, Ordering::SeqCst);
    });
    proxy.done();
}

#[test]
fn a_broken_policy_changes_nothing_and_every_problem_is_reported() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    std::fs::write(proxy.file("policy.yaml"), "version: 1\nlisten: [{ adress: \"127.0.0.1:0\" }]\n").unwrap();
    let reported = operator(&proxy).post("/v1/policy/reload", "").bearer(proxy::ADMIN_TOKEN).send();
    assert_eq!(reported.status, 422, "{}", reported.text());
    let errors = reported.json()["errors"].to_string();
    assert!(errors.contains("policy.yaml:2:12") && errors.contains("adress"), "{errors}");
    client(&proxy).get("/x").send().is(200);
    proxy.done();
}

#[test]
fn a_reload_refills_nobody() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).route("GET /x", "public: true, rate: 1/h").start();
    client(&proxy).get("/x").send().is(200);
    client(&proxy).get("/x").send().refused(429, "rate_limited");
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), proxy::Reloaded::Loaded);
    client(&proxy).get("/x").send().refused(429, "rate_limited");
    client(&proxy).get("/y").send().is(200);
    proxy.done();
}

#[test]
fn a_connection_outlives_reloads_and_the_next_request_has_the_new_policy() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.get("/y").send().refused(404, "no_route");
    assert_eq!(proxy.reload(), proxy::Reloaded::Unchanged);
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), proxy::Reloaded::Loaded);
    client.get("/y").send().is(200);
    proxy.done();
}

#[test]
fn listeners_come_and_go_and_the_one_that_stays_keeps_its_connections() {
    // Nobody else binds on this address, so a port that was free a moment ago still is.
    let later = std::net::TcpListener::bind("127.0.0.77:0").unwrap().local_addr().unwrap();
    let upstream = upstream().start();
    let stays = r#"{ address: "127.0.0.1:0" }"#;
    let mut proxy = proxy().before(&upstream).open("GET /x").listen(stays).start();
    let mut kept = client(&proxy);
    kept.get("/x").send().is(200);
    let to_new = || client::Client::new(later, std::sync::Arc::clone(&proxy.requests));
    let mut new = to_new();
    assert!(std::net::TcpStream::connect(later).is_err());

    let more = proxy.policy.clone();
    let both = more.clone().listen(&format!("{{ address: \"{later}\" }}"));
    assert_eq!(proxy.reload_to(|_| both), proxy::Reloaded::Loaded);
    new.get("/x").send().is(200);
    kept.get("/x").send().is(200);

    assert_eq!(proxy.reload_to(|_| more), proxy::Reloaded::Loaded);
    eventually("the listener is gone", || std::net::TcpStream::connect(later).is_err().then_some(()));
    kept.get("/x").send().is(200);
    proxy.done();
}

/// U6: nothing in the new policy says how to serve them.
#[test]
fn connections_of_a_removed_listener_finish_their_requests_and_close() {
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let upstream = upstream()
        .does(move |call| {
            if call.head.word(1) == "/slow" {
                may_go.lock().unwrap().recv().unwrap();
            }
            call.answer(200, &[], "")
        })
        .start();
    let stays = proxy().before(&upstream).open("GET /x").open("GET /slow").listen(r#"{ address: "127.0.0.1:0" }"#);
    let mut proxy = stays.clone().listen(r#"{ address: "127.0.0.2:0" }"#).start();
    let removed = || client::Client::new(proxy.addresses()[1], std::sync::Arc::clone(&proxy.requests));
    let (mut kept, mut silent, mut busy) = (removed(), removed(), removed());
    kept.get("/x").send().is(200);
    silent.connection();
    busy.raw("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    eventually("the upstream is asked", || (upstream.seen().len() == 2).then_some(()));

    assert_eq!(proxy.reload_to(|_| stays), proxy::Reloaded::Loaded);
    kept.closes();
    silent.closes();
    go.send(()).unwrap();
    assert_eq!(busy.answer().is(200).header("connection"), Some("close"));
    client(&proxy).get("/x").send().is(200);
    proxy.done();
}

#[test]
fn a_listener_that_cannot_be_had_changes_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").listen(r#"{ address: "127.0.0.1:0" }"#).start();
    let address = taken.local_addr().unwrap();
    let reloaded = proxy.reload_to(|policy| policy.open("GET /y").listen(&format!("{{ address: \"{address}\" }}")));
    assert_eq!(reloaded, proxy::Reloaded::Failed);
    client(&proxy).get("/x").send().is(200);
    client(&proxy).get("/y").send().refused(404, "no_route");
    proxy.done();
}

#[test]
fn what_a_policy_refers_to_is_read_again_too() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).file("s.json", r#"{ "type": "object" }"#);
    let mut proxy = policy.route("POST /x", "public: true, request: { json: s.json }").start();
    client(&proxy).post("/x", "[]").send().is(422);
    assert_eq!(proxy.reload_to(|policy| policy.file("s.json", r#"{ "type": "array" }"#)), proxy::Reloaded::Loaded);
    client(&proxy).post("/x", "[]").send().is(200);
    assert_eq!(proxy.reload_to(|policy| policy.file("s.json", r#"{ "type": "arr" }"#)), proxy::Reloaded::Failed);
    client(&proxy).post("/x", "[]").send().is(200);
    proxy.done();
}

/// The page of metrics, without those of reloads and what the system says about the process.
fn numbers(proxy: &Proxy) -> String {
    let page = operator(proxy).get("/metrics").send().text();
    let changes = ["bartizan_policy_reloads", "bartizan_policy_last_reload", "process_"];
    let lines = page.lines().filter(|line| !changes.iter().any(|name| line.contains(name)));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_reload_that_is_rejected_leaves_no_trace_in_the_metrics() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).route("GET /x", "public: true, rate: 5/h").start();
    client(&proxy).get("/x").send().is(200);
    // Its connection has ended, and its record is written.
    let settled = ["2xx", "bartizan_connections 0", "bartizan_audit_records_total 1"];
    let before = eventually("the request is counted", || {
        Some(numbers(&proxy)).filter(|page| settled.iter().all(|text| page.contains(text)))
    });
    // The reload itself is recorded.
    let traces = |page: &str| {
        let lines = page.lines().filter(|line| !line.starts_with("bartizan_audit_"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = traces(&before);

    let address = taken.local_addr().unwrap();
    let unbound = format!("{{ address: \"{address}\" }}");
    let changed = |policy: proxy::Policy| policy.open("GET /y").plan("p: { rate: 1/s, classes: { c: 1/h } }");
    assert_eq!(proxy.reload_to(|policy| changed(policy).listen(&unbound)), proxy::Reloaded::Failed);
    assert_eq!(before, traces(&numbers(&proxy)));
    std::fs::write(proxy.file("policy.yaml"), "version: 1\nlisten: oops\n").unwrap();
    assert_eq!(proxy.reload(), proxy::Reloaded::Failed);
    assert_eq!(before, traces(&numbers(&proxy)));
    proxy.done();
}

#[test]
fn metrics_tell_that_the_last_reload_failed_until_one_succeeds() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let tells = |proxy: &Proxy, failed: u32, successful: u32| {
        let page = operator(proxy).get("/metrics").send().text();
        for line in [
            format!("bartizan_policy_reloads_total{{code=\"failed\"}} {failed}"),
            format!("bartizan_policy_last_reload_successful {successful}"),
        ] {
            assert!(page.lines().any(|found| found == line), "no {line}: {page}");
        }
    };
    tells(&proxy, 0, 1);
    std::fs::write(proxy.file("policy.yaml"), "version: 1\nlisten: oops\n").unwrap();
    assert_eq!(proxy.reload(), proxy::Reloaded::Failed);
    tells(&proxy, 1, 0);
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), proxy::Reloaded::Loaded);
    tells(&proxy, 1, 1);
    proxy.done();
}

#[test]
fn metrics_of_removed_routes_disappear_and_the_others_continue_counting() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let stays = proxy.policy.clone();
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), proxy::Reloaded::Loaded);
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    client.get("/y").send().is(200);
    assert_eq!(proxy.reload_to(|_| stays), proxy::Reloaded::Loaded);
    client.get("/x").send().is(200);
    let counted = r#"bartizan_requests_total{api="orders",route="GET /x",code="2xx"} 2"#;
    let page = eventually("both are counted", || Some(numbers(&proxy)).filter(|page| page.contains(counted)));
    assert!(!page.contains("GET /y"), "{page}");
    proxy.done();
}

#[test]
fn a_store_that_cannot_be_opened_opens_nothing_else() {
    // Nobody else binds on this address, so a port that was free a moment ago still is.
    let later = std::net::TcpListener::bind("127.0.0.78:0").unwrap().local_addr().unwrap();
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").listen(r#"{ address: "127.0.0.1:0" }"#).start();
    let added = proxy.file("added.jsonl");
    let changed = |policy: proxy::Policy| {
        let policy = policy.listen(&format!("{{ address: \"{later}\" }}"));
        policy.file("taken", "no folder").with("store: taken").audit("[{ file: { path: added.jsonl } }]")
    };
    assert_eq!(proxy.reload_to(changed), proxy::Reloaded::Failed);
    assert!(!added.exists() && std::net::TcpStream::connect(later).is_err());
    client(&proxy).get("/x").send().is(200);
    proxy.done();
}
