//! Plans, what routes say about limits, and which limits a request counts against.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::concurrent::Concurrent;
use super::limit::Limit;
use super::quota::Quota;
use crate::state::ledger::LimitId;

/// The limits of a consumer.
#[derive(Debug)]
pub(crate) struct Plan {
    name: Arc<str>,
    /// Its rate, then its quotas.
    limits: Vec<Limit>,
    /// Tighter limits for classes of endpoints.
    classes: Vec<Class>,
    concurrent: Option<Concurrent>,
    /// Beside it: of each user that a consumer acts for.
    per_user: Option<Limit>,
    by_organization: bool,
}

/// The limits of a class of endpoints in a plan.
#[derive(Debug)]
struct Class {
    id: LimitId,
    limits: Vec<Limit>,
}

impl Plan {
    /// Compiles a plan. `burst` defaults to one second's worth, at least 1.
    pub(crate) fn new(name: &str, count: NonZeroU32, per: Duration, burst: Option<NonZeroU32>) -> Result<Self, String> {
        let rate = Limit::rate(LimitId::plan(), name, count, per, burst)?;
        Ok(Self {
            name: name.into(),
            limits: vec![rate],
            classes: Vec::new(),
            concurrent: None,
            per_user: None,
            by_organization: false,
        })
    }

    /// Adds a quota.
    pub(crate) fn quota(&mut self, quota: Quota) -> Result<(), String> {
        let every = quota.every().as_str();
        self.limits.push(Limit::quota(LimitId::quota(None, every), &format!("{}-{every}", self.name), quota)?);
        Ok(())
    }

    /// Adds the rate of a class of endpoints.
    pub(crate) fn class_rate(
        &mut self,
        name: &str,
        count: NonZeroU32,
        per: Duration,
        burst: Option<NonZeroU32>,
    ) -> Result<(), String> {
        let id = LimitId::class(name);
        let rate = Limit::rate(id, name, count, per, burst)?;
        self.limits_of(id).push(rate);
        Ok(())
    }

    /// Adds a quota of a class of endpoints.
    pub(crate) fn class_quota(&mut self, name: &str, quota: Quota) -> Result<(), String> {
        let every = quota.every().as_str();
        let quota = Limit::quota(LimitId::quota(Some(name), every), &format!("{name}-{every}"), quota)?;
        self.limits_of(LimitId::class(name)).push(quota);
        Ok(())
    }

    fn limits_of(&mut self, class: LimitId) -> &mut Vec<Limit> {
        let known = self.classes.iter().position(|known| known.id == class);
        let position = known.unwrap_or_else(|| {
            self.classes.push(Class { id: class, limits: Vec::new() });
            self.classes.len() - 1
        });
        &mut self.classes[position].limits
    }

    /// Limits the requests that are under way at the same time, on each node.
    pub(crate) fn concurrent(&mut self, most: NonZeroU32) {
        self.concurrent = Some(Concurrent::new(most));
    }

    /// Limits each user that a consumer acts for.
    pub(crate) fn per_user(&mut self, count: NonZeroU32, per: Duration) -> Result<(), String> {
        let name = format!("{}-user", self.name);
        self.per_user = Some(Limit::rate(LimitId::plan(), &name, count, per, None)?);
        Ok(())
    }

    /// Whether each user that a consumer acts for is limited.
    pub(crate) fn limits_users(&self) -> bool {
        self.per_user.is_some()
    }

    /// Counts the consumers of an organization together.
    pub(crate) fn by_organization(&mut self) {
        self.by_organization = true;
    }

    /// Whether the consumers of an organization are counted together.
    pub(crate) fn counts_by_organization(&self) -> bool {
        self.by_organization
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its limit on requests that are under way.
    pub(super) fn concurrency(&self) -> Option<&Concurrent> {
        self.concurrent.as_ref()
    }

    /// All of its limits, those of classes included.
    pub(crate) fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter().chain(self.classes.iter().flat_map(|class| &class.limits))
    }

    /// The limit of each user, beside those of all.
    pub(crate) fn user_limit(&self) -> Option<&Limit> {
        self.per_user.as_ref()
    }

    fn of_class(&self, class: Option<LimitId>) -> &[Limit] {
        self.classes.iter().find(|known| Some(known.id) == class).map_or(&[], |class| &class.limits)
    }

    /// The name of its limit that never allows what a request costs, so that it refuses every one.
    pub(crate) fn never_fits<'l>(&'l self, limits: &'l RouteLimits) -> Option<&'l str> {
        let mut own = self.of_class(limits.class).iter().chain(&self.limits).chain(&self.per_user);
        own.find(|limit| limit.most() < limits.cost).map(Limit::name)
    }
}

/// What a route says about limits.
#[derive(Debug)]
pub(crate) struct RouteLimits {
    /// The route's own rate, in addition to the plan's.
    pub(crate) rate: Option<Limit>,
    /// Its class of endpoints, for which plans may have limits.
    pub(crate) class: Option<LimitId>,
    /// What a request takes from each limit.
    pub(crate) cost: NonZeroU32,
}

impl RouteLimits {
    /// Which limits a request counts against: the route's own, those of its class in the caller's plan, the plan's.
    pub(super) fn of<'l>(&'l self, plan: Option<&'l Plan>) -> Applicable<'l> {
        let class = plan.map_or(&[][..], |plan| plan.of_class(self.class));
        Applicable([self.rate.as_slice(), class, plan.map_or(&[], |plan| &plan.limits)])
    }
}

impl Plan {
    /// The limits of a user.
    pub(super) fn of_user(&self) -> Applicable<'_> {
        Applicable([self.per_user.as_slice(), &[], &[]])
    }
}

/// The limits of one request that are counted in one account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Applicable<'l>([&'l [Limit]; 3]);

impl<'l> Applicable<'l> {
    pub(super) fn iter(self) -> impl Iterator<Item = &'l Limit> {
        self.0.into_iter().flatten()
    }
}
