//! What consumers have used of their limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use super::{Completed, Operation, Result};
use crate::policy::Route;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::Consumer;
use crate::stages::auth::directory::Directory;
use crate::stages::rate_limit::usage::{self, Looker};
use crate::stages::rate_limit::{Limit, Now};
use crate::state::ledger::Account;

/// How long a page of many consumers may take.
const WHOLE_PAGE: Duration = Duration::from_secs(8);

/// A consumer, the account in which its requests are counted, and its limits.
struct Counted<'a> {
    consumer: &'a Consumer,
    account: Arc<Account>,
    /// Its plan's limits, then the rates of routes.
    limits: Vec<(&'a Limit, Option<&'a Route>)>,
}

impl Operation<'_> {
    /// What one consumer has used.
    pub(super) async fn usage(&self, name: &str) -> Result<Completed> {
        let consumer = self.counted_consumer(name)?;
        self.usage_of(&self.counted(&consumer)).await.map(Completed::shown)
    }

    /// What consumers have used, page by page.
    pub(super) async fn usages(&self) -> Result<Completed> {
        let (names, next) = self.consumer_names()?;
        let all = async {
            let mut items = Vec::with_capacity(names.len());
            for name in &names {
                // One that has gone meanwhile is left out.
                if let Ok(consumer) = self.counted_consumer(name) {
                    items.push(self.usage_of(&self.counted(&consumer)).await?);
                }
            }
            Ok(items)
        };
        let answered = tokio::time::timeout(WHOLE_PAGE, all).await;
        let items =
            answered.unwrap_or_else(|_| Err(unavailable("it did not answer in time about so many consumers")))?;
        Ok(Completed::shown(json!({"items": items, "next": next})))
    }

    /// Resets the usage of a consumer.
    pub(super) async fn reset_usage(&self, name: &str) -> Result<Completed> {
        let consumer = self.counted_consumer(name)?;
        let counted = self.counted(&consumer);
        let limits: Vec<_> = counted.limits.iter().map(|(limit, _)| *limit).collect();
        let reset = usage::reset(&limits, &counted.account, self.in_force.shared_limits(), self.moment()).await;
        reset.map_err(|why| unavailable(&why))?;
        let shown = self.usage_of(&counted).await?;
        Ok(Completed::changed(StatusCode::OK, shown, "usage_reset", name))
    }

    fn moment(&self) -> Now {
        Now { tick: self.in_force.ledger.tick(Instant::now()), at: self.now }
    }

    /// A consumer of the policy or the store, or one that is known by a token alone: `ISSUER:ID`.
    fn counted_consumer(&self, name: &str) -> Result<Arc<Consumer>> {
        if let Some(known) = self.directory().named(name, self.registry())? {
            return Ok(known);
        }
        let unlisted = name.split_once(':').and_then(|(issuer, id)| {
            let mut issuers = self.policy().auth().issuers();
            let issuer = issuers.find(|known| known.name() == issuer)?;
            Some(Directory::unlisted(issuer.name(), id, issuer.settings().default_plan.as_ref()?))
        });
        unlisted.ok_or_else(|| self.missing_consumer(name))
    }

    fn counted<'a>(&'a self, consumer: &'a Consumer) -> Counted<'a> {
        let ledger = &self.in_force.ledger;
        let is_unlisted = consumer.name().contains(':');
        let account = match is_unlisted {
            true => ledger.unlisted(consumer.name(), self.moment().tick),
            false => consumer.account(ledger),
        };
        let of_plan = consumer.plan().into_iter().flat_map(|plan| plan.limits()).map(|limit| (limit, None));
        let rates =
            self.policy().routes().iter().filter_map(|route| Some((route.limits.rate.as_ref()?, Some(&**route))));
        Counted { consumer, account, limits: of_plan.chain(rates).collect() }
    }

    async fn usage_of(&self, counted: &Counted<'_>) -> Result<Value> {
        let Counted { consumer, account, limits } = counted;
        let only: Vec<_> = limits.iter().map(|(limit, _)| *limit).collect();
        let used = usage::look(Looker::Operator, &only, account, self.in_force.shared_limits(), self.moment()).await;
        let used = used.map_err(|why| unavailable(&why))?;
        let shown = limits.iter().zip(used).map(|((limit, route), used)| {
            let allowed = limit.most().get();
            let spent = allowed.saturating_sub(used.remaining);
            json!({
                "name": limit.name(), "kind": if limit.is_quota() { "quota" } else { "rate" },
                "api": route.map(|route| &**route.api().name()), "route": route.map(|route| &**route.name()),
                "allowed": allowed, "used": spent, "remaining": used.remaining, "resets": used.resets,
            })
        });
        Ok(json!({
            "consumer": &**consumer.name(), "plan": consumer.plan().map(|plan| plan.name().to_string()),
            "counted_with": consumer.counted_by(), "limits": shown.collect::<Vec<_>>(),
        }))
    }
}

fn unavailable(why: &str) -> Refusal {
    let detail = "the store is not available, so what has been used is not known; see the log";
    Refusal::new(Stage::Request, Reason::StoreUnavailable, detail).cause(why.to_owned())
}
