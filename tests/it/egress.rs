//! `egress`: what the process itself calls, through a proxy.

use crate::support::forward_proxy::{ForwardProxy, forward_proxy};
use crate::support::issuer::Issuer;
use crate::support::*;

/// A login server over TLS, at a name that only the proxy knows.
struct Login {
    issuer: Issuer,
    server: Upstream,
    ca: String,
}

impl Login {
    fn start() -> Self {
        let (issuer, authority) = (issuer(), authority());
        let keys = json!({ "keys": [issuer.key().jwk()] }).to_string();
        let server = upstream().tls(&authority.certifies(&["login.example.test"])).does(move |call| {
            let body = call.body()?;
            let answer = if body.is_empty() { keys.clone() } else { json!({"active": false}).to_string() };
            call.answer(200, &[("content-type", "application/json")], answer)
        });
        Self { issuer, server: server.start(), ca: authority.pem() }
    }

    fn url(&self) -> String {
        format!("https://login.example.test:{}", self.server.url().rsplit(':').next().unwrap())
    }

    /// A policy whose keys and introspections come from there.
    fn policy(&self, upstream: &Upstream, egress: &str) -> Policy {
        let url = self.url();
        let partner = format!(
            "{{ endpoint: \"{url}/introspect\", client_id: me, client_secret: s, default_plan: free, ca: ca.pem }}"
        );
        let policy = proxy().before(upstream).file("ca.pem", self.ca.clone()).route("GET /x", "scopes: [orders:read]");
        let policy = policy
            .issuer("corp", &format!("jwks: \"{url}/jwks\", ca: ca.pem, algorithms: [ES256], default_plan: free"));
        let text =
            policy.yaml().replace("auth:\n", &format!("{egress}\nauth:\n  introspection: {{ partner: {partner} }}\n"));
        policy.text(&text)
    }
}

fn through(proxy: &ForwardProxy, more: &str) -> String {
    format!("egress: {{ proxy: \"http://user:p%40ss@{}\", {more} }}", proxy.address())
}

#[test]
fn keys_and_introspections_go_through_the_proxy() {
    let (upstream, login, outside) = (upstream().start(), Login::start(), forward_proxy("200 Connected"));
    let mut proxy = login.policy(&upstream, &through(&outside, "no_proxy: [.svc]")).start();
    client(&proxy).get("/x").bearer(login.issuer.token().text()).send().is(200);
    client(&proxy).get("/x").bearer("opaque").send().refused(401, "invalid_token");
    let place = login.url().replace("https://", "");
    let heads = outside.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    for head in heads {
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with(&format!("connect {place} http/1.1\r\nhost: {place}\r\n")), "{head}");
        // `user:p@ss` in Base64.
        assert!(head.contains("proxy-authorization: basic dxnlcjpwqhnz\r\n"), "{head}");
    }
    for seen in login.server.seen() {
        let agent = seen.header("user-agent").unwrap();
        assert_eq!(agent, concat!("bartizan/", env!("CARGO_PKG_VERSION")));
        assert_eq!(seen.header("proxy-authorization"), None);
    }
    // A reload with another proxy takes effect.
    let other = forward_proxy("200 OK");
    let text = login.policy(&upstream, &through(&other, "timeout: 9s")).yaml();
    assert_eq!(proxy.reload_to(|policy| policy.text(&text)), crate::support::proxy::Reloaded::Loaded);
    client(&proxy).get("/x").bearer("opaque").send().refused(401, "invalid_token");
    assert_eq!((outside.heads().len(), other.heads().len()), (2, 2));
    proxy.done();
}

#[test]
fn what_the_proxy_does_not_open_is_not_reached() {
    let (upstream, login) = (upstream().start(), Login::start());
    for (answer, said) in [("407 No", "proxy authorization required"), ("403 No", "tunnel error: unsuccessful")] {
        let outside = forward_proxy(answer);
        let proxy = login.policy(&upstream, &through(&outside, "")).start();
        client(&proxy).get("/x").bearer(login.issuer.token().text()).send().refused(503, "identity_unavailable");
        proxy.stderr.wait(said, 1);
        assert!(!outside.heads().is_empty());
        proxy.done();
    }
    login.server.saw_nothing();
}

#[test]
fn this_machine_and_exceptions_are_called_directly() {
    let (upstream, issuer, outside) = (upstream().start(), issuer(), forward_proxy("403 No"));
    let proxy = proxy().before(&upstream).trusts(&issuer).route("GET /x", "scopes: [orders:read]");
    let proxy = proxy.with(&through(&outside, "")).start();
    client(&proxy).get("/x").bearer(issuer.token().text()).send().is(200);
    assert_eq!(outside.heads(), Vec::<String>::new());
    proxy.done();
}

#[test]
fn what_is_wrong_with_it_is_reported() {
    let upstream = upstream().start();
    for (egress, said) in [
        ("proxy: \"socks5://127.0.0.1:1\"", "write `http://` or `https://`"),
        ("proxy: \"http://127.0.0.1:1/path\"", "the URL has more than scheme, host and port"),
        ("proxy: \"https://127.0.0.1:1\", proxy_ca: none.pem", "there is no file"),
        ("proxy: \"http://127.0.0.1:1\", proxy_ca: none.pem", "the proxy is plain http"),
        ("proxy: \"http://127.0.0.1:1\", no_proxy: [\"a b\"]", "this is not a name, an address or a network"),
        ("no_proxy: [.svc]", "`no_proxy` has no effect without a `proxy`"),
        ("timeout: 0s", "this duration must be greater than zero"),
        ("connect_timeout: 10m", "a call that takes longer than 5m has failed"),
    ] {
        let said_of = proxy().before(&upstream).open("GET /x").with(&format!("egress: {{ {egress} }}")).fails();
        assert!(said_of.contains(said), "{egress}: {said_of}");
    }
}
