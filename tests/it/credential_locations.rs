//! Where credentials are: in `Authorization`, a header, a cookie, the query. None of them goes further than it must.

use std::process::Command;

use http_body_util::{BodyExt, Empty};

use crate::http2::over_http2;
use crate::support::client::operator;
use crate::support::proxy::{ADMIN_TOKEN, of_requests};
use crate::support::websocket::{closed, hears, open, says, sockets};
use crate::support::*;

const FROM: &str = "tokens: { from: [authorization, { cookie: session }, { header: x-access-token }] }";
const KEY: &str = "a-key-for-tests-only";

/// An API that takes tokens from three places.
fn three_places(upstream: &Upstream, issuer: &issuer::Issuer) -> Policy {
    let asks = "scopes: [orders:read]";
    proxy().before(upstream).trusts(issuer).auth(FROM).route("GET /x", asks).route("POST /x", asks)
}

/// An API whose consumer has an API key, which is in this place.
fn with_key(upstream: &Upstream, place: &str) -> Policy {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, KEY.as_bytes());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = format!("[{{ id: acme-1, sha256: \"{digest}\" }}]");
    proxy()
        .before(upstream)
        .auth(&format!("api_keys: {{ {place} }}"))
        .with("roles: { clerk: [orders:read] }")
        .with(&format!("consumers: {{ acme: {{ roles: [clerk], plan: free, keys: {keys} }} }}"))
        .route("GET /x", "scopes: [orders:read]")
}

#[test]
fn a_token_is_taken_from_each_place_and_goes_no_further() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = three_places(&upstream, &issuer).start();
    let (token, mut client) = (issuer.token().text(), client(&proxy));
    let cookie = format!("theme=dark; session={token}; lang=en");
    client.get("/x").bearer(&token).send().is(200);
    let answer = client.get("/x").header("cookie", &cookie).send().is(200);
    assert_eq!(answer.echoed("cookie"), ["theme=dark; lang=en"]);
    assert_eq!(answer.echoed("x-consumer-id"), ["corp:alice"]);
    let answer = client.get("/x").header("x-access-token", &token).send().is(200);
    assert_eq!(answer.echoed("x-access-token"), [""; 0]);
    client.request("HEAD", "/x").header("cookie", &cookie).send().is(200);
    let two = client.get("/x").header("cookie", &cookie).header("x-access-token", &token);
    two.send().refused(400, "malformed_request");
    let twice = client.get("/x").header("cookie", &format!("{cookie}; session={token}"));
    twice.send().refused(400, "malformed_request");
    let two_fields = client.get("/x").header("cookie", &cookie).header("cookie", &cookie);
    two_fields.send().refused(400, "malformed_request");
    let quoted = client.get("/x").header("cookie", &format!("session=\"{token}\""));
    quoted.send().refused(401, "invalid_token");
    client.get("/x").header("cookie", "session=").send().refused(401, "missing_credentials");
    let nothing = client.get("/x").header("cookie", "theme=dark").send().refused(401, "missing_credentials");
    assert_eq!(nothing.header("www-authenticate"), Some("Bearer realm=\"api\""));
    assert!(nothing.text().contains("the cookie `session` or the header `x-access-token`"), "{}", nothing.text());
    let signature = token.rsplit('.').next().unwrap();
    let seen = upstream.seen();
    assert_eq!(seen.len(), 4);
    assert!(!format!("{:?}", seen.iter().map(|seen| &seen.head).collect::<Vec<_>>()).contains(signature));
    assert!(!Value::from(proxy.done()).to_string().contains(signature));
}

#[test]
fn a_token_that_is_bound_to_a_key_is_taken_only_with_its_proof() {
    let (upstream, issuer, key) = (upstream().start(), issuer(), issuer::Key::ec("own"));
    let proxy = three_places(&upstream, &issuer).start();
    let token = issuer.token().bound_to(&key).text();
    let mut client = client(&proxy);
    client.get("/x").header("x-access-token", &token).send().refused(401, "invalid_dpop_proof");
    client.get("/x").header("cookie", &format!("session={token}")).send().refused(401, "invalid_dpop_proof");
    upstream.saw_nothing();
    proxy.done();
}

