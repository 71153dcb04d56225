//! Compares a policy with the store that it names, for `bartizan check --with-store`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::trust::TrustArguments;
use super::{DaemonArguments, fail};
use crate::admin::store_content::StoreContent;
use crate::audit::Trail;
use crate::cli::exit_code::{FAILED, INVALID};
use crate::policy::Policy;
use crate::policy::diagnostic::Problems;
use crate::runtime::{InForce, Runtime};
use crate::state::registry::{Health, StoreConfig, StoreError, StoreFolder};

/// Compares a policy with its store. A folder that a daemon has open is read through that daemon. Prints why the store
/// could not be read, and returns it as an exit code.
pub(in crate::cli) fn compare(policy: Policy, file: &Path) -> Result<Problems, u8> {
    match policy.store() {
        None => return Err(fail(INVALID, "the policy has no `store` to compare it with; leave out --with-store")),
        // Opening it would create it.
        Some(StoreConfig::Embedded { folder }) if !StoreFolder::new(folder).has_file() => return Ok(Problems::new()),
        Some(_) => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = runtime.map_err(|error| fail(FAILED, &error.to_string()))?;
    let in_force = InForce::attach(policy, Arc::new(Trail::silent()), &Runtime::new(Instant::now()), None);
    let content = match runtime.block_on(in_force.registry().open()) {
        Ok(()) if in_force.registry().health() == Health::Ready => StoreContent::of(&in_force, Timestamp::now()),
        Ok(()) => return Err(fail(FAILED, "the store could not be read in time; see whether Redis can be reached")),
        Err(StoreError::InUse(_)) => {
            let daemon = DaemonArguments {
                policy: Some(file.to_owned()),
                admin: None,
                admin_token: None,
                trust: TrustArguments::default(),
            }
            .open()?;
            let (consumers, keys) = (daemon.list("/v1/consumers")?, daemon.list("/v1/keys")?);
            let content = StoreContent::read(consumers, keys, daemon.list("/v1/clients")?);
            content.map_err(|error| fail(FAILED, &format!("the daemon's lists cannot be read: {error}")))?
        }
        Err(error) => return Err(fail(FAILED, &error.to_string())),
    };
    Ok(content.compare(&in_force.policy))
}
