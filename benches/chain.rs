//! The chain without sockets: what each stage costs, and all of them together, in time and in allocations.
//!
//! `cargo bench`. Every bench walks one request through the very code that `run` does: route, auth, scope, rate limit,
//! schema. Nothing is forwarded and nothing is recorded. The policy and its keys are made here.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot be set up ends")]

use std::cell::RefCell;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaPublicKeyComponents,
};
use bartizan::rehearsal::{Rehearsal, Verdict, parsers};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use http::{HeaderMap, HeaderValue, Method};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const KEY: &str = "a-key-for-benches-only";

const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "required": ["id", "lines"], "additionalProperties": false,
  "properties": {
    "id": { "type": "string", "pattern": "^o-[0-9]+$" },
    "lines": { "type": "array", "maxItems": 100, "items": {
      "type": "object", "required": ["item", "quantity"], "additionalProperties": false,
      "properties": {
        "item": { "type": "string", "minLength": 1, "maxLength": 60 },
        "quantity": { "type": "integer", "minimum": 1 },
        "by": { "type": "string", "format": "date" }
      } } }
  }
}"#;

const XSD: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:element name="order"><xs:complexType><xs:sequence>
    <xs:element name="line" maxOccurs="unbounded"><xs:complexType><xs:sequence>
      <xs:element name="item" type="xs:token"/>
      <xs:element name="quantity" type="xs:positiveInteger"/>
      <xs:element name="by" type="xs:date" minOccurs="0"/>
    </xs:sequence></xs:complexType></xs:element>
  </xs:sequence><xs:attribute name="id" type="xs:NMTOKEN" use="required"/></xs:complexType></xs:element>
</xs:schema>"#;

fn main() {
    divan::main();
}

/// A policy, a token and a runtime.
struct World {
    rehearsal: RefCell<Rehearsal>,
    runtime: Runtime,
    token: HeaderValue,
    rsa_token: HeaderValue,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let parts = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public_key());
        let rsa_jwk = json!({"kty": "RSA", "alg": "RS256", "kid": "r", "n": number(&parts.n), "e": number(&parts.e)});
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("jwks.json", &json!({"keys": [jwk, rsa_jwk]}).to_string());
        write("order.json", SCHEMA);
        write("lots.json", &SCHEMA.replace("100,", "10000,"));
        // The same results by a schema that only the crate can validate, on a parsed tree.
        write("tree.json", &SCHEMA.replace("\"maxItems\": 100,", "\"contains\": {},"));
        write("order.xsd", XSD);
        write(
            "query.json",
            r#"{"properties": {"limit": {"type": "integer", "maximum": 100}, "tag": {"type": "array"}}}"#,
        );
        write("policy.yaml", &policy());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": "https://i.example", "aud": "orders-api", "sub": "acme", "iat": now,
            "exp": now + 3000, "scope": "orders:read orders:write", "jti": "0192f0c1-7a53-7c4e-8f00-000000000001"});
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let header = json!({"alg": "RS256", "kid": "r"}).to_string();
        let mut rsa_token = format!("{}.{}", number(header.as_bytes()), number(claims.to_string().as_bytes()));
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), rsa_token.as_bytes(), &mut signature).unwrap();
        rsa_token = format!("Bearer {rsa_token}.{}", number(&signature));
        Self {
            rsa_token: HeaderValue::try_from(rsa_token).unwrap(),
            rehearsal: RefCell::new(Rehearsal::new(&Path::join(folder.path(), "policy.yaml")).unwrap()),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            token: HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
        }
    }

    fn request(&self, method: &Method, path: &str, headers: &HeaderMap, body: Bytes) -> Verdict {
        self.runtime.block_on(self.rehearsal.borrow().request(method, path, headers, body))
    }

    /// Headers of a usual request, with a credential.
    fn headers(&self, credential: Credential) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", "api.example.com"), ("user-agent", "bench/1"), ("accept", "application/json")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        match credential {
            Credential::None => {}
            Credential::Token => drop(headers.insert("authorization", self.token.clone())),
            Credential::Key => drop(headers.insert("x-api-key", HeaderValue::from_static(KEY))),
        }
        headers
    }

    /// Benches one request, after making sure that it ends as it is meant to.
    fn bench(&self, bencher: Bencher<'_, '_>, request: (Method, &str, HeaderMap, Bytes), expected: Option<&str>) {
        let (method, path, headers, body) = request;
        let request = || self.request(&method, path, &headers, body.clone());
        // Twice: the first may verify a token, or use up a limit of one.
        request();
        assert_eq!(request().map(|(_, code)| code), expected);
        bencher.bench_local(request);
    }
}