/// Cross-site request forgery: a page of another site sends the cookie of its visitor.
#[test]
fn a_cookie_changes_nothing_for_a_page_of_another_site() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let cors = "cors: { origins: [https://app.example], credentials: true }";
    let proxy = three_places(&upstream, &issuer).api(cors).start();
    let (token, mut client) = (issuer.token().text(), client(&proxy));
    let cookie = format!("session={token}");
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("referer", "http://a.example/"),
    ] {
        let forged = client.post("/x", "{}").host("a.example").header("cookie", &cookie).header(name, value);
        forged.send().refused(403, "cross_site_request");
    }
    upstream.saw_nothing();
    for (name, value) in
        [("origin", "https://app.example"), ("origin", "http://a.example"), ("sec-fetch-site", "same-origin")]
    {
        let own = client.post("/x", "{}").host("a.example").header("cookie", &cookie).header(name, value);
        own.send().is(200);
    }
    // What is not sent by browsers of themselves needs none of that.
    client.post("/x", "{}").header("x-access-token", &token).send().is(200);
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.reason"), "cross_site_request");
    assert_eq!(said(&records[0], "bartizan.stage"), "auth");
}

/// An origin that may read responses without credentials may not act for its visitors.
#[test]
fn a_page_that_may_only_read_may_not_use_a_cookie() {
    let (upstream, issuer) = (upstream().start(), issuer());
    for cors in ["cors: { origins: [https://app.example] }", "cors: { origins: [\"*\"] }"] {
        let proxy = three_places(&upstream, &issuer).api(cors).start();
        let mut client = client(&proxy);
        let cookie = format!("session={}", issuer.token().text());
        let forged = client.post("/x", "{}").header("cookie", &cookie).header("origin", "https://app.example");
        forged.send().refused(403, "cross_site_request");
        proxy.done();
    }
    upstream.saw_nothing();
}

/// RFC 9113 §8.2.3: a browser may send each cookie in a field of its own.
#[test]
fn cookies_of_http_2_are_taken_apart_and_put_together() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = three_places(&upstream, &issuer).start();
    let token = issuer.token().text();
    proxy.owes(2);
    over_http2(&proxy, async |mut sender| {
        for (cookies, status) in [
            (vec!["a=1".to_owned(), format!("session={token}"), "b=2".to_owned()], 200),
            (vec![format!("session={token}"), format!("session={token}")], 400),
        ] {
            sender.ready().await.unwrap();
            let mut request = http::Request::get("http://a.example/x");
            for cookie in cookies {
                request = request.header("cookie", cookie);
            }
            let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status);
            answer.into_body().collect().await.unwrap();
        }
    });
    assert_eq!(upstream.only().header("cookie"), Some("a=1; b=2"));
    proxy.done();
}

