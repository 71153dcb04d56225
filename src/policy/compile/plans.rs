//! `plans`: rates and quotas, and those of classes of endpoints.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::context::Context;
use super::names::names_limit;
use crate::policy::Route;
use crate::policy::document::{self, CountBy, Document};
use crate::policy::source::quote;
use crate::policy::tree::At;
use crate::stages::auth::directory::Directory;
use crate::stages::rate_limit::{Every, Limit, Plan, Quota};

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
                quotas(context, written.quota.as_ref(), at.key("quota"), |quota| plan.quota(quota));
                if let Some(rate) = written.per_user
                    && let Err(problem) = plan.per_user(rate.count, rate.per)
                {
                    context.error(at.key("per_user"), problem);
                }
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
    warn_of_lost_quotas(context, document, &plans, at);
    same_zones(context, document, at);
    plans
}

/// Plans that count by organization count in one account, in which a quota has one calendar.
fn same_zones(context: &mut Context<'_>, document: &Document, at: At<'_>) {
    let mut known = BTreeMap::new();
    let together = document.plans.iter().filter(|(_, plan)| plan.count_by == Some(CountBy::Organization));
    for (name, plan) in together {
        let of_classes = plan.classes.iter().map(|(class, limits)| (class.as_str(), limits.quota.as_ref()));
        let all = std::iter::once(("", plan.quota.as_ref())).chain(of_classes);
        for (class, quota) in all
            .flat_map(|(class, quotas)| quotas.into_iter().flat_map(move |one| &one.all).map(move |one| (class, one)))
        {
            let zone = quota.zone.as_deref().unwrap_or("UTC");
            let (first, other) = *known.entry((class, quota.count.unit)).or_insert((zone, name.as_str()));
            if first != zone {
                let message = format!(
                    "this plan and {} count by organization, and their quotas for each {} have other time zones",
                    quote(other),
                    quota.count.unit
                );
                context.error(at.key(name), message).help("write the same `zone` in both");
            }
        }
    }
}

/// Without a store, what has been used of quotas is forgotten when the process ends.
fn warn_of_lost_quotas(context: &mut Context<'_>, document: &Document, plans: &Plans, at: At<'_>) {
    let with_quota = plans.values().find(|plan| plan.limits().any(Limit::is_quota));
    if let (Some(plan), None) = (with_quota, &document.store) {
        context
            .warning(at.key(plan.name()), "there is no `store`, so quotas are reset when this process restarts")
            .help(
                "write `store: state/`, or a Redis that all nodes share; without one, callers beyond the first 100,000 that \
                 only a token identifies share one quota",
            );
    }
}

/// Quotas, each of which `add` takes.
fn quotas(
    context: &mut Context<'_>,
    written: Option<&document::Quotas>,
    at: At<'_>,
    mut add: impl FnMut(Quota) -> Result<(), String>,
) {
    let Some(written) = written else { return };
    if written.all.is_empty() {
        context
            .error(at, "this list of quotas is empty")
            .help("write a quota such as `10000/day`, or leave `quota` out");
    }
    for (index, quota) in written.all.iter().enumerate() {
        let item = at.index(index);
        let at = if written.is_list { item } else { at };
        if written.all.iter().take(index).any(|earlier| earlier.count.unit == quota.count.unit) {
            let message = format!("there is another quota for each {} in this list", quota.count.unit);
            context.error(at, message).help("keep the lower one");
            continue;
        }
        let zone = match &quota.zone {
            None => TimeZone::UTC,
            Some(name) => match TimeZone::get(name) {
                Ok(zone) => zone,
                Err(_) => {
                    context
                        .error(at.key("zone"), format!("{} is not a time zone", quote(name)))
                        .help("write its name in the IANA database, such as `Europe/Berlin`");
                    continue;
                }
            },
        };
        let every = match quota.count.unit {
            "hour" => Every::Hour,
            "day" => Every::Day,
            _ => Every::Month,
        };
        if let Err(problem) = add(Quota::new(quota.count.count, every, zone)) {
            context.error(at, problem);
        }
    }
}

fn classes(context: &mut Context<'_>, plan: &mut Plan, written: &BTreeMap<String, document::Class>, at: At<'_>) {
    for (name, class) in written {
        let at = at.key(name);
        if !names_limit(context, name, "class", at) {
            continue;
        }
        if class.rate.is_none() && class.quota.is_none() {
            let help = "write how often, such as `rate: 1/s`, or how much, such as `quota: 500/day`";
            context.missing(at, "a class has a `rate` or a `quota`", help);
        }
        let burst = class.burst.map(NonZeroU32::new);
        if burst == Some(None) {
            context.error(at.key("burst"), "`burst` is at least 1");
        }
        match class.rate {
            Some(rate) => {
                if let Err(problem) = plan.class_rate(name, rate.count, rate.per, burst.flatten()) {
                    context.error(at, problem);
                }
            }
            None if class.burst.is_some() => {
                context
                    .error(at.key("burst"), "`burst` belongs to a `rate`")
                    .help("write `rate`, or leave `burst` out");
            }
            None => {}
        }
        quotas(context, class.quota.as_ref(), at.key("quota"), |quota| plan.class_quota(name, quota));
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
