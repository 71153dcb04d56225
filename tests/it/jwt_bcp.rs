//! JSON Web Token Best Current Practices (RFC 8725): each rule of its section 3 by its number, on the real binary.
//!
//! Signatures that are forged in every other way are in `tests/cases/forged-signatures.json`.

use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::support::client::Client;
use crate::support::issuer::{ISS, Issuer, Key, Token, now};
use crate::support::*;

/// Long enough for HS512.
const SECRET: &str = "a secret of this test: 7f3kQz0vXw91LmNb, which has 64 bytes or more";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Takes tokens of `corp` with these settings, and lets everybody in who has a good one.
fn taking(upstream: &Upstream, settings: &str) -> Policy {
    proxy().before(upstream).issuer("corp", settings).route("GET /x", "scopes: [orders:read]")
}

/// Takes what this issuer publishes, for all algorithms with public keys.
fn believing(upstream: &Upstream, issuer: &Issuer) -> Policy {
    let algorithms = "[RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]";
    taking(upstream, &format!("jwks: \"{}\", algorithms: {algorithms}, default_plan: free", issuer.url()))
}

#[track_caller]
fn good(client: &mut Client, token: impl Into<String>) {
    client.get("/x").bearer(token).send().is(200);
}

#[track_caller]
fn bad(client: &mut Client, token: impl Into<String>) {
    let token: String = token.into();
    let answer = client.get("/x").bearer(token.as_str()).send();
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("invalid_token")), "{token}\n{}", answer.text());
}

/// What `bartizan check` says of an issuer with these settings; empty when there is not a single error.
fn problems(settings: &str, files: &[(&str, &str)]) -> String {
    let (upstream, folder) = (upstream().start(), tempfile::TempDir::new().unwrap());
    let mut policy = taking(&upstream, settings);
    for (name, text) in files {
        policy = policy.file(name, *text);
    }
    let file = policy.write(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), !said.contains("error"), "{said}");
    if output.status.success() { String::new() } else { said }
}

