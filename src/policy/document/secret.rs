//! Secrets as written.

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// One text of a list that is not to be printed.
#[derive(Debug)]
pub(crate) struct Secret(pub(crate) SecretString);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// Text that is not to be printed.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(SecretString::from(text)))
}
