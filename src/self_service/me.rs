//! Who the caller is, what it may do, what is left of its limits, and which keys and clients it has.

use std::time::Instant;

use http::StatusCode;
use serde_json::{Value, json};

use super::offer::{self, Reader};
use super::service::{Service, json};
use crate::exchange::Answer;
use crate::stages::auth::Caller;
use crate::stages::auth::api_key::Key;
use crate::stages::auth::client::ClientCredential;
use crate::stages::rate_limit::usage::{self, Looker, Usage};
use crate::stages::rate_limit::{Limit, Now, Plan};

/// What `unknown` says of limits.
const UNKNOWN_LIMITS: &str =
    "what is left of your limits: the store that counts them does not answer; try again shortly";

/// Answers `GET me`. What is left of limits may be unknown, because the store that counts them is away: then everything else is said.
pub(super) async fn answer(service: &Service<'_>, caller: &Caller) -> Box<Answer> {
    let (kind, id) = caller.credential();
    let (limits, why) = limits(service, caller).await;
    let mut shown = json!({
        "consumer": &**caller.consumer(), "user": caller.user(), "organization": caller.organization(),
        "credential": {"kind": kind.as_str(), "id": id}, "scopes": caller.granted(),
        "plan": caller.plan().map(|plan| &**plan.name()), "limits": limits,
    });
    let Value::Object(members) = &mut shown else { return json(StatusCode::OK, &shown) };
    if let Some(why) = why {
        tracing::debug!(%why, "what is left of limits is not known");
        members.insert("unknown".to_owned(), json!([UNKNOWN_LIMITS]));
    }
    // Keys and clients are those of the consumer: the user it acts for has nothing to do with them.
    if caller.user().is_none() {
        members.insert("keys".to_owned(), keys(service, caller));
        if service.in_force.policy.token_service().is_some() {
            members.insert("clients".to_owned(), clients(service, caller));
        }
    }
    json(StatusCode::OK, &shown)
}

/// What is left of each limit that the caller's requests count against, and when it resets; and why that is not known of those that a
/// store counts.
async fn limits(service: &Service<'_>, caller: &Caller) -> (Vec<Value>, Option<String>) {
    let in_force = service.in_force;
    let now = Now { tick: in_force.ledger.tick(Instant::now()), at: service.request.now() };
    let reader = Reader::of(caller, service.request);
    let routes = offer::open_routes(&in_force.policy, &reader);
    let of_plan = caller.plan().into_iter().flat_map(Plan::limits).map(|limit| (limit, None));
    let own = routes.filter_map(|route| Some((route.limits.rate.as_ref()?, Some(&**route))));
    let all: Vec<_> = of_plan.chain(own).collect();
    let look = async |limits: &[&Limit], account| {
        usage::look(Looker::Caller, limits, account, in_force.shared_limits(), now).await
    };
    let only: Vec<_> = all.iter().map(|(limit, _)| *limit).collect();
    let (used, mut why) = known(look(&only, caller.account()).await, only.len());
    let mut lines: Vec<Value> = Vec::with_capacity(used.len());
    for ((limit, route), used) in all.iter().zip(used) {
        let mut line = line(limit, used, if limit.is_quota() { "quota" } else { "rate" });
        if let (Value::Object(line), Some(route)) = (&mut line, route) {
            line.insert("route".to_owned(), json!(&**route.name()));
        }
        lines.push(line);
    }
    if let (Some(limit), Some(account)) = (caller.plan().and_then(Plan::user_limit), caller.user_account()) {
        let (used, problem) = known(look(&[limit], account).await, 1);
        why = why.or(problem);
        lines.extend(used.into_iter().map(|used| line(limit, used, "rate_of_user")));
    }
    (lines, why)
}

/// What is known of so many limits, and why it is not.
fn known(looked: Result<Vec<Usage>, String>, limits: usize) -> (Vec<Option<Usage>>, Option<String>) {
    match looked {
        Ok(used) => (used.into_iter().map(Some).collect(), None),
        Err(why) => (vec![None; limits], Some(why)),
    }
}

fn line(limit: &Limit, used: Option<Usage>, kind: &str) -> Value {
    json!({
        "name": limit.name(), "kind": kind, "allowed": limit.most(), "remaining": used.map(|used| used.remaining),
        "resets": used.and_then(|used| used.resets),
    })
}

/// The clients of the consumer, sorted by id: how they authenticate, what they may do, and when they end.
fn clients(service: &Service<'_>, caller: &Caller) -> Value {
    let (auth, now) = (&service.in_force.auth, service.request.now());
    let shown = auth.clients_of(caller.consumer_itself()).into_iter().map(|client| {
        let secrets = match &client.credential {
            ClientCredential::Secrets(secrets) => Some(secrets),
            ClientCredential::Keys(_) | ClientCredential::Key(_) | ClientCredential::Certificate(_) => None,
        };
        let secrets = secrets.map(|secrets| {
            let secrets = secrets.iter().filter(|secret| secret.expires.is_none_or(|end| end > now));
            secrets.map(|secret| json!({"created": secret.created, "ends": secret.expires})).collect::<Vec<_>>()
        });
        json!({
            "id": client.id, "kind": client.credential.kind().as_str(), "state": client.state(auth.registry(), now),
            "scopes": client.scopes, "created": client.created, "ends": client.expires, "secrets": secrets,
        })
    });
    shown.collect()
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
