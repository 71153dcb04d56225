//! Several upstream servers: which gets a request, and what becomes of those that fail.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::support::client::operator;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// An API before these servers, with these settings of its upstream.
fn before(servers: &[&str], settings: &str) -> Policy {
    let policy = servers.iter().fold(proxy(), |policy, server| policy.server(server));
    settings.split("; ").filter(|line| !line.is_empty()).fold(policy, Policy::upstream).open("GET /x").open("POST /x")
}

/// The URL of a port that nobody listens on.
fn closed() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// A server that closes each connection once it has read a request from it.
fn silent() -> Upstream {
    upstream()
        .does(|call| {
            call.body()?;
            call.close();
            Err(io::ErrorKind::ConnectionReset.into())
        })
        .start()
}

/// A server that says it is not healthy, and answers all the same.
fn unhealthy() -> Upstream {
    upstream()
        .does(|call| {
            let status = if call.head.word(1) == "/healthz" { 500 } else { 200 };
            call.body()?;
            call.answer(status, &[], "")
        })
        .start()
}

/// What the answers of a server wait for.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn opens(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn closes(&self) {
        *self.is_open.lock().unwrap() = false;
    }
}

/// A server whose answers, `slow`, wait until the gate is open.
fn held() -> (Upstream, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let own = Arc::clone(&gate);
    let does = move |call: &mut upstream::Call<'_>| {
        own.waiting.fetch_add(1, Ordering::SeqCst);
        drop(own.opened.wait_timeout_while(own.is_open.lock().unwrap(), DEADLINE, |open| !*open).unwrap());
        call.answer(200, &[], "slow")
    };
    (upstream().does(does).start(), gate)
}

#[test]
fn without_any_setting_a_name_is_tried_at_all_of_its_addresses() {
    let upstream = upstream().start();
    let port = upstream.url().rsplit(':').next().unwrap().to_owned();
    // It may have ::1 as well, where nobody listens.
    let proxy = before(&[&format!("http://localhost:{port}")], "").start();
    let mut client = client(&proxy);
    for _ in 0..4 {
        client.get("/x").send().is(200);
        client.post("/x", "{}").send().is(200);
    }
    proxy.done();
}

#[test]
fn a_server_that_takes_no_connection_fails_no_request_if_that_is_to_be_tried_again() {
    let upstream = upstream().start();
    let (gone, url) = (closed(), upstream.url());
    for (settings, first) in [("retries: 1", 200), ("", 502)] {
        let proxy = before(&[&gone, &url], settings).start();
        let mut client = client(&proxy);
        let seen = [(); 2].map(|()| client.post("/x", "{}").send().status);
        // After it has failed, it is the other's turn, and the other is chosen for a second.
        assert_eq!(seen, [first, 200], "{settings}");
        let records = proxy.done();
        let attempts = records.iter().find_map(|record| record["bartizan"]["upstream"]["attempts"].as_u64());
        assert_eq!(attempts, (!settings.is_empty()).then_some(2), "{records:?}");
    }
}