#[test]
fn rfc8725_3_1_the_algorithm_is_the_policys_choice_and_never_the_tokens() {
    let (upstream, rsa) = (upstream().start(), Issuer::with(Key::rsa("first")));
    let settings = format!("jwks: \"{}\", algorithms: [RS256], default_plan: free", rsa.url());
    let proxy = taking(&upstream, &settings).start();
    let mut client = client(&proxy);
    good(&mut client, rsa.token());
    // Not signed at all, in every spelling.
    for none in ["none", "None", "NONE", "nOnE", "none ", ""] {
        let message = rsa.token().header("alg", none).message();
        for signature in ["", "AA"] {
            bad(&mut client, format!("{message}.{signature}"));
        }
        bad(&mut client, message);
        bad(&mut client, rsa.token().header("alg", none));
    }
    // The public key, which everybody has, in place of a shared secret.
    let (pem, jwk) = (rsa.key().pem(), rsa.key().jwk());
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let der = STANDARD.decode(pem.lines().filter(|line| !line.starts_with("---")).collect::<String>()).unwrap();
    let texts = [pem.as_bytes(), pem.trim_end().as_bytes(), &der, &modulus, jwk["n"].as_str().unwrap().as_bytes()];
    for secret in texts.into_iter().chain([jwk.to_string().as_bytes(), b"", b"first"]) {
        for alg in ["HS256", "RS256", "hs256", "HS384"] {
            bad(&mut client, rsa.token().header("alg", alg).forged_with(Key::shared(secret)));
        }
    }
    // RFC 7515 §4.1.1: names of algorithms know their case.
    for alg in
        ["rs256", "Rs256", "RS256 ", " RS256", "RS256\u{0}", "RS-256", "SHA256withRSA", "RS512", "PS256", "ES256"]
    {
        bad(&mut client, rsa.token().header("alg", alg));
    }
    for alg in [Value::Null, json!(256), json!(["RS256"]), json!({"name": "RS256"}), json!(true)] {
        bad(&mut client, rsa.token().header("alg", alg));
    }
    bad(&mut client, rsa.token().without_header("alg"));
    // Said twice, once for each reader.
    let (header, claims) = rsa.token().parts();
    for twice in [header.replace('{', r#"{"alg":"none","#), header.replace('}', r#","alg":"none"}"#)] {
        bad(&mut client, rsa.key().compact(twice, &claims));
    }
    proxy.done();

    // A shared secret is one for HS* alone.
    let settings = format!("secret: \"{SECRET}\", algorithms: [HS256], default_plan: free");
    let proxy = taking(&upstream, &settings).start();
    let mut client = crate::support::client(&proxy);
    let token = || Token::signed_by(Arc::new(Key::shared(SECRET.as_bytes())));
    good(&mut client, token());
    for alg in ["RS256", "ES256", "EdDSA", "HS384", "HS512", "none"] {
        bad(&mut client, token().header("alg", alg));
    }
    proxy.done();
}

#[test]
fn rfc8725_3_2_algorithms_that_are_not_fit_cannot_be_chosen() {
    let pem = Key::rsa("").pem();
    let files = [("key.pem", pem.as_str())];
    assert_eq!(problems("public_key: key.pem, algorithms: [RS256, PS512]", &files), "");
    for name in ["none", "None", "RS1", "HS1", "RSA1_5", "RSA-OAEP", "ECDH-ES", "dir", "rs256", "ES256K"] {
        let said = problems(&format!("public_key: key.pem, algorithms: [{name}]"), &files);
        assert!(said.contains(name), "{name}: {said}");
    }
    for (settings, reported) in [
        ("public_key: key.pem", "`algorithms` is missing"),
        ("public_key: key.pem, algorithms: []", "`algorithms` is missing"),
        ("public_key: key.pem, algorithms: [RS256, HS256]", "HS* is signed with a shared secret"),
        (&format!("secret: \"{SECRET}\", algorithms: [HS256, RS256]"), "`secret` goes with HS256, HS384 and HS512"),
        (
            &format!("public_key: key.pem, secret: \"{SECRET}\", algorithms: [RS256]"),
            "`public_key` or `secret`, not both",
        ),
    ] {
        let said = problems(settings, &files);
        assert!(said.contains(reported), "{settings}: {said}");
    }
}

#[test]
fn rfc8725_3_3_every_signature_is_verified_and_covers_all_that_is_believed() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = believing(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let token = issuer.token().text();
    good(&mut client, token.as_str());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let (_, claims) = issuer.token().scope("orders:read orders:write").parts();
    for forged in [
        format!("{header}.{}.{signature}", encode(claims)),
        format!("{}.{payload}.{signature}", encode(r#"{"alg":"ES256","kid":"first"}"#)),
        format!("{payload}.{header}.{signature}"),
        format!("{header}.{payload}.{}", issuer.token().text().rsplit('.').next().unwrap()),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
    ] {
        bad(&mut client, forged);
    }
    // A token within a token is two things to verify, and is not taken (RFC 7519 §5.2).
    let (header, _) = issuer.token().header("cty", "JWT").parts();
    bad(&mut client, issuer.key().compact(&header, &token));
    bad(&mut client, issuer.key().compact(&header, json!(token).to_string()));
    // Neither is one with several signatures, or one whose payload is elsewhere (RFC 7515 §7.2, RFC 7797).
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    bad(&mut client, json!({"protected": header, "payload": payload, "signature": signature}).to_string());
    bad(&mut client, issuer.token().header("b64", false).header("crit", json!(["b64"])));
    proxy.done();
}

#[test]
fn rfc8725_3_4_points_that_are_no_keys_verify_nothing() {
    // Nothing is agreed by Diffie-Hellman here: encrypted tokens are refused whole, see §3.6. What is left of this rule is
    // that points are looked at before they are used as keys.
    let (upstream, ec) = (upstream().start(), Key::ec("first"));
    let mut off_curve = ec.jwk();
    let y = URL_SAFE_NO_PAD.decode(off_curve["y"].as_str().unwrap()).unwrap();
    off_curve["y"] = encode(y.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).into();
    let okp = |x: [u8; 32]| json!({"kty": "OKP", "crv": "Ed25519", "kid": "first", "x": encode(x)});
    let identity: [u8; 32] = std::array::from_fn(|position| u8::from(position == 0));
    // S = 0 and R = the identity: good for every message where the key is the identity.
    let forged = |token: Token| format!("{}.{}", token.message(), encode([identity.as_slice(), &[0; 32]].concat()));
    let ec = Arc::new(ec);
    for (jwk, token) in [
        (off_curve, Token::signed_by(Arc::clone(&ec)).text()),
        (okp(identity), forged(Token::signed_by(Arc::clone(&ec)).header("alg", "EdDSA"))),
    ] {
        // In a file it is an error, where it stands; from a URL it is not used.
        let set = json!({"keys": [jwk, Key::ed("other").jwk()]});
        let settings = "jwks: jwks.json, algorithms: [ES256, EdDSA], default_plan: free";
        let alone = json!({"keys": [jwk]}).to_string();
        let proxy = taking(&upstream, settings).file("jwks.json", set.to_string()).start();
        bad(&mut client(&proxy), token);
        assert!(proxy.stderr.count("it is not used") > 0, "{jwk}");
        proxy.done();
        assert!(problems(settings, &[("jwks.json", &alone)]).contains("no key that can be used"), "{jwk}");
    }
}

#[test]
fn rfc8725_3_5_keys_have_entropy() {
    // RFC 7518 §3.2: as long as the hash.
    for (algorithms, bytes, good) in [
        ("HS256", 31, false),
        ("HS256", 32, true),
        ("HS384", 47, false),
        ("HS384", 48, true),
        ("HS512", 63, false),
        ("HS512", 64, true),
        ("HS256, HS512", 63, false),
    ] {
        let secret: String = (0..bytes).map(|number| char::from(b'A' + (number * 7 % 57) as u8)).collect();
        let secret = secret.replace('\\', "!");
        let said = problems(&format!("secret: '{secret}', algorithms: [{algorithms}]"), &[]);
        assert_eq!(said.contains("too short"), !good, "{algorithms} {bytes}: {said}");
        assert_eq!(said.is_empty(), good, "{said}");
    }
    // Long, and guessed all the same.
    for secret in ["a".repeat(64), "password".repeat(4), "01".repeat(32)] {
        let said = problems(&format!("secret: \"{secret}\", algorithms: [HS256]"), &[]);
        assert!(said.contains("can be guessed"), "{secret}: {said}");
    }
    // 128 bits in hexadecimal are as short as it gets.
    assert_eq!(problems("secret: \"9f86d081884c7d659a2feaa0c55ad015\", algorithms: [HS256]", &[]), "");

    // RFC 7518 §3.3: RSA has 2048 bits or more, and an exponent that does something.
    let short = short_rsa();
    let set = |jwk: &Value| json!({"keys": [jwk]}).to_string();
    assert!(problems("public_key: key.pem, algorithms: [RS256]", &[("key.pem", SHORT_PEM)]).contains("2048 bits"));
    assert!(problems("jwks: jwks.json, algorithms: [RS256]", &[("jwks.json", &set(&short))]).contains("2048 bits"));
    let mut plain = Key::rsa("first").jwk();
    plain["e"] = encode([1]).into();
    assert!(problems("jwks: jwks.json, algorithms: [RS256]", &[("jwks.json", &set(&plain))]).contains("exponent"));
}

/// A public key of 1024 bits.
const SHORT_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC2AJrQ1snfaSvHPjUFMHxeSHH+
EP3lQStkQ63LKeXBZMzzvp5hP5iU4DoTqgqw1tpaUYaJ3sPs08bLh3r7//2TjtXZ
8xEs35xGzfni33IrurDwoVdhC9zqs/lF7u1sK+RwyU8Pe5Ci/TUptcn0Gv8GyvgX
N9K9VJF2sQBjd7uQ/wIDAQAB
-----END PUBLIC KEY-----
";

fn short_rsa() -> Value {
    let der: String = SHORT_PEM.lines().filter(|line| !line.starts_with("---")).collect();
    let der = STANDARD.decode(der).unwrap();
    // SEQUENCE { SEQUENCE { rsaEncryption }, BIT STRING { SEQUENCE { INTEGER of 129 bytes, INTEGER 65537 } } }.
    let modulus = &der[der.len() - 5 - 128..der.len() - 5];
    json!({"kty": "RSA", "kid": "first", "n": encode(modulus), "e": "AQAB"})
}

#[test]
fn rfc8725_3_6_nothing_is_decrypted_or_unpacked() {
    use std::io::Write;
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = believing(&upstream, &issuer).start();
    let mut client = client(&proxy);
    // RFC 7516 §7.1: five parts.
    let header = encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM","zip":"DEF","kid":"first"}"#);
    bad(
        &mut client,
        format!("{header}.{}.{}.{}.{}", encode([1; 256]), encode([2; 12]), encode([3; 64]), encode([4; 16])),
    );
    bad(&mut client, format!("{header}....."));
    let (header, claims) = issuer.token().header("zip", "DEF").parts();
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    packed.write_all(claims.as_bytes()).unwrap();
    bad(&mut client, issuer.key().compact(header, packed.finish().unwrap()));
    proxy.done();
}

#[test]
fn rfc8725_3_7_json_is_utf_8() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = believing(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let (header, claims) = issuer.token().sub("J\u{f6}rg \u{1f980}").parts();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    let latin = |text: &str| text.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect::<Vec<_>>();
    let utf32 = |text: &str| text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<_>>();
    let marked = |text: &str| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let key = issuer.key();
    let answer = client.get("/x").bearer(key.compact(&header, &claims)).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["corp:J%C3%B6rg%20%F0%9F%A6%80"]);
    for claims in [utf16(&claims), latin(&claims), utf32(&claims), marked(&claims)] {
        bad(&mut client, key.compact(&header, claims));
    }
    for header in [utf16(&header), utf32(&header), marked(&header)] {
        bad(&mut client, key.compact(header, &claims));
    }
    // Overlong, a surrogate, and cut short.
    for wrong in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\xf0\x9f\xa6"] {
        let (before, after) = claims.split_once("J\u{f6}rg").unwrap();
        bad(&mut client, key.compact(&header, [before.as_bytes(), wrong, after.as_bytes()].concat()));
    }
    bad(&mut client, key.compact(&header, claims.replace("J\u{f6}rg", r"\ud800")));
    proxy.done();
}

#[test]
fn rfc8725_3_8_issuer_and_subject_are_exact_and_a_key_is_its_issuers_alone() {
    let (upstream, corp, partner) = (upstream().start(), Issuer::with(Key::ec("a")), Issuer::with(Key::ec("b")));
    let settings = |issuer: &Issuer| format!("jwks: \"{}\", algorithms: [ES256]", issuer.url());
    let proxy = taking(&upstream, &settings(&corp))
        .issuer("partner", &format!("issuer: \"https://partner.test\", {}", settings(&partner)))
        .with("consumers: { acme: { plan: free, identities: [{ issuer: corp, id: alice }] } }")
        .start();
    let mut client = client(&proxy);
    let of_partner = || partner.token().claim("iss", "https://partner.test");
    good(&mut client, corp.token());
    // Good, but whoever `alice` of the partner is, nobody said that she may come in.
    client.get("/x").bearer(of_partner()).send().refused(403, "unknown_consumer");
    client.get("/x").bearer(corp.token().sub("Alice")).send().refused(403, "unknown_consumer");
    // Signed by the other, with each one's `kid`, or with none.
    for kid in ["a", "b"] {
        bad(&mut client, partner.token().header("kid", kid));
        bad(&mut client, corp.token().claim("iss", "https://partner.test").header("kid", kid));
    }
    bad(&mut client, partner.token().without_header("kid"));
    for iss in [
        format!("{ISS}/"),
        format!("{ISS}:443"),
        format!(" {ISS}"),
        ISS.to_uppercase(),
        ISS.replace("https", "http"),
        ISS.replace(".test", ".test.evil.example"),
        ISS.replace('.', "%2e"),
        format!("{ISS}\u{0}"),
        String::new(),
    ] {
        bad(&mut client, corp.token().claim("iss", iss));
    }
    for iss in [json!([ISS]), json!({"iss": ISS}), json!(1), Value::Null] {
        bad(&mut client, corp.token().claim("iss", iss));
    }
    bad(&mut client, corp.token().without("iss"));
    for sub in [json!(""), json!(["alice"]), json!(1), Value::Null, json!("a".repeat(257))] {
        bad(&mut client, corp.token().claim("sub", sub));
    }
    bad(&mut client, corp.token().without("sub"));
    proxy.done();
}

#[test]
fn rfc8725_3_9_a_token_is_for_us() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = believing(&upstream, &issuer).start();
    let mut client = client(&proxy);
    good(&mut client, issuer.token().claim("aud", json!(["other-api", "orders-api"])));
    for aud in [
        json!("other-api"),
        json!("orders"),
        json!("orders-api-2"),
        json!("Orders-API"),
        json!("orders-api "),
        json!("orders-api other-api"),
        json!("*"),
        json!(""),
        json!([]),
        json!(["other-api"]),
        json!([["orders-api"]]),
        json!(["orders-api", 1]),
        json!({"orders-api": true}),
        Value::Null,
    ] {
        bad(&mut client, issuer.token().claim("aud", aud));
    }
    bad(&mut client, issuer.token().without("aud"));
    assert!(problems("audience: [], secret: x, algorithms: [HS256]", &[]).contains("`audience` is missing"));
    proxy.done();
}

