//! The format of what is generated: API keys, `bz_ID_SECRET_CHECKSUM`, secrets of clients, `bzs_ID_SECRET_CHECKSUM`, and codes of
//! invitations, `bzi_ID_SECRET_CHECKSUM`.
//!
//! Scanners for leaked secrets recognise it, and the checksum detects a mistyped or truncated key before it is looked up. The
//! checksum protects nothing: the security is in the secret, 256 random bits.

use std::fmt::Write;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

/// What every key begins with.
const PREFIX: &str = "bz_";
/// What every generated secret of a client begins with.
const CLIENT_PREFIX: &str = "bzs_";
/// What the code of every invitation begins with.
const INVITATION_PREFIX: &str = "bzi_";
/// Digits of secret and checksum. None of them breaks a word or needs escaping anywhere.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits of the secret: 43 × log2 62 is over 256 bits.
const SECRET: usize = 43;
/// Digits of the checksum, which is a CRC-32.
const CHECKSUM: usize = 6;
/// Longest id.
pub(crate) const MAX_ID: usize = 64;
/// How much of the consumer's name is in an id that is made from it, and how many digits follow.
const NAME_IN_ID: usize = 40;
const DIGITS_IN_ID: usize = 12;

/// Returns whether this is a valid id of a generated key: lower-case letters, digits and `-`.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Makes an id that begins with the consumer's name, without the characters that ids must not contain.
pub(crate) fn new_id(consumer: &str) -> String {
    let lower = consumer.chars().map(|c| c.to_ascii_lowercase());
    let plain: String = lower.filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')).take(NAME_IN_ID).collect();
    let random = uuid::Uuid::now_v7().simple().to_string();
    let tail: String = random.chars().skip(random.len() - DIGITS_IN_ID).collect();
    format!("{plain}-{tail}").trim_start_matches('-').to_owned()
}

/// Generates a key with this id. Fails if the system has no random bytes.
pub(crate) fn mint(id: &str) -> Result<SecretString, aws_lc_rs::error::Unspecified> {
    generate(PREFIX, id)
}

/// Generates a secret of the client with this id. Fails if the system has no random bytes.
pub(crate) fn mint_client_secret(id: &str) -> Result<SecretString, aws_lc_rs::error::Unspecified> {
    generate(CLIENT_PREFIX, id)
}

/// Generates the code of an invitation with this id. Fails if the system has no random bytes.
pub(crate) fn mint_invitation(id: &str) -> Result<SecretString, aws_lc_rs::error::Unspecified> {
    generate(INVITATION_PREFIX, id)
}

fn generate(prefix: &str, id: &str) -> Result<SecretString, aws_lc_rs::error::Unspecified> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + id.len() + SECRET + CHECKSUM + 2));
    text.push_str(prefix);
    text.push_str(id);
    text.push('_');
    let start = text.len();
    while text.len() < start + SECRET {
        let mut random = Zeroizing::new([0; SECRET]);
        aws_lc_rs::rand::fill(&mut *random)?;
        // Bytes from the last multiple of 62 on would favour some digits.
        let fair = random.iter().filter(|byte| **byte < 248);
        let digits = fair.filter_map(|byte| DIGITS.get(usize::from(byte % 62)));
        let room = start + SECRET - text.len();
        text.extend(digits.take(room).map(|digit| char::from(*digit)));
    }
    let checksum = checksum(&text);
    // Writing to a String does not fail.
    let _ = write!(text, "_{checksum}");
    Ok(SecretString::from(text.as_str()))
}

/// Returns the id in a generated key; `None` if a text is none, or is mistyped.
pub(crate) fn id_of(text: &str) -> Option<&str> {
    let id = text.strip_prefix(PREFIX)?.split('_').next()?;
    Some(id).filter(|id| is_id(id) && !is_mistyped(text.as_bytes()))
}

/// Returns the id in the code of an invitation; `None` if a text is none, or is mistyped.
pub(crate) fn invitation_of(code: &str) -> Option<&str> {
    let id = code.strip_prefix(INVITATION_PREFIX)?.split('_').next()?;
    let is_whole = code.rsplit_once('_').is_some_and(|(rest, found)| checksum(rest) == found);
    Some(id).filter(|id| is_id(id) && is_whole)
}

/// Returns whether a text begins like a generated key but has a wrong checksum.
pub(crate) fn is_mistyped(key: &[u8]) -> bool {
    let Some(text) = str::from_utf8(key).ok().filter(|text| text.starts_with(PREFIX)) else { return false };
    match text.rsplit_once('_') {
        Some((rest, found)) => checksum(rest) != found,
        None => true,
    }
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get(rest % 62).copied().unwrap_or(b'0');
        rest /= 62;
    }
    String::from_utf8_lossy(&digits).into_owned()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_key_is_whole_or_reported_as_mistyped() {
        let key = mint("acme-1").unwrap();
        let key = key.expose_secret();
        assert_eq!(key.len(), 3 + 6 + 1 + SECRET + 1 + CHECKSUM);
        assert!(key.starts_with("bz_acme-1_"));
        assert!(!is_mistyped(key.as_bytes()));
        assert_eq!((id_of(key), id_of(&key[1..]), id_of(&key[..20])), (Some("acme-1"), None, None));
        assert_ne!(mint("acme-1").unwrap().expose_secret(), key, "two keys");
        let other = |position: usize| {
            let mut bytes = key.as_bytes().to_vec();
            bytes[position] = if bytes[position] == b'x' { b'y' } else { b'x' };
            bytes
        };
        for position in 3..key.len() {
            assert!(is_mistyped(&other(position)), "{position}");
        }
        assert!(is_mistyped(&key.as_bytes()[..key.len() - 1]), "cut");
        for others in ["", "bz", "hunter2", "BZ_a_b_c", "\u{e9}"] {
            assert!(!is_mistyped(others.as_bytes()), "{others}");
        }
    }

    #[test]
    fn the_code_of_an_invitation_is_no_key() {
        let code = mint_invitation("acme-1").unwrap();
        let code = code.expose_secret();
        assert_eq!((invitation_of(code), id_of(code)), (Some("acme-1"), None));
        let key = mint("acme-1").unwrap();
        for other in [key.expose_secret(), &code[1..], &code[..code.len() - 1], "", "bzi_", "bzi_acme-1"] {
            assert_eq!(invitation_of(other), None, "{other}");
        }
        assert_eq!(invitation_of(&code.replace("acme-1", "acme-2")), None, "the checksum covers the id");
    }

    #[test]
    fn ids_are_made_from_any_name() {
        for (consumer, begins) in [("Acme Inc.", "acmeinc-"), ("\u{e9}", ""), ("a_b", "ab-"), (&"x".repeat(99), "xxx")]
        {
            let id = new_id(consumer);
            assert!(is_id(&id) && id.starts_with(begins) && id != new_id(consumer), "{id}");
        }
    }

    #[test]
    fn ids_are_plain() {
        for (id, good) in [("acme-1", true), ("", false), ("A", false), ("a_b", false), (&"a".repeat(65), false)] {
            assert_eq!(is_id(id), good, "{id}");
        }
    }
}