#[test]
fn what_may_have_been_handled_is_sent_once_more_only_if_it_is_idempotent() {
    let (silent, upstream) = (silent(), upstream().start());
    let proxy = before(&[&silent.url(), &upstream.url()], "retries: { most: 1, backoff: 1ms }").start();
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    assert_eq!(silent.seen().len(), 1);
    // In turn: the silent server is the next one.
    client.get("/x").send().is(200);
    let seen = (silent.seen().len(), upstream.seen().len());
    let mut statuses = [(); 2].map(|()| client.post("/x", "{}").send().status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    let posts = |upstream: &Upstream| upstream.seen().iter().filter(|seen| seen.head.word(0) == "POST").count();
    assert_eq!((posts(&silent), posts(&upstream)), (1, 1), "each once, after {seen:?}");
    proxy.done();
}

#[test]
fn a_status_is_tried_again_elsewhere_if_the_policy_says_so() {
    let (busy, upstream) = (upstream().answers(503, "busy").start(), upstream().start());
    let proxy = before(&[&busy.url(), &upstream.url()], "retries: { on: [503], backoff: 1ms }").start();
    let mut client = client(&proxy);
    for _ in 0..4 {
        client.get("/x").send().is(200);
    }
    assert_eq!(busy.connections(), 1, "the connection of a response that is not used is");
    // The response to what is not idempotent is the client's.
    let posts = [(); 2].map(|()| client.post("/x", "{}").send().status);
    assert!(posts.contains(&503) && posts.contains(&200), "{posts:?}");
    proxy.done();
}

#[test]
fn an_idempotent_request_on_a_connection_that_was_closed_meanwhile_goes_once_more_always() {
    // It answers the first request of a connection, and closes it when it has read the second.
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let upstream = upstream()
        .does(move |call| {
            call.body()?;
            if count.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                call.close();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            call.answer(200, &[], "")
        })
        .start();
    let proxy = before(&[&upstream.url()], "").start();
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    client.get("/x").send().is(200);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    client.post("/x", "{}").send().refused(502, "upstream_unreachable");
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    proxy.done();
}

#[test]
fn a_server_that_fails_is_ejected_and_one_that_is_alone_never() {
    let (broken, upstream) = (upstream().answers(502, "").start(), upstream().start());
    let proxy = before(&[&broken.url(), &upstream.url()], "eject: { after: 2, for: 1h }").start();
    let mut client = client(&proxy);
    for _ in 0..12 {
        client.get("/x").send();
    }
    assert_eq!((broken.seen().len(), upstream.seen().len()), (2, 10));
    proxy.stderr.wait("it gets no requests for 3600s", 1);
    let listed = operator(&proxy).get("/v1/upstreams").bearer(ADMIN_TOKEN).send().json();
    let states: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|item| item["state"].as_str().unwrap()).collect();
    assert!(states.contains(&"ejected") && states.contains(&"available"), "{listed}");
    let metrics = operator(&proxy).get("/metrics").send().text();
    assert!(
        metrics.contains(&format!("bartizan_upstream_ejections_total{{server=\"{}\"}} 1", broken.url())),
        "{metrics}"
    );
    proxy.done();
}

#[test]
fn an_unhealthy_server_gets_no_requests_until_it_is_well_again() {
    let ill = Arc::new(AtomicBool::new(false));
    let server = |name: &'static str, ill: Arc<AtomicBool>| {
        let does = move |call: &mut upstream::Call<'_>| {
            let health = call.head.word(1) == "/healthz";
            let status = if health && ill.load(Ordering::SeqCst) { 500 } else { 200 };
            call.body()?;
            call.answer(status, &[], name)
        };
        upstream().does(does).start()
    };
    let (first, second) = (server("first", Arc::clone(&ill)), server("second", Arc::default()));
    let health = "health: { path: /healthz, every: 1s, healthy_after: 1, unhealthy_after: 1 }";
    let proxy = before(&[&first.url(), &second.url()], health).start();
    let mut client = client(&proxy);
    let mut two = || [(); 2].map(|()| client.get("/x").send().is(200).text());
    assert_ne!(two()[0], two()[1], "both are used");
    ill.store(true, Ordering::SeqCst);
    proxy.stderr.wait("the upstream server is not healthy", 1);
    assert_eq!(two(), ["second", "second"]);
    ill.store(false, Ordering::SeqCst);
    proxy.stderr.wait("the upstream server is healthy", 1);
    assert!(two().contains(&"first".to_owned()));
    proxy.done();
}

#[test]
fn when_none_is_healthy_one_is_tried_or_none() {
    let upstream = unhealthy();
    for (none_left, status) in [("try", 200), ("refuse", 503)] {
        let settings = format!("health: {{ path: /healthz, unhealthy_after: 1 }}; none_left: {none_left}");
        let proxy = before(&[&upstream.url()], &settings).start();
        proxy.stderr.wait("the upstream server is not healthy", 1);
        assert_eq!(client(&proxy).get("/x").send().status, status, "{none_left}");
        proxy.done();
    }
}

#[test]
fn requests_in_flight_are_bounded() {
    let (upstream, gate) = held();
    let proxy = before(&[&upstream.url()], "requests: 2").start();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| client(&proxy).get("/x").send().is(200))).collect();
        eventually("both are with the server", || (gate.waiting.load(Ordering::SeqCst) == 2).then_some(()));
        client(&proxy).get("/x").send().refused(503, "overloaded");
        gate.opens();
        waiting.into_iter().for_each(|one| drop(one.join().unwrap()));
    });
    client(&proxy).get("/x").send().is(200);
    proxy.done();
}