#[test]
fn rfc8725_3_10_what_a_token_says_of_its_key_is_not_believed() {
    let (behind, issuer, evil) = (upstream().start(), issuer(), Issuer::with(Key::ec("evil")));
    let proxy = believing(&behind, &issuer).start();
    let mut client = client(&proxy);
    let token = || issuer.token().forged_with(Key::ec("other"));
    let (evil_key, url) = (evil.key(), evil.url());
    let by_evil = || evil.token().header("kid", "first");
    for (name, value) in [
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("jwk", evil_key.jwk()),
        ("x5c", json!([STANDARD.encode(evil_key.pem())])),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!(evil_key.thumbprint())),
    ] {
        bad(&mut client, by_evil().header(name, value.clone()));
        bad(&mut client, by_evil().header(name, value.clone()).without_header("kid"));
        // It does no harm where the signature is the issuer's.
        good(&mut client, issuer.token().header(name, value));
    }
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "first\u{0}",
        "first' OR '1'='1",
        "first|sleep 9",
        "http://127.0.0.1/key",
        "First",
        "",
    ] {
        bad(&mut client, token().header("kid", kid));
        // As somebody would sign it whose key is an empty file.
        bad(&mut client, token().header("kid", kid).header("alg", "HS256").forged_with(Key::shared(b"")));
    }
    for kid in [json!(1), json!(["first"]), json!({"kid": "first"}), Value::Null, json!("k".repeat(257))] {
        bad(&mut client, issuer.token().header("kid", kid));
    }
    assert_eq!(evil.fetches(), 0, "nobody asks where a token says");
    proxy.done();
}

