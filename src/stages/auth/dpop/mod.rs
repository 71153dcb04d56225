//! DPoP proofs (RFC 9449): decides whether the sender of a request holds the key that its token is bound to.
//!
//! It never decides who is calling: the token has been verified before, and its `cnf.jkt` is what a proof is held
//! against. A proof is good for one request, for a short time, and once. The rules are those of RFC 9449 §4.3, cheap
//! ones first, then the signature, and the memory of replays last: only who holds a bound key can fill it.
//!
//! That memory is of one process. Where nodes share a store, a proof is claimed there as well, so that none is good on two
//! nodes. Without one, within its age a proof can be used once more on another node, or after a restart; nonces under a key
//! that each process draws for itself close both (§8).

mod nonces;
mod replays;
mod target;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

pub(crate) use self::nonces::Nonces;
pub(crate) use self::replays::Replays;
use self::replays::mark;
use self::target::Target;
use crate::exchange::Request;
use crate::stages::strict_json;

/// The header that carries proofs (RFC 9449 §4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Longest proof, in bytes: several times what an RSA key of 8192 bits makes of one.
const MAX_PROOF: usize = 8 * 1024;
/// Longest `jti`, in bytes.
const MAX_JTI: usize = 256;
/// Shortest RSA modulus, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;
/// Members that only private and shared keys have (RFC 7518 §6.2.2, §6.3.2 and §6.4.1; RFC 8037 §2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// Why a proof is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// None came, and the token demands one (RFC 9449 §7.1).
    Missing,
    /// More than one came (RFC 9449 §4.3, rule 1).
    Several,
    /// It breaks a rule of RFC 9449 §4.3; says which, for the caller.
    Invalid(&'static str),
    /// It was used before (RFC 9449 §11.1).
    Replayed,
    /// It lacks a nonce of ours that is still good; the answer carries a new one (RFC 9449 §9).
    NonceNeeded,
    /// It is good, but its key has been used for as many as one key may have remembered; `wait` is in seconds.
    TooMany {
        /// When the first of them has ended.
        wait: u64,
    },
    /// It is good, but cannot be remembered: the memory is full of proofs that are good still. Ours to mend, hence 503.
    Full,
}

fn invalid<T>(detail: &'static str) -> Result<T, Flaw> {
    Err(Flaw::Invalid(detail))
}

/// How proofs are checked, as the policy says.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long a proof is good after its `iat`, in seconds (RFC 9449 §11.1).
    pub(crate) max_age: i64,
    /// Tolerated difference of clocks, in seconds.
    pub(crate) skew: i64,
    /// Whether a proof must carry a nonce of ours (RFC 9449 §9).
    pub(crate) nonce: bool,
    /// The only algorithms taken; those with a shared secret are passed over.
    pub(crate) algorithms: Vec<Algorithm>,
}

/// An access token that is bound to a key.
#[derive(Clone, Copy)]
pub(crate) struct BoundToken<'a> {
    /// The token, as sent.
    pub(crate) token: &'a [u8],
    /// Thumbprint of its key: its `cnf.jkt` (RFC 9449 §6.1).
    pub(crate) jkt: &'a str,
}

/// A good proof, which counts as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    /// What it is remembered by.
    pub(crate) mark: [u8; 16],
    /// How long some node would take it.
    pub(crate) lifetime: Duration,
}

/// Checks proofs.
#[derive(Debug)]
pub(crate) struct Dpop {
    settings: Settings,
    /// Proofs seen; the next policy has the same.
    replays: Arc<Replays>,
    /// Nonces; who answers issues them, and the next policy has the same.
    nonces: Arc<Nonces>,
}

impl Dpop {
    /// Puts it together. RFC 9449 §4.3, rule 5: only asymmetric algorithms, whatever the settings say.
    pub(crate) fn new(mut settings: Settings, replays: Arc<Replays>, nonces: Arc<Nonces>) -> Self {
        settings.algorithms.retain(|algorithm| algorithm.family() != AlgorithmFamily::Hmac);
        Self { settings, replays, nonces }
    }

    /// What the next proof must hold, where nonces are asked for.
    pub(super) fn next_nonce(&self, now: Timestamp) -> HeaderValue {
        self.nonces.issue(now)
    }

