//! What an upstream gets of a request whose path, host and headers are mapped, and what its answers say of itself.

use crate::support::*;

#[test]
fn a_base_path_is_put_before_every_path() {
    let upstream = upstream().start();
    let proxy = proxy()
        .server(&format!("{}/base/", upstream.url()))
        .upstream("health: { path: /healthz, every: 1s }")
        .open("GET /")
        .open("GET /orders/{id}")
        .start();
    let target = |target| client(&proxy).get(target).send().is(200).json()["target"].clone();
    assert_eq!(target("/orders/7?full=1"), "/base/orders/7?full=1");
    assert_eq!(target("/"), "/base/");
    assert_eq!(target("/orders/./x/../7"), "/base/orders/7");
    client(&proxy).get("/../orders/7").send().refused(400, "malformed_request");
    eventually("its health is asked", || {
        upstream.seen().iter().any(|seen| seen.target() == "/base/healthz").then_some(())
    });
    proxy.done();
}

#[test]
fn a_path_is_stripped_or_rewritten_and_the_query_stays() {
    let upstream = upstream().start();
    let proxy = proxy()
        .server(&format!("{}/base", upstream.url()))
        .api("strip: /v1")
        .open("GET /v1")
        .open("GET /v1/orders/{id}")
        .route("GET /customers/{id}", "public: true, rewrite: \"/internal/customers/{id}\"")
        .route("GET /files/{path...}", "public: true, rewrite: \"/store/{path...}\"")
        .route("GET /reports/{year}-{month}.csv", "public: true, rewrite: \"/r/{month}{year}\"")
        .start();
    let mut client = client(&proxy);
    for (sent, forwarded) in [
        ("/v1", "/base/"),
        ("/v1?a=/v1", "/base/?a=/v1"),
        ("/v1/orders/7%2e?x=%2F", "/base/orders/7.?x=%2F"),
        ("/customers/7?a=b", "/base/internal/customers/7?a=b"),
        ("/customers/a%20b", "/base/internal/customers/a%20b"),
        ("/files/a/b/", "/base/store/a/b/"),
        ("/reports/2026-11.csv", "/base/r/112026"),
    ] {
        assert_eq!(client.get(sent).send().is(200).json()["target"], forwarded, "{sent}");
    }
    client.get("/orders/7").send().refused(404, "no_route");
    // Two ways to read them, and two harmless values that are a dot segment together.
    for sent in ["/reports/2026-11-12.csv", "/reports/.-..csv"] {
        client.get(sent).send().refused(400, "malformed_request");
    }
    let records = proxy.done();
    assert_eq!(said(&records[3], "url.path"), "/customers/7", "the record has the path that was matched");
}

