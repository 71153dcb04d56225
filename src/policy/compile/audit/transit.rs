//! `audit.chain.transit`: a key of the vault that signs checkpoints.

use std::sync::Arc;

use crate::audit::CheckpointKey;
use crate::policy::compile::context::Context;
use crate::policy::compile::issuing::Issuing;
use crate::policy::tree::At;
use crate::secrets::vault::{TransitKey, TransitName, is_path};

/// The latest version of the key. `None` also where nothing is served: then no checkpoint is signed.
pub(super) fn key(context: &mut Context<'_>, written: &str, at: At<'_>) -> Option<Arc<CheckpointKey>> {
    let Some((mount, key)) = written.rsplit_once('/').filter(|_| is_path(written)) else {
        context.error(at, "this is not a mount and a key").help("write `transit/KEY`");
        return None;
    };
    let name = TransitName { mount: mount.into(), key: key.into() };
    let vault = match &context.issuing {
        Issuing::NoVault => {
            context
                .error(at, "the policy does not say where the vault is")
                .help("write `secrets: { vault: { address: \"https://vault.example.com:8200\", login: … } }`");
            return None;
        }
        Issuing::StandIn => return None,
        Issuing::Vault(vault) => Arc::clone(vault),
    };
    let made = TransitKey::new(&vault, &name).and_then(|key| {
        context.sources.issued(&format!("transit:{name}"), key.public());
        CheckpointKey::of_vault(key)
    });
    context.vault_keys.push(name);
    match made {
        Ok(key) => Some(Arc::new(key)),
        Err(why) => {
            context.error(at, format!("the key cannot be used: {why}")).help(
                "make it with `vault write -f transit/keys/KEY type=ed25519`; the login needs `read` on `transit/keys/KEY` and \
                 `update` on `transit/sign/KEY`",
            );
            None
        }
    }
}