    /// Decides whether the request's `DPoP` header proves that its sender holds the token's key (RFC 9449 §4.3).
    ///
    /// A good proof is remembered on this node, so it is good once; the caller asks the other nodes.
    pub(crate) fn check(&self, request: &Request<'_>, bound: BoundToken<'_>) -> Result<Used, Flaw> {
        let now = request.now();
        let mut proofs = request.headers.get_all(DPOP).iter();
        let value = match (proofs.next(), proofs.next()) {
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Err(Flaw::Several),
            (None, _) => return Err(Flaw::Missing),
        };
        let proof = Proof::parse(value)?;
        let algorithm = self.algorithm(&proof)?;
        let (key, thumbprint) = proof.key(algorithm)?;
        let jti = proof.claim("jti").filter(|jti| !jti.is_empty() && jti.len() <= MAX_JTI);
        let jti = jti.ok_or(Flaw::Invalid("the DPoP proof's `jti` is not a string of 1 to 256 bytes"))?;
        proof.is_for(request, bound.token)?;
        // Before the signature: the key of somebody's own choice, however large, is not worth verifying with.
        if !bool::from(thumbprint.as_bytes().ct_eq(bound.jkt.as_bytes())) {
            return invalid("the DPoP proof is made with another key than the token is bound to (`cnf.jkt`)");
        }
        let until = self.until(&proof, now)?;
        self.nonce(&proof, now)?;
        if !jsonwebtoken::crypto::verify(proof.signature, proof.message.as_bytes(), &key, algorithm).unwrap_or(false) {
            return invalid("the DPoP proof's signature is not good");
        }
        let (mark, now) = (mark(bound.jkt, jti), now.as_second());
        self.replays.claim(bound.jkt, mark, until, now)?;
        // A node whose clock is behind takes it for longer, by as much as clocks may differ.
        let left = until.saturating_sub(now).saturating_add(1).saturating_add(self.settings.skew);
        Ok(Used { mark, lifetime: Duration::from_secs(u64::try_from(left).unwrap_or(1)) })
    }

    /// The algorithm, which is the proof's choice, but only among ours (RFC 9449 §4.3, rules 4 and 5).
    fn algorithm(&self, proof: &Proof<'_>) -> Result<Algorithm, Flaw> {
        let member = |name: &str| proof.header.get(name).and_then(Value::as_str);
        // What was signed for another end, an ID token say, is no proof (RFC 8725 §3.11).
        if member("typ") != Some("dpop+jwt") {
            return invalid("the DPoP proof's `typ` is not `dpop+jwt`");
        }
        // RFC 7515 §4.1.11: extensions that are not understood refuse the proof, and we understand none.
        if proof.header.contains_key("crit") {
            return invalid("the DPoP proof demands an extension (`crit`) that is not understood here");
        }
        let algorithm = member("alg").and_then(|name| match name {
            // RFC 9864 §2.2: the name that says the curve too; no other curve of EdDSA is taken here.
            "Ed25519" => Some(Algorithm::EdDSA),
            name => name.parse().ok(),
        });
        let accepted = algorithm.filter(|algorithm| self.settings.algorithms.contains(algorithm));
        accepted.ok_or(Flaw::Invalid("the DPoP proof's `alg` is not accepted here"))
    }

    /// The last second in which a proof is good, when now is not outside (RFC 9449 §4.3, rule 11).
    fn until(&self, proof: &Proof<'_>, now: Timestamp) -> Result<i64, Flaw> {
        /// The year 10000, past which nothing sensible lies.
        const MOST: f64 = 253_402_300_800.0;
        let Settings { max_age, skew, .. } = self.settings;
        let issued = proof.claims.get("iat").and_then(Value::as_f64).filter(|seconds| (0.0..MOST).contains(seconds));
        let issued = issued.ok_or(Flaw::Invalid("the DPoP proof's `iat` is not a date in seconds"))? as i64;
        let until = issued.saturating_add(max_age).saturating_add(skew);
        match now.as_second() {
            now if issued > now.saturating_add(skew) => invalid("the DPoP proof's `iat` is ahead of the clock here"),
            now if until < now => invalid("the DPoP proof's `iat` is too long ago; make a new proof for each request"),
            _ => Ok(until),
        }
    }

    /// RFC 9449 §4.3, rule 10. A nonce that nobody asked for does no harm, but it is a string (§4.2).
    fn nonce(&self, proof: &Proof<'_>, now: Timestamp) -> Result<(), Flaw> {
        match proof.claims.get("nonce") {
            Some(Value::String(nonce)) if self.settings.nonce && self.nonces.accepts(nonce, now) => Ok(()),
            None | Some(Value::String(_)) if self.settings.nonce => Err(Flaw::NonceNeeded),
            None | Some(Value::String(_)) => Ok(()),
            Some(_) => invalid("the DPoP proof's `nonce` is not a string"),
        }
    }
}

