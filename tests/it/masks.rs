//! Fields of responses that only some callers see.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use http_body_util::{BodyExt, Full};

use crate::http2::over_http2;
use crate::support::*;

const CUSTOMER: &str = r#"{ "id": 7, "\u0069ban": "DE02120300000000202051", "addresses": [{"street": "Elm 1", "city": "X"}, [{"street": "Elm 2"}]], "balance": 123456789012345678901234567890.10 }"#;
const MASKED: &str = r#"{ "id": 7, "\u0069ban": "***2051", "addresses": [{ "city": "X"}, [{}]], "balance": 123456789012345678901234567890.10 }"#;
const MASK: &str = "mask: { /iban: { visible_to: [customers:iban], else: keep_last 4 }, /addresses/*/street: { visible_to: [customers:pii] } }";

/// Answers with this body and these fields.
fn answering(status: u16, fields: &'static [(&'static str, &'static str)], body: impl Into<Vec<u8>>) -> Upstream {
    let body = body.into();
    upstream().does(move |call| call.answer(status, fields, &body)).start()
}

fn before(upstream: &Upstream, issuer: &issuer::Issuer, response: &str) -> Policy {
    let policy = proxy().before(upstream).trusts(issuer);
    policy.route("GET /customer", &format!("scopes: [customers:read], response: {{ {response} }}"))
}

fn token(issuer: &issuer::Issuer, scopes: &str) -> String {
    issuer.token().scope(&format!("customers:read {scopes}")).text()
}

const JSON: &[(&str, &str)] =
    &[("content-type", "application/json"), ("etag", "\"1\""), ("repr-digest", "sha-256=:x:")];

#[test]
fn a_caller_sees_what_its_scopes_show_and_the_rest_byte_for_byte() {
    let (upstream, issuer) = (answering(200, JSON, CUSTOMER), issuer());
    let proxy = before(&upstream, &issuer, MASK).start();
    let mut client = client(&proxy);
    let answer = client.get("/customer").bearer(token(&issuer, "")).header("range", "bytes=0-9").send().is(200);
    assert_eq!(answer.text(), MASKED);
    assert_eq!((answer.header("etag"), answer.header("repr-digest")), (None, None));
    assert_eq!(answer.header("content-length"), Some(&*MASKED.len().to_string()));
    let vary: Vec<_> =
        answer.head.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| value.as_str()).collect();
    assert_eq!(vary, ["authorization", "x-api-key"]);
    assert_eq!(answer.header("cache-control"), Some("private"));
    let answer = client.get("/customer").bearer(token(&issuer, "customers:iban customers:pii")).send().is(200);
    assert_eq!((answer.text().as_str(), answer.header("etag")), (CUSTOMER, Some("\"1\"")));
    let answer = client.get("/customer").bearer(token(&issuer, "customers:pii")).send().is(200);
    assert!(answer.text().contains("***2051") && answer.text().contains("Elm 2"));
    proxy.owes(1);
    let bearer = format!("Bearer {}", token(&issuer, ""));
    over_http2(&proxy, async |mut sender| {
        let request = Request::get("http://a.example/customer").header("authorization", bearer);
        let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), MASKED);
    });
    assert!(upstream.seen().iter().all(|seen| seen.header("range").is_none()), "no part is asked for");
    proxy.done();
}

/// The ETag of the whole would tell whether a guess of what is hidden is right.
#[test]
fn who_does_not_see_all_is_not_told_whether_it_changed() {
    let (upstream, issuer) = (answering(200, JSON, CUSTOMER), issuer());
    let proxy = before(&upstream, &issuer, MASK).start();
    for (scopes, forwarded) in [("", None), ("customers:iban customers:pii", Some("\"1\""))] {
        let (mut client, token) = (client(&proxy), token(&issuer, scopes));
        client.get("/customer").bearer(token).header("if-none-match", "\"1\"").send().is(200);
        assert_eq!(upstream.seen().last().unwrap().header("if-none-match"), forwarded, "{scopes}");
    }
    proxy.done();
}

