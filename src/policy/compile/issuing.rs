//! Where certificates come from that a policy lets be issued.

use std::sync::Arc;

use crate::secrets::vault::Vault;

/// Where certificates come from.
pub(super) enum Issuing {
    /// There is no vault.
    NoVault,
    /// Nothing is served: one that signs itself will do.
    StandIn,
    /// The vault.
    Vault(Arc<Vault>),
}
