//! Where the values of references to the vault come from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use secrecy::SecretString;

use crate::secrets::vault::{Failed, KeptSecrets, VaultError, VaultReference};

/// Where the values of references to the vault come from.
#[derive(Default)]
pub(crate) enum VaultAnswers {
    /// The policy names no vault.
    #[default]
    NoVault,
    /// The vault was asked.
    Asked {
        /// The good values; those that could not be read now are those of before.
        kept: Arc<KeptSecrets>,
        /// What could not be read.
        failed: Vec<Failed>,
    },
    /// A test gives them, by reference: `vault:MOUNT/PATH#FIELD`.
    Given(BTreeMap<String, String>),
}

impl VaultAnswers {
    /// The value of a reference; otherwise what is wrong and, if known, how to fix it.
    pub(super) fn value(&self, reference: &VaultReference) -> Result<SecretString, (String, Option<String>)> {
        match self {
            Self::NoVault => {
                let help = "write `secrets: { vault: { address: \"https://vault.example.com:8200\", login: … } }`";
                Err(("the policy does not say where the vault is".to_owned(), Some(help.to_owned())))
            }
            Self::Asked { kept, failed } => kept.value(reference).ok_or_else(|| {
                match failed.iter().find(|failed| failed.concerns(reference)) {
                    Some(failed) => {
                        let message = failed.error.message(&reference.secret, &reference.field);
                        (message, failed.error.help(&reference.secret))
                    }
                    // It was left out with the rest of its secret.
                    None => (VaultError::Incomplete.message(&reference.secret, &reference.field), None),
                }
            }),
            Self::Given(values) => {
                let name = reference.to_string();
                match values.get(&name) {
                    Some(value) if value.is_empty() => Err((format!("the value of `{name}` is empty"), None)),
                    Some(value) => Ok(value.as_str().into()),
                    None => {
                        let help = format!("write `secrets: {{ \"{name}\": … }}` in the test file");
                        Err((format!("the tests give no value for `{name}`, and do not ask the vault"), Some(help)))
                    }
                }
            }
        }
    }
}

impl fmt::Debug for VaultAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultAnswers")
    }
}
