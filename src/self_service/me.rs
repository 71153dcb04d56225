//! Who the caller is, what it may do, what is left of its limits, and which keys it has.

use std::time::Instant;

use http::StatusCode;
use serde_json::{Value, json};

use super::offer::{self, Reader};
use super::service::{Service, json, refuse};
use crate::exchange::Answer;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::Caller;
use crate::stages::auth::api_key::Key;
use crate::stages::rate_limit::usage::{self, Usage};
use crate::stages::rate_limit::{Limit, Now, Plan};

/// Answers `GET me`.
pub(super) async fn answer(service: &Service<'_>, caller: &Caller) -> Result<Box<Answer>, Refusal> {
    let (kind, id) = caller.credential();
    let mut shown = json!({
        "consumer": &**caller.consumer(), "user": caller.user(), "organization": caller.organization(),
        "credential": {"kind": kind.as_str(), "id": id}, "scopes": caller.granted(),
        "plan": caller.plan().map(|plan| &**plan.name()), "limits": limits(service, caller).await?,
    });
    // The keys are those of the consumer: the user it acts for has nothing to do with them.
    if let (Value::Object(shown), None) = (&mut shown, caller.user()) {
        shown.insert("keys".to_owned(), keys(service, caller));
    }
    Ok(json(StatusCode::OK, &shown))
}

/// What is left of each limit that the caller's requests count against, and when it resets.
async fn limits(service: &Service<'_>, caller: &Caller) -> Result<Vec<Value>, Refusal> {
    let in_force = service.in_force;
    let now = Now { tick: in_force.ledger.tick(Instant::now()), at: service.request.now() };
    let reader = Reader::of(caller, service.request);
    let routes = offer::open_routes(&in_force.policy, &reader);
    let of_plan = caller.plan().into_iter().flat_map(Plan::limits).map(|limit| (limit, None));
    let own = routes.filter_map(|route| Some((route.limits.rate.as_ref()?, Some(&**route))));
    let all: Vec<_> = of_plan.chain(own).collect();
    let look = async |limits: &[&Limit], account| {
        let looked = usage::look(limits, account, in_force.shared_limits(), now).await;
        looked.map_err(|why| {
            let detail = "what is left of your limits is not known now; try again shortly";
            refuse(Stage::RateLimit, Reason::LimitsUnavailable, detail).cause(why)
        })
    };
    let line = |limit: &Limit, used: Usage, kind: &str| {
        json!({
            "name": limit.name(), "kind": kind, "allowed": limit.most(), "remaining": used.remaining,
            "resets": used.resets,
        })
    };
    let only: Vec<_> = all.iter().map(|(limit, _)| *limit).collect();
    let used = look(&only, caller.account()).await?;
    let mut lines: Vec<Value> = Vec::with_capacity(used.len());
    for ((limit, route), used) in all.iter().zip(used) {
        let mut line = line(limit, used, if limit.is_quota() { "quota" } else { "rate" });
        if let (Value::Object(line), Some(route)) = (&mut line, route) {
            line.insert("route".to_owned(), json!(&**route.name()));
        }
        lines.push(line);
    }
    if let (Some(limit), Some(account)) = (caller.plan().and_then(Plan::user_limit), caller.user_account()) {
        let used = look(&[limit], account).await?;
        lines.extend(used.into_iter().map(|used| line(limit, used, "rate_of_user")));
    }
    Ok(lines)
}

/// The keys of the consumer, sorted by id: what they may do, and when they end.
fn keys(service: &Service<'_>, caller: &Caller) -> Value {
    let (policy, registry) = (&service.in_force.policy, service.in_force.registry());
    let (rules, now) = (&policy.auth().keys, service.request.now());
    let consumer = caller.consumer_itself();
    let listed = rules.listed().filter(|key| key.consumer.name() == consumer.name()).cloned().map(|key| (key, None));
    let made = registry.keys_of(consumer.name()).into_iter().map(|key| {
        let known = rules.of_registry(&key, std::sync::Arc::clone(consumer));
        (known, key.replaced_by.clone())
    });
    let mut keys: Vec<(Key, Option<Box<str>>)> = listed.chain(made).collect();
    keys.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    let shown = keys.iter().map(|(key, replaced_by)| {
        json!({
            "id": key.id, "state": key.state(rules.max_age(), registry, now), "scopes": key.scopes,
            "created": key.created, "not_before": key.not_before, "ends": key.end(rules.max_age()),
            "last_used": registry.usage(&key.id).last().map(|last| last.at), "replaced_by": replaced_by,
        })
    });
    shown.collect()
}