#[derive(Clone, Copy)]
enum Credential {
    None,
    Token,
    Key,
}

fn policy() -> String {
    let key: String = digest(&SHA256, KEY.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        r#"version: 1
listen: [{{ address: "127.0.0.1:8080" }}]
auth: {{ issuers: {{ corp: {{ issuer: "https://i.example", audience: [orders-api], jwks: jwks.json, algorithms: [ES256, RS256] }} }} }}
roles: {{ clerk: [orders:read, orders:write] }}
plans: {{ wide: {{ rate: 100000000/s, burst: 100000000 }} }}
consumers:
  acme: {{ roles: [clerk], plan: wide, attributes: {{ tenant: [t-16, t-17] }}, identities: [{{ issuer: corp, id: acme }}], keys: [{{ id: k, sha256: "{key}" }}] }}
apis:
  orders:
    upstream: http://127.0.0.1:9000
    routes:
      GET /public: {{ public: true }}
      GET /orders/{{id}}: {{ scopes: [orders:read] }}
      GET /tenants/{{tenant}}: {{ scopes: [orders:read], where: {{ path.tenant: caller.tenant }} }}
      POST /orders: {{ scopes: [orders:write], request: {{ json: order.json }} }}
      POST /loose: {{ scopes: [orders:write] }}
      POST /lots: {{ scopes: [orders:write], request: {{ json: lots.json }} }}
      POST /tree: {{ scopes: [orders:write], request: {{ json: tree.json }} }}
      POST /xml: {{ scopes: [orders:write], request: {{ xml: order.xsd }} }}
      GET /search: {{ scopes: [orders:read], request: {{ query: query.json, strict: true }} }}
      POST /refunds: {{ scopes: [orders:refund] }}
      GET /rare: {{ scopes: [orders:read], rate: 1/day }}
audit: none
"#
    )
}

/// About 1 KiB of JSON; of its last line, this is the quantity.
fn order(quantity: u32) -> Bytes {
    order_of(15, quantity)
}

/// An order of so many lines and one.
fn order_of(lines: usize, quantity: u32) -> Bytes {
    let mut lines = vec![json!({"item": "a lantern with a spare wick", "quantity": 2, "by": "2027-02-28"}); lines];
    lines.push(json!({"item": "rope", "quantity": quantity}));
    Bytes::from(json!({"id": "o-1001", "lines": lines}).to_string())
}

/// About 1 KiB of XML.
fn xml_order() -> Bytes {
    let line = "<line><item>a lantern with a spare wick</item><quantity>2</quantity><by>2027-02-28</by></line>";
    Bytes::from(format!("<order id=\"o-1001\">{}</order>", line.repeat(11)))
}

fn get(world: &World, path: &'static str, credential: Credential) -> (Method, &'static str, HeaderMap, Bytes) {
    (Method::GET, path, world.headers(credential), Bytes::new())
}

fn post(world: &World, body: Bytes) -> (Method, &'static str, HeaderMap, Bytes) {
    post_to(world, "/orders", "application/json", body)
}

fn post_to(
    world: &World,
    path: &'static str,
    kind: &'static str,
    body: Bytes,
) -> (Method, &'static str, HeaderMap, Bytes) {
    let mut headers = world.headers(Credential::Token);
    headers.insert("content-type", HeaderValue::from_static(kind));
    headers.insert("content-length", HeaderValue::from(body.len()));
    (Method::POST, path, headers, body)
}

/// Routing and the end of the chain: nothing is asked of anybody.
#[divan::bench]
fn public_route(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, get(&world, "/public", Credential::None), None);
}

/// Auth with a token verified before, scope, rate limit.
#[divan::bench]
fn token_known(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, get(&world, "/orders/1", Credential::Token), None);
}

/// The same, and the tenant in the path is compared with those of the caller.
#[divan::bench]
fn token_known_and_object_compared(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, get(&world, "/tenants/t-17", Credential::Token), None);
}

/// The same beside a million revocations.
#[divan::bench]
fn token_known_beside_a_million_revocations(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.rehearsal.borrow().revoke_others(1_000_000);
    world.bench(bencher, get(&world, "/orders/1", Credential::Token), None);
}

/// What a million revocations take: see the bytes of `max alloc`, of which the world's own are few.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn a_million_revocations(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(World::new).bench_local_values(|world| {
        world.rehearsal.borrow().revoke_others(1_000_000);
        world
    });
}

