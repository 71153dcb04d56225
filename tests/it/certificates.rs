//! Client certificates, and tokens that are bound to them (RFC 8705).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::certificates::{Authority, Certified};
use crate::support::client::Client;
use crate::support::proxy::Reloaded;
use crate::support::*;

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes client certificates of this authority; `acme` is known by thumbprint, `partner` by name.
fn mutual(upstream: &Upstream, authority: &Authority, acme: &Certified, more: &str) -> Policy {
    let server = authority.certifies(&["localhost"]);
    let consumers = format!(
        "roles: {{ reader: [orders:read] }}
consumers:
  acme: {{ roles: [reader], plan: free, identities: [{{ certificate: \"sha256:{}\" }}] }}
  partner: {{ roles: [reader], plan: free, identities: [{{ certificate_san: \"dns:Partner.Example\" }}] }}",
        hexadecimal(&acme.thumbprint()),
    );
    proxy()
        .before(upstream)
        .listen(&format!(
            "{{ address: \"127.0.0.1:0\", tls: {{ certificate: c.pem, key: k.pem, client_ca: ca.pem{more} }} }}"
        ))
        .file("c.pem", server.certificate)
        .file("k.pem", server.key)
        .file("ca.pem", authority.pem())
        .with(&consumers)
        .route("GET /x", "scopes: [orders:read]")
        .route("GET /strong", "scopes: [orders:read], proof_of_possession: [certificate, bound_token]")
        .open("GET /open")
}

fn showing(proxy: &Proxy, authority: &Authority, certified: &Certified) -> Client {
    client(proxy).tls(authority.client_showing(certified))
}

#[test]
fn a_certificate_is_who_it_is_registered_for() {
    let (upstream, authority) = (upstream().start(), authority());
    let acme = authority.vouches_for(1, &["acme.example"]);
    let proxy = mutual(&upstream, &authority, &acme, "").start();
    let answer = showing(&proxy, &authority, &acme).get("/strong").send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["acme"]);
    assert_eq!(answer.echoed("x-credential-id"), [hexadecimal(&acme.thumbprint())]);
    let partner = authority.vouches_for(2, &["partner.example"]);
    assert_eq!(showing(&proxy, &authority, &partner).get("/x").send().is(200).echoed("x-consumer-id"), ["partner"]);
    let stranger = authority.vouches_for(3, &["stranger.example"]);
    showing(&proxy, &authority, &stranger).get("/x").send().refused(403, "unknown_consumer");
    // Without one, and where none is needed.
    client(&proxy).tls(authority.client(&[])).get("/x").send().refused(401, "missing_credentials");
    client(&proxy).tls(authority.client(&[])).get("/open").send().is(200);
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.credential.kind"), "certificate");
}

#[test]
fn a_token_is_bound_to_the_certificate_it_names() {
    let (upstream, authority, issuer) = (upstream().start(), authority(), issuer());
    let (acme, other) = (authority.vouches_for(1, &["acme.example"]), authority.vouches_for(2, &["other.example"]));
    let proxy = mutual(&upstream, &authority, &acme, "").trusts(&issuer).start();
    let bound_to = |certified: &Certified| {
        let thumbprint = URL_SAFE_NO_PAD.encode(certified.thumbprint());
        issuer.token().claim("cnf", json!({"x5t#S256": thumbprint})).text()
    };
    let bound = bound_to(&other);
    showing(&proxy, &authority, &other).get("/strong").bearer(&bound).send().is(200);
    // Known by now, and still nobody else's.
    let stolen = client(&proxy).tls(authority.client(&[])).get("/x").bearer(&bound).send();
    stolen.refused(401, "invalid_token");
    showing(&proxy, &authority, &acme).get("/x").bearer(&bound).send().refused(401, "invalid_token");
    // Two callers in one request.
    let plain = issuer.token().text();
    showing(&proxy, &authority, &acme).get("/x").bearer(&plain).send().refused(400, "malformed_request");
    // A certificate that says nothing of its holder is transport alone.
    showing(&proxy, &authority, &other).get("/x").bearer(&plain).send().is(200);
    let weak = showing(&proxy, &authority, &other).get("/strong").bearer(&plain).send();
    weak.refused(403, "stronger_credential_required");
    let unknown = issuer.token().claim("cnf", json!({"kid": "key"})).text();
    showing(&proxy, &authority, &other).get("/x").bearer(&unknown).send().refused(401, "invalid_token");
    proxy.done();
}

#[test]
fn a_certificate_that_is_revoked_meanwhile_ends_with_the_next_request() {
    let (upstream, authority) = (upstream().start(), authority());
    let (acme, partner) = (authority.vouches_for(1, &["acme.example"]), authority.vouches_for(2, &["partner.example"]));
    let lists = ", client_crls: [revoked.pem]";
    let policy = mutual(&upstream, &authority, &acme, lists).file("revoked.pem", authority.revokes(&[7]));
    let mut proxy = policy.start();
    let (mut first, mut second) = (showing(&proxy, &authority, &acme), showing(&proxy, &authority, &partner));
    first.get("/x").send().is(200);
    second.get("/x").send().is(200);
    let list = authority.revokes(&[7, 1]);
    assert_eq!(proxy.reload_to(|policy| policy.file("revoked.pem", list)), Reloaded::Loaded);
    first.get("/x").send().refused(401, "invalid_certificate");
    second.get("/x").send().is(200);
    proxy.done();
}

#[test]
fn where_a_certificate_is_required_nobody_comes_in_without() {
    let (upstream, authority) = (upstream().start(), authority());
    let acme = authority.vouches_for(1, &["acme.example"]);
    let proxy = mutual(&upstream, &authority, &acme, ", client_certificate: required").start();
    showing(&proxy, &authority, &acme).get("/x").send().is(200);
    let config = authority.client(&[]);
    let mut lost = client(&proxy).tls(config);
    let _ = lost.connection().send("GET /open HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(lost.connection().head().is_err(), "the handshake fails");
    proxy.done();
}

/// S3: a name in a certificate identifies only the consumer that is registered for a name of this kind, whether the policy
/// or an operator registered it.
#[test]
fn a_name_in_a_certificate_is_of_one_kind() {
    let (store, upstream, authority) = (tempfile::TempDir::new().unwrap(), upstream().start(), authority());
    let unused = authority.vouches_for(99, &["unused.example"]);
    let store = format!("store: \"{}\"", store.path().display());
    let proxy = mutual(&upstream, &authority, &unused, "").with(&store).start();
    let mut operator = client::operator(&proxy);
    for (consumer, name) in [
        ("dns", "Made.Example"),
        ("uri", "uri:SPIFFE://Made.Example/batch"),
        ("email", "email:ops@Made.example"),
        ("fleet", "dns:*.fleet.example"),
        ("special", "special.fleet.example"),
        ("one", "one.pair.example"),
        ("two", "two.pair.example"),
    ] {
        let made = json!({"name": consumer, "roles": ["reader"], "identities": [{"certificate_san": name}]});
        assert_eq!(operator.post("/v1/consumers", made.to_string()).bearer(proxy::ADMIN_TOKEN).send().status, 201);
    }
    for (serial, names, consumer) in [
        (1, &["PARTNER.example"][..], Ok("partner")),
        (2, &["uri:partner.example:x"], Err("unknown_consumer")),
        (3, &["email:x@partner.example"], Err("unknown_consumer")),
        (4, &["uri:partner.example", "email:partner.example"], Err("unknown_consumer")),
        (5, &["sub.partner.example"], Err("unknown_consumer")),
        (6, &["made.example"], Ok("dns")),
        (7, &["uri:spiffe://made.example/batch"], Ok("uri")),
        (8, &["uri:spiffe://made.example/Batch"], Err("unknown_consumer")),
        (9, &["email:ops@MADE.example"], Ok("email")),
        (10, &["email:Ops@made.example"], Err("unknown_consumer")),
        // RFC 9525 §6.3: a wildcard stands for one label.
        (11, &["a.fleet.example"], Ok("fleet")),
        (12, &["special.fleet.example"], Ok("special")),
        (13, &["a.b.fleet.example"], Err("unknown_consumer")),
        (14, &["fleet.example"], Err("unknown_consumer")),
        (15, &["*.example"], Err("invalid_certificate")),
        (16, &["*.pair.example"], Err("invalid_certificate")),
        (17, &["*.one.pair.example"], Err("unknown_consumer")),
        (18, &["o*.pair.example"], Err("unknown_consumer")),
    ] {
        let certified = authority.vouches_for(serial, names);
        let answer = showing(&proxy, &authority, &certified).get("/x").send();
        match consumer {
            Ok(consumer) => assert_eq!(answer.is(200).echoed("x-consumer-id"), [consumer], "{names:?}"),
            Err(code) => assert_eq!(answer.json()["code"], code, "{names:?}"),
        }
    }
    proxy.done();
}
