//! The tracer of a policy: kept while the settings are the same.

use std::sync::Arc;

use super::error::StartError;
use crate::policy::Policy;
use crate::runtime::{InForce, Runtime};
use crate::traces::Tracer;

/// Starts a tracer, unless the current one has the same settings. One that is not put in force ends without having sent
/// anything; one that is replaced first sends what it has taken.
pub(super) fn prepare(
    policy: &Policy,
    node: &str,
    runtime: &Runtime,
    current: Option<&InForce>,
) -> Result<Option<Arc<Tracer>>, StartError> {
    let Some(config) = policy.traces() else { return Ok(None) };
    let current = current.and_then(|in_force| in_force.tracer.as_ref());
    if let Some(tracer) = current.filter(|tracer| tracer.config() == config) {
        return Ok(Some(Arc::clone(tracer)));
    }
    match Tracer::start(config.clone(), node, runtime.metrics.spans.clone()) {
        Ok(tracer) => Ok(Some(Arc::new(tracer))),
        Err(error) => Err(StartError::System(format!("traces cannot be exported: {error}"))),
    }
}
