//! The admin listener.

use crate::support::client::operator;
use crate::support::*;

#[test]
fn operators_see_and_reload_and_others_do_not() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    client(&proxy).get("/x").send().is(200);
    client(&proxy).get("/secret-path").send().is(404);
    proxy.recorded(2);
    let mut operator = operator(&proxy);
    assert_eq!(operator.get("/healthz").send().status, 200);
    assert_eq!(operator.get("/readyz").send().json()["ready"], true);
    let metrics = operator.get("/metrics").send().text();
    assert!(metrics.contains(r#"bartizan_requests_total{api="orders",route="GET /x",code="2xx"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"code="no_route"} 1"#) && !metrics.contains("secret-path"), "{metrics}");

    operator.get("/v1/policy").send().refused(401, "missing_credentials");
    operator.get("/v1/policy").bearer("guess").send().refused(401, "invalid_token");
    let policy = operator.get("/v1/policy").bearer(proxy::ADMIN_TOKEN).send().json();
    assert_eq!(policy["apis"][0]["routes"][0], json!({"route": "GET /x", "public": true, "from": null}), "{policy:#}");
    operator.post("/v1/policy/reload", "").send().refused(401, "missing_credentials");
    let reloaded = operator.post("/v1/policy/reload", "").bearer(proxy::ADMIN_TOKEN).send();
    assert_eq!(reloaded.json()["outcome"], "unchanged", "{}", reloaded.text());
    operator.get("/nothing").send().refused(404, "no_route");
    operator.get("/v1/policy/reload").send().refused(405, "method_not_allowed");
    let records = proxy.recorded(8);
    assert_eq!(said(&records[6], "event.action"), "policy_reload");
    proxy.done();
}

#[test]
fn without_a_token_what_needs_one_is_closed() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x");
    let text = policy.yaml().replace(&format!(", token: {}", proxy::ADMIN_TOKEN), "");
    let proxy = policy.text(&text).start();
    let mut operator = operator(&proxy);
    assert_eq!(operator.get("/healthz").send().status, 200);
    for token in ["", "x", proxy::ADMIN_TOKEN] {
        operator.get("/v1/policy").bearer(token).send().refused(401, "missing_credentials");
        operator.post("/v1/policy/reload", "").bearer(token).send().refused(401, "missing_credentials");
    }
    proxy.done();
}

/// Waits until the page of metrics has all of these lines.
#[track_caller]
fn reported(proxy: &Proxy, lines: &[&str]) -> String {
    let mut operator = operator(proxy);
    eventually(&format!("the metrics tell {lines:?}"), || {
        let page = operator.get("/metrics").send().text();
        lines.iter().all(|wanted| page.lines().any(|line| line == *wanted)).then_some(page)
    })
}