#[test]
fn rfc8725_3_11_a_token_is_of_its_type() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = believing(&upstream, &issuer).start();
    let mut client = client(&proxy);
    // RFC 9068 §2.1 and §4; what most issuers write; and nothing at all.
    for typ in ["at+jwt", "application/at+jwt", "AT+JWT", "JWT", "jwt"] {
        good(&mut client, issuer.token().header("typ", typ));
    }
    good(&mut client, issuer.token().without_header("typ"));
    for typ in [
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "oauth-authz-req+jwt",
        "client-authentication+jwt",
        "entity-statement+jwt",
        "vc+jwt",
        "JOSE",
        "JWE",
        "",
    ] {
        bad(&mut client, issuer.token().header("typ", typ));
    }
    for typ in [Value::Null, json!(["at+jwt"]), json!(1)] {
        bad(&mut client, issuer.token().header("typ", typ));
    }
    proxy.done();

    // An issuer that keeps to RFC 9068 can be held to it.
    let settings = format!("jwks: \"{}\", algorithms: [ES256], type: at+jwt, default_plan: free", issuer.url());
    let proxy = taking(&upstream, &settings).start();
    let mut client = crate::support::client(&proxy);
    for typ in ["at+jwt", "application/at+jwt"] {
        good(&mut client, issuer.token().header("typ", typ));
    }
    bad(&mut client, issuer.token().header("typ", "JWT"));
    bad(&mut client, issuer.token().without_header("typ"));
    proxy.done();
    let said = problems(&format!("secret: \"{SECRET}\", algorithms: [HS256], type: jwt"), &[]);
    assert!(said.contains("at+jwt"), "{said}");
}