#[test]
fn what_cannot_be_mapped_is_an_error_at_load() {
    let route = |asks: &str| proxy().server("http://127.0.0.1:9").route("GET /a/{id}/{rest...}", asks);
    let rewrite = |rewrite: &str| route(&format!("public: true, rewrite: \"{rewrite}\""));
    for (policy, reported) in [
        (rewrite("/x/{id}/{rest...}"), ""),
        (rewrite("/x/{idd}"), "has no name `idd`"),
        (rewrite("/x/{rest}"), "write `{rest...}`"),
        (rewrite("/x/{id...}"), "write `{id}`"),
        (rewrite("x/{id}"), "this is not a path"),
        (rewrite("/x/../{id}"), "dot segment"),
        (rewrite("/x?y={id}"), "remove the query"),
        (rewrite("/x/{id"), "never closed"),
        (route("public: true").api("strip: /a"), ""),
        (route("public: true").api("strip: /b"), "this route does not begin with it"),
        (route("public: true").api("strip: /a/b"), "this route does not begin with it"),
        (rewrite("/x").api("strip: /b"), ""),
        (route("public: true").api("strip: /a/"), "nothing follows the last slash"),
        (route("public: true").api("strip: a"), "this is not a path"),
        (route("public: true, encoded_slash: maybe"), "there is no behaviour `maybe`"),
        (route("public: true").upstream("host: preserved"), "did you mean `preserve`?"),
        (route("public: true").upstream("host: \"a b\""), "this is not a host"),
        (route("public: true").upstream("host: \"orders.internal:81\""), ""),
        (route("public: true").api("hosts: [\"*.shop.example\"]"), ""),
        (route("public: true").api("hosts: [\"a.*.example\"]"), "this is not a host name"),
        (route("public: true").api("hosts: [\"*\"]"), "this is not a host name"),
        (route("public: true").api("hosts: [\"*.*.example\"]"), "this is not a host name"),
        (route("public: true").api("headers: { request: { set: { x-env: prod } } }"), ""),
        (route("public: true").api("headers: { request: { set: { X-Consumer-Id: root } } }"), "who calls"),
        (route("public: true").api("headers: { request: { remove: [Connection] } }"), "a single hop"),
        (route("public: true").api("headers: { request: { set: { content-length: 1 } } }"), "frames the message"),
        (route("public: true").api("headers: { response: { set: { ratelimit: x } } }"), "writes it itself"),
        (route("public: true").api("headers: { response: { remove: [x-request-id] } }"), "writes it itself"),
        (route("public: true").api("headers: { response: { set: { \"x y\": x } } }"), "not the name of a header"),
        (route("public: true").api("headers: { response: { set: { x: \"é\" } } }"), "cannot be the value"),
        (route("public: true").api("headers: { request: { set: { x: 1 }, remove: [X] } }"), "`x` is set"),
        (
            route("public: true, request: { headers: h.json }")
                .file("h.json", r#"{"type": "object", "properties": {"X-Tenant": {"type": "string"}}}"#)
                .api("headers: { request: { set: { x_tenant: t } } }"),
            "validates `x-tenant`",
        ),
    ] {
        let (yaml, said) = (policy.yaml(), policy.checked());
        let errors = said.contains("error:");
        assert!(errors != reported.is_empty() && said.contains(reported), "{reported:?}: {said}\n{yaml}");
    }
}

#[test]
fn the_upstream_gets_the_host_that_the_policy_says() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let host = |proxy: &Proxy| client(proxy).get("/x").host("api.example:81").send().is(200).echoed("host");
    assert_eq!(host(&proxy), [upstream.address.to_string()]);
    for (setting, expected) in [("host: preserve", "api.example:81"), ("host: \"orders.internal\"", "orders.internal")]
    {
        let policy = crate::support::proxy().before(&upstream).open("GET /x").upstream(setting);
        assert_eq!(proxy.reload_to(|_| policy), proxy::Reloaded::Loaded);
        assert_eq!(host(&proxy), [expected]);
    }
    proxy.done();
}

#[test]
fn locations_of_the_upstream_are_those_of_the_proxy() {
    let upstream = upstream()
        .does(|call| {
            let port = call.head.header("host").unwrap().rsplit(':').next().unwrap().to_owned();
            let location = call.head.header("x-location").unwrap().replace("PORT", &port);
            call.answer(201, &[("location", &location), ("content-location", &location)], "")
        })
        .start();
    let mapped = |proxy: &Proxy, route: &str, location: &str| {
        let answer = client(proxy).get(route).header("x-location", location).send().is(201);
        assert_eq!(answer.header("location"), answer.header("content-location"));
        answer.header("location").unwrap().replace(&upstream.address.port().to_string(), "PORT")
    };
    let proxy = proxy()
        .server(&format!("{}/base", upstream.url()))
        .api("strip: /v1")
        .open("GET /v1/x")
        .route("GET /customers/{id}", "public: true, rewrite: \"/internal/customers/{id}\"")
        .start();
    for (location, expected) in [
        ("http://127.0.0.1:PORT/base/orders/7?a=b#c", "/v1/orders/7?a=b#c"),
        ("HTTP://127.0.0.1:PORT/base", "/v1/"),
        ("https://127.0.0.1:PORT/base?x", "/v1/?x"),
        ("//127.0.0.1:PORT/base/orders", "/v1/orders"),
        ("/base/orders/7", "/v1/orders/7"),
        ("/base/internal/customers/7", "/customers/7"),
        ("http://127.0.0.1:PORT/base/internal/customers/a%20b?x", "/customers/a%20b?x"),
        // Nothing of the upstream, or nothing below its base path.
        ("/other/orders/7", "/other/orders/7"),
        ("/based", "/based"),
        ("http://127.0.0.1:PORT/other", "http://127.0.0.1:PORT/other"),
        ("http://127.0.0.1:1/base/orders", "http://127.0.0.1:1/base/orders"),
        ("https://login.example.com/base?next=/base", "https://login.example.com/base?next=/base"),
        ("http://127.0.0.1:PORT@evil.example/base/x", "http://127.0.0.1:PORT@evil.example/base/x"),
        ("ftp://127.0.0.1:PORT/base/x", "ftp://127.0.0.1:PORT/base/x"),
        ("7?x", "7?x"),
        ("http://127.0.0.1:PORT/base//evil.example", "/v1//evil.example"),
    ] {
        assert_eq!(mapped(&proxy, "/v1/x", location), expected, "{location}");
    }
    proxy.done();
    // Without a prefix, what begins with two slashes would be another host.
    let proxy = crate::support::proxy().server(&format!("{}/base", upstream.url())).open("GET /x").start();
    for (location, expected) in [
        ("http://127.0.0.1:PORT/base//evil.example", "http://127.0.0.1:PORT/base//evil.example"),
        ("/base//evil.example", "/base//evil.example"),
        ("/base/x", "/x"),
        // A browser would read this as `//evil.example`, if the tab were at the beginning.
        ("/base/\t/evil.example", "/base/\t/evil.example"),
    ] {
        assert_eq!(mapped(&proxy, "/x", location), expected, "{location}");
    }
    proxy.done();
    // The host is the client's own: another scheme leads elsewhere, and a loop would come of it.
    let proxy = crate::support::proxy().before(&upstream).upstream("host: preserve").open("GET /x").start();
    let port = proxy.address().port();
    for (location, expected) in [
        (format!("http://127.0.0.1:{port}/y"), "/y".to_owned()),
        (format!("https://127.0.0.1:{port}/y"), format!("https://127.0.0.1:{port}/y")),
    ] {
        let answer = client(&proxy).get("/x").host(&format!("127.0.0.1:{port}")).header("x-location", &location).send();
        assert_eq!(answer.is(201).header("location"), Some(&*expected));
    }
    proxy.done();
}

