//! The results of drills, which the record keeps as evidence.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{Completed, Operation, Result, input};
use crate::audit::{Change as Details, DrillFacts, REVOCATION_DRILL_FAILED, REVOCATION_DRILLED};

/// Most nodes of a drill, and most milliseconds of its times.
const MOST: u32 = 1_000_000;

impl Operation<'_> {
    /// Leaves the result of a revocation drill in the record: who drilled comes from the token, the digest from the policy in
    /// force, and the result from the operator.
    pub(super) fn record_drill(&self) -> Result<Completed> {
        let written: input::Drill = input::read(self.body)?;
        if !(1..=MOST).contains(&written.nodes) {
            return Err(input::wrong("/nodes", "a drill has 1 to 1000000 nodes"));
        }
        let milliseconds = |count: u32, pointer| {
            let bounded = Some(count).filter(|count| *count <= MOST);
            let bounded = bounded.ok_or_else(|| input::wrong(pointer, "a time is at most 1000000 milliseconds"));
            bounded.map(|count| Duration::from_millis(count.into()))
        };
        let within = milliseconds(written.within_ms, "/within_ms")?;
        let refused_after =
            written.refused_after_ms.map(|after| milliseconds(after, "/refused_after_ms")).transpose()?;
        let passed = refused_after.is_some_and(|after| after <= within) && written.passed;
        let action = if passed { REVOCATION_DRILLED } else { REVOCATION_DRILL_FAILED };
        let auth = Arc::clone(self.policy().auth_digest());
        let shown = json!({
            "action": action,
            "auth": &*auth,
            // Without a sink there is no evidence, and nobody should believe that there is.
            "recorded": !self.policy().audit().sinks.is_empty(),
        });
        let drill = DrillFacts { auth, nodes: written.nodes, within, refused_after };
        let details = Details { drill: Some(drill), ..Details::default() };
        Ok(Completed::changed(StatusCode::OK, shown, action, "revocation").with(details))
    }
}
