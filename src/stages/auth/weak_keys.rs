//! Rejects weak and invalid public keys when they are read (RFC 8725 §3.4 and §3.5).
//!
//! Most of these keys could verify nothing, which is better reported once than with every token. The others are dangerous:
//! with a point of small order, or an exponent of 1, anyone can forge signatures.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

/// Least and most bits of an RSA modulus: RFC 7518 §3.3, and the limit of the crypto library.
const RSA_BITS: (usize, usize) = (2048, 8192);
/// Longest exponent of an RSA key, in bits: a longer one costs time, and is not used in practice.
const MAX_EXPONENT_BITS: usize = 33;
/// Length of an Ed25519 key, in bytes (RFC 8032 §5.1.5).
const ED25519_LENGTH: usize = 32;
/// The y-coordinates of points of small order on edwards25519, little-endian: 0, 1, the two of order 8, p - 1; and p, p + 1,
/// which are 0 and 1 again.
const SMALL_ORDER: [[u8; ED25519_LENGTH]; 7] = [
    framed(0x00, 0x00, 0x00),
    framed(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    framed(0xec, 0xff, 0x7f),
    framed(0xed, 0xff, 0x7f),
    framed(0xee, 0xff, 0x7f),
];

const fn framed(first: u8, middle: u8, last: u8) -> [u8; ED25519_LENGTH] {
    let mut bytes = [middle; ED25519_LENGTH];
    let [head, .., tail] = &mut bytes;
    *head = first;
    *tail = last;
    bytes
}

/// Parses a key for each algorithm that it supports. The error says why it is rejected.
pub(super) fn verifiers(key: &DecodingKey) -> Result<Vec<(Algorithm, ParsedPublicKey)>, String> {
    match (key.family(), key.kind()) {
        (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => rsa(n, e),
        (AlgorithmFamily::Rsa, DecodingKeyKind::SecretOrDer(der)) => {
            let parsed = RSAPublicKey::from_der(der);
            let (_, parsed) = parsed.map_err(|_| "an RSA key that cannot be read")?;
            // DER prefixes a zero to a number that would otherwise be negative.
            let unsigned = |number| <[u8]>::strip_prefix(number, &[0]).unwrap_or(number);
            rsa(unsigned(parsed.modulus), unsigned(parsed.exponent))
        }
        (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => ec(point),
        (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(point)) => ed(point),
        _ => Err("not a public key".to_owned()),
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Result<Vec<(Algorithm, ParsedPublicKey)>, String> {
    let (least, most) = RSA_BITS;
    match (bits(n)?, bits(e)?) {
        (found, _) if found < least => return Err(format!("an RSA key of less than {least} bits")),
        (found, _) if found > most => return Err(format!("an RSA key of more than {most} bits")),
        (_, found) if !(2..=MAX_EXPONENT_BITS).contains(&found) || e.last().is_none_or(|last| last % 2 == 0) => {
            return Err("an RSA key with an invalid exponent".to_owned());
        }
        _ => {}
    }
    let key = RsaPublicKeyComponents { n, e };
    let ready = [
        (Algorithm::RS256, &RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::RS384, &RSA_PKCS1_2048_8192_SHA384),
        (Algorithm::RS512, &RSA_PKCS1_2048_8192_SHA512),
        (Algorithm::PS256, &RSA_PSS_2048_8192_SHA256),
        (Algorithm::PS384, &RSA_PSS_2048_8192_SHA384),
        (Algorithm::PS512, &RSA_PSS_2048_8192_SHA512),
    ]
    .map(|(algorithm, parameters)| Ok((algorithm, key.to_parsed_public_key(parameters)?)));
    let ready: Result<_, aws_lc_rs::error::Unspecified> = ready.into_iter().collect();
    ready.map_err(|_| "an RSA key that cannot be read".to_owned())
}

/// Returns the length of a number in bits. The number must not begin with a zero (RFC 7518 §2).
fn bits(number: &[u8]) -> Result<usize, String> {
    match number.first() {
        None | Some(0) => Err("an RSA key whose numbers begin with a zero".to_owned()),
        Some(first) => Ok(number.len() * 8 - first.leading_zeros() as usize),
    }
}

/// Parses an uncompressed point (SEC 1 §2.3.3): 4, x, y. The length determines the curve.
fn ec(point: &[u8]) -> Result<Vec<(Algorithm, ParsedPublicKey)>, String> {
    let (algorithm, curve): (_, &'static dyn VerificationAlgorithm) = match point.len() {
        65 => (Algorithm::ES256, &ECDSA_P256_SHA256_FIXED),
        97 => (Algorithm::ES384, &ECDSA_P384_SHA384_FIXED),
        _ => return Err("a curve that is not supported".to_owned()),
    };
    let ready = ParsedPublicKey::new(curve, point).map_err(|_| "a point that is not on P-256 or P-384")?;
    Ok(vec![(algorithm, ready)])
}

fn ed(point: &[u8]) -> Result<Vec<(Algorithm, ParsedPublicKey)>, String> {
    let point: [u8; ED25519_LENGTH] = point.try_into().map_err(|_| "a curve that is not supported")?;
    let mut y = point;
    let [.., last] = &mut y;
    // The highest bit is the sign of x.
    *last &= 0x7f;
    if SMALL_ORDER.contains(&y) {
        return Err("a point of small order, for which anyone can sign".to_owned());
    }
    let ready = ParsedPublicKey::new(&ED25519, point).map_err(|_| "a point that is not on Ed25519")?;
    Ok(vec![(Algorithm::EdDSA, ready)])
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };

    use super::*;

    fn algorithms(key: &DecodingKey) -> Result<Vec<Algorithm>, String> {
        Ok(verifiers(key)?.into_iter().map(|(algorithm, _)| algorithm).collect())
    }

    fn reason_of(key: &DecodingKey) -> String {
        algorithms(key).err().unwrap_or_default()
    }

    #[test]
    fn an_rsa_key_is_long_and_its_exponent_does_something() {
        let number = |bits: usize| {
            let mut bytes = vec![0xff; bits.div_ceil(8)];
            bytes[0] >>= bytes.len() * 8 - bits;
            bytes
        };
        for (n, e, reason) in [
            (number(2048), vec![1, 0, 1], ""),
            (number(2049), vec![3], ""),
            (number(8192), vec![1, 0, 0, 0, 1], ""),
            (number(2047), vec![1, 0, 1], "less than 2048"),
            (number(1024), vec![1, 0, 1], "less than 2048"),
            (number(8193), vec![1, 0, 1], "more than 8192"),
            (number(2048), vec![1], "exponent"),
            (number(2048), vec![2], "exponent"),
            (number(2048), vec![1, 0, 0], "exponent"),
            (number(2048), vec![3, 0, 0, 0, 1], "exponent"),
            (number(2048), vec![], "zero"),
            (number(2048), vec![0, 3], "zero"),
            ([&[0], number(2048).as_slice()].concat(), vec![3], "zero"),
            (vec![], vec![3], "zero"),
        ] {
            let found = reason_of(&DecodingKey::from_rsa_raw_components(&n, &e));
            assert!(found.contains(reason) && found.is_empty() == reason.is_empty(), "{} {e:?}: {found}", n.len());
        }
        assert!(reason_of(&DecodingKey::from_rsa_der(b"\x30\x00")).contains("cannot be read"));
    }

    #[test]
    fn a_point_is_on_its_curve() {
        for (pair, expected) in [
            (EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), Algorithm::ES256),
            (EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(), Algorithm::ES384),
        ] {
            let point = pair.public_key().as_ref();
            assert_eq!(algorithms(&DecodingKey::from_ec_der(point)), Ok(vec![expected]));
            let mut off = point.to_vec();
            *off.last_mut().unwrap() ^= 1;
            let zero = vec![4; 1].into_iter().chain(vec![0; point.len() - 1]).collect::<Vec<_>>();
            for wrong in [off, zero, vec![0; point.len()]] {
                assert!(reason_of(&DecodingKey::from_ec_der(&wrong)).contains("not on"), "{wrong:02x?}");
            }
            for wrong in [&point[1..], &[0], &[]] {
                assert!(reason_of(&DecodingKey::from_ec_der(wrong)).contains("not supported"), "{wrong:02x?}");
            }
        }
    }

    #[test]
    fn a_point_of_small_order_is_no_key() {
        let pair = Ed25519KeyPair::generate().unwrap();
        assert_eq!(algorithms(&DecodingKey::from_ed_der(pair.public_key().as_ref())), Ok(vec![Algorithm::EdDSA]));
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut point = y;
                point[31] |= sign;
                assert!(reason_of(&DecodingKey::from_ed_der(&point)).contains("small order"), "{point:02x?}");
            }
        }
        // That the two of order 8 are what they are said to be: together they are p.
        let carry = SMALL_ORDER[2].iter().zip(SMALL_ORDER[3]).map(|(one, other)| u16::from(*one) + u16::from(other));
        assert!(carry.eq(SMALL_ORDER[5].iter().map(|byte| u16::from(*byte))));
        for wrong in [&[][..], &[1; 31], &[1; 33]] {
            assert!(reason_of(&DecodingKey::from_ed_der(wrong)).contains("not supported"));
        }
    }
}