#[test]
fn headers_are_set_and_removed_in_every_spelling() {
    let upstream = upstream()
        .does(|call| {
            call.body()?;
            let echo: Vec<_> = call.head.headers.iter().map(|(name, value)| serde_json::json!([name, value])).collect();
            let fields = [("x-upstream", "theirs"), ("etag", "\"1\""), ("cache-control", "public")];
            call.answer(200, &fields, serde_json::json!({ "headers": echo }).to_string())
        })
        .start();
    let issuer = issuer();
    let headers = "headers: { request: { set: { X-Env: \"${env:STAGE}\", Authorization: Basic eDp5 }, remove: [X-Debug, x_old] }, \
                   response: { set: { Strict-Transport-Security: max-age=31536000, x-upstream: ours }, remove: [ETag] } }";
    let proxy = proxy()
        .before(&upstream)
        .env("STAGE", "prod")
        .api(headers)
        .open("POST /x")
        .route("GET /closed", "scopes: []")
        .trusts(&issuer)
        .start();
    let mut client = client(&proxy);
    let request = client.post("/x", "{}").header("x-env", "theirs").header("authorization", "Bearer x");
    let answer = request.header("x-debug", "1").header("x-old", "1").header("x-kept", "1").send().is(200);
    assert_eq!(answer.echoed("x-env"), ["prod"]);
    assert_eq!(answer.echoed("authorization"), ["Basic eDp5"]);
    assert_eq!((answer.echoed("x-debug"), answer.echoed("x-old")), (vec![], vec![]));
    assert_eq!(answer.echoed("x-kept"), ["1"]);
    assert_eq!(answer.header("x-upstream"), Some("ours"));
    assert_eq!((answer.header("etag"), answer.header("cache-control")), (None, Some("public")));
    // Refusals have what is set, and keep what is theirs.
    let refused = client.get("/closed").send().refused(401, "missing_credentials");
    assert_eq!(refused.header("strict-transport-security"), Some("max-age=31536000"));
    client.get("/nothing").send().refused(404, "no_route");
    // Trailers do not take the place of what is set.
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n";
    client.raw(format!("{head}X-Env: t\r\nX-Debug: t\r\nX-Sum: 7\r\n\r\n"), 1).answer().is(200);
    let trailers: Vec<_> = upstream.seen()[1].trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(trailers, ["x-sum"]);
    proxy.done();
}

#[test]
fn what_is_removed_of_responses_is_in_no_interim_response_and_no_trailer_either() {
    let upstream = upstream()
        .does(|call| {
            call.body()?;
            call.send(
                "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nX-Debug: 1\r\nAccess-Control-Allow-Origin: *\r\n\r\n",
            )?;
            call.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-debug: 2\r\n\r\n2\r\nhi\r\n0\r\n")?;
            call.send("X-Debug: 3\r\nX-Sum: 7\r\n\r\n")
        })
        .start();
    let proxy = proxy()
        .before(&upstream)
        .api("headers: { response: { remove: [x_debug] } }")
        .api("cors: { origins: [\"https://app.test\"] }")
        .open("GET /x")
        .start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n", 1);
    let early = client.head();
    assert_eq!((early.word(1), early.headers.len(), early.header("link")), ("103", 1, Some("</a.css>")));
    let answer = client.answer().is(200);
    assert_eq!(answer.header("x-debug"), None);
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    proxy.done();
}