/// Load must not show what is hidden.
#[test]
fn what_cannot_be_masked_for_lack_of_memory_is_not_sent_even_by_a_route_that_only_reports() {
    let filled = format!("{{\"iban\": \"DE02\", \"a\": \"{}\"}}", "x".repeat(700 << 10));
    let (upstream, issuer) = (answering(200, JSON, filled), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).with("limits: { memory: 1MiB }");
    let asks =
        format!("scopes: [customers:read], mode: {{ response: report }}, response: {{ max_size: 900KiB, {MASK} }}");
    let proxy = policy.route("GET /customer", &asks).start();
    client(&proxy).get("/customer").bearer(token(&issuer, "")).send().refused(503, "overloaded");
    proxy.done();
}

/// An array of customers of more than 4 MiB, and what is sent of it.
fn customers() -> [String; 2] {
    let row =
        |number: u32, iban: &str| format!("{{ \"number\": {number}, \"iban\": \"{iban}\"{} }}", ", \"a\": 1".repeat(9));
    let all = |iban: &dyn Fn(u32) -> String| {
        let rows: Vec<_> = (0..40_000).map(|number| row(number, &iban(number))).collect();
        format!("[{}]\n", rows.join(",\n"))
    };
    [all(&|number| format!("DE0212030000{number:010}")), all(&|number| format!("***{:04}", number % 10_000))]
}