#[test]
fn a_websocket_that_a_cookie_opened_ends_with_its_token() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .auth(FROM)
        .with("store: state/")
        .with("consumers: { acme: { plan: free, identities: [{ issuer: corp, id: acme-app }] } }")
        .route("GET /feed", "scopes: [feed:read], upgrade: { websocket: {} }")
        .start();
    let token = issuer.token().claim("client_id", "acme-app").scope("feed:read");
    let cookie = format!("cookie: a=1; session={}\r\n", token.text());
    let mut other_page = client(&proxy);
    assert_eq!(open(&mut other_page, "/feed", &format!("{cookie}origin: https://evil.example\r\n")).word(1), "403");
    let mut client = client(&proxy);
    assert_eq!(open(&mut client, "/feed", &format!("{cookie}sec-fetch-site: same-origin\r\n")).word(1), "101");
    assert_eq!(hears(&mut client), "welcome");
    // It is decided about again with the cookie.
    says(&mut client, "one");
    assert_eq!(hears(&mut client), "one");
    let mut operator = operator(&proxy);
    let suspends = operator.request("PUT", "/v1/consumers/acme/suspension").bearer(ADMIN_TOKEN);
    assert_eq!(suspends.body(r#"{"reason": "left"}"#).send().status, 200);
    assert_eq!(closed(&mut client), (1008, "consumer_suspended".to_owned()));
    proxy.stop();
}

#[test]
fn a_key_in_the_query_is_taken_off_and_is_on_no_record() {
    let upstream = upstream().start();
    let policy = with_key(&upstream, "query: api_key");
    assert!(policy.checked().contains("ends in the histories and logs"), "{}", policy.checked());
    let proxy = policy.start();
    let mut client = client(&proxy);
    for (sent, forwarded) in [
        (format!("/x?api_key={KEY}"), "/x"),
        (format!("/x?a=1&api_key={KEY}&b=%20"), "/x?a=1&b=%20"),
        (format!("/x?api_key={}&a=1", KEY.replace('-', "%2d")), "/x?a=1"),
    ] {
        let answer = client.get(&sent).send().is(200);
        assert_eq!(answer.json()["target"], forwarded, "{sent}");
    }
    for sent in [
        format!("/x?api_key={KEY}&api_key={KEY}"),
        format!("/x?api_key={KEY}&api%5Fkey={KEY}"),
        format!("/x?API_KEY={KEY}"),
    ] {
        client.get(&sent).send().refused(400, "malformed_request");
    }
    client.get("/x?api_key=").send().refused(401, "invalid_key");
    client.get("/x").key(KEY).send().refused(401, "missing_credentials");
    client.get(&format!("/nothing?api_key={KEY}")).send().refused(404, "no_route");
    assert_eq!(upstream.seen().len(), 3);
    let (stderr, records) = (proxy.stderr.all().concat(), proxy.done());
    assert!(!Value::from(records).to_string().contains(KEY));
    assert!(!stderr.contains(KEY));
}

#[test]
fn a_key_in_the_query_goes_on_where_credentials_are_forwarded() {
    let upstream = upstream().start();
    let proxy = with_key(&upstream, "query: api_key").upstream("forward_credentials: true").start();
    let answer = client(&proxy).get(&format!("/x?api_key={KEY}&a=1")).send().is(200);
    assert_eq!(answer.json()["target"], format!("/x?api_key={KEY}&a=1"));
    proxy.done();
}

/// A redirect must not make a key that was sent in clear look as if it worked.
#[test]
fn a_key_in_the_query_is_not_redirected() {
    let upstream = upstream().start();
    let proxy = with_key(&upstream, "query: api_key")
        .api("hosts: [a.example]")
        .listen("{ address: \"127.0.0.1:0\", redirect: https }")
        .listen("{ address: \"127.0.0.2:0\" }")
        .start();
    let answer = client(&proxy).get(&format!("/x?a=1&api_key={KEY}")).host("a.example").send();
    assert_eq!((answer.status, answer.header("location")), (308, Some("https://a.example/x?a=1")));
    proxy.done();
}

#[test]
fn a_key_may_follow_a_scheme_of_its_own() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = with_key(&upstream, "authorization: ApiKey").trusts(&issuer).start();
    let mut client = client(&proxy);
    let answer = client.get("/x").header("authorization", &format!("ApiKey {KEY}")).send().is(200);
    assert_eq!(answer.echoed("authorization"), [""; 0]);
    client.get("/x").bearer(issuer.token()).send().is(200);
    for value in ["ApiKey no-key", "Basic YTpi"] {
        let answer = client.get("/x").header("authorization", value).send();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"api\", ApiKey realm=\"api\""), "{value}");
    }
    let answer = client.get("/x").bearer("no-token").send().refused(401, "invalid_token");
    assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer realm=\"api\", error=\"invalid_token\""));
    proxy.done();
}