/// A proof taken apart, and not believed yet.
struct Proof<'a> {
    /// What was signed.
    message: &'a str,
    signature: &'a str,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl<'a> Proof<'a> {
    /// Takes a compact JWS apart (RFC 7515 §7.1; RFC 9449 §4.3, rule 2). Its signature is decoded when it is verified.
    fn parse(value: &'a HeaderValue) -> Result<Self, Flaw> {
        if value.len() > MAX_PROOF {
            return invalid("the DPoP proof is longer than 8 KiB");
        }
        let parts = || {
            let (message, signature) = value.to_str().ok()?.rsplit_once('.')?;
            let (header, claims) = message.split_once('.')?;
            Some(Self { message, signature, header: object(header)?, claims: object(claims)? })
        };
        parts().ok_or(Flaw::Invalid("the DPoP proof is not a JWT of three base64url parts"))
    }

    fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// The public key that came along, and its thumbprint (RFC 9449 §4.3, rules 6 and 7).
    fn key(&self, algorithm: Algorithm) -> Result<(DecodingKey, String), Flaw> {
        let Some(Value::Object(jwk)) = self.header.get("jwk") else {
            return invalid("the DPoP proof's header has no public key (`jwk`)");
        };
        if PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
            return invalid(
                "the DPoP proof's `jwk` gives a private key away; make a new one, and send its public half",
            );
        }
        key_of(jwk, algorithm).ok_or(Flaw::Invalid(
            "the DPoP proof's `jwk` does not fit its `alg`; keys are RSA of 2048 bits or more, P-256, P-384 or Ed25519",
        ))
    }

    /// Decides whether it was made for this request and this token (RFC 9449 §4.3, rules 8, 9 and 12).
    fn is_for(&self, request: &Request<'_>, token: &[u8]) -> Result<(), Flaw> {
        // RFC 9110 §9.1: methods are case-sensitive.
        if self.claim("htm") != Some(request.method()) {
            return invalid("the DPoP proof's `htm` is not the method of this request");
        }
        let stated = self.claim("htu").and_then(Target::parse);
        if stated.is_none() || stated != Target::new(request.scheme, request.authority, request.received_path) {
            return invalid("the DPoP proof's `htu` is not the URI of this request, without query and fragment");
        }
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, token));
        if self.claim("ath") != Some(hash.as_str()) {
            return invalid("the DPoP proof's `ath` is not the SHA-256 of the token, in base64url");
        }
        Ok(())
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    match strict_json::parse(&URL_SAFE_NO_PAD.decode(part).ok()?) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

/// The key of a public JWK, when it fits the algorithm (RFC 7518 §6, RFC 8037 §2), and its thumbprint (RFC 7638 §3).
///
/// A key has one spelling here: its numbers are strict base64url, and as long as they must be. So the text that is
/// hashed can be put together as it is: nothing in it needs escaping.
fn key_of(jwk: &Map<String, Value>, algorithm: Algorithm) -> Option<(DecodingKey, String)> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    // A number: its text, and its bytes.
    let number = |name: &str| Some((member(name)?, URL_SAFE_NO_PAD.decode(member(name)?).ok()?));
    let sized = |name: &str, size: usize| number(name).filter(|(_, bytes)| bytes.len() == size);
    // RFC 7517 §4.2: a key for encryption does not sign.
    if jwk.contains_key("use") && member("use") != Some("sig") {
        return None;
    }
    let (key, text) = match (member("kty")?, member("crv"), algorithm) {
        ("EC", Some(curve @ "P-256"), Algorithm::ES256) | ("EC", Some(curve @ "P-384"), Algorithm::ES384) => {
            let size = if algorithm == Algorithm::ES256 { 32 } else { 48 };
            let ((x, x_bytes), (y, y_bytes)) = (sized("x", size)?, sized("y", size)?);
            // SEC 1 §2.3.3: 4, then x and y. That it lies on the curve is seen when it is used.
            let point = [[4].as_slice(), x_bytes.as_slice(), y_bytes.as_slice()].concat();
            (DecodingKey::from_ec_der(&point), format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#))
        }
        ("OKP", Some("Ed25519"), Algorithm::EdDSA) => {
            let (x, bytes) = sized("x", 32)?;
            (DecodingKey::from_ed_der(&bytes), format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#))
        }
        ("RSA", _, algorithm) if algorithm.family() == AlgorithmFamily::Rsa => {
            let ((n, modulus), (e, exponent)) = (number("n")?, number("e")?);
            let first = *modulus.first()?;
            let bits = (modulus.len() * 8).saturating_sub(first.leading_zeros() as usize);
            // RFC 7518 §2, Base64urlUInt: no zeros before the number.
            if first == 0 || *exponent.first()? == 0 || bits < MIN_RSA_BITS {
                return None;
            }
            let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
            (key, format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#))
        }
        _ => return None,
    };
    Some((key, URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))))
}

