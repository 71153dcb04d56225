//! Signatures that are forged in every way known: `tests/cases/forged-signatures.json` says which, and what must come of
//! each; the forger here signs with real keys and then spoils what it has signed.
//!
//! Each case has a control beside it, made by the same forger, that must be good: else a case could be refused for a
//! reason other than its own.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use num_bigint::BigUint;

use crate::support::issuer::{ISS, now};
use crate::support::*;

const CASES: &str = include_str!("../cases/forged-signatures.json");
/// Bytes of the RSA modulus.
const MODULUS: usize = 256;
/// Alphabet of base64url, in the order of its values.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hex(text: &str) -> Vec<u8> {
    BigUint::parse_bytes(text.replace(' ', "").as_bytes(), 16).unwrap().to_bytes_be()
}

fn big(bytes: &[u8]) -> BigUint {
    BigUint::from_bytes_be(bytes)
}

/// A number of so many bytes, or of more where it does not fit.
fn sized(number: &BigUint, size: usize) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    [vec![0; size.saturating_sub(bytes.len())], bytes].concat()
}

fn hash(name: &str) -> &'static digest::Algorithm {
    match name {
        "1" => &SHA1_FOR_LEGACY_USE_ONLY,
        "256" => &SHA256,
        "384" => &SHA384,
        "512" => &SHA512,
        other => panic!("no hash {other}"),
    }
}

/// RFC 8017 §9.2, note 1: what stands before the hash.
fn info(name: &str) -> Vec<u8> {
    hex(match name {
        "1" => "3021300906052b0e03021a05000414",
        "256" => "3031300d060960864801650304020105000420",
        "384" => "3041300d060960864801650304020205000430",
        "512" => "3051300d060960864801650304020305000440",
        other => panic!("no hash {other}"),
    })
}

/// One key of each kind.
struct Keys {
    rsa: rsa::KeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    /// Modulus and private exponent of `rsa`.
    n: BigUint,
    d: BigUint,
}

impl Keys {
    fn new() -> Self {
        let rsa = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = rsa.as_der().unwrap();
        let (n, d) = private_numbers(der.as_ref());
        Self {
            rsa,
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
            n,
            d,
        }
    }

    fn jwks(&self) -> String {
        let ec = |pair: &EcdsaKeyPair, curve: &str| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": curve, "x": encode(x), "y": encode(y)})
        };
        let ed = encode(self.ed.public_key().as_ref());
        json!({"keys": [
            {"kty": "RSA", "kid": "RSA", "n": encode(self.n.to_bytes_be()), "e": "AQAB"},
            ec(&self.p256, "P-256"),
            ec(&self.p384, "P-384"),
            {"kty": "OKP", "crv": "Ed25519", "kid": "Ed25519", "x": ed},
        ]})
        .to_string()
    }

    fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; MODULUS];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        match alg {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            other => panic!("nobody signs with {other}"),
        }
    }

    /// RSASP1 (RFC 8017 §5.2.1): whatever it is that is signed.
    fn raw(&self, encoded: &[u8]) -> Vec<u8> {
        assert_eq!(encoded.len(), MODULUS);
        sized(&big(encoded).modpow(&self.d, &self.n), MODULUS)
    }
}