#[test]
fn a_drill_sends_its_key_where_the_policy_has_keys() {
    let upstream = upstream().start();
    for place in ["query: api_key", "authorization: ApiKey", "header: x-own-key"] {
        let proxy = with_key(&upstream, place).with("store: state/").start();
        let admin = format!("http://{}", proxy.admin());
        let drill = |more: &[&str]| {
            let mut drill = Command::new(env!("CARGO_BIN_EXE_bartizan"));
            let key = ["drill", "revocation", "--key", KEY, "--key-id", "acme-1", "--path", "/x?a=1"];
            drill.args(key).args(["--node", &proxy.url("")]).args(more).env_remove("BARTIZAN_POLICY").output().unwrap()
        };
        // The policy, with the address that its port 0 has become.
        let operators = proxy.file("operators.yaml");
        let policy = std::fs::read_to_string(proxy.file("policy.yaml")).unwrap();
        let (before, after) = policy.split_once("admin:").unwrap();
        let after = after.replacen("127.0.0.1:0", &proxy.admin().to_string(), 1);
        std::fs::write(&operators, format!("{before}admin:{after}")).unwrap();
        let output = drill(&["--policy", operators.to_str().unwrap()]);
        assert!(output.status.success(), "{place}: {output:?}");
        let node = ["--admin", &admin, "--admin-token", ADMIN_TOKEN];
        let (option, name) = place.split_once(": ").unwrap();
        let option = format!("--key-{}", if option == "authorization" { "scheme" } else { option });
        assert!(drill(&[&node[..], &[&option, name]].concat()).status.success(), "{place}");
        assert!(!drill(&node).status.success(), "{place}");
    }
}

#[test]
fn what_cannot_be_a_place_is_an_error() {
    let upstream = upstream().start();
    for (auth, expected) in [
        ("tokens: { from: [] }", "tokens are taken from nowhere"),
        ("tokens: { from: [authorization, authorization] }", "this place is listed twice"),
        ("tokens: { from: [cookie] }", "cookie"),
        ("tokens: { from: [{ cookie: \"a b\" }] }", "this is not the name of a cookie"),
        ("tokens: { from: [{ header: authorization }] }", "write `authorization`, without `header`"),
        ("tokens: { from: [{ header: Cookie }] }", "name the cookie"),
        ("tokens: { from: [{ header: host }] }", "this header cannot carry tokens"),
        ("tokens: { from: [{ header: sec-fetch-site }] }", "this header cannot carry tokens"),
        ("tokens: { from: [{ header: x-api-key }] }", "`x-api-key` carries API keys"),
        ("tokens: { from: [{ header: \"a b\" }] }", "this is not the name of a header"),
        ("api_keys: { header: x-key, query: key }", "API keys are in one place"),
        ("api_keys: { authorization: Bearer }", "tokens come with this scheme"),
        ("api_keys: { authorization: Basic }", "not a scheme that API keys can come with"),
        ("api_keys: { authorization: \"a b\" }", "not a scheme that API keys can come with"),
        ("api_keys: { query: \"a b\" }", "not a name that every server reads in the same way"),
        ("api_keys: { header: x_consumer_id }", "this header cannot carry API keys"),
    ] {
        let said = proxy().before(&upstream).auth(auth).open("GET /x").checked();
        assert!(said.contains(expected) && said.contains("error"), "{auth}: {said}");
    }
    let apart = proxy().before(&upstream).auth("api_keys: { authorization: Bearer }");
    let said = apart.auth("tokens: { from: [{ cookie: session }] }").open("GET /x").checked();
    assert!(!said.contains("error"), "{said}");
    let compares = "scopes: [a], where: { query.key: caller.user }";
    let said = proxy().before(&upstream).auth("api_keys: { query: key }").route("GET /x", compares).checked();
    assert!(said.contains("the query parameter `key`, which carries API keys"), "{said}");
}

#[test]
fn the_records_of_requests_with_cookies_say_who_came() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = three_places(&upstream, &issuer).start();
    let cookie = format!("session={}", issuer.token().text());
    client(&proxy).get("/x").header("cookie", &cookie).send().is(200);
    let records = proxy.done();
    let record = of_requests(&records).next().unwrap();
    assert_eq!(said(record, "bartizan.credential.kind"), "jwt");
    assert_eq!(said(record, "bartizan.consumer"), "corp:alice");
}