#[test]
fn a_long_response_is_masked_as_it_comes() {
    let ([whole, masked], issuer) = (customers(), issuer());
    let length = whole.len().to_string();
    let upstream = upstream().does(move |call| {
        call.send(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"))?;
        call.send(&whole)
    });
    let upstream = upstream.start();
    let policy = before(&upstream, &issuer, &format!("max_size: 8MiB, {MASK}"));
    // Far less than the response has.
    let proxy = policy.with("limits: { memory: 1MiB }").start();
    let mut client = client(&proxy);
    for _ in 0..2 {
        let answer = client.get("/customer").bearer(token(&issuer, "customers:pii")).send().is(200);
        assert!(answer.text() == masked, "it is masked as the whole would be");
    }
    assert_eq!(upstream.connections(), 1, "each response was read to its end");
    proxy.owes(1);
    let bearer = format!("Bearer {}", token(&issuer, "customers:pii"));
    over_http2(&proxy, async |mut sender| {
        let request = Request::get("http://a.example/customer").header("authorization", bearer);
        let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert!(answer.into_body().collect().await.unwrap().to_bytes() == masked);
    });
    proxy.done();
}

/// An upstream that sends events would otherwise be read until there are too many of them.
#[test]
fn what_its_head_says_cannot_be_good_is_not_read_to_its_end() {
    let issuer = issuer();
    let reports = "mode: { response: report }, ";
    for (mode, response, event, status) in [
        ("", MASK, "data:\n", 502),
        ("", "json: any.json", "data:\n", 502),
        // Its first event may be long in coming.
        (reports, "json: any.json", "", 200),
        (reports, MASK, "", 200),
        (reports, MASK, "data:\n", 200),
    ] {
        let upstream = upstream().does(move |call| {
            // It says nothing more, and does not end.
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            call.send(match event {
                "" => head.to_owned(),
                event => format!("{head}{:x}\r\n{event}\r\n", event.len()),
            })
        });
        let upstream = upstream.start();
        let policy = proxy().before(&upstream).trusts(&issuer).file("any.json", "{}");
        let asks = format!("scopes: [customers:read], {mode}response: {{ {response} }}");
        let proxy = policy.route("GET /customer", &asks).start();
        let mut client = client(&proxy);
        let bearer = format!("authorization: Bearer {}", token(&issuer, ""));
        client.raw(format!("GET /customer HTTP/1.1\r\nhost: a\r\n{bearer}\r\n\r\n"), 1);
        assert_eq!(client.head().word(1), status.to_string());
        drop(client);
        let records = proxy.done();
        assert!(records[0].to_string().contains("invalid_upstream_response"), "{}", records[0]);
    }
}

/// Nothing can be taken back, but nothing more is sent.
#[test]
fn a_long_response_that_turns_out_to_be_no_json_is_cut_short() {
    let ([whole, _], issuer) = (customers(), issuer());
    for (damage, cause) in [("\"iban\": \"DE99\" ]", "cannot be read as JSON"), ("", "more than 2097152 bytes")] {
        let body = if damage.is_empty() { whole.clone() } else { format!("{}{damage}", &whole[..1 << 20]) };
        let upstream = upstream().does(move |call| {
            call.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")?;
            call.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
        });
        let upstream = upstream.start();
        let proxy = before(&upstream, &issuer, &format!("max_size: 2MiB, {MASK}")).start();
        let mut client = client(&proxy);
        let bearer = format!("authorization: Bearer {}", token(&issuer, "customers:pii"));
        client.raw(format!("GET /customer HTTP/1.1\r\nhost: a\r\n{bearer}\r\n\r\n"), 1);
        let head = client.head();
        assert_eq!(head.word(1), "200");
        let text = String::from_utf8(client.connection().runs_dry()).unwrap();
        assert!(!text.ends_with("0\r\n\r\n"), "it does not look whole");
        assert!(text.len() > 500_000 && !text.contains("DE0212") && !text.contains("DE99"));
        let records = proxy.done();
        assert_eq!(said(&records[0], "event.reason"), "invalid_upstream_response");
        assert!(said(&records[0], "bartizan.cause").as_str().unwrap().contains(cause), "{}", records[0]);
    }
    // What says how long it is, is refused at once.
    let length = whole.len();
    let upstream = upstream().does(move |call| {
        call.send(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"))?;
        call.send(&whole)
    });
    let upstream = upstream.start();
    let proxy = before(&upstream, &issuer, &format!("max_size: 2MiB, {MASK}")).start();
    client(&proxy).get("/customer").bearer(token(&issuer, "")).send().refused(502, "invalid_upstream_response");
    proxy.done();
}

#[test]
fn a_response_that_is_encoded_is_sent_decoded() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(CUSTOMER.as_bytes()).unwrap();
    let fields = &[("content-type", "application/problem+json; charset=utf-8"), ("content-encoding", "gzip")];
    let (upstream, issuer) = (answering(404, fields, gzip.finish().unwrap()), issuer());
    let proxy = before(&upstream, &issuer, MASK).start();
    let answer =
        client(&proxy).get("/customer").bearer(token(&issuer, "")).header("accept-encoding", "gzip").send().is(404);
    assert_eq!((answer.text().as_str(), answer.header("content-encoding")), (MASKED, None));
    proxy.done();
}

#[test]
fn what_cannot_be_read_is_not_sent() {
    let deep = "[".repeat(65) + &"]".repeat(65);
    for (status, fields, body) in [
        (200, &[("content-type", "text/plain")][..], CUSTOMER),
        (200, &[("content-type", "application/json; charset=utf-16")], CUSTOMER),
        (200, &[], CUSTOMER),
        (500, &[("content-type", "text/html")], "<p>DE02120300000000202051"),
        (206, &[("content-type", "application/json"), ("content-range", "bytes 0-9/99")], CUSTOMER),
        (200, &[("content-type", "application/json"), ("content-encoding", "gzip")], CUSTOMER),
        (200, &[("content-type", "application/json"), ("content-encoding", "dcb")], CUSTOMER),
        (200, &[("content-type", "application/json")], "{\"iban\": \"DE02\""),
        (200, &[("content-type", "application/json")], "{\"iban\": \"DE02\"}{\"iban\": \"DE02\"}"),
        (200, &[("content-type", "application/json")], "{\"iban\": \"DE02\", \"a\": NaN}"),
        (200, &[("content-type", "application/json")], &deep),
        (200, &[("content-type", "text/event-stream")], "data: {\"iban\": \"DE02\"}\n\n"),
    ] {
        let (upstream, issuer) = (answering(status, fields, body), issuer());
        let proxy = before(&upstream, &issuer, MASK).start();
        let answer = client(&proxy).get("/customer").bearer(token(&issuer, "")).send();
        assert!(!answer.text().contains("DE02"), "{}", answer.text());
        answer.refused(502, "invalid_upstream_response");
        let records = proxy.done();
        assert_eq!(said(&records[0], "bartizan.stage"), "response", "{status} {fields:?} {body}");
    }
    let (upstream, issuer) = (answering(200, JSON, CUSTOMER), issuer());
    let proxy = before(&upstream, &issuer, &format!("max_size: 100B, {MASK}")).start();
    client(&proxy).get("/customer").bearer(token(&issuer, "")).send().refused(502, "invalid_upstream_response");
    proxy.done();
}

#[test]
fn a_head_and_an_empty_answer_tell_nothing() {
    let (empty, issuer) = (answering(202, &[], ""), issuer());
    let proxy = before(&empty, &issuer, MASK).start();
    assert_eq!(client(&proxy).get("/customer").bearer(token(&issuer, "")).send().is(202).text(), "");
    proxy.done();
    let upstream = upstream()
        .does(|call| {
            call.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 163\r\netag: \"1\"\r\n\r\n")
        })
        .start();
    let proxy = before(&upstream, &issuer, MASK).start();
    let mut client = client(&proxy);
    let answer = client.request("HEAD", "/customer").bearer(token(&issuer, "")).send();
    assert_eq!((answer.status, answer.header("content-length"), answer.header("etag")), (200, None, None));
    let all = client.request("HEAD", "/customer").bearer(token(&issuer, "customers:iban customers:pii")).send();
    assert_eq!((all.header("content-length"), all.header("etag")), (Some("163"), Some("\"1\"")));
    proxy.done();
}

