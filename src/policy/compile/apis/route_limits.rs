//! `rate`, `class` and `cost` of a route.

use std::num::NonZeroU32;

use crate::policy::compile::context::Context;
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::stages::rate_limit::{Limit, RouteLimits};
use crate::state::ledger::LimitId;

/// Compiles what a route says about limits.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    (api, name): (&str, &str),
    written: &document::Route,
    at: At<'_>,
) -> RouteLimits {
    let cost = written.cost.map(NonZeroU32::new);
    if cost == Some(None) {
        context.error(at.key("cost"), "`cost` is at least 1");
    }
    let limits = RouteLimits {
        rate: rate(context, LimitId::route(api, name), written, at.key("rate")),
        class: class(context, document, written, at.key("class")),
        cost: cost.flatten().unwrap_or(NonZeroU32::MIN),
    };
    if let Some(limit) = limits.rate.as_ref().filter(|limit| limit.most() < limits.cost) {
        let message =
            format!("a request costs {}, and the route's own `rate` allows {} at once", limits.cost, limit.most());
        context.error(at.key("cost"), message).help("raise `rate`, or lower `cost`");
    }
    limits
}

fn rate(context: &mut Context<'_>, id: LimitId, written: &document::Route, at: At<'_>) -> Option<Limit> {
    let rate = written.rate?;
    Limit::rate(id, "route", rate.count, rate.per, None).map_err(|problem| context.error(at, problem)).ok()
}

fn class(context: &mut Context<'_>, document: &Document, written: &document::Route, at: At<'_>) -> Option<LimitId> {
    let class = written.class.as_ref()?;
    let known = || document.plans.values().flat_map(|plan| plan.classes.keys()).map(String::as_str);
    if !known().any(|known| known == class) {
        context.unknown(at, "class in any plan", class, known());
    }
    if written.public == Some(true) {
        context.error(at, "a public route has no plan, so no class can limit it").help("write `rate:`");
    }
    Some(LimitId::class(class))
}