#[test]
fn a_credential_that_an_api_does_not_take_is_an_ordinary_header() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = with_key(&upstream, "header: x-api-key").trusts(&issuer).api("authenticate_by: [api_key]").start();
    let (token, mut client) = (issuer.token().text(), client(&proxy));
    let answer = client.get("/x").key(KEY).bearer(&token).send().is(200);
    assert_eq!(answer.echoed("authorization"), [format!("Bearer {token}")]);
    assert_eq!((answer.echoed("x-consumer-id"), answer.echoed("x-api-key").len()), (vec!["acme".to_owned()], 0));
    let answer = client.get("/x").bearer(&token).send().refused(401, "missing_credentials");
    assert_eq!(answer.json()["detail"], "send an API key");
    proxy.done();

    let proxy = with_key(&upstream, "query: key").trusts(&issuer).api("authenticate_by: [token]").start();
    let mut client = client::client(&proxy);
    let answer = client.get("/x?key=theirs").bearer(&token).send().is(200);
    assert_eq!(answer.json()["target"], "/x?key=theirs");
    client.get(&format!("/x?key={KEY}")).send().refused(401, "missing_credentials");
    proxy.done();
}

#[test]
fn routes_that_nobody_could_call_are_errors() {
    let (upstream, issuer) = (upstream().start(), issuer());
    for (kinds, asks, expected) in [
        ("[]", "public: true", "an API that takes no credential"),
        ("[token, token]", "public: true", "this kind is listed twice"),
        ("[password]", "public: true", "password"),
        ("[certificate]", "scopes: []", "no listener takes client certificates"),
        ("[api_key]", "scopes: []", "no consumer has an API key"),
        ("[token]", "scopes: [], proof_of_possession: [certificate]", "nobody can call `GET /x`"),
        ("[api_key]", "scopes: [], max_age: 5m", "`max_age` is about tokens"),
        ("[api_key]", "scopes: [], where: { query.user: caller.user }", "`caller.user` is the user of a token"),
    ] {
        let policy = proxy().before(&upstream).trusts(&issuer).api(&format!("authenticate_by: {kinds}"));
        let said = policy.route("GET /x", asks).checked();
        assert!(said.contains(expected), "{kinds} {asks}: {said}");
    }
    let bound = proxy().before(&upstream).trusts(&issuer).auth("tokens: { from: [{ cookie: session }] }");
    let said = bound.route("GET /x", "scopes: [], proof_of_possession: [dpop]").checked();
    assert!(said.contains("`dpop` needs `authorization`"), "{said}");
}

/// What a description says of keys in the query, and tokens in cookies, is what `init` writes.
#[test]
fn a_description_says_where_credentials_are() {
    let folder = tempfile::TempDir::new().unwrap();
    let description = "openapi: 3.1.0\ninfo: { title: Orders, version: \"1\" }\npaths:\n  \
        /a: { get: { operationId: a, security: [{ key: [] }], responses: { default: { description: any } } } }\n  \
        /b: { get: { operationId: b, security: [{ session: [] }], responses: { default: { description: any } } } }\n\
        components:\n  securitySchemes:\n    \
        key: { type: apiKey, in: query, name: api_key }\n    session: { type: apiKey, in: cookie, name: sid }\n";
    std::fs::write(folder.path().join("api.yaml"), description).unwrap();
    let bartizan = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").current_dir(folder.path()).args(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    bartizan(&["init", "--openapi", "api.yaml", "--upstream", "http://127.0.0.1:9", "--out", "policy.yaml"]);
    let policy = std::fs::read_to_string(folder.path().join("policy.yaml")).unwrap();
    assert!(policy.contains("api_keys: { query: api_key }"), "{policy}");
    assert!(policy.contains("tokens: { from: [authorization, { cookie: sid }] }"), "{policy}");
    let server = || proxy().server("http://127.0.0.1:9").file("api.yaml", description).described("api.yaml");
    let said = server().auth("api_keys: { query: api_key }").auth("tokens: { from: [{ cookie: sid }] }").checked();
    assert!(!said.contains("expects"), "{said}");
    let said = server().checked();
    assert!(said.contains("expects API keys in the query parameter `api_key`, this policy in `x-api-key`"), "{said}");
    assert!(said.contains("expects tokens in the cookie `sid`, where this policy takes none"), "{said}");
}