#[test]
fn a_contract_is_checked_before_fields_are_hidden() {
    let (upstream, issuer) = (answering(200, JSON, CUSTOMER), issuer());
    let schema = r#"{"required": ["iban", "addresses"]}"#;
    let proxy = before(&upstream, &issuer, &format!("200: {{ json: c.json }}, {MASK}")).file("c.json", schema).start();
    assert_eq!(client(&proxy).get("/customer").bearer(token(&issuer, "")).send().is(200).text(), MASKED);
    proxy.done();
}

#[test]
fn a_route_that_only_reports_hides_what_it_can_and_counts_the_rest() {
    let issuer = issuer();
    for (fields, body, expected, would) in [
        (JSON, CUSTOMER, MASKED, "null"),
        (&[("content-type", "text/plain")][..], CUSTOMER, CUSTOMER, r#"["invalid_upstream_response"]"#),
    ] {
        let upstream = answering(200, fields, body);
        let policy = proxy().before(&upstream).trusts(&issuer);
        let asks = format!("scopes: [customers:read], mode: {{ response: report }}, response: {{ {MASK} }}");
        let proxy = policy.route("GET /customer", &asks).start();
        assert_eq!(client(&proxy).get("/customer").bearer(token(&issuer, "")).send().is(200).text(), expected);
        assert_eq!(said(&proxy.done()[0], "bartizan.would_refuse").to_string(), would);
    }
}

/// A contract that is only tried does not open what is hidden.
#[test]
fn a_contract_that_only_reports_hides_all_the_same() {
    let issuer = issuer();
    let upstream = answering(200, &[("content-type", "text/plain")], CUSTOMER);
    let proxy = before(&upstream, &issuer, &format!("json: c.json, mode: report, {MASK}")).file("c.json", "{}").start();
    client(&proxy).get("/customer").bearer(token(&issuer, "")).send().refused(502, "invalid_upstream_response");
    proxy.done();
}

/// A description of the customer, with this of its response.
fn described(content: &str, schemas: &str) -> String {
    format!(
        "openapi: 3.1.0
security: [{{ login: [customers:read] }}]
paths:
  /customer:
    get: {{ responses: {{ 200: {{ description: one, content: {{ {content} }} }} }} }}
components:
  schemas:
    Customer:
      type: object
      properties:
        iban: {{ x-bartizan: {{ visible_to: [customers:iban], else: keep_last 4 }} }}
        addresses: {{ type: array, items: {{ $ref: '#/components/schemas/Address' }} }}
    Address: {{ properties: {{ street: {{ x-bartizan: {{ visible_to: [customers:pii] }} }} }} }}
{schemas}  securitySchemes: {{ login: {{ type: http, scheme: bearer }} }}
"
    )
}

#[test]
fn a_description_says_what_only_some_callers_see() {
    let (upstream, issuer) = (answering(200, JSON, CUSTOMER), issuer());
    let json = "application/json: { schema: { $ref: '#/components/schemas/Customer' } }";
    let policy = |content: &str, schemas: &str| {
        let policy = proxy().before(&upstream).trusts(&issuer).file("api.yaml", described(content, schemas));
        policy.described("{ document: api.yaml, responses: off }")
    };
    let proxy = policy(json, "").start();
    let mut client = client(&proxy);
    assert_eq!(client.get("/customer").bearer(token(&issuer, "")).send().is(200).text(), MASKED);
    let all = client.get("/customer").bearer(token(&issuer, "customers:iban customers:pii")).send().is(200);
    assert_eq!(all.text(), CUSTOMER);
    proxy.done();
    let node = "    Node: { properties: { secret: { x-bartizan: { visible_to: [] } }, next: { $ref: '#/components/schemas/Node' } } }\n";
    for (content, schemas, expected) in [
        (&*format!("{json}, text/event-stream: {{}}"), "", "`visible_to` hides fields of JSON"),
        ("application/json: { schema: { x-bartizan: { visible_to: [a] } } }", "", "the whole body cannot be hidden"),
        (
            "application/json: { schema: { properties: { a: { x-bartizan: { visible_to: a } } } } }",
            "",
            "this does not say who sees it",
        ),
        (
            "application/json: { schema: { properties: { a: { x-bartizan: { visible: [a] } } } } }",
            "",
            "unknown key `visible`",
        ),
        ("application/json: { schema: { $ref: '#/components/schemas/Node' } }", node, "this schema contains itself"),
    ] {
        let said = policy(content, schemas).fails();
        assert!(said.contains(expected), "{content}: {said}");
    }
}

#[test]
fn check_reports_masks_that_hide_nothing() {
    let (upstream, issuer) = (upstream().start(), issuer());
    for (response, expected) in [
        ("mask: { /a: { visible_to: [] } }", ""),
        ("mask: { /a: { visible_to: [b], else: null } }", ""),
        ("mask: { /a: { visible_to: [b], else: \"***\" } }", ""),
        ("mask: { a: { visible_to: [b] } }", "a path begins with `/`"),
        ("mask: { /a~2: { visible_to: [b] } }", "`~0` is a `~`"),
        ("mask: { /a: {} }", "`visible_to` is missing"),
        ("mask: { /a: { visible_to: [b], else: keep_first 4 } }", "is nothing that can stand in place of a value"),
        (
            "mask: { /a: { visible_to: [b] } }, unchecked: [text/event-stream]",
            "`mask` hides fields of JSON that is read whole",
        ),
        (
            "mask: { /a: { visible_to: [b] } }, 200: { unchecked: [text/csv] }",
            "`mask` hides fields of JSON that is read whole",
        ),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let path = before(&upstream, &issuer, response).with("strict: false").write(folder.path());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").arg("check").arg(path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{response}: {said}");
        assert_eq!(output.status.success(), expected.is_empty(), "{response}: {said}");
    }
}

#[test]
fn explain_and_test_show_what_a_caller_does_not_see() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let tests = "policy: policy.yaml
tests:
  - name: without a scope for it
    as: { issuer: corp, id: app, scopes: [customers:read, customers:pii] }
    request: GET /customer
    expect: { status: 200, hidden: [/iban] }
  - name: with all scopes
    as: { issuer: corp, id: app, scopes: [customers:read, customers:pii, customers:iban] }
    request: GET /customer
    expect: { hidden: [] }
";
    let folder = tempfile::TempDir::new().unwrap();
    before(&upstream, &issuer, MASK).file("t.yaml", tests).write(folder.path());
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").current_dir(folder.path()).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let who = "{ issuer: corp, id: app, scopes: [customers:read] }";
    let (_, said) = run(&["explain", "--policy", "policy.yaml", "GET", "/customer", "--as", who]);
    assert!(said.contains("the caller does not see /addresses/*/street, /iban"), "{said}");
    let (code, said) = run(&["test", "t.yaml"]);
    assert_eq!(code, Some(0), "{said}");
}