#[test]
fn encoded_slashes_cross_where_a_route_keeps_them() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .route("GET /projects/{id}", "public: true, encoded_slash: keep")
        .open("GET /projects/{id}/members")
        .route("GET /v1/files/{path...}", "public: true, encoded_slash: keep, rewrite: \"/store/{path...}\"")
        .open("GET /orders/{id}")
        .start();
    let mut client = client(&proxy);
    for (sent, forwarded) in [
        ("/projects/group%2fproject", "/projects/group%2Fproject"),
        ("/projects/7", "/projects/7"),
        ("/v1/files/a%2Fb/c", "/store/a%2Fb/c"),
    ] {
        assert_eq!(client.get(sent).send().is(200).json()["target"], forwarded, "{sent}");
    }
    for refused in [
        "/orders/a%2Fb",
        "/nothing/a%2Fb",
        "/projects/..%2Fb",
        "/projects/a%2F%2e%2e",
        "/projects/%2Fetc",
        "/v1/files/a%2F..%2F..%2Fb",
        "/projects/a%5Cb",
        "/projects/a%252Fb",
        // A server that decodes it first has another route for it.
        "/projects/7%2Fmembers",
    ] {
        client.get(refused).send().refused(400, "malformed_request");
    }
    proxy.done();
}

#[test]
fn a_wildcard_host_takes_one_label_and_comes_after_exact_names() {
    let [exact, wild, any] = ["exact", "wild", "any"].map(|name| upstream().answers(200, name).start());
    let api = |name: &str, hosts: &str, upstream: &Upstream| {
        format!(
            "  {name}:\n    {hosts}\n    upstream: {}\n    routes: {{ GET /x: {{ public: true }} }}\n",
            upstream.url()
        )
    };
    let policy = format!(
        "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\naudit: [{{ file: {{ path: audit.jsonl }} }}]\napis:\n{}{}{}",
        api("exact", "hosts: [www.shop.example]", &exact),
        api("wild", "hosts: [\"*.Shop.example\"]", &wild),
        api("any", "hosts: []", &any),
    );
    let proxy = proxy().text(&policy).start();
    let mut client = client(&proxy);
    for (host, expected) in [
        ("www.shop.example", "exact"),
        ("WWW.shop.example:81", "exact"),
        ("a.shop.example", "wild"),
        ("A.SHOP.example.", "wild"),
        ("a.b.shop.example", "any"),
        ("shop.example", "any"),
        ("ashop.example", "any"),
    ] {
        assert_eq!(client.get("/x").host(host).send().is(200).text(), expected, "{host}");
    }
    proxy.done();
}

#[test]
fn explain_and_test_show_the_path_that_goes_upstream() {
    let folder = tempfile::TempDir::new().unwrap();
    let policy = proxy()
        .server("http://127.0.0.1:9/base")
        .api("strip: /v1")
        .open("GET /v1/orders")
        .route("GET /c/{id}", "public: true, rewrite: \"/internal/{id}\"")
        .write(folder.path());
    let tests = "policy: policy.yaml\ntests:\n  - { name: stripped, request: \"GET /v1/orders?a=1\", expect: { upstream_path: \"/base/orders?a=1\" } }\n  \
                 - { name: rewritten, request: GET /c/7, expect: { status: 200, upstream_path: /base/internal/7 } }\n  \
                 - { name: refused, request: GET /no, expect: { upstream_path: none } }\n";
    std::fs::write(folder.path().join("policy.test.yaml"), tests).unwrap();
    let bartizan = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").args(arguments).current_dir(folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let policy = policy.to_str().unwrap();
    let (code, said) = bartizan(&["explain", "--policy", policy, "GET", "/c/7"]);
    assert!(code == Some(0) && said.contains("→ forwarded to http://127.0.0.1:9/base as /base/internal/7\n"), "{said}");
    let (_, said) = bartizan(&["explain", "--policy", policy, "GET", "/v1/orders?a=1", "--format", "json"]);
    let explained: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(explained["upstream"]["target"], "/base/orders?a=1");
    let (code, said) = bartizan(&["test", "policy.test.yaml"]);
    assert_eq!(code, Some(0), "{said}");
}
