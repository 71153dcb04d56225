//! Keeps the memory of the process to itself: it holds keys and credentials, and a core dump of a crash would be a copy of them
//! on the disk.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Forbids core dumps, and on Linux lets no process of the same user look into this one (`ptrace`, `/proc/PID/mem`).
pub(super) fn keep_private() {
    let mut limit = getrlimit(Resource::Core);
    limit.current = Some(0);
    let limited = setrlimit(Resource::Core, limit);
    #[cfg(target_os = "linux")]
    let limited = limited.and(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    if let Err(error) = limited {
        tracing::warn!(%error, "core dumps could not be forbidden; a crash may write keys and credentials to the disk");
    }
}