#[test]
fn an_operator_takes_a_server_out_of_use_and_back() {
    let (first, second) = (upstream().answers(200, "first").start(), upstream().answers(200, "second").start());
    let proxy = before(&[&first.url(), &second.url()], "").start();
    let (mut client, mut operator) = (client(&proxy), operator(&proxy));
    let mut drains = |body: Value| operator.post("/v1/upstreams/drain", body.to_string()).bearer(ADMIN_TOKEN).send();
    assert_eq!(drains(json!({"server": first.url(), "reason": "update"})).status, 200);
    for _ in 0..4 {
        assert_eq!(client.get("/x").send().is(200).text(), "second");
    }
    // A reload with the same server leaves it as it is.
    assert_eq!(proxy.reload(), proxy::Reloaded::Unchanged);
    assert_eq!(drains(json!({"server": second.url()})).json()["items"][0]["state"], "drained");
    client.get("/x").send().refused(503, "overloaded");
    assert_eq!(drains(json!({"server": first.url(), "drained": false})).status, 200);
    assert_eq!(client.get("/x").send().is(200).text(), "first");
    assert_eq!(drains(json!({"server": "http://other"})).status, 404);
    let actions: Vec<_> = proxy
        .done()
        .iter()
        .filter(|record| record["event"]["action"].as_str().unwrap().starts_with("upstream_"))
        .map(|record| record["event"]["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(actions, ["upstream_drained", "upstream_drained", "upstream_resumed"]);
}

#[test]
fn what_is_out_of_use_stays_so_under_another_api_and_after_a_reload() {
    let upstream = upstream().start();
    let url = upstream.url();
    let policy = |resolve: &str| {
        let other = format!("apis:\n  other: {{ upstream: \"{url}/\", routes: {{ GET /y: {{ public: true }} }} }}");
        before(&[&url], resolve).yaml().replace("apis:", &other)
    };
    let mut proxy = proxy().text(&policy("")).start();
    let drain = json!({"server": format!("{url}/")}).to_string();
    let drained = operator(&proxy).post("/v1/upstreams/drain", drain).bearer(ADMIN_TOKEN).send().json();
    let items = drained["items"].as_array().unwrap();
    assert_eq!(items.iter().map(|item| &item["api"]).collect::<Vec<_>>(), ["orders", "other"]);
    assert!(items.iter().all(|item| item["state"] == "drained"), "{drained}");
    // The API has another name now.
    let next = policy("").replace("orders:", "renamed:");
    assert_eq!(proxy.reload_to(|policy| policy.text(&next)), proxy::Reloaded::Loaded);
    for path in ["/x", "/y"] {
        client(&proxy).get(path).send().refused(503, "overloaded");
    }
    proxy.done();
}

#[test]
fn a_server_that_is_asked_no_longer_is_not_unhealthy() {
    let upstream = unhealthy();
    let health = "health: { path: /healthz, unhealthy_after: 1 }; none_left: refuse";
    let mut proxy = before(&[&upstream.url()], health).start();
    proxy.stderr.wait("the upstream server is not healthy", 1);
    client(&proxy).get("/x").send().refused(503, "overloaded");
    let unasked = before(&[&upstream.url()], "");
    assert_eq!(proxy.reload_to(|_| unasked), proxy::Reloaded::Loaded);
    client(&proxy).get("/x").send().is(200);
    proxy.done();
}

/// One worker with one connection to each of these servers.
fn of_one_connection(servers: &[&str], settings: &str) -> Policy {
    let settings = format!("connections: {{ most: 1 }}; {settings}");
    proxy().text(&before(servers, &settings).yaml().replace("workers: 2", "workers: 1"))
}

#[test]
fn past_the_most_connections_requests_wait_for_their_turn() {
    let (slow, gate) = held();
    let proxy = of_one_connection(&[&slow.url()], "connect_timeout: 1h").start();
    let waiting = format!("bartizan_upstream_waits_total{{server=\"{}\"}} 3", slow.url());
    thread::scope(|scope| {
        let all = [0; 4].map(|_| scope.spawn(|| client(&proxy).get("/x").send().is(200).text()));
        let is_counted = || operator(&proxy).get("/metrics").send().text().contains(&waiting);
        eventually("three wait for the one connection", || is_counted().then_some(()));
        gate.opens();
        all.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), "slow"));
    });
    assert_eq!(slow.connections(), 1);
    proxy.done();
}

