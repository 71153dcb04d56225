//! examples/identity-providers: each policy is good, its tests pass, and a token as the provider makes it gets through the proxy.

use std::path::PathBuf;
use std::process::Command;

use crate::support::issuer::{Key, now};
use crate::support::*;

/// The only tenants of the Entra recipes, and the ids of an app and of the API.
const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
const APP: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const API: &str = "11112222-bbbb-3333-cccc-4444dddd5555";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/identity-providers")
}

/// The names of the recipes.
fn recipes() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries
        .filter(|name| !name.ends_with(".test.yaml"))
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// A token of a provider: the header and the claims that it writes, and who calls what with it.
struct Sample {
    recipe: &'static str,
    typ: &'static str,
    claims: Value,
    path: &'static str,
    consumer: &'static str,
    user: &'static [&'static str],
}

/// Claims of Microsoft Entra ID in tokens of this version.
fn entra(version: &str, more: &Value) -> Value {
    let mut claims = json!({
        "aio": "AXQAi/8IAAAA", "nbf": now(), "oid": "6f2b1c00-1111-2222-3333-444455556666", "rh": "0.AAAA", "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "tid": TENANT, "uti": "fqiBqXLPj0eQa82S-IYFAA", "ver": version,
    });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

fn samples() -> Vec<Sample> {
    let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    let sample = |recipe, claims| Sample { recipe, typ: "JWT", claims, path: "/orders", consumer: "", user: &[] };
    let keycloak = json!({
        "iss": "https://id.shop.example/realms/shop", "aud": ["orders-api", "account"], "sub": "24e1f3c0-6d4a-4b8e-9a51-0c5f5a3c9d11", "typ": "Bearer",
        "azp": "shop-app", "sid": "9c1f2a", "acr": "1", "allowed-origins": ["https://shop.example"], "realm_access": {"roles": ["offline_access"]},
        "resource_access": {"orders-api": {"roles": ["clerk"]}, "account": {"roles": ["view-profile"]}},
        "scope": "openid orders:read email", "email_verified": true, "preferred_username": "ann", "email": "ann@shop.example",
    });
    vec![
        Sample {
            consumer: "entra:00001111-aaaa-2222-bbbb-3333cccc4444",
            user: &["6f2b1c00-1111-2222-3333-444455556666"],
            ..sample(
                "entra-delegated",
                entra(
                    "2.0",
                    &json!({"iss": v2, "aud": API, "azp": APP, "azpacr": "1", "name": "Ann", "preferred_username": "ann@shop.example",
                        "scp": "Orders.Read Orders.Write", "roles": ["Auditor"]}),
                ),
            )
        },
        Sample {
            consumer: "warehouse",
            ..sample(
                "entra-application",
                entra(
                    "2.0",
                    &json!({"iss": v2, "aud": API, "azp": APP, "azpacr": "1", "idtyp": "app", "roles": ["Orders.Read.All"]}),
                ),
            )
        },
        Sample {
            consumer: "entra:00001111-aaaa-2222-bbbb-3333cccc4444",
            user: &["6f2b1c00-1111-2222-3333-444455556666"],
            ..sample(
                "entra-v1",
                entra(
                    "1.0",
                    &json!({"iss": format!("https://sts.windows.net/{TENANT}/"), "aud": format!("api://{API}"), "appid": APP, "appidacr": "1", "acr": "1",
                        "amr": ["pwd", "mfa"], "scp": "Orders.Read", "unique_name": "ann@shop.example", "upn": "ann@shop.example"}),
                ),
            )
        },
        Sample {
            path: "/tenants/aaaabbbb-0000-cccc-1111-dddd2222eeee/orders",
            consumer: "entra:aaaabbbb-0000-cccc-1111-dddd2222eeee/00001111-aaaa-2222-bbbb-3333cccc4444",
            user: &["6f2b1c00-1111-2222-3333-444455556666"],
            ..sample(
                "entra-multi-tenant",
                entra("2.0", &json!({"iss": v2, "aud": API, "azp": APP, "azpacr": "0", "scp": "Orders.Read"})),
            )
        },
        Sample {
            consumer: "auth0:aB3dE5gH",
            user: &["auth0|507f1f77bcf86cd799439011"],
            ..sample(
                "auth0",
                json!({"iss": "https://shop.eu.auth0.com/", "sub": "auth0|507f1f77bcf86cd799439011", "azp": "aB3dE5gH",
                    "aud": ["https://orders.shop.example", "https://shop.eu.auth0.com/userinfo"],
                    "scope": "openid profile", "permissions": ["orders:read"]}),
            )
        },
        Sample {
            consumer: "okta:0oa1gjh63g",
            user: &["00u1a2b3"],
            ..sample(
                "okta",
                json!({"ver": 1, "jti": "AT.0mP4JKAZX1iACIT4", "iss": "https://shop.okta.com/oauth2/default", "aud": "api://default",
                    "cid": "0oa1gjh63g", "uid": "00u1a2b3", "scp": ["openid", "orders:read"], "auth_time": now(), "sub": "ann@shop.example"}),
            )
        },
        Sample {
            consumer: "keycloak:shop-app",
            user: &["24e1f3c0-6d4a-4b8e-9a51-0c5f5a3c9d11"],
            ..sample("keycloak", keycloak)
        },
        Sample {
            consumer: "cognito:1example23456789",
            user: &["ann"],
            ..sample(
                "cognito",
                json!({"iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_aBcDeFgHi", "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
                    "client_id": "1example23456789", "token_use": "access", "scope": "orders-api/orders.read openid", "username": "ann", "version": 2,
                    "cognito:groups": ["clerks"], "origin_jti": "5b9f50a3", "event_id": "64f513be", "auth_time": now()}),
            )
        },
        Sample {
            consumer: "reports",
            ..sample(
                "google",
                json!({"iss": "https://accounts.google.com", "aud": "https://orders.shop.example", "azp": "113774264463038321964",
                    "sub": "113774264463038321964", "email": "reports@shop.iam.gserviceaccount.com", "email_verified": true}),
            )
        },
        Sample {
            typ: "at+jwt",
            consumer: "identityserver:shop-app",
            user: &["88421113"],
            ..sample(
                "identityserver",
                json!({"iss": "https://id.shop.example", "nbf": now(), "aud": "orders-api", "scope": ["openid", "orders.read"], "amr": ["pwd"],
                    "client_id": "shop-app", "sub": "88421113", "auth_time": now(), "idp": "local", "sid": "D8F1", "jti": "E2A9"}),
            )
        },
        Sample {
            path: "/tenants/t-1/orders",
            consumer: "hydra:shop-app",
            user: &["foo@bar.example"],
            ..sample(
                "hydra",
                json!({"iss": "https://id.shop.example/", "aud": ["orders-api"], "client_id": "shop-app", "ext": {"tenant": "t-1"}, "nbf": now(),
                    "jti": "3ae27d2c", "scp": ["orders:read"], "sub": "foo@bar.example"}),
            )
        },
    ]
}

#[test]
fn every_recipe_is_good_and_its_tests_pass() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.current_dir(folder()).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for recipe in recipes() {
        let (code, _, problems) = run(&["check", &format!("{recipe}.yaml")]);
        assert_eq!((code, problems.as_str()), (Some(0), ""), "{recipe}");
        let (code, out, problems) = run(&["test", &format!("{recipe}.test.yaml")]);
        assert_eq!(code, Some(0), "{recipe}: {out}{problems}");
        assert!(out.contains("every route, scope, schema and consumer is covered"), "{recipe}: {out}");
    }
}