#[test]
fn metrics_tell_how_the_keys_of_issuers_stand() {
    let (upstream, issuer, down) = (upstream().start(), issuer(), issuer());
    down.goes_down();
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .issuer("down", &format!("issuer: other, jwks: \"{}\", algorithms: [ES256]", down.url()))
        .issuer("fixed", "issuer: another, public_key: fixed.pem, algorithms: [EdDSA]")
        .file("fixed.pem", issuer::Key::ed("unnamed").pem())
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let mut client = client(&proxy);
    let token = issuer.token().text();
    client.get("/x").bearer(&token).send().is(200);
    client.get("/x").bearer(&token).send().is(200);
    client.get("/x").bearer(issuer.token()).send().is(200);
    let page = reported(
        &proxy,
        &[
            r#"bartizan_issuer_up{issuer="corp"} 1"#,
            r#"bartizan_issuer_keys{issuer="corp"} 1"#,
            r#"bartizan_issuer_tokens_total{issuer="corp",kid="first"} 2"#,
            r#"bartizan_issuer_up{issuer="down"} 0"#,
            r#"bartizan_issuer_keys{issuer="down"} 0"#,
            r#"bartizan_issuer_up{issuer="fixed"} 1"#,
            r#"bartizan_issuer_keys{issuer="fixed"} 1"#,
            r#"bartizan_issuer_tokens_total{issuer="fixed",kid=""} 0"#,
        ],
    );
    for (text, there) in [
        (r#"bartizan_issuer_keys_loaded_timestamp_seconds{issuer="corp"} 1"#, true),
        (r#"bartizan_issuer_keys_loaded_timestamp_seconds{issuer="down"}"#, false),
        (r#"bartizan_issuer_keys_loaded_timestamp_seconds{issuer="fixed"}"#, false),
        ("bartizan_store_", false),
    ] {
        assert_eq!(page.contains(text), there, "{text}: {page}");
    }

    // The key before is gone from the page with the set it was in.
    issuer.rotates_to(issuer::Key::ec("second"));
    client.get("/x").bearer(issuer.token()).send().is(200);
    let page = reported(&proxy, &[r#"bartizan_issuer_tokens_total{issuer="corp",kid="second"} 1"#]);
    assert!(!page.contains(r#"kid="first""#), "{page}");
    proxy.done();
}

#[test]
fn metrics_and_log_tell_how_the_store_stands_and_which_keys_end_soon() {
    let (store, upstream) = (tempfile::TempDir::new().unwrap(), upstream().start());
    let mut proxy = proxy()
        .before(&upstream)
        .with(&format!("store: \"{}\"", store.path().display()))
        .with("roles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }")
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let mut operator = operator(&proxy);
    let mut makes = |path: &str, body: Value| {
        let answer = operator.post(path, body.to_string()).bearer(proxy::ADMIN_TOKEN).send();
        assert_eq!(answer.status, 201, "{}", answer.text());
    };
    for (id, expires) in [("soon", "10d"), ("later", "20d"), ("far", "40d"), ("revoked", "10d")] {
        makes("/v1/consumers/acme/keys", json!({"id": id, "expires": expires}));
    }
    makes("/v1/revocations", json!({"key": "revoked"}));
    makes("/v1/consumers", json!({"name": "new"}));
    let page = reported(
        &proxy,
        &[
            r#"bartizan_store_up{kind="embedded"} 1"#,
            r#"bartizan_store_entries{kind="key"} 4"#,
            r#"bartizan_store_entries{kind="revocation"} 1"#,
            r#"bartizan_store_entries{kind="consumer"} 1"#,
            r#"bartizan_store_entries{kind="grant"} 0"#,
            "bartizan_api_keys_expiring 2",
        ],
    );
    for (key, there) in [("soon", true), ("later", true), ("far", false), ("revoked", false)] {
        let line = format!(r#"bartizan_api_key_expires_timestamp_seconds{{consumer="acme",key="{key}"}} 1"#);
        assert_eq!(page.contains(&line), there, "{key}: {page}");
    }
    proxy.reload_to(|policy| policy.open("GET /y"));
    proxy.stderr.wait("an API key expires soon; rotate it", 1);
    let log = proxy.stderr.all().join("\n");
    assert!(log.contains("key=soon consumer=acme"), "{log}");
    assert!(!log.contains("key=later") && !log.contains("key=revoked"), "{log}");
    proxy.done();
}

#[test]
fn metrics_tell_of_the_process_and_of_requests_in_flight() {
    // U24: the numbers that every dashboard begins with.
    let (asked, is_asked) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let (asked, may_go) = (std::sync::Mutex::new(asked), std::sync::Mutex::new(may_go));
    let upstream = upstream()
        .does(move |call| {
            asked.lock().unwrap().send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
            call.answer(200, &[], "ok")
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    is_asked.recv().unwrap();
    let mut operator = operator(&proxy);
    let page = operator.get("/metrics").send().text();
    let version = env!("CARGO_PKG_VERSION");
    for line in [&format!("bartizan_build_info{{version=\"{version}\"}} 1"), "bartizan_requests_in_flight 1"] {
        assert!(page.lines().any(|found| found == line), "no {line} in {page}");
    }
    for name in ["cpu_seconds_total", "start_time_seconds", "resident_memory_bytes", "open_fds", "max_fds"] {
        assert!(page.lines().any(|line| line.starts_with(&format!("process_{name} "))), "no {name} in {page}");
    }
    // The process's part comes before the end of the other one.
    let page = operator.get("/metrics").header("accept", "application/openmetrics-text").send().text();
    assert!(page.contains("process_open_fds ") && page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1);
    go.send(()).unwrap();
    client.answer().is(200);
    eventually("it is not in flight any more", || {
        operator.get("/metrics").send().text().contains("bartizan_requests_in_flight 0").then_some(())
    });
    proxy.done();
}

#[test]
fn metrics_tell_which_server_answers_and_which_does_not() {
    // U24: with two servers behind one API, the routes' metrics do not say which one is gone.
    let upstream = upstream().start();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = proxy().before(&upstream).server(&format!("http://{gone}")).open("GET /x").start();
    let mut client = client(&proxy);
    let mut reached: Vec<_> = (0..2).map(|_| client.get("/x").send().status == 200).collect();
    reached.sort_unstable();
    assert_eq!(reached, [false, true], "they take turns");
    let url = upstream.url();
    reported(
        &proxy,
        &[
            &format!("bartizan_upstream_requests_total{{server=\"{url}\",code=\"2xx\"}} 1"),
            &format!("bartizan_upstream_requests_total{{server=\"http://{gone}\",code=\"upstream_unreachable\"}} 1"),
            &format!("bartizan_upstream_connections{{server=\"{url}\"}} 1"),
            &format!("bartizan_upstream_connections{{server=\"http://{gone}\"}} 0"),
        ],
    );
    proxy.done();
}
