//! `workers`, `timeouts` and `limits`, with the defaults of the policy language.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use crate::policy::document::{self, Document, Workers};
use crate::policy::tree::At;
use crate::policy::units::Size;
use crate::policy::{Limits, Route, Timeouts};

/// `workers`; one per core if `None`.
pub(super) fn workers(document: &Document) -> Option<usize> {
    match document.workers {
        Some(Workers::Count(count)) => usize::try_from(count).ok(),
        Some(Workers::Auto) | None => None,
    }
}

/// `timeouts`, with the defaults of the language.
pub(super) fn timeouts(context: &mut Context<'_>, written: &document::Timeouts, at: At<'_>) -> Timeouts {
    Timeouts {
        request_headers: context.period(at.key("request_headers"), written.request_headers, Duration::from_secs(10)),
        idle: context.period(at.key("idle"), written.idle, Duration::from_secs(75)),
        drain: context.period(at.key("drain"), written.drain, Duration::from_secs(30)),
        stall: context.period(at.key("stall"), written.stall, Duration::from_secs(60)),
    }
}

/// `timeouts.request_body`, the default of routes.
pub(super) fn request_body(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Duration {
    let at = at.key("timeouts").key("request_body");
    context.period(at, document.timeouts.request_body, Duration::from_secs(30))
}

/// `limits`, with the defaults of the language.
pub(super) fn limits(context: &mut Context<'_>, written: &document::Limits, at: At<'_>) -> Limits {
    let header_size = written.header_size.map_or(32 * 1024, |Size(bytes)| bytes);
    if !(1024..=1024 * 1024).contains(&header_size) {
        context.error(at.key("header_size"), "`header_size` is between 1KiB and 1MiB");
    }
    let headers = written.headers.unwrap_or(100);
    if !(8..=1000).contains(&headers) {
        context.error(at.key("headers"), "`headers` is between 8 and 1000");
    }
    let (connections, per_client) = (written.connections.unwrap_or(10_000), written.per_client.unwrap_or(1000));
    for (name, count) in [("connections", connections), ("per_client", per_client)] {
        if count == 0 {
            context.error(at.key(name), format!("`{name}` is at least 1"));
        }
    }
    let memory = written.memory.map_or(256 << 20, |Size(bytes)| bytes);
    if memory < 1 << 20 {
        context.error(at.key("memory"), "`memory` is at least 1MiB");
    }
    Limits {
        header_size: usize::try_from(header_size).unwrap_or(usize::MAX),
        headers: headers as usize,
        connections: connections as usize,
        per_client: per_client as usize,
        memory,
    }
}

/// Warns of routes whose bodies can be larger than all bodies together may be.
pub(super) fn memory_suffices(context: &mut Context<'_>, limits: Limits, routes: &[Arc<Route>], at: At<'_>) {
    let size = |route: &Arc<Route>| {
        let response = route.response.as_ref().map(|response| response.max_size);
        route.request.held_size().max(response).filter(|size| *size > limits.memory)
    };
    let mut large = routes.iter().filter_map(|route| Some((route, size(route)?)));
    if let Some((route, size)) = large.next() {
        let more = match large.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (api, name, memory) = (route.api().name(), route.name(), limits.memory);
        context
            .warning(
                at.key("memory"),
                format!(
                    "`{name}` of `{api}`{more} may have a body of {size} bytes, but all bodies together have {memory}: \
                     larger ones are refused with 503"
                ),
            )
            .help("raise `limits.memory`, or lower `max_size` of the route");
    }
}
