//! Which operations of a description are open, and what becomes of the others.

use crate::support::upstream::Call;
use crate::support::*;

/// A description with these paths, for callers with a token; operations that say nothing need `read`.
fn document(paths: &str) -> String {
    format!(
        "openapi: 3.1.0\nsecurity: [{{ login: [read] }}]\npaths:\n{paths}components:\n  securitySchemes:\n    \
         login: {{ type: http, scheme: bearer }}\n    basic: {{ type: http, scheme: basic }}\n    \
         key: {{ type: apiKey, in: header, name: X-Key }}\n    other: {{ type: apiKey, in: header, name: X-Other }}\n"
    )
}

/// Sends a request with these scopes; the status, or the code of the refusal.
#[track_caller]
fn says(client: &mut client::Client, issuer: &issuer::Issuer, request: &str, scopes: &str) -> String {
    let (method, target) = request.split_once(' ').unwrap();
    let answer = client.request(method, target).bearer(issuer.token().scope(scopes)).send();
    match answer.status {
        200 => "200".to_owned(),
        _ => answer.json()["code"].as_str().unwrap().to_owned(),
    }
}

/// F1
#[test]
fn an_operation_with_text_beside_a_name_is_not_taken_by_a_wider_one() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let paths = "  /keys: { get: {} }
  /keys/{id}: { get: {} }
  '/keys/{id}:reveal': { get: { security: [{ login: [admin] }] } }
  /keys/{id}.csv: { get: { security: [{ login: [admin] }] } }
  '/keys?action=export': { get: { security: [{ login: [admin] }] } }
  /keys/{a}{b}/x: { get: { security: [{ login: [admin] }] } }
";
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .file("api.yaml", document(paths))
        .described("api.yaml")
        .route("GET /keys/{id}/{rest...}", "scopes: [read]")
        .route("GET /own/{name}", "scopes: [read]")
        .route("GET /own/{from}-{to}:diff", "scopes: [admin]")
        .start();
    let mut client = client(&proxy);
    for (request, reader, admin) in [
        ("GET /keys/7", "200", "insufficient_scope"),
        ("GET /keys/7:reveal", "insufficient_scope", "200"),
        ("GET /keys/7%3Areveal", "malformed_request", "malformed_request"),
        ("GET /keys/7%3areveal", "malformed_request", "malformed_request"),
        ("GET /keys/7:reveal;x=1", "malformed_request", "malformed_request"),
        ("GET /keys/7.csv", "insufficient_scope", "200"),
        ("GET /keys/7%2Ecsv", "insufficient_scope", "200"),
        ("GET /keys?x=action", "200", "insufficient_scope"),
        ("GET /keys?action=export", "no_route", "no_route"),
        ("GET /keys?%61ction=EXPORT", "no_route", "no_route"),
        ("GET /keys/7/y", "200", "insufficient_scope"),
        ("GET /keys/7/x", "no_route", "no_route"),
        ("GET /own/1-2:diff", "insufficient_scope", "200"),
        ("GET /own/1-2", "200", "insufficient_scope"),
    ] {
        assert_eq!(says(&mut client, &issuer, request, "read"), reader, "{request}");
        assert_eq!(says(&mut client, &issuer, request, "admin"), admin, "{request}");
    }
    proxy.done();
}

/// F2, F8
#[test]
fn one_odd_place_closes_its_operation_and_nothing_else() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let paths = "  /good: { get: {} }
  /examples:
    post:
      requestBody: { content: { examples: {}, application/json: { schema: { type: object } } } }
  /basic: { get: { security: [{ basic: [] }] } }
  /both: { get: { security: [{ key: [], other: [] }] } }
  /broken: { get: { parameters: [{ $ref: '#/nowhere' }] } }
  /schema: { post: { requestBody: { content: { application/json: { schema: { $ref: '#/nowhere' } } } } } }
  /item: { $ref: '#/nowhere' }
  /same/{a}: { get: {} }
  /same/{b}: { get: {} }
  /old: { get: { operationId: getOld } }
  /older: { get: {} }