/// The same with a token never seen: its signature is verified.
#[divan::bench(args = ["ES256", "RS256"])]
fn token_new(bencher: Bencher<'_, '_>, algorithm: &str) {
    let world = World::new();
    let mut headers = world.headers(Credential::Token);
    if algorithm == "RS256" {
        headers.insert("authorization", world.rsa_token.clone());
    }
    assert_eq!(world.request(&Method::GET, "/orders/1", &headers, Bytes::new()), None);
    bencher
        .with_inputs(|| world.rehearsal.borrow_mut().forget_tokens())
        .bench_local_values(|()| world.request(&Method::GET, "/orders/1", &headers, Bytes::new()));
}

/// Auth by API key, scope, rate limit.
#[divan::bench]
fn api_key(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, get(&world, "/orders/1", Credential::Key), None);
}

/// Refused by auth.
#[divan::bench]
fn refused_without_credential(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, get(&world, "/orders/1", Credential::None), Some("missing_credentials"));
}

/// Refused by scope.
#[divan::bench]
fn refused_by_scope(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let (_, _, headers, body) = get(&world, "/refunds", Credential::Token);
    world.bench(bencher, (Method::POST, "/refunds", headers, body), Some("insufficient_scope"));
}

/// Refused by the rate limit.
#[divan::bench]
fn refused_by_rate_limit(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, get(&world, "/rare", Credential::Token), Some("rate_limited"));
}

/// The whole chain: a known token, and a body of 1 KiB that keeps to its schema.
#[divan::bench]
fn whole_chain_good_body(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, post(&world, order(1)), None);
}

/// The whole chain, refused by the schema for the last of 16 lines.
#[divan::bench]
fn whole_chain_bad_body(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, post(&world, order(0)), Some("schema_violation"));
}

/// The whole chain with the same body, which nobody looks at: what is left of `whole_chain_good_body` is the schema stage's.
#[divan::bench]
fn whole_chain_unchecked_body(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, post_to(&world, "/loose", "application/json", order(1)), None);
}

/// The whole chain, 1 KiB validated on a parsed tree: a schema with a keyword that the fast path does not support.
#[divan::bench]
fn whole_chain_good_body_by_tree(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, post_to(&world, "/tree", "application/json", order(1)), None);
}

/// The whole chain, and a body of 64 KiB.
#[divan::bench]
fn whole_chain_64_kib(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, post_to(&world, "/lots", "application/json", order_of(970, 1)), None);
}

/// What hiding two fields of each element costs: an answer of about so many bytes.
#[divan::bench(args = [1 << 10, 64 << 10])]
fn mask(bencher: Bencher<'_, '_>, size: usize) {
    let one = json!({"id": "c-1001", "name": "Acme Lanterns", "iban": "DE02120300000000202051", "city": "Berlin",
        "addresses": [{"street": "Elm 1", "city": "Berlin"}], "balance": 1200.5});
    let count = size / one.to_string().len();
    let body = json!({"items": vec![one; count]}).to_string();
    let paths = [("/items/*/iban", "keep_last 4"), ("/items/*/addresses/*/street", "remove")];
    assert!(!parsers::mask(&paths, body.as_bytes()).unwrap().windows(3).any(|text| text == b"Elm"));
    let masking = parsers::masking(&paths).unwrap();
    bencher.bench_local(|| masking(body.as_bytes()));
}

/// What parsing alone costs: the same 1 KiB, by serde_json, into a tree.
#[divan::bench]
fn parse_1_kib(bencher: Bencher<'_, '_>) {
    let body = order(1);
    bencher.bench_local(|| serde_json::from_slice::<serde_json::Value>(&body).unwrap());
}

/// What parsing alone costs: the same 64 KiB, by serde_json, into a tree.
#[divan::bench]
fn parse_64_kib(bencher: Bencher<'_, '_>) {
    let body = order_of(970, 1);
    bencher.bench_local(|| serde_json::from_slice::<serde_json::Value>(&body).unwrap());
}

/// The whole chain, and 1 KiB of XML.
#[divan::bench]
fn whole_chain_xml(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, post_to(&world, "/xml", "application/xml", xml_order()), None);
}

/// Auth, scope, rate limit, and a query with a schema.
#[divan::bench]
fn query_checked(bencher: Bencher<'_, '_>) {
    let world = World::new();
    world.bench(bencher, get(&world, "/search?limit=20&tag=a&tag=b", Credential::Token), None);
}
