//! `plans`: rates, and those of classes of endpoints.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::context::Context;
use super::names::names_limit;
use crate::policy::Route;
use crate::policy::document::{CountBy, Document};
use crate::policy::source::quote;
use crate::policy::tree::At;
use crate::policy::units::Rate;
use crate::stages::auth::directory::Directory;
use crate::stages::rate_limit::Plan;

/// The plans of a policy, by name.
pub(super) type Plans = BTreeMap<String, Arc<Plan>>;

/// `plans`.
pub(super) fn compile(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Plans {
    let mut plans = BTreeMap::new();
    for (name, written) in &document.plans {
        let at = at.key(name);
        if !names_limit(context, name, "plan", at) {
            continue;
        }
        let Some(rate) = written.rate else {
            context.missing(at.key("rate"), "`rate` is missing", "write how often, such as `rate: 10/s`");
            continue;
        };
        let burst = written.burst.map(NonZeroU32::new);
        if burst == Some(None) {
            context.error(at.key("burst"), "`burst` is at least 1");
            continue;
        }
        match Plan::new(name, rate.count, rate.per, burst.flatten()) {
            Ok(mut plan) => {
                classes(context, &mut plan, &written.classes, at.key("classes"));
                if written.count_by == Some(CountBy::Organization) {
                    plan.by_organization();
                }
                match written.concurrent.map(NonZeroU32::new) {
                    Some(Some(most)) => plan.concurrent(most),
                    Some(None) => drop(context.error(at.key("concurrent"), "`concurrent` is at least 1")),
                    None => {}
                }
                plans.insert(name.clone(), Arc::new(plan));
            }
            Err(problem) => {
                context.error(at.key("rate"), problem);
            }
        }
    }
    plans
}

fn classes(context: &mut Context<'_>, plan: &mut Plan, written: &BTreeMap<String, Rate>, at: At<'_>) {
    for (name, rate) in written {
        if !names_limit(context, name, "class", at.key(name)) {
            continue;
        }
        if let Err(problem) = plan.class(name, rate.count, rate.per) {
            context.error(at.key(name), problem);
        }
    }
}

/// Warns of plans under which a route can never be called, because its cost is more than a burst.
pub(super) fn admit_routes(context: &mut Context<'_>, directory: &Directory, routes: &[Arc<Route>], at: At<'_>) {
    for plan in directory.plans() {
        let never = |route: &&Arc<Route>| plan.never_fits(&route.limits).is_some();
        let Some(route) = routes.iter().find(never) else { continue };
        let (name, cost) = (plan.name(), route.limits.cost);
        let limit = plan.never_fits(&route.limits).unwrap_or_default();
        context
            .warning(
                at.key(name),
                format!(
                    "{} costs {cost}, more than the limit `{limit}` of this plan allows at once",
                    quote(route.name())
                ),
            )
            .help("raise `burst`, or lower `cost`: consumers of this plan can never call it");
    }
}

/// The plan of a name; what is wrong with the plan itself has been reported.
pub(super) fn named(
    context: &mut Context<'_>,
    document: &Document,
    plans: &Plans,
    name: &str,
    at: At<'_>,
) -> Option<Arc<Plan>> {
    if !document.plans.contains_key(name) {
        context.unknown(at, "plan", name, document.plans.keys().map(String::as_str));
    }
    plans.get(name).cloned()
}