";
    let policy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .file("api.yaml", document(paths))
        .described("{ document: api.yaml, skip: [getOld, GET /older] }")
        .route("GET /{rest...}", "scopes: [read]")
        .route("POST /{rest...}", "scopes: [read]");
    let closed = policy.clone().start();
    let mut client = client(&closed);
    for (request, expected) in [
        ("GET /good", "200"),
        ("GET /anything", "200"),
        ("POST /examples", "200"),
        ("GET /basic", "no_route"),
        ("GET /both", "no_route"),
        ("GET /broken", "no_route"),
        ("POST /schema", "no_route"),
        ("GET /item", "no_route"),
        ("GET /same/1", "no_route"),
        ("GET /old", "no_route"),
        ("GET /older", "no_route"),
    ] {
        assert_eq!(says(&mut client, &issuer, request, "read"), expected, "{request}");
    }
    client.request("HEAD", "/basic").bearer(issuer.token().scope("read")).send().is(404);
    closed.done();

    // The policy's own route decides.
    let routes = ["GET /basic", "GET /both", "GET /broken", "POST /schema", "GET /item", "GET /same/{a}", "GET /old"];
    let own = routes.iter().fold(policy, |policy, route| policy.route(route, "scopes: [own]")).start();
    let mut client = crate::support::client(&own);
    for route in routes {
        assert_eq!(says(&mut client, &issuer, &route.replace("{a}", "1"), "own"), "200", "{route}");
        assert_eq!(says(&mut client, &issuer, &route.replace("{a}", "1"), "read"), "insufficient_scope", "{route}");
    }
    own.done();
}

/// What the upstream answers is asked for by the path: a status, and the name of a member.
fn answering() -> Upstream {
    let answers = |call: &mut Call<'_>| {
        let target = call.head.word(1).to_owned();
        let mut words = target.split('/').skip(2);
        let status = words.next().and_then(|status| status.parse().ok()).unwrap_or(200);
        let body = match words.next() {
            Some("large") => format!("{{\"id\": \"{}\"}}", "x".repeat(2 << 20)),
            Some("") | None => String::new(),
            Some(member) => format!("{{\"{member}\": \"x\"}}"),
        };
        call.answer(status, &[("content-type", "application/json")], body)
    };
    upstream().does(answers).start()
}

const ITEM: &str = "  /r/{status}/{member}:
    get: { responses: { 200: { content: { application/json: { schema: { $ref: '#/components/schemas/Item' } } } } } }
    put:
      requestBody: { content: { application/json: { schema: { $ref: '#/components/schemas/Item' } } } }
      responses: { 200: { description: done } }
";
const ITEM_SCHEMA: &str = "  schemas:
    Item:
      type: object
      additionalProperties: false
      properties: { id: { type: string, readOnly: true }, name: { type: string }, secret: { type: string, writeOnly: true } }
";

fn items(upstream: &Upstream, issuer: &issuer::Issuer, openapi: &str) -> Policy {
    let document = document(ITEM) + ITEM_SCHEMA;
    proxy().before(upstream).trusts(issuer).file("api.yaml", document).described(openapi)
}

#[track_caller]
fn put(client: &mut client::Client, token: &str, body: &str) -> client::Answer {
    let request = client.request("PUT", "/r/200/id").header("content-type", "application/json");
    request.body(body).bearer(token).send()
}

/// F5
#[test]
fn a_status_that_is_not_described_does_not_leak_what_a_described_one_blocks() {
    let (upstream, issuer) = (answering(), issuer());
    for (undescribed, expected, recorded) in [
        ("", 502, Some("invalid_upstream_response")),
        (", undescribed: block", 502, Some("invalid_upstream_response")),
        (", undescribed: report", 201, Some("invalid_upstream_response")),
        (", undescribed: allow", 201, None),
    ] {
        let proxy = items(&upstream, &issuer, &format!("{{ document: api.yaml{undescribed} }}")).start();
        let mut client = client(&proxy);
        let mut get = |path: &str| client.get(path).bearer(issuer.token().scope("read")).send().status;
        assert_eq!(get("/r/200/secret"), 502);
        assert_eq!(get("/r/201/secret"), expected, "{undescribed}");
        assert_eq!(get("/r/404/secret"), 404, "errors are rarely described");
        assert_eq!(get("/r/200/id"), 200);
        let records = proxy.done();
        let reported = said(&records[1], "bartizan.would_refuse")[0].as_str();
        let refused = said(&records[1], "event.reason").as_str();
        assert_eq!(reported.or(refused), recorded, "{undescribed}");
    }
}