#[test]
fn a_request_waits_for_a_connection_whose_server_closes_it() {
    let once =
        upstream().does(|call: &mut upstream::Call<'_>| call.answer(200, &[("connection", "close")], "once")).start();
    let proxy = of_one_connection(&[&once.url()], "connect_timeout: 1h").start();
    thread::scope(|scope| {
        let all = [0; 8].map(|_| scope.spawn(|| client(&proxy).get("/x").send().is(200).text()));
        all.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), "once"));
    });
    assert_eq!(once.connections(), 8);
    proxy.done();
}

#[test]
fn one_that_waits_and_leaves_makes_way_for_the_next() {
    let (slow, gate) = held();
    let proxy = of_one_connection(&[&slow.url()], "connect_timeout: 1h").start();
    let counts = |line: &str| {
        let line = line.replace("URL", &slow.url());
        eventually(&line, || operator(&proxy).get("/metrics").send().text().contains(&line).then_some(()));
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| client(&proxy).get("/x").send().is(200).text());
        eventually("it is with the server", || (gate.waiting.load(Ordering::SeqCst) == 1).then_some(()));
        let mut leaver = client(&proxy);
        leaver.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
        counts("bartizan_upstream_waits_total{server=\"URL\"} 1");
        let last = scope.spawn(|| client(&proxy).get("/x").send().is(200).text());
        counts("bartizan_upstream_waits_total{server=\"URL\"} 2");
        drop(leaver);
        counts("bartizan_upstream_requests_total{server=\"URL\",code=\"client_disconnected\"} 1");
        gate.opens();
        [first, last].into_iter().for_each(|one| assert_eq!(one.join().unwrap(), "slow"));
    });
    proxy.done();
}

#[test]
fn a_server_at_its_most_connections_has_not_failed_and_others_are_asked() {
    let (slow, gate) = held();
    let other = upstream().answers(200, "other").start();
    let settings = "eject: { after: 1, for: 1h, most: 100% }";
    let mut alone = of_one_connection(&[&slow.url()], settings).start();
    let two = of_one_connection(&[&slow.url(), &other.url()], settings).start();
    thread::scope(|scope| {
        let waiting = [&alone, &two].map(|proxy| scope.spawn(|| client(proxy).get("/x").send().is(200).text()));
        eventually("both are with the server", || (gate.waiting.load(Ordering::SeqCst) == 2).then_some(()));
        for _ in 0..4 {
            assert_eq!(client(&two).get("/x").send().is(200).text(), "other");
        }
        gate.opens();
        waiting.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), "slow"));
    });
    // It was not ejected.
    assert_eq!(client(&alone).get("/x").send().is(200).text(), "slow");
    // The connection is there; another one is not waited for any longer.
    let impatient = of_one_connection(&[&slow.url()], &format!("{settings}; connect_timeout: 1ms"));
    assert_eq!(alone.reload_to(|_| impatient), proxy::Reloaded::Loaded);
    gate.closes();
    thread::scope(|scope| {
        let first = scope.spawn(|| client(&alone).get("/x").send().is(200).text());
        eventually("it is with the server", || (gate.waiting.load(Ordering::SeqCst) == 4).then_some(()));
        let refused = client(&alone).get("/x").send();
        assert_eq!(refused.header("retry-after"), Some("1"));
        refused.refused(503, "overloaded");
        gate.opens();
        assert_eq!(first.join().unwrap(), "slow");
    });
    alone.done();
    two.done();
}

