//! The keys of proofs.

use super::super::jwk::key_of;
use super::super::proof::PRIVATE;
use super::*;

#[test]
fn the_key_is_public_and_of_its_algorithm() {
    let client = Client::new();
    let mut stray = client.jwk["x"].as_str().unwrap().to_owned().into_bytes();
    // 32 bytes leave two bits of the last character unused.
    *stray.last_mut().unwrap() += 1;
    let stray = String::from_utf8(stray).unwrap();
    let mut cases = vec![
        (json!({"kid": "k", "use": "sig", "alg": "ES256", "key_ops": ["verify"], "ext": true}), ""),
        (json!({"use": "enc"}), "does not match"),
        (json!({"use": 1}), "does not match"),
        (json!({"kty": null}), "does not match"),
        (json!({"kty": "RSA"}), "does not match"),
        (json!({"kty": "ec"}), "does not match"),
        (json!({"kty": "oct"}), "does not match"),
        (json!({"crv": null}), "does not match"),
        (json!({"crv": "P-384"}), "does not match"),
        (json!({"crv": "Ed25519"}), "does not match"),
        (json!({"y": null}), "does not match"),
        (json!({"x": 1}), "does not match"),
        (json!({"x": ""}), "does not match"),
        (json!({"x": encode([0xc5; 31])}), "does not match"),
        (json!({"x": encode([0xc5; 33])}), "does not match"),
        (json!({"x": format!("{}=", client.jwk["x"].as_str().unwrap())}), "does not match"),
        (json!({"x": stray}), "does not match"),
        (json!({"x": "\",\"y\":\""}), "does not match"),
    ];
    cases.extend(PRIVATE.iter().map(|member| (json!({*member: "AQAB"}), "private")));
    for (change, reason) in cases {
        let header = json!({"jwk": changed(client.jwk.clone(), &change)});
        assert_verdict(verdict(&client.proof(&header, &json!({})), &client.jkt), reason, &change);
    }
    // A point that is not on the curve, and to which the token is bound nevertheless.
    let off = changed(client.jwk.clone(), &json!({"x": encode([0xc5; 32])}));
    let proof = client.proof(&json!({"jwk": off}), &json!({}));
    assert_verdict(verdict(&proof, &thumbprint(&off)), "signature", "off the curve");
}

#[test]
fn keys_of_all_kinds_are_read_and_have_their_thumbprints() {
    // RFC 7638 §3.1.
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK\
             RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMic\
             AtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3\
             XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let example = json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
    // RFC 8037, appendix A.3.
    let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let ec = |curve: &str, size| {
        let number = encode(vec![0xc5; size]);
        json!({"kty": "EC", "crv": curve, "x": number, "y": number})
    };
    let rsa = |first: u8, size, e: &[u8]| {
        let mut n = vec![0xc5; size];
        n[0] = first;
        json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
    };
    let known = |jwk: &Value| Some(thumbprint(jwk));
    for (jwk, algorithm, expected) in [
        (&example, Algorithm::RS256, Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs".to_owned())),
        (&ed, Algorithm::EdDSA, Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".to_owned())),
        (&example, Algorithm::PS256, known(&example)),
        (&ec("P-256", 32), Algorithm::ES256, known(&ec("P-256", 32))),
        (&ec("P-384", 48), Algorithm::ES384, known(&ec("P-384", 48))),
        (&rsa(0x80, 256, &[1, 0, 1]), Algorithm::PS512, known(&rsa(0x80, 256, &[1, 0, 1]))),
        (&ec("P-521", 66), Algorithm::ES384, None),
        (&ec("P-256", 32), Algorithm::ES384, None),
        (&ec("P-384", 32), Algorithm::ES384, None),
        (&rsa(0x7f, 256, &[1, 0, 1]), Algorithm::RS256, None),
        (&rsa(0xff, 255, &[1, 0, 1]), Algorithm::RS256, None),
        (&rsa(0, 257, &[1, 0, 1]), Algorithm::RS256, None),
        (&rsa(0x80, 256, &[0, 1, 0, 1]), Algorithm::RS256, None),
        (&rsa(0x80, 256, &[]), Algorithm::RS256, None),
        (&changed(ed.clone(), &json!({"crv": "X25519"})), Algorithm::EdDSA, None),
        (&changed(ed.clone(), &json!({"x": encode([1; 31])})), Algorithm::EdDSA, None),
        (&changed(ed.clone(), &json!({"kty": "EC"})), Algorithm::EdDSA, None),
        (&json!({"kty": "oct", "k": encode([1; 32])}), Algorithm::HS256, None),
        (&example, Algorithm::HS256, None),
    ] {
        let got = key_of(jwk.as_object().unwrap(), algorithm).map(|(_, thumbprint)| thumbprint);
        assert_eq!(got, expected, "{algorithm:?} {jwk}");
    }
}

#[test]
fn proofs_of_all_kinds_of_keys_verify() {
    let random = SystemRandom::new();
    let rsa: RsaKeyPair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    // PKCS #1: SEQUENCE { INTEGER of 257 bytes with a leading zero, INTEGER 65537 }.
    let n = encode(&rsa.public_key().as_ref()[9..265]);
    let rsa_jwk = json!({"kty": "RSA", "n": n, "e": "AQAB"});
    let by_rsa = |encoding: &'static dyn RsaEncoding, message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(encoding, &random, message, &mut signature).unwrap();
        signature
    };
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(ed.public_key().as_ref())});
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let (x, y) = p384.public_key().as_ref()[1..].split_at(48);
    let p384_jwk = json!({"kty": "EC", "crv": "P-384", "x": encode(x), "y": encode(y)});

    type Sign<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let by_ed: Sign<'_> = &|message| ed.sign(message).as_ref().to_vec();
    let cases: [(&str, &Value, Sign<'_>); 5] = [
        ("RS256", &rsa_jwk, &|message| by_rsa(&RSA_PKCS1_SHA256, message)),
        ("PS256", &rsa_jwk, &|message| by_rsa(&RSA_PSS_SHA256, message)),
        ("EdDSA", &ed_jwk, by_ed),
        ("Ed25519", &ed_jwk, by_ed),
        ("ES384", &p384_jwk, &|message| p384.sign(&random, message).unwrap().as_ref().to_vec()),
    ];
    for (alg, jwk, sign) in cases {
        let header = json!({"typ": "dpop+jwt", "alg": alg, "jwk": jwk}).to_string();
        let claims = good_claims(&json!({})).to_string();
        let jkt = thumbprint(jwk);
        assert_verdict(verdict(&compact(&header, &claims, sign), &jkt), "", alg);
        let forged = compact(&header, &claims, |message| {
            let mut signature = sign(message);
            signature[20] ^= 1;
            signature
        });
        assert_verdict(verdict(&forged, &jkt), "signature", alg);
    }
    // The same key, under the name of another algorithm.
    let header = json!({"typ": "dpop+jwt", "alg": "PS256", "jwk": rsa_jwk}).to_string();
    let claims = good_claims(&json!({})).to_string();
    let proof = compact(&header, &claims, |message| by_rsa(&RSA_PKCS1_SHA256, message));
    assert_verdict(verdict(&proof, &thumbprint(&rsa_jwk)), "signature", "RS256 as PS256");
}
