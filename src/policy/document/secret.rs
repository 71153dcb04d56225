//! Secrets as written.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// Text that is not to be printed.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(SecretString::from(text)))
}
