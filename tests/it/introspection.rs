//! Which tokens are introspected, and how many at once.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::support::issuer::now;
use crate::support::*;

/// An introspection endpoint that answers when it may, and says of every token but `bad…` that it is active.
struct Endpoint {
    server: Upstream,
    /// How many questions came, and how many must come before any is answered.
    questions: Arc<(Mutex<(usize, usize)>, Condvar)>,
}

impl Endpoint {
    fn answering_after(least: usize) -> Self {
        let questions = Arc::new((Mutex::new((0, least)), Condvar::new()));
        let held = Arc::clone(&questions);
        let server = upstream().does(move |call| {
            let body = String::from_utf8_lossy(&call.body()?).into_owned();
            let mut asked = held.0.lock().unwrap();
            asked.0 += 1;
            held.1.notify_all();
            drop(held.1.wait_timeout_while(asked, DEADLINE, |(asked, least)| asked < least).unwrap());
            let kind = if body.contains("refresh") { "Refresh" } else { "Bearer" };
            let claims = json!({
                "active": !body.starts_with("token=bad"), "typ": kind, "client_id": "bob", "scope": "orders:read",
                "exp": now() + 300, "iat": now(),
            });
            call.answer(200, &[("content-type", "application/json")], claims.to_string())
        });
        Self { server: server.start(), questions }
    }

    fn asked(&self) -> usize {
        self.questions.0.lock().unwrap().0
    }

    /// Answers what was asked so far, and all that follows.
    fn answers(&self) {
        self.questions.0.lock().unwrap().1 = 0;
        self.questions.1.notify_all();
    }

    fn auth(&self, more: &str) -> String {
        let url = self.server.url();
        format!("partner: {{ endpoint: \"{url}/\", client_id: me, client_secret: s, default_plan: free{more} }}")
    }
}

/// S10: a token has three outcomes. No JWT, and a JWT of nobody known, are introspected; what the issuer's own rules
/// refuse is refused, whatever an endpoint would say.
#[test]
fn a_token_that_its_issuer_refuses_is_introspected_by_nobody() {
    let (upstream, issuer, endpoint) = (upstream().start(), issuer(), Endpoint::answering_after(0));
    let policy = proxy().before(&upstream).trusts(&issuer).route("GET /x", "scopes: [orders:read]");
    let text = policy.yaml().replace("auth:\n", &format!("auth:\n  introspection: {{ {} }}\n", endpoint.auth("")));
    let proxy = policy.text(&text).start();
    let mut client = client(&proxy);
    let good = issuer.token().text();
    for (token, code) in [
        (issuer.token().without_header("typ").claim("at_hash", "x").text(), "invalid_token"),
        (issuer.token().header("crit", json!(["exp"])).text(), "invalid_token"),
        (issuer.token().header("typ", "logout+jwt").text(), "invalid_token"),
        (issuer.token().claim("events", json!({})).text(), "invalid_token"),
        (issuer.token().header("kid", json!(["first"])).text(), "invalid_token"),
        (issuer.token().claim("aud", "others").text(), "invalid_token"),
        (issuer.token().claim("exp", now() - 600).text(), "expired_token"),
        (issuer.token().forged_with(issuer::Key::ec("first")).text(), "invalid_token"),
        // A second spelling, which a lenient endpoint would take for the token itself.
        (good.replacen('.', "=.", 1), "invalid_token"),
        (format!("!{good}"), "invalid_token"),
    ] {
        client.get("/x").bearer(&token).send().refused(401, code);
        assert_eq!(endpoint.asked(), 0, "{token}");
    }
    let foreign = issuer.token().claim("iss", "https://elsewhere.test").text();
    for (count, token) in ["opaque".to_owned(), foreign, format!("{good}.x.y")].iter().enumerate() {
        assert_eq!(client.get("/x").bearer(token).send().is(200).echoed("x-consumer-id"), ["partner:bob"]);
        assert_eq!(endpoint.asked(), count + 1);
    }
    // RFC 7662 §2.2: a refresh token is active, too, and still no access token.
    client.get("/x").bearer("refresh").send().refused(401, "invalid_token");
    proxy.done();
}

/// S13: guesses that come at once are counted before they are tried, so no more are tried than may fail.
#[test]
fn of_many_guesses_at_once_no_more_are_introspected_than_may_fail() {
    const MAY_FAIL: usize = 20;
    let (upstream, endpoint) = (upstream().start(), Endpoint::answering_after(MAY_FAIL));
    let auth = format!("auth: {{ failed_attempts: {MAY_FAIL}/h, introspection: {{ {} }} }}", endpoint.auth(""));
    let proxy = proxy().before(&upstream).with(&auth).route("GET /x", "scopes: [orders:read]").start();
    let mut statuses = thread::scope(|scope| {
        let calls: Vec<_> = (0..120)
            .map(|number| {
                let mut client = client(&proxy);
                scope.spawn(move || client.get("/x").bearer(format!("bad{number}")).send().status)
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
    });
    statuses.sort_unstable();
    assert_eq!(endpoint.asked(), MAY_FAIL);
    assert_eq!(statuses, [vec![401; MAY_FAIL], vec![429; 120 - MAY_FAIL]].concat());
    proxy.done();
}

/// S13: tokens that turn out good do not count, however many come at once.
#[test]
fn good_tokens_that_come_at_once_all_get_in() {
    let (upstream, endpoint) = (upstream().start(), Endpoint::answering_after(2));
    let auth = format!("auth: {{ failed_attempts: 2/h, introspection: {{ {} }} }}", endpoint.auth(""));
    let proxy = proxy().before(&upstream).with(&auth).route("GET /x", "scopes: [orders:read]").start();
    thread::scope(|scope| {
        for number in 0..12 {
            let mut client = client(&proxy);
            scope.spawn(move || client.get("/x").bearer(format!("good{number}")).send().is(200));
        }
    });
    proxy.done();
}

/// S13: introspections are bounded in all, and past the bound it is 503, never 401.
#[test]
fn no_more_tokens_are_introspected_at_once_than_the_policy_says() {
    let (upstream, endpoint) = (upstream().start(), Endpoint::answering_after(usize::MAX));
    let auth = format!("auth: {{ introspection: {{ {} }} }}", endpoint.auth(", concurrent: 2"));
    let proxy = proxy().before(&upstream).with(&auth).route("GET /x", "scopes: [orders:read]").start();
    thread::scope(|scope| {
        for token in ["one", "two"] {
            let mut client = client(&proxy);
            scope.spawn(move || client.get("/x").bearer(token).send().is(200));
        }
        eventually("both are asked about", || (endpoint.asked() == 2).then_some(()));
        let refused = client(&proxy).get("/x").bearer("three").send().refused(503, "overloaded");
        assert_eq!(refused.header("retry-after"), Some("1"));
        endpoint.answers();
    });
    assert_eq!(endpoint.asked(), 2);
    proxy.done();
}

#[test]
fn no_list_of_audiences_is_empty() {
    let (upstream, folder) = (upstream().start(), tempfile::tempdir().unwrap());
    let asked = "introspection: { corp: { endpoint: \"http://127.0.0.1:1/introspect\", client_id: proxy, client_secret: secret, default_plan: free, audience: [] } }";
    let policy =
        proxy().before(&upstream).with(&format!("auth: {{ {asked} }}")).route("GET /", "scopes: [orders:read]");
    let file = policy.write(folder.path());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("an empty `audience` would be any audience"), "{said}");
}
