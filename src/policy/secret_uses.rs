//! Which secrets of the vault a policy refers to, and what needs them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::source::Place;
use super::tree::{Step, Tree};
use crate::secrets::stale::Holder;
use crate::secrets::vault::{CertificateRequest, Generation, SecretPath, TransitName, Vault, VaultReference, Wanted};
use crate::stages::auth::claims::OWN_ISSUER;

/// The vault of a policy.
#[derive(Debug)]
pub(crate) struct PolicyVault {
    /// The vault, with what outlives policies.
    pub(crate) vault: Arc<Vault>,
    /// How its secrets are kept fresh.
    pub(crate) upkeep: Upkeep,
    /// The references.
    pub(crate) uses: SecretUses,
    /// The certificates that it issues.
    pub(crate) certificates: Vec<CertificateRequest>,
    /// The keys that it signs with.
    pub(crate) keys: Vec<TransitName>,
    /// The changes of values that this policy has.
    pub(crate) generation: Generation,
}

/// How secrets are kept fresh.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upkeep {
    /// How often they are read again.
    pub(crate) refresh: Duration,
    /// How long the last good value is used.
    pub(crate) stale_for: Duration,
    /// Whether it is used even longer.
    pub(crate) serves: bool,
}

/// A reference of a policy.
#[derive(Debug)]
pub(crate) struct SecretUse {
    /// The field of a secret.
    pub(crate) reference: VaultReference,
    /// `FILE:LINE:COLUMN`.
    pub(crate) place: Box<str>,
    /// What does not work without it.
    pub(crate) holder: Holder,
}

/// The references of a policy, in their order.
#[derive(Debug, Default)]
pub(crate) struct SecretUses(Vec<SecretUse>);

impl SecretUses {
    /// The references of a tree.
    pub(super) fn of(tree: &Tree) -> Self {
        let uses = tree.vault_references().into_iter().map(|(id, reference)| {
            let place: Place = tree.place(id);
            SecretUse { reference, place: place.to_string().into(), holder: holder(&tree.path(id)) }
        });
        Self(uses.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SecretUse> {
        self.0.iter()
    }

    /// The secrets, and which of their fields are wanted.
    pub(crate) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::new();
        for SecretUse { reference, .. } in &self.0 {
            wanted.entry(reference.secret.clone()).or_default().insert(reference.field.clone());
        }
        wanted
    }

    /// The secrets.
    pub(crate) fn secrets(&self) -> BTreeSet<&SecretPath> {
        self.0.iter().map(|one| &one.reference.secret).collect()
    }
}

/// What does not work without the value at this path.
fn holder(path: &[Step<'_>]) -> Holder {
    match path {
        [Step::Key("auth"), Step::Key("issuers"), Step::Key(name), ..] => Holder::Issuer((*name).into()),
        [Step::Key("auth"), Step::Key("introspection"), Step::Key(name), ..] => Holder::Issuer((*name).into()),
        [Step::Key("listen"), Step::Index(position), Step::Key("tls"), ..] => Holder::Listener(*position),
        [Step::Key("token_service"), ..] => Holder::Issuer(OWN_ISSUER.into()),
        [Step::Key("admin"), Step::Key("token")] => Holder::AdminToken(None),
        [Step::Key("admin"), Step::Key("tokens"), Step::Index(position), ..] => Holder::AdminToken(Some(*position)),
        _ => Holder::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_secret_is_known_from_its_place() {
        use Step::{Index, Key};
        for (path, expected) in [
            (&[Key("auth"), Key("issuers"), Key("corp"), Key("secret")][..], Holder::Issuer("corp".into())),
            (&[Key("auth"), Key("introspection"), Key("p"), Key("client_secret")], Holder::Issuer("p".into())),
            (&[Key("listen"), Index(1), Key("tls"), Key("key")], Holder::Listener(1)),
            (&[Key("listen"), Index(1), Key("tls"), Key("certificates"), Index(0), Key("key")], Holder::Listener(1)),
            (&[Key("admin"), Key("token")], Holder::AdminToken(None)),
            (&[Key("admin"), Key("tokens"), Index(2), Key("token")], Holder::AdminToken(Some(2))),
            (&[Key("token_service"), Key("keys"), Key("seal")], Holder::Issuer("token_service".into())),
            (&[Key("store"), Key("redis")], Holder::Other),
            (&[Key("audit"), Key("to"), Index(0), Key("http"), Key("headers"), Key("x")], Holder::Other),
        ] {
            assert_eq!(holder(path), expected, "{path:?}");
        }
    }
}