#[test]
fn rfc8725_3_12_what_was_signed_for_another_end_is_no_access_token() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = believing(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let plain = || issuer.token().header("typ", "JWT");
    // An ID token (OpenID Connect Core 1.0 §2, §3.3.2.11) whose client has the name of this API.
    for (name, value) in [("at_hash", "MTIzNDU2Nzg5MDEyMzQ1Ng"), ("c_hash", "MTIzNDU2Nzg5MDEyMzQ1Ng"), ("s_hash", "x")]
    {
        bad(&mut client, plain().claim(name, value));
        bad(&mut client, plain().without_header("typ").claim(name, value));
        // The type that it is signed with has the last word.
        good(&mut client, issuer.token().claim(name, value));
    }
    // As Keycloak and Cognito tell them apart.
    for (name, value) in [("typ", "ID"), ("typ", "Refresh"), ("typ", "Offline"), ("typ", "Logout"), ("token_use", "id")]
    {
        bad(&mut client, plain().claim(name, value));
    }
    for (name, value) in [("typ", "Bearer"), ("typ", "DPoP"), ("token_use", "access"), ("nonce", "n-0S6_WzA2Mj")] {
        good(&mut client, plain().claim(name, value));
    }
    // A logout token, or another security event (RFC 8417 §2.2), with or without its type.
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    bad(&mut client, plain().claim("events", event.clone()));
    bad(&mut client, issuer.token().claim("events", event));

    // A proof of possession is none, be it made with the issuer's own key.
    bad(&mut client, Token::proof(&issuer.key(), "GET", &proxy.url("/x")).claim("iss", ISS).claim("exp", now() + 60));
    proxy.done();

    // A key is for one use and one algorithm, where its set says so (RFC 7517 §4.2, §4.4).
    let rsa = Key::rsa("first");
    let settings = "jwks: jwks.json, algorithms: [RS256, PS256], default_plan: free";
    let with = |name: &str, value: &str| {
        let mut jwk = rsa.jwk();
        jwk[name] = value.into();
        json!({"keys": [jwk, Key::ed("other").jwk()]}).to_string()
    };
    let sets = [("alg", "PS256", false), ("alg", "RS256", true), ("use", "enc", false), ("use", "sig", true)];
    let sets: Vec<_> = sets.map(|(name, value, taken)| (with(name, value), taken)).into();
    let ops = |ops: Value| {
        let mut jwk = rsa.jwk();
        jwk["key_ops"] = ops;
        json!({"keys": [jwk, Key::ed("other").jwk()]}).to_string()
    };
    let more = [(ops(json!(["encrypt"])), false), (ops(json!(["verify"])), true), (ops(json!("verify")), false)];
    let rsa = Arc::new(rsa);
    for (set, taken) in sets.into_iter().chain(more) {
        let proxy = taking(&upstream, settings).file("jwks.json", set.as_str()).start();
        let status = crate::support::client(&proxy).get("/x").bearer(Token::signed_by(Arc::clone(&rsa))).send().status;
        assert_eq!(status, if taken { 200 } else { 401 }, "{set}");
        proxy.done();
    }
}