/// Modulus and private exponent in a PKCS #8 document (RFC 5208 §5; RFC 8017 §A.1.2).
fn private_numbers(der: &[u8]) -> (BigUint, BigUint) {
    /// Tag, content, and what follows.
    fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
        let (length, start) = match der[1] {
            short @ 0..0x80 => (usize::from(short), 2),
            long => {
                let count = usize::from(long & 0x7f);
                (der[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
            }
        };
        (der[0], &der[start..start + length], &der[start + length..])
    }
    fn third(der: &[u8]) -> (u8, &[u8], &[u8]) {
        element(element(element(der).2).2)
    }
    let (tag, key, _) = third(element(der).1);
    assert_eq!(tag, 0x04);
    let numbers = element(key).1;
    let n = element(element(numbers).2);
    let d = element(element(n.2).2);
    (big(n.1), big(d.1))
}

/// Forges one case after another.
struct Forger {
    keys: Keys,
    other: Keys,
}

/// Header and payload of a token that is good but for its signature.
fn parts(alg: &str) -> (String, String) {
    let kid = match alg {
        "ES256" => "P-256",
        "ES384" => "P-384",
        "EdDSA" => "Ed25519",
        _ => "RSA",
    };
    let mut random = [0; 12];
    rand::fill(&mut random).unwrap();
    let claims = json!({
        "iss": ISS, "aud": "orders-api", "sub": "alice", "iat": now(), "exp": now() + 300, "scope": "orders:read",
        "jti": encode(random),
    });
    // Both have bits to spare in their last character.
    let spare = |text: String| if text.len().is_multiple_of(3) { format!("{text} ") } else { text };
    (spare(json!({"alg": alg, "kid": kid}).to_string()), spare(claims.to_string()))
}

impl Forger {
    /// The whole token of a case.
    fn token(&self, alg: &str, forge: &Value) -> String {
        // Some cases need a signature of a certain kind, which comes in time.
        for _ in 0..100_000 {
            let (header, payload) = parts(alg);
            let message = format!("{}.{}", encode(&header), encode(&payload));
            let (kind, how) = forge.as_object().unwrap().iter().next().unwrap();
            let signed = || self.keys.sign(alg, message.as_bytes());
            let signature = match kind.as_str() {
                "keep" => Some(signed()),
                "other_key" => Some(self.other.sign(alg, message.as_bytes())),
                "made_with" => Some(self.keys.sign(how.as_str().unwrap(), message.as_bytes())),
                "signs" => Some(self.keys.sign(alg, &other_message(how.as_str().unwrap(), &header, &payload))),
                "ecdsa" => ecdsa(&signed(), how),
                "eddsa" => Some(eddsa(&signed(), how)),
                "pkcs1" => Some(self.keys.raw(&template(how.as_str().unwrap(), message.as_bytes()))),
                "pss" => Some(self.keys.raw(&pss(alg, how, message.as_bytes()))),
                "number" => number(&signed(), how.as_str().unwrap(), &self.keys.n),
                "text" => match spelled(how.as_str().unwrap(), &message, &signed()) {
                    Some(text) => return text,
                    None => None,
                },
                other => panic!("nobody forges {other}"),
            };
            if let Some(signature) = signature {
                return format!("{message}.{}", encode(signature));
            }
        }
        panic!("no signature was of the kind: {forge}");
    }
}

/// What is signed in place of header and payload.
fn other_message(what: &str, header: &str, payload: &str) -> Vec<u8> {
    let (encoded_header, encoded_payload) = (encode(header), encode(payload));
    match what {
        "header" => encoded_header.into_bytes(),
        "payload" => encoded_payload.into_bytes(),
        "payload.header" => format!("{encoded_payload}.{encoded_header}").into_bytes(),
        "header.payload." => format!("{encoded_header}.{encoded_payload}.").into_bytes(),
        "header..payload" => format!("{encoded_header}..{encoded_payload}").into_bytes(),
        "decoded" => format!("{header}.{payload}").into_bytes(),
        "another token" => format!("{encoded_header}.{}", encode(payload.replace("alice", "mallory"))).into_bytes(),
        "nothing" => Vec::new(),
        "hash" => digest(&SHA256, format!("{encoded_header}.{encoded_payload}").as_bytes()).as_ref().to_vec(),
        other => panic!("nobody signs {other}"),
    }
}

/// Other numbers in place of r and s, or another form.
fn ecdsa(signature: &[u8], how: &Value) -> Option<Vec<u8>> {
    let size = signature.len() / 2;
    let n = big(&hex(match size {
        32 => "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        _ => "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    }));
    let (r, s) = (big(&signature[..size]), big(&signature[size..]));
    let one = BigUint::from(1_u8);
    let value = |name: &str| {
        Some(match name {
            "r" => r.clone(),
            "s" => s.clone(),
            "0" => BigUint::ZERO,
            "1" => one.clone(),
            "n" => n.clone(),
            "n-1" => &n - &one,
            "n-r" => &n - &r,
            "n-s" => &n - &s,
            "r+n" => &r + &n,
            "s+n" => &s + &n,
            "ff" => big(&vec![0xff; size]),
            "small-r" => return Some(r.clone()).filter(|r| r.to_bytes_be().len() < size),
            other => panic!("no number {other}"),
        })
    };
    let (r, s) = (value(how["r"].as_str().unwrap())?, value(how["s"].as_str().unwrap())?);
    Some(match how["form"].as_str().unwrap() {
        "raw" => [sized(&r, size), sized(&s, size)].concat(),
        "padded" => [sized(&r, size + 1), sized(&s, size + 1)].concat(),
        "minimal" => [r.to_bytes_be(), s.to_bytes_be()].concat(),
        "r-only" => sized(&r, size),
        "der" => {
            let integer = |number: &BigUint| {
                let bytes = number.to_bytes_be();
                let bytes = if bytes[0] < 0x80 { bytes } else { [vec![0], bytes].concat() };
                [vec![0x02, u8::try_from(bytes.len()).unwrap()], bytes].concat()
            };
            let content = [integer(&r), integer(&s)].concat();
            [vec![0x30, u8::try_from(content.len()).unwrap()], content].concat()
        }
        other => panic!("no form {other}"),
    })
}

/// Another point in place of R, another number in place of S (RFC 8032 §5.1.6).
fn eddsa(signature: &[u8], how: &Value) -> Vec<u8> {
    let order = (BigUint::from(1_u8) << 252_u32) + big(&hex("14def9dea2f79cd65812631a5cf5d3ed"));
    let prime = (BigUint::from(1_u8) << 255_u32) - BigUint::from(19_u8);
    let little = |number: BigUint| {
        let mut bytes = sized(&number, 32);
        bytes.reverse();
        bytes
    };
    let (r, s) = (signature[..32].to_vec(), BigUint::from_bytes_le(&signature[32..]));
    let one = BigUint::from(1_u8);
    let unit = one.clone();
    let point = match how["R"].as_str().unwrap() {
        "R" => r,
        "-R" => {
            let mut turned = r;
            turned[31] ^= 0x80;
            turned
        }
        "0" => vec![0; 32],
        "1" => little(one),
        "p-1" => little(prime - one),
        "p+1" => little(prime + one),
        "order-8" => hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        other => panic!("no point {other}"),
    };
    let number = match how["S"].as_str().unwrap() {
        "S" => s,
        "0" => BigUint::ZERO,
        "L" => order,
        "S+L" => s + order,
        "S+2L" => s + order * 2_u8,
        "S|2^255" => s + (unit << 255_u32),
        other => panic!("no number {other}"),
    };
    [point, little(number)].concat()
}

/// What a template of RFC 8017 §9.2 makes: bytes in hexadecimal, one of them repeated as often as it takes (`ff*`), and
/// what belongs to a hash.
fn template(text: &str, message: &[u8]) -> Vec<u8> {
    let (mut before, mut after, mut filler) = (Vec::new(), Vec::new(), None);
    for word in text.split(' ') {
        let bytes = if let Some(repeated) = word.strip_suffix('*') {
            filler = Some(u8::from_str_radix(repeated, 16).unwrap());
            continue;
        } else if let Some(name) = word.strip_prefix("info") {
            info(name)
        } else if let Some(name) = word.strip_prefix("hash") {
            digest(hash(name), message).as_ref().to_vec()
        } else {
            match word {
                "empty256" => digest(&SHA256, b"").as_ref().to_vec(),
                "wrong256" => {
                    let mut bytes = digest(&SHA256, message).as_ref().to_vec();
                    bytes[31] ^= 1;
                    bytes
                }
                "bare256" => hex("302f300b06096086480165030402010420"),
                "stuffed256" => hex("303930150609608648016503040201 0408 6162636465666768 0420"),
                "long256" => hex("308131300d060960864801650304020105000420"),
                byte => vec![u8::from_str_radix(byte, 16).unwrap()],
            }
        };
        if filler.is_none() { before.extend(bytes) } else { after.extend(bytes) }
    }
    let missing = MODULUS - before.len() - after.len();
    let filling = match filler {
        Some(byte) => vec![byte; missing],
        None => {
            assert_eq!(missing, 0, "{text}");
            Vec::new()
        }
    };
    [before, filling, after].concat()
}

/// EMSA-PSS-ENCODE (RFC 8017 §9.1.1), and what may go wrong in it.
fn pss(alg: &str, how: &Value, message: &[u8]) -> Vec<u8> {
    let name = alg.strip_prefix("PS").unwrap();
    let mask_hash = how["mask"].as_u64().map_or(name.to_owned(), |mask| mask.to_string());
    let mut salt = vec![0; usize::try_from(how["salt"].as_u64().unwrap()).unwrap()];
    rand::fill(&mut salt).unwrap();
    let hashed = digest(hash(name), &[&[0; 8], digest(hash(name), message).as_ref(), &salt].concat());
    let hashed = hashed.as_ref();
    if how["swapped"] == true {
        rand::fill(&mut salt).unwrap();
    }
    let one = u8::try_from(how["one"].as_u64().unwrap_or(1)).unwrap();
    let room = MODULUS - hashed.len() - 1;
    let mut block = [vec![0; room - salt.len() - 1], vec![one], salt].concat();
    // MGF1 (§B.2.1).
    let mask = (0_u32..)
        .flat_map(|counter| digest(hash(&mask_hash), &[hashed, &counter.to_be_bytes()].concat()).as_ref().to_vec());
    block.iter_mut().zip(mask).for_each(|(byte, masking)| *byte ^= masking);
    block[0] &= 0x7f;
    if how["high"] == true {
        block[0] |= 0x80;
    }
    let trailer = u8::try_from(how["trailer"].as_u64().unwrap_or(0xbc)).unwrap();
    [block, hashed.to_vec(), vec![trailer]].concat()
}

/// The number of an RSA signature, replaced or spelled another way.
fn number(signature: &[u8], how: &str, n: &BigUint) -> Option<Vec<u8>> {
    let (s, one) = (big(signature), BigUint::from(1_u8));
    Some(match how {
        "s" => sized(&s, MODULUS),
        "s+n" => return Some(sized(&(s + n), MODULUS)).filter(|bytes| bytes.len() == MODULUS),
        "n-s" => sized(&(n - s), MODULUS),
        "0" => vec![0; MODULUS],
        "1" => sized(&one, MODULUS),
        "n-1" => sized(&(n - one), MODULUS),
        "n" => sized(n, MODULUS),
        "0|s" => sized(&s, MODULUS + 1),
        "s|0" => [signature, &[0]].concat(),
        "s<" => signature[..MODULUS - 1].to_vec(),
        "small-s" => return Some(s.to_bytes_be()).filter(|bytes| bytes.len() == MODULUS - 1),
        other => panic!("no number {other}"),
    })
}

/// Another text of header (H), payload (P) and signature (S).
fn spelled(how: &str, message: &str, signature: &[u8]) -> Option<String> {
    let (header, payload) = message.split_once('.').unwrap();
    let text = encode(signature);
    let other = match how {
        "H.P.S s" => format!("{} {}", &text[..10], &text[10..]),
        "H.P.S\ts" => format!("{}\t{}", &text[..10], &text[10..]),
        "H.P.S+" => STANDARD_NO_PAD.encode(signature),
        "H.P.S<" => text[..text.len() - 1].to_owned(),
        "H.P.S/2" => encode(&signature[..signature.len() / 2]),
        "H.P.SS" => encode([signature, signature].concat()),
        "H.P.S^" => text.to_uppercase(),
        "H.P.S!" => text.chars().rev().collect(),
        "H.P.Sx" => signature.iter().map(|byte| format!("{byte:02x}")).collect(),
        how => return Some(placed(how, header, payload, &text)),
    };
    // Some spellings are another one only where certain characters are there.
    Some(format!("{message}.{other}")).filter(|_| other != text)
}

/// Puts parts in the places of a pattern; `~` turns a stray bit in the last character before it.
fn placed(pattern: &str, header: &str, payload: &str, signature: &str) -> String {
    let mut text = String::new();
    for place in pattern.chars() {
        match place {
            'H' => text.push_str(header),
            'P' => text.push_str(payload),
            'S' => text.push_str(signature),
            '~' => {
                let last = text.pop().unwrap();
                let value = ALPHABET.iter().position(|known| char::from(*known) == last).unwrap();
                // The lowest bit is none of those that carry something.
                text.push(char::from(ALPHABET[value ^ 1]));
            }
            other => text.push(other),
        }
    }
    text
}

#[test]
fn what_is_forged_is_refused_and_what_is_not_is_good() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    let names: BTreeSet<&str> = cases.iter().map(|case| case["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    let forger = Forger { keys: Keys::new(), other: Keys::new() };
    let upstream = upstream().start();
    let algorithms = "[RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]";
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", &format!("jwks: jwks.json, algorithms: {algorithms}, default_plan: free"))
        .file("jwks.json", forger.keys.jwks())
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let mut client = client(&proxy);
    let mut wrong = Vec::new();
    let mut good = 0;
    for case in &cases {
        let token = forger.token(case["alg"].as_str().unwrap(), &case["forge"]);
        let answer = client.get("/x").bearer(&token).send();
        let code = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["code"].clone();
        let expected = match case["verdict"].as_str().unwrap() {
            "good" => (200, Value::Null),
            "refused" => (401, json!("invalid_token")),
            other => panic!("no verdict {other}"),
        };
        good += usize::from(answer.status == 200);
        if (answer.status, code.clone()) != expected {
            wrong.push(format!("{}: {} {code}\n  {token}", case["name"], answer.status));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(upstream.seen().len(), good, "what is refused never reaches the upstream");
    proxy.done();
}

#[test]
fn a_revoked_token_stays_revoked_with_another_signature_that_is_as_good() {
    let (forger, upstream) = (Forger { keys: Keys::new(), other: Keys::new() }, upstream().start());
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", "jwks: jwks.json, algorithms: [ES256, PS256], default_plan: free")
        .file("jwks.json", forger.keys.jwks())
        .with("store: state")
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let (mut client, mut operator) = (client(&proxy), crate::support::client::operator(&proxy));
    let revocation = |text: &str, by: &str| match by {
        "token" => json!({"token": text}),
        "text" => json!({"sha256": sha256(text)}),
        _ => json!({"sha256": sha256(text.rsplit_once('.').unwrap().0)}),
    };
    for (alg, by, twin_is_revoked) in [
        ("ES256", "token", true),
        ("ES256", "signed part", true),
        // Whoever knows only the digest of one spelling revokes that spelling.
        ("ES256", "text", false),
        ("PS256", "token", true),
    ] {
        let (header, payload) = parts(alg);
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = forger.keys.sign(alg, message.as_bytes());
        let twin = match alg {
            "ES256" => ecdsa(&signature, &json!({"r": "r", "s": "n-s", "form": "raw"})).unwrap(),
            // With another salt, as the issuer alone could make it.
            _ => forger.keys.sign(alg, message.as_bytes()),
        };
        assert_ne!(signature, twin);
        let [text, twin] = [signature, twin].map(|signature| format!("{message}.{}", encode(signature)));
        for token in [&text, &twin] {
            client.get("/x").bearer(token.as_str()).send().is(200);
        }
        let body = revocation(&text, by).to_string();
        assert_eq!(operator.post("/v1/revocations", body).bearer(proxy::ADMIN_TOKEN).send().status, 201);
        client.get("/x").bearer(text.as_str()).send().refused(401, "revoked");
        let answer = client.get("/x").bearer(twin.as_str()).send();
        assert_eq!(answer.status, if twin_is_revoked { 401 } else { 200 }, "{alg} by {by}");
        // Another token of the same key is none of this.
        client.get("/x").bearer(forger.token(alg, &json!({"keep": true}))).send().is(200);
    }
    proxy.done();
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
