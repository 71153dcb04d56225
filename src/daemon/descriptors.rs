//! How many files and sockets the process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

use super::error::StartError;
use crate::proxy::descriptors::{Budget, least};

/// Raises the soft limit on open files to the hard one, and shares them out. `connections` is what the policy allows.
pub(super) fn prepare(connections: usize, workers: usize) -> Result<Budget, StartError> {
    let descriptors = raise();
    let Some(budget) = Budget::of(descriptors, workers) else {
        return Err(StartError::System(format!(
            "the process may open only {descriptors} files; with {workers} workers, allow it at least {} (`ulimit -n`, or \
             LimitNOFILE= in its systemd unit)",
            least(workers)
        )));
    };
    warn(budget, connections);
    Ok(budget)
}

/// Warns if a policy allows more connections than the process can have.
pub(super) fn warn(budget: Budget, connections: usize) {
    if budget.clients < connections {
        tracing::warn!(
            connections,
            possible = budget.clients,
            "`limits.connections` is more than the process may open; raise its limit on open files (`ulimit -n`, or \
             LimitNOFILE= in its systemd unit), or lower `connections`"
        );
    }
}

/// Raises the soft limit to the hard one. Returns how many descriptors the process may have.
fn raise() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files could not be raised");
        limit.current = soft;
    }
    // Without a limit, the kernel's own is far above anything that is used here.
    limit.current.map_or(1 << 20, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
