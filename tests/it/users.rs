//! Users, for whom consumers act: told to the API and the record, and limited each for itself.

use crate::support::redis::Server;
use crate::support::*;

/// A node whose consumer `app` acts for users.
fn node(store: &str, upstream: &Upstream, issuer: &issuer::Issuer, plan: &str) -> Proxy {
    let policy = proxy().before(upstream).trusts(issuer).plan(plan).with(store);
    let policy = policy.with("consumers: { app: { plan: free, identities: [{ issuer: corp, id: app }] } }");
    policy.route("GET /x", "scopes: [orders:read]").start()
}

#[test]
fn the_api_and_the_record_are_told_for_whom_a_consumer_acts() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = node("", &upstream, &issuer, "free: { rate: 1000/s }");
    let mut client = client(&proxy);
    let token = |user: &str| issuer.token().claim("client_id", "app").sub(user).text();
    let forged = [("x-consumer-user", "root")];
    let answer = forged
        .iter()
        .fold(client.get("/x").bearer(token("alice")), |request, (name, value)| request.header(name, value));
    assert_eq!(answer.send().is(200).echoed("x-consumer-user"), ["alice"]);
    let itself = client.get("/x").bearer(token("app")).send().is(200);
    assert_eq!(itself.echoed("x-consumer-id"), ["app"]);
    assert!(itself.echoed("x-consumer-user").is_empty());
    let records = proxy.done();
    let who = |record: &Value| [said(record, "user.id").clone(), said(record, "bartizan.consumer").clone()];
    assert_eq!(records.iter().map(who).collect::<Vec<_>>(), [["alice", "app"], ["app", "app"]]);
}

/// What one user has used up, others have left; and a request that its user's limit refuses takes nothing from its consumer's.
#[test]
fn each_user_is_limited_beside_the_consumer() {
    let redis = Server::start("save \"\"", &[]);
    let shared = redis.as_ref().map(|redis| {
        format!(
            "store: {{ redis: \"redis://127.0.0.1:{}\", on_failure: serve, limits: {{ timeout: 30s }} }}",
            redis.port
        )
    });
    for store in [Some(String::new()), shared].into_iter().flatten() {
        let (upstream, issuer) = (upstream().start(), issuer());
        let start = || node(&store, &upstream, &issuer, "free: { rate: 6/h, burst: 6, per_user: 1/h }");
        let nodes: Vec<_> = if store.is_empty() { vec![start()] } else { vec![start(), start()] };
        let mut clients: Vec<_> = nodes.iter().map(client).collect();
        let mut turn = 0;
        let mut ask = |user: &str| {
            turn += 1;
            let client = &mut clients[turn % nodes.len()];
            client.get("/x").bearer(issuer.token().claim("client_id", "app").sub(user)).send()
        };
        for user in ["alice", "bob"] {
            ask(user).is(200);
        }
        for user in ["alice", "bob", "alice", "bob", "alice", "bob"] {
            let refused = ask(user);
            assert_eq!(refused.header("ratelimit-policy"), Some(r#""free-user";q=1;w=3600"#));
            refused.refused(429, "rate_limited");
        }
        // The consumer itself is no user.
        let mut let_through = 0;
        eventually("what was taken in advance for refused requests is there again", || {
            let_through += u32::from(ask("app").status == 200);
            (let_through == 4).then_some(())
        });
        ask("carol").refused(429, "rate_limited");
        for node in nodes {
            node.done();
        }
    }
}