#[test]
fn a_token_as_each_provider_makes_it_gets_through() {
    let (upstream, key) = (upstream().start(), Key::rsa("first"));
    let samples = samples();
    let named: std::collections::BTreeSet<_> = samples.iter().map(|sample| sample.recipe).collect();
    assert_eq!(named.into_iter().collect::<Vec<_>>(), recipes(), "each recipe has a token");
    for Sample { recipe, typ, mut claims, path, consumer, user } in samples {
        let written = std::fs::read_to_string(folder().join(format!("{recipe}.yaml"))).unwrap();
        // Only the world around it is another: where the proxy, the API and the keys are.
        let keys = written.lines().filter(|line| !line.starts_with("      jwks:")).collect::<Vec<_>>().join("\n");
        let policy = keys
            .replace("127.0.0.1:8080", "127.0.0.1:0")
            .replace("http://127.0.0.1:9000", &upstream.url())
            .replace("      algorithms:", "      jwks: jwks.json\n      algorithms:")
            .replace("audit: [stdout]", "audit: [{ file: { path: audit.jsonl } }]");
        let published = json!({"keys": [key.jwk()]}).to_string();
        let proxy = proxy().text(&policy).file("jwks.json", published).start();
        let lifetime = if recipe == "keycloak" { 300 } else { 3600 };
        claims["iat"] = json!(now());
        claims["exp"] = json!(now() + lifetime);
        let header = json!({"alg": "RS256", "typ": typ, "kid": "first"}).to_string();
        let mut client = client(&proxy);
        let answer = client.get(path).bearer(key.compact(&header, claims.to_string())).send().is(200);
        assert_eq!(answer.echoed("x-consumer-id"), [consumer], "{recipe}");
        assert_eq!(answer.echoed("x-consumer-user"), *user, "{recipe}");
        // The same token for another API, or of another issuer, does not.
        for (claim, value) in [("aud", json!("another")), ("iss", json!("https://another.example"))] {
            let mut other = claims.clone();
            other[claim] = value;
            client.get(path).bearer(key.compact(&header, other.to_string())).send().refused(401, "invalid_token");
        }
        proxy.done();
    }
}
