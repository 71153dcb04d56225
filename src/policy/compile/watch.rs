//! `secrets.watch`.

use std::time::Duration;

use super::context::Context;
use crate::policy::document;
use crate::policy::tree::At;
use crate::policy::watch::Watch;

/// Default of `every`.
const EVERY: Duration = Duration::from_secs(5);
/// Shortest `every`: all files are read each time.
const SHORTEST: Duration = Duration::from_millis(100);

/// `secrets.watch`.
pub(super) fn compile(context: &mut Context<'_>, written: Option<&document::Watch>, at: At<'_>) -> Option<Watch> {
    let written = written?;
    let at_every = if written.short { at } else { at.key("every") };
    let every = context.period(at_every, written.every, EVERY);
    if every < SHORTEST {
        context.error(at_every, "the files would be read all the time").help("write at least `100ms`");
    }
    Some(Watch { every, policy: written.policy == Some(true) })
}
