//! The audit sinks of a policy, opened for this process.

use std::sync::Arc;

use super::error::StartError;
use crate::audit::{AuditConfig, SinkConfig, Trail};
use crate::policy::Policy;

/// Opens the sinks that are not open yet. With `readable`, records on standard output are written for people (true: in
/// colour), otherwise as JSON.
pub(super) fn prepare(
    policy: &Policy,
    readable: Option<bool>,
    current: Option<&Trail>,
) -> Result<Arc<Trail>, StartError> {
    let presented = |sink: &SinkConfig| match sink {
        SinkConfig::Stdout { .. } => SinkConfig::Stdout { readable },
        other => other.clone(),
    };
    let sinks = policy.audit().sinks.iter().map(presented).collect();
    match Trail::open(&AuditConfig { sinks, ..policy.audit().clone() }, current) {
        Ok(trail) => Ok(Arc::new(trail)),
        Err(error) => Err(StartError::System(error.to_string())),
    }
}