/// F6
#[test]
fn members_of_the_other_direction_are_refused_reported_or_allowed() {
    let (upstream, issuer) = (answering(), issuer());
    for (choice, request, response) in [("", 422, 502), (": report", 200, 200), (": allow", 200, 200)] {
        let choices =
            if choice.is_empty() { String::new() } else { format!(", read_only{choice}, write_only{choice}") };
        let proxy = items(&upstream, &issuer, &format!("{{ document: api.yaml{choices} }}")).start();
        let mut client = client(&proxy);
        let token = issuer.token().scope("read").text();
        let send = |client: &mut client::Client, body: &str| put(client, &token, body).status;
        assert_eq!(send(&mut client, r#"{"name": "a"}"#), 200);
        assert_eq!(send(&mut client, r#"{"id": "1", "name": "a"}"#), request, "{choice}");
        assert_eq!(send(&mut client, r#"{"id": "1", "other": "a"}"#), 422, "{choice}");
        client.get("/r/200/secret").bearer(&token).send().is(response);
        client.get("/r/200/other").bearer(&token).send().is(502);
        let records = proxy.done();
        let would = |at: usize| said(&records[at], "bartizan.would_refuse").to_string();
        if choice == ": report" {
            assert_eq!(would(1), r#"["schema_violation"]"#);
            assert_eq!(said(&records[1], "bartizan.violations")[0]["pointer"], "/id");
            assert_eq!(would(3), r#"["invalid_upstream_response"]"#);
        } else {
            assert!([0, 1, 2, 3, 4].iter().all(|at| would(*at) == "null"), "{choice}");
        }
    }
}

/// F19
#[test]
fn the_policy_says_how_large_described_answers_may_be() {
    let (upstream, issuer) = (answering(), issuer());
    for (openapi, route, expected) in [
        ("api.yaml", "", 502),
        ("{ document: api.yaml, max_size: 3MiB }", "", 200),
        ("api.yaml", "response: { max_size: 3MiB }", 200),
        ("{ document: api.yaml, max_size: 3MiB }", "response: { max_size: 2MiB }", 502),
        ("api.yaml", "response: { mode: report }", 200),
    ] {
        let policy = items(&upstream, &issuer, openapi);
        let policy = if route.is_empty() { policy } else { policy.route("GET /r/{status}/{member}", route) };
        let proxy = policy.start();
        let mut client = client(&proxy);
        client.get("/r/200/large").bearer(issuer.token().scope("read")).send().is(expected);
        let still = client.get("/r/200/secret").bearer(issuer.token().scope("read")).send();
        assert_eq!(still.status == 502, !route.contains("report"), "the description still applies");
        let records = proxy.done();
        if expected == 502 {
            assert_eq!(said(&records[0], "bartizan.violations")[0]["keyword"], "max_size", "the operator sees why");
        }
    }
}

/// F16, F17
#[test]
fn an_empty_optional_body_and_a_byte_order_mark_are_no_errors() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = items(&upstream, &issuer, "api.yaml").start();
    let mut client = client(&proxy);
    let token = issuer.token().scope("read").text();
    for kind in ["application/json", "text/plain"] {
        client.request("PUT", "/r/1/2").header("content-type", kind).bearer(&token).send().is(200);
    }
    let head = format!(
        "PUT /r/1/2 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    client.raw(head, 1).more("0\r\n\r\n");
    client.answer_to("PUT").is(200);
    let marked = "\u{feff}{\"name\": \"a\"}";
    assert_eq!(put(&mut client, &token, marked).is(200).json()["body"], marked, "the very bytes go on");
    put(&mut client, &token, "\u{feff}{\"name\": 1}").is(422);
    put(&mut client, &token, "\u{feff}\u{feff}{}").is(400);
    proxy.done();
}

/// F1, F4, F8, F15
#[test]
fn what_well_known_descriptions_contain_is_honoured_or_closed() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .file("odd.yaml", include_str!("../cases/openapi/odd.openapi.yaml"))
        .described("{ document: odd.yaml, strict: true }")
        .start();
    let mut client = client(&proxy);
    let token = issuer.token().scope("use").text();
    let image = |kind: &str| {
        format!(
            "--b\r\ncontent-disposition: form-data; name=image; filename=a\r\ncontent-type: {kind}\r\n\r\nx\r\n--b--\r\n"
        )
    };
    let (form, parts, json) =
        ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/json");
    for (request, kind, body, status) in [
        ("GET /Accounts/AC00ff/Messages/SM00ff.json", "", String::new(), 200),
        ("GET /Accounts/AC00ff/Messages/SM00ff", "", String::new(), 404),
        ("GET /Accounts/AC00ff/Messages/XX00ff.json", "", String::new(), 422),
        ("DELETE /Accounts/AC00ff/Messages/SM00ff.json", "", String::new(), 404),
        ("POST /item/get", json, r#"{"client_id": "a"}"#.to_owned(), 200),
        ("POST /item/get", json, "{}".to_owned(), 422),
        ("GET /Invoices/1/Attachments/2", "", String::new(), 404),
        ("GET /files/1", "", String::new(), 200),
        ("PUT /files/1", "", String::new(), 404),
        ("POST /actions", "", String::new(), 200),
        ("POST /actions?tag_name=a", "", String::new(), 404),
        ("GET /charges?created=5", "", String::new(), 200),
        ("GET /charges?created[gt]=5&created[lt]=9&expand[]=a&expand[]=b", "", String::new(), 200),
        ("GET /charges?expand%5B0%5D=a&ids=1%2C2,3", "", String::new(), 200),
        ("GET /charges?created[gt]=soon", "", String::new(), 422),
        ("GET /charges?created[gt][x]=5", "", String::new(), 422),
        ("GET /charges?ids=1%2Cx", "", String::new(), 422),
        ("GET /charges?ids[]=1", "", String::new(), 200),
        ("GET /charges?ids[a]=1", "", String::new(), 422),
        ("POST /charges", form, "amount=5&metadata[a]=b&items[0][price]=p&items[0][quantity]=2".to_owned(), 200),
        ("POST /charges", form, "amount=5&metadata=".to_owned(), 200),
        ("POST /charges", form, "amount=5&items[0][quantity]=two".to_owned(), 422),
        ("POST /charges", form, "amount=5&items[0][more]=2".to_owned(), 422),
        ("POST /charges", form, "amount[]=5".to_owned(), 422),
        ("POST /images", parts, image("image/png"), 200),
        ("POST /images", parts, image("text/html"), 422),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let target = format!("/2010-04-01{path}");
        let mut call = client.request(method, &target).bearer(&token);
        if !kind.is_empty() {
            call = call.header("content-type", kind).body(&body);
        }
        let answer = call.send();
        assert_eq!(answer.status, status, "{request} {body} {}", answer.text());
    }
    proxy.done();
}

/// F35
#[test]
fn an_answer_without_a_body_is_judged_only_under_its_own_status() {
    let answers = |call: &mut Call<'_>| {
        let status = call.head.word(1).rsplit('/').next().unwrap().parse().unwrap();
        let body = if call.head.word(1).contains("text") { "oops" } else { "" };
        call.answer(status, &[("location", "/elsewhere")], body)
    };
    let (upstream, issuer) = (upstream().does(answers).start(), issuer());
    let json = "content: { application/json: { schema: { type: object } } }";
    let paths = format!(
        "  /{{kind}}/{{status}}:\n    get:\n      responses: {{ 200: {{ {json} }}, 4XX: {{ {json} }}, default: {{ {json} }} }}\n"
    );
    let proxy =
        proxy().before(&upstream).trusts(&issuer).file("api.yaml", document(&paths)).described("api.yaml").start();
    let mut client = client(&proxy);
    for (target, status) in [
        ("/none/302", 302),
        ("/none/503", 503),
        ("/none/202", 202),
        ("/none/200", 502),
        ("/none/401", 502),
        ("/text/302", 502),
        ("/text/503", 502),
    ] {
        client.get(target).bearer(issuer.token().scope("read")).send().is(status);
    }
    proxy.done();
}