/// A server on a Unix socket that answers each request with its `Host`.
fn neighbour(path: &std::path::Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            thread::spawn(move || {
                loop {
                    let mut host = String::new();
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        if let Some(value) = line.strip_prefix("host: ") {
                            host = value.trim().to_owned();
                        }
                        if line == "\r\n" {
                            break;
                        }
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{host}", host.len());
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_server_of_this_machine_is_called_by_its_socket() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("orders.sock");
    let url = format!("unix:{}", path.display());
    let proxy = before(&[&url], "health: { path: /healthz, unhealthy_after: 1, healthy_after: 1, every: 1s }").start();
    proxy.stderr.wait("the upstream server is not healthy", 1);
    client(&proxy).get("/x").send().refused(502, "upstream_unreachable");
    neighbour(&path);
    proxy.stderr.wait("the upstream server is healthy", 1);
    let mut client = client(&proxy);
    for _ in 0..3 {
        assert_eq!(client.get("/x").send().is(200).text(), "localhost");
    }
    let listed = operator(&proxy).get("/v1/upstreams").bearer(ADMIN_TOKEN).send().json();
    assert_eq!((&listed["items"][0]["address"], &listed["items"][0]["state"]), (&json!(url), &json!("available")));
    let records = proxy.done();
    assert!(records.iter().any(|record| record["bartizan"]["upstream"]["server"] == url), "{records:?}");
}

#[test]
fn metrics_go_on_by_server_when_a_reload_puts_another_api_before() {
    let upstream = upstream().start();
    let url = upstream.url();
    let mut proxy = before(&[&url], "").start();
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    let first = format!("apis:\n  another: {{ upstream: \"{}\", routes: {{ GET /y: {{ public: true }} }} }}", closed());
    let next = before(&[&url], "").yaml().replace("apis:", &first);
    assert_eq!(proxy.reload_to(|policy| policy.text(&next)), proxy::Reloaded::Loaded);
    client.get("/x").send().is(200);
    assert_eq!(upstream.connections(), 1, "its connection is kept");
    let metrics = operator(&proxy).get("/metrics").send().text();
    assert!(
        metrics.contains(&format!("bartizan_upstream_requests_total{{server=\"{url}\",code=\"2xx\"}} 2")),
        "{metrics}"
    );
    proxy.done();
}

#[test]
fn metrics_say_that_no_server_was_left() {
    let upstream = unhealthy();
    let proxy = before(&[&upstream.url()], "health: { path: /healthz, unhealthy_after: 1 }").start();
    proxy.stderr.wait("the upstream server is not healthy", 1);
    client(&proxy).get("/x").send().is(200);
    let metrics = operator(&proxy).get("/metrics").send().text();
    let url = upstream.url();
    for line in [
        format!("bartizan_upstream_last_resorts_total{{server=\"{url}\"}} 1"),
        format!("bartizan_upstream_addresses{{api=\"orders\",server=\"{url}\",state=\"unhealthy\"}} 1"),
        format!("bartizan_upstream_addresses{{api=\"orders\",server=\"{url}\",state=\"available\"}} 0"),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    proxy.done();
}

#[test]
fn what_is_wrong_with_the_settings_is_said() {
    for (settings, said) in [
        ("balance: fastest", "there is no balancing method `fastest`"),
        ("resolve: 10ms", "servers would be asked all the time"),
        ("health: {}", "`path` is missing"),
        ("health: { path: healthz }", "this is not a path"),
        ("none_left: refuse", "`none_left` has no effect without `health` and `eject`"),
        ("none_left: wait", "there is no behaviour `wait`"),
        ("retries: 9", "at most 5 times more"),
        ("retries: 0", "this is at least 1"),
        ("retries: { on: [404] }", "only what the server failed at is tried again"),
        ("retries: { on: [timeout] }", "there is no cause `timeout`"),
        ("eject: { most: 101% }", "is more than all"),
        ("connections: { most: 0 }", "this is at least 1"),
        ("requests: 0", "this is at least 1"),
        ("tls: { server_name: a.test }", "`tls` has no effect: no server is `https`"),
        ("ca: ca.pem", "did you mean `tls.ca`?"),
        ("tls: { pin: \"sha256:12\" }", "this is not the SHA-256 of a public key"),
        ("tls: { pin: [] }", "no server has a key of an empty list"),
        ("tls: { server_name: \"a b\" }", "this host name cannot occur in a certificate"),
        ("tls: { key: own.key }", "`certificate` and `key` go together"),
    ] {
        let https = settings.contains("pin") || settings.contains(" b") || settings.contains("key:");
        let server = if https { "https://127.0.0.1:9" } else { "http://127.0.0.1:9" };
        let policy = before(&[server], settings).with("strict: true");
        let text = policy.fails();
        assert!(text.contains(said), "{settings}: {text}");
    }
    for (server, settings, said) in [
        ("unix:", "", "this names no socket"),
        ("unix:///run/a.sock", "", "this names no socket"),
        ("unix:/run/a.sock", "protocol: h2", "https"),
        ("unix:/run/a.sock", "tls: { server_name: a.test }", "`tls` has no effect: no server is `https`"),
    ] {
        let text = before(&[server], settings).with("strict: true").fails();
        assert!(text.contains(said), "{server} {settings}: {text}");
    }
    let long = format!("unix:/run/{}.sock", "a".repeat(100));
    assert!(before(&[&long], "").fails().contains("at most 107 bytes"));
}