/// The first half of 32 bytes.
fn half(hash: &[u8]) -> [u8; 16] {
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use aws_lc_rs::hmac;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    };
    use http::{HeaderMap, Method};
    use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
    use serde_json::json;

    use super::*;
    use crate::exchange::SampleRequest;

    const NOW: i64 = 1_800_000_000;
    const TOKEN: &[u8] = b"an.access.token";
    /// `ath` of the RFC's token.
    const HASH_OF_ANOTHER: &str = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Sends proofs signed with a key on P-256, mostly.
    struct Client {
        pair: EcdsaKeyPair,
        jwk: Value,
        jkt: String,
    }

    impl Client {
        fn new() -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
            let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
            let jkt = thumbprint(&jwk);
            Self { pair, jwk, jkt }
        }

        fn sign(&self, message: &[u8]) -> Vec<u8> {
            self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
        }

        /// A good header, with some members replaced; `null` takes one out.
        fn header(&self, change: &Value) -> Value {
            changed(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk}), change)
        }

        /// A proof that is good but for what is changed.
        fn proof(&self, header: &Value, claims: &Value) -> String {
            compact(&self.header(header).to_string(), &good_claims(claims).to_string(), |message| self.sign(message))
        }
    }

    /// As jsonwebtoken makes it.
    fn thumbprint(jwk: &Value) -> String {
        serde_json::from_value::<Jwk>(jwk.clone()).unwrap().thumbprint(ThumbprintHash::SHA256).unwrap()
    }

    fn changed(mut members: Value, change: &Value) -> Value {
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => members.as_object_mut().unwrap().remove(name),
                value => members.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        members
    }

    fn good_claims(change: &Value) -> Value {
        let hash = encode(digest(&SHA256, TOKEN));
        let good = json!({"jti": "1", "htm": "POST", "htu": "https://api.example/orders", "iat": NOW, "ath": hash});
        changed(good, change)
    }

    fn compact(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = encode(sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A request and the bound token it brings.
    #[derive(Clone, Copy)]
    struct Facts<'a> {
        method: &'a str,
        scheme: &'a str,
        authority: &'a str,
        path: &'a str,
        token: &'a [u8],
        jkt: &'a str,
    }

    fn facts(jkt: &str) -> Facts<'_> {
        Facts { method: "POST", scheme: "https", authority: "api.example", path: "/orders", token: TOKEN, jkt }
    }

    fn dpop(change: impl FnOnce(&mut Settings)) -> Dpop {
        use Algorithm::{ES256, ES384, EdDSA, PS256, RS256};
        let algorithms = vec![ES256, ES384, EdDSA, PS256, RS256];
        let mut settings = Settings { max_age: 60, skew: 30, nonce: false, algorithms };
        change(&mut settings);
        Dpop::new(settings, Arc::new(Replays::new()), Arc::new(Nonces::new()))
    }

    fn check(dpop: &Dpop, proofs: &[&str], facts: &Facts<'_>, now: i64) -> Result<(), Flaw> {
        let proofs = proofs.iter().map(|proof| HeaderValue::from_str(proof).unwrap());
        use_proofs(dpop, proofs, facts, now).map(drop)
    }

    fn use_proofs(
        dpop: &Dpop,
        proofs: impl IntoIterator<Item = HeaderValue>,
        facts: &Facts<'_>,
        now: i64,
    ) -> Result<Used, Flaw> {
        let Facts { method, scheme, authority, path, token, jkt } = *facts;
        let headers = HeaderMap::from_iter(proofs.into_iter().map(|proof| (DPOP, proof)));
        let sample = SampleRequest::new(&Method::from_bytes(method.as_bytes()).unwrap(), path).dated(at(now));
        let request = Request { scheme, authority, ..sample.with(None, &headers) };
        dpop.check(&request, BoundToken { token, jkt })
    }

    /// The verdict on one proof by a memory that has seen nothing.
    fn verdict(proof: &str, jkt: &str) -> Result<(), Flaw> {
        check(&dpop(|_| {}), &[proof], &facts(jkt), NOW)
    }

    /// Good when `reason` is empty; otherwise invalid, for the reason that these words stand for.
    fn assert_verdict(got: Result<(), Flaw>, reason: &str, what: impl fmt::Display) {
        match got {
            Ok(()) => assert_eq!("", reason, "{what}"),
            Err(Flaw::Invalid(detail)) => {
                assert!(!reason.is_empty() && detail.contains(reason), "{what}: {detail}, and not {reason}");
            }
            Err(flaw) => panic!("{what}: {flaw:?}"),
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_good() {
        // RFC 9449 §7.1.
        let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklD\
                     UkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2\
                     R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM\
                     6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8\
                     ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1ple\
                     mAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
        let example = Facts {
            method: "GET",
            scheme: "https",
            authority: "resource.example.org",
            path: "/protectedresource",
            token: b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
            jkt: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
        };
        assert_eq!(check(&dpop(|_| {}), &[proof], &example, 1_562_262_618), Ok(()));
    }

    #[test]
    fn exactly_one_proof_comes() {
        let client = Client::new();
        let (one, two) = (client.proof(&json!({}), &json!({})), client.proof(&json!({}), &json!({"jti": "2"})));
        for (proofs, expected) in [
            (vec![], Err(Flaw::Missing)),
            (vec![one.as_str()], Ok(())),
            (vec![one.as_str(), two.as_str()], Err(Flaw::Several)),
            (vec![one.as_str(), one.as_str()], Err(Flaw::Several)),
        ] {
            assert_eq!(check(&dpop(|_| {}), &proofs, &facts(&client.jkt), NOW), expected, "{}", proofs.len());
        }
        assert_verdict(verdict(&format!("{one}, {two}"), &client.jkt), "three base64url parts", "folded into one");
    }

    #[test]
    fn every_claim_is_checked() {
        let client = Client::new();
        for (change, reason) in [
            (json!({}), ""),
            (json!({"sub": "more", "exp": 1}), ""),
            (json!({"jti": null}), "`jti`"),
            (json!({"jti": ""}), "`jti`"),
            (json!({"jti": 1}), "`jti`"),
            (json!({"jti": "x".repeat(256)}), ""),
            (json!({"jti": "x".repeat(257)}), "`jti`"),
            (json!({"htm": null}), "`htm`"),
            (json!({"htm": "GET"}), "`htm`"),
            (json!({"htm": "post"}), "`htm`"),
            (json!({"htm": "POST "}), "`htm`"),
            (json!({"htm": ["POST"]}), "`htm`"),
            (json!({"htu": null}), "`htu`"),
            (json!({"htu": 1}), "`htu`"),
            (json!({"htu": ""}), "`htu`"),
            (json!({"htu": "/orders"}), "`htu`"),
            (json!({"htu": "https://api.example/orders?page=2#top"}), ""),
            (json!({"htu": "https://api.example/orders/"}), "`htu`"),
            (json!({"htu": "https://api.example/Orders"}), "`htu`"),
            (json!({"htu": "https://api.example.evil/orders"}), "`htu`"),
            (json!({"htu": "http://api.example/orders"}), "`htu`"),
            (json!({"htu": "https://api.example:8443/orders"}), "`htu`"),
            (json!({"ath": null}), "`ath`"),
            (json!({"ath": HASH_OF_ANOTHER}), "`ath`"),
            (json!({"ath": format!("{}=", encode(digest(&SHA256, TOKEN)))}), "`ath`"),
            (json!({"ath": 1}), "`ath`"),
            (json!({"iat": null}), "`iat`"),
            (json!({"iat": NOW.to_string()}), "`iat`"),
            (json!({"iat": -1}), "`iat`"),
            (json!({"iat": 1e300}), "`iat`"),
            (json!({"iat": NOW as f64 + 0.5}), ""),
            (json!({"iat": NOW - 90}), ""),
            (json!({"iat": NOW - 91}), "`iat`"),
            (json!({"iat": NOW + 30}), ""),
            (json!({"iat": NOW + 31}), "`iat`"),
            (json!({"nonce": "any"}), ""),
            (json!({"nonce": 1}), "`nonce`"),
            (json!({"nonce": []}), "`nonce`"),
        ] {
            assert_verdict(verdict(&client.proof(&json!({}), &change), &client.jkt), reason, &change);
        }
    }

    #[test]
    fn every_fact_of_the_request_is_checked() {
        let client = Client::new();
        let proof = client.proof(&json!({}), &json!({}));
        let other = Client::new();
        let good = facts(&client.jkt);
        for (facts, reason) in [
            (good, ""),
            (Facts { authority: "API.example:443", path: "/./orders", ..good }, ""),
            (Facts { method: "PUT", ..good }, "`htm`"),
            (Facts { scheme: "http", ..good }, "`htu`"),
            (Facts { scheme: "", ..good }, "`htu`"),
            (Facts { authority: "api.example:444", ..good }, "`htu`"),
            (Facts { authority: "", ..good }, "`htu`"),
            (Facts { path: "/orders/1", ..good }, "`htu`"),
            (Facts { path: "*", ..good }, "`htu`"),
            (Facts { token: b"another.access.token", ..good }, "`ath`"),
            (Facts { token: b"", ..good }, "`ath`"),
            (Facts { jkt: &other.jkt, ..good }, "`cnf.jkt`"),
            (Facts { jkt: "", ..good }, "`cnf.jkt`"),
            (Facts { jkt: &client.jkt[..42], ..good }, "`cnf.jkt`"),
        ] {
            assert_verdict(check(&dpop(|_| {}), &[&proof], &facts, NOW), reason, reason);
        }
    }

    #[test]
    fn headers_that_are_not_of_a_proof_are_refused() {
        let client = Client::new();
        for (change, reason) in [
            (json!({}), ""),
            (json!({"kid": "ignored", "jku": "https://evil.example/jwks.json"}), ""),
            (json!({"typ": null}), "`typ`"),
            (json!({"typ": "JWT"}), "`typ`"),
            (json!({"typ": "DPoP+jwt"}), "`typ`"),
            (json!({"typ": "application/dpop+jwt"}), "`typ`"),
            (json!({"typ": ["dpop+jwt"]}), "`typ`"),
            (json!({"alg": null}), "`alg` is not"),
            (json!({"alg": "none"}), "`alg` is not"),
            (json!({"alg": "es256"}), "`alg` is not"),
            (json!({"alg": "HS256"}), "`alg` is not"),
            (json!({"alg": "PS512"}), "`alg` is not"),
            (json!({"alg": "ES384"}), "does not fit"),
            (json!({"alg": "RS256"}), "does not fit"),
            (json!({"alg": "EdDSA"}), "does not fit"),
            (json!({"crit": []}), "`crit`"),
            (json!({"crit": ["b64"], "b64": false}), "`crit`"),
            (json!({"jwk": null}), "(`jwk`)"),
            (json!({"jwk": client.jwk.to_string()}), "(`jwk`)"),
            (json!({"jwk": [client.jwk]}), "(`jwk`)"),
            (json!({"jwk": {}}), "does not fit"),
        ] {
            assert_verdict(verdict(&client.proof(&change, &json!({})), &client.jkt), reason, &change);
        }
    }

    #[test]
    fn the_key_is_public_and_of_its_algorithm() {
        let client = Client::new();
        let mut stray = client.jwk["x"].as_str().unwrap().to_owned().into_bytes();
        // 32 bytes leave two bits of the last character unused.
        *stray.last_mut().unwrap() += 1;
        let stray = String::from_utf8(stray).unwrap();
        let mut cases = vec![
            (json!({"kid": "k", "use": "sig", "alg": "ES256", "key_ops": ["verify"], "ext": true}), ""),
            (json!({"use": "enc"}), "does not fit"),
            (json!({"use": 1}), "does not fit"),
            (json!({"kty": null}), "does not fit"),
            (json!({"kty": "RSA"}), "does not fit"),
            (json!({"kty": "ec"}), "does not fit"),
            (json!({"kty": "oct"}), "does not fit"),
            (json!({"crv": null}), "does not fit"),
            (json!({"crv": "P-384"}), "does not fit"),
            (json!({"crv": "Ed25519"}), "does not fit"),
            (json!({"y": null}), "does not fit"),
            (json!({"x": 1}), "does not fit"),
            (json!({"x": ""}), "does not fit"),
            (json!({"x": encode([0xc5; 31])}), "does not fit"),
            (json!({"x": encode([0xc5; 33])}), "does not fit"),
            (json!({"x": format!("{}=", client.jwk["x"].as_str().unwrap())}), "does not fit"),
            (json!({"x": stray}), "does not fit"),
            (json!({"x": "\",\"y\":\""}), "does not fit"),
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

    #[test]
    fn forged_signatures_are_not_good() {
        let (client, other) = (Client::new(), Client::new());
        let header = client.header(&json!({})).to_string();
        let claims = good_claims(&json!({})).to_string();
        type Forge<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
        let cases: [(&str, Forge<'_>); 9] = [
            ("over another message", &|_| client.sign(b"another message")),
            ("by another key", &|message| other.sign(message)),
            ("r and s swapped", &|message| {
                let mut signature = client.sign(message);
                signature.rotate_left(32);
                signature
            }),
            ("r is zero", &|message| [[0; 32].as_slice(), &client.sign(message)[32..]].concat()),
            ("s is zero", &|message| [&client.sign(message)[..32], &[0; 32]].concat()),
            ("all zero", &|_| vec![0; 64]),
            ("one byte short", &|message| client.sign(message)[..63].to_vec()),
            ("one byte long", &|message| [client.sign(message).as_slice(), &[0]].concat()),
            ("none", &|_| Vec::new()),
        ];
        for (what, sign) in cases {
            assert_verdict(verdict(&compact(&header, &claims, sign), &client.jkt), "signature", what);
        }

        // The thief of a token signs with a key of their own.
        let own = client.header(&json!({"jwk": other.jwk})).to_string();
        let proof = compact(&own, &claims, |message| other.sign(message));
        assert_verdict(verdict(&proof, &client.jkt), "`cnf.jkt`", "own key");
        // The key in the header is not the one that signed, and the token is bound to it.
        let proof = compact(&own, &claims, |message| client.sign(message));
        assert_verdict(verdict(&proof, &other.jkt), "signature", "swapped key");

        // A shared secret that everybody knows: the public key. Not even when the settings take it.
        let hs256 = |jwk: &Value| {
            let header = client.header(&json!({"alg": "HS256", "jwk": jwk})).to_string();
            let secret = hmac::Key::new(hmac::HMAC_SHA256, client.pair.public_key().as_ref());
            compact(&header, &claims, |message| hmac::sign(&secret, message).as_ref().to_vec())
        };
        let lax = dpop(|settings| settings.algorithms.push(Algorithm::HS256));
        let oct = json!({"kty": "oct", "k": encode(client.pair.public_key().as_ref())});
        for proof in [hs256(&client.jwk), hs256(&oct)] {
            assert_verdict(check(&lax, &[&proof], &facts(&client.jkt), NOW), "`alg` is not", "HS256");
        }
    }

    #[test]
    fn a_proof_has_one_form() {
        let client = Client::new();
        let proof = client.proof(&json!({}), &json!({}));
        let (message, signature) = proof.rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        // 64 bytes leave four bits of the last character unused.
        let mut stray = proof.clone().into_bytes();
        *stray.last_mut().unwrap() += 1;
        let parts = "three base64url parts";
        for (text, reason) in [
            (proof.clone(), ""),
            (String::from_utf8(stray).unwrap(), "signature"),
            (format!("{proof}="), "signature"),
            (format!("{message}."), "signature"),
            (format!("{header}=.{claims}.{signature}"), parts),
            (format!("{header}.{claims} .{signature}"), parts),
            (format!("{proof}.{signature}"), parts),
            (format!(".{proof}"), parts),
            (format!("{}.{claims}.{signature}", encode("[]")), parts),
            (format!("{}.{claims}.{signature}", encode("{}{}")), parts),
            (message.to_owned(), parts),
            ("..".to_owned(), parts),
            (String::new(), parts),
            (format!("{header}.{claims}.{}", "A".repeat(MAX_PROOF)), "8 KiB"),
        ] {
            assert_verdict(verdict(&text, &client.jkt), reason, &text);
        }
        let largest = MAX_PROOF - message.len() - 1;
        let text = format!("{message}.{}", "A".repeat(largest));
        assert_verdict(verdict(&text, &client.jkt), "signature", "as long as may be");
        let bytes = HeaderValue::from_bytes(&[0xc3, 0xa9]).unwrap();
        let got = use_proofs(&dpop(|_| {}), [bytes], &facts(&client.jkt), NOW).map(drop);
        assert_verdict(got, parts, "not ASCII");
    }

    #[test]
    fn what_stands_twice_is_refused() {
        let client = Client::new();
        let (header, claims) = (client.header(&json!({})).to_string(), good_claims(&json!({})).to_string());
        let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
        for (header, claims) in [
            (twice(&header, r#""typ":"dpop+jwt""#), claims.clone()),
            (header.replacen(r#""kty""#, r#""kty":"EC","kty""#, 1), claims.clone()),
            (header.clone(), twice(&claims, r#""htm":"GET""#)),
            (header.clone(), twice(&claims, r#""j\u0074i":"2""#)),
        ] {
            let proof = compact(&header, &claims, |message| client.sign(message));
            assert_verdict(verdict(&proof, &client.jkt), "three base64url parts", format!("{header} {claims}"));
        }
    }

    #[test]
    fn a_proof_is_good_once() {
        let (client, other) = (Client::new(), Client::new());
        let dpop = dpop(|_| {});
        let send = |client: &Client, claims: &Value, now| {
            check(&dpop, &[&client.proof(&json!({}), claims)], &facts(&client.jkt), now)
        };
        // What is not good is not remembered.
        let bad =
            compact(&client.header(&json!({})).to_string(), &good_claims(&json!({})).to_string(), |_| vec![1; 64]);
        assert_verdict(check(&dpop, &[&bad], &facts(&client.jkt), NOW), "signature", "forged");
        assert_eq!(send(&client, &json!({}), NOW), Ok(()));
        assert_eq!(send(&client, &json!({}), NOW), Err(Flaw::Replayed));
        assert_eq!(send(&client, &json!({"iat": NOW + 1}), NOW + 1), Err(Flaw::Replayed), "the id counts");
        assert_eq!(send(&client, &json!({}), NOW + 90), Err(Flaw::Replayed), "in the last second");
        assert_verdict(send(&client, &json!({}), NOW + 91), "`iat`", "when it is good no more");
        assert_eq!(send(&client, &json!({"jti": "2"}), NOW), Ok(()));
        assert_eq!(send(&other, &json!({}), NOW), Ok(()), "the ids of others do not matter");
        assert_eq!(send(&client, &json!({"iat": NOW + 91}), NOW + 91), Ok(()), "an id may come again after its time");
    }

    #[test]
    fn a_reload_forgets_no_proof() {
        let client = Client::new();
        let proof = client.proof(&json!({}), &json!({}));
        let before = dpop(|_| {});
        assert_eq!(check(&before, &[&proof], &facts(&client.jkt), NOW), Ok(()));
        let settings = Settings { max_age: 10, skew: 0, nonce: false, algorithms: vec![Algorithm::ES256] };
        let after = Dpop::new(settings, Arc::clone(&before.replays), Arc::clone(&before.nonces));
        assert_eq!(check(&after, &[&proof], &facts(&client.jkt), NOW), Err(Flaw::Replayed));
    }

    #[test]
    fn what_cannot_be_remembered_is_not_good() {
        let client = Client::new();
        for (all, of_one_key) in [(0, 1), (1, 0)] {
            let full = Dpop { replays: Arc::new(Replays::with_room(all, of_one_key)), ..dpop(|_| {}) };
            let send = |claims: Value| check(&full, &[&client.proof(&json!({}), &claims)], &facts(&client.jkt), NOW);
            let got = send(json!({}));
            assert!(matches!(got, Err(Flaw::Full | Flaw::TooMany { .. })), "{got:?}");
            assert_eq!(got == Err(Flaw::Full), all == 0, "{got:?}");
            assert_verdict(send(json!({"htm": "GET"})), "`htm`", "not good anyway");
        }
    }

    #[test]
    fn a_proof_is_claimed_for_as_long_as_any_node_would_take_it() {
        let client = Client::new();
        for (issued, left) in [(NOW, 121), (NOW + 30, 151), (NOW - 90, 31)] {
            let value = HeaderValue::from_str(&client.proof(&json!({}), &json!({"iat": issued}))).unwrap();
            let used = use_proofs(&dpop(|_| {}), [value], &facts(&client.jkt), NOW).unwrap();
            assert_eq!((used.lifetime, used.mark), (Duration::from_secs(left), mark(&client.jkt, "1")), "{issued}");
        }
    }

    #[test]
    fn a_nonce_is_needed_where_the_policy_says_so() {
        let client = Client::new();
        let dpop = dpop(|settings| settings.nonce = true);
        let issued = |at_second| dpop.nonces.issue(at(at_second)).to_str().unwrap().to_owned();
        let foreign = Nonces::new().issue(at(NOW)).to_str().unwrap().to_owned();
        let send = |claims: Value| check(&dpop, &[&client.proof(&json!({}), &claims)], &facts(&client.jkt), NOW);
        for (nonce, expected) in [
            (json!(null), Err(Flaw::NonceNeeded)),
            (json!(""), Err(Flaw::NonceNeeded)),
            (json!("any"), Err(Flaw::NonceNeeded)),
            (json!(foreign), Err(Flaw::NonceNeeded)),
            (json!(issued(NOW - 301)), Err(Flaw::NonceNeeded)),
            (json!(1), Err(Flaw::Invalid("the DPoP proof's `nonce` is not a string"))),
            // None of those used the id up.
            (json!(issued(NOW - 300)), Ok(())),
            (json!(issued(NOW)), Err(Flaw::Replayed)),
        ] {
            assert_eq!(send(json!({"nonce": nonce})), expected, "{nonce}");
        }
        assert_eq!(send(json!({"nonce": issued(NOW), "jti": "2"})), Ok(()));
        assert_eq!(send(json!({"nonce": issued(NOW), "jti": "3"})), Ok(()), "a nonce is good for many proofs");
        assert_verdict(send(json!({"htm": "GET"})), "`htm`", "a nonce would not help");
    }
}
