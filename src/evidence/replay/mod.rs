//! `bartizan replay`: decides a record again under another policy, and counts what flips.
//!
//! `decide` takes one request through the stages, as far as the record has what they ask for; `holders` knows the consumers and keys
//! of the policy by the names that records have.

mod decide;
mod holders;

use std::collections::HashMap;

use crate::evidence::record::Record;
pub(crate) use crate::evidence::replay::decide::{Gap, Outcome};
use crate::evidence::replay::decide::{Replayer, recorded};
use crate::evidence::window::Window;
use crate::policy::Policy;

/// Most kinds of flips that are counted separately, so that no record takes memory without end.
const MOST_KINDS: usize = 100_000;
/// Most bytes of their texts.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// Decisions that flip in one way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flip {
    pub(crate) consumer: Option<Box<str>>,
    /// The API and the route: of the other policy if it has one for the request, otherwise those of the record.
    pub(crate) route: Option<(Box<str>, Box<str>)>,
    pub(crate) old: Outcome,
    /// Absent: that cannot be said.
    pub(crate) new: Option<Outcome>,
}

/// How often decisions flip in one way, and when first and last.
#[derive(Debug, Clone)]
pub(crate) struct Count {
    pub(crate) records: u64,
    pub(crate) first: Box<str>,
    pub(crate) last: Box<str>,
}

/// What a record says under another policy.
pub(crate) struct Replay {
    replayer: Replayer,
    /// Requests that were decided again.
    pub(crate) requests: u64,
    /// The time that they cover.
    pub(crate) window: Window,
    /// Records that were dropped when they could not be kept.
    pub(crate) dropped: u64,
    /// By [`Gap`]: requests of which a part keeps its decision.
    gaps: [u64; Gap::ALL.len()],
    flips: HashMap<Flip, Count, ahash::RandomState>,
    /// Bytes of their texts.
    bytes: usize,
    /// Records that flip in further ways than are counted separately.
    pub(crate) more: u64,
    /// Records that this very policy has decided, and those of them that flip: it then depends on what is not recorded.
    pub(crate) same_policy: (u64, u64),
}

impl Replay {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            replayer: Replayer::new(policy),
            requests: 0,
            window: Window::default(),
            dropped: 0,
            gaps: [0; Gap::ALL.len()],
            flips: HashMap::default(),
            bytes: 0,
            more: 0,
            same_policy: (0, 0),
        }
    }

    /// Decides a record again, if it is of a request.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        self.dropped = self.dropped.saturating_add(record.dropped());
        if !record.is_request() {
            return;
        }
        self.requests += 1;
        self.window.add(record.at_text());
        let decision = self.replayer.decide(record);
        if let Some(position) = Gap::ALL.iter().position(|(gap, _)| Some(*gap) == decision.gap)
            && let Some(count) = self.gaps.get_mut(position)
        {
            *count += 1;
        }
        let old = recorded(record);
        let is_flip = decision.outcome != Some(old);
        if record.policy() == &**self.replayer.policy().digest() {
            self.same_policy.0 += 1;
            self.same_policy.1 += u64::from(is_flip);
        }
        if !is_flip {
            return;
        }
        let now = decision.route.map(|route| (Box::from(&**route.api().name()), Box::from(&**route.name())));
        let then = || record.route().map(|(api, route)| (api.into(), route.into()));
        let flip =
            Flip { consumer: record.consumer().map(Box::from), route: now.or_else(then), old, new: decision.outcome };
        self.count(flip, record.at_text());
    }

    fn count(&mut self, flip: Flip, at: &str) {
        let is_full = self.flips.len() >= MOST_KINDS || self.bytes >= MOST_BYTES;
        match self.flips.get_mut(&flip) {
            Some(count) => {
                count.records += 1;
                // Several nodes' records are not in the order of time.
                if at < &*count.first {
                    count.first = at.into();
                }
                if at > &*count.last {
                    count.last = at.into();
                }
            }
            None if is_full => self.more += 1,
            None => {
                let route = flip.route.as_ref().map_or(0, |(api, route)| api.len() + route.len());
                self.bytes += flip.consumer.as_deref().map_or(0, str::len) + route + 2 * at.len();
                self.flips.insert(flip, Count { records: 1, first: at.into(), last: at.into() });
            }
        }
    }

    /// What flips, the most frequent first.
    pub(crate) fn flips(&self) -> Vec<(&Flip, &Count)> {
        let mut flips: Vec<_> = self.flips.iter().collect();
        flips.sort_by(|(one, a), (other, b)| (b.records, one).cmp(&(a.records, other)));
        flips
    }

    /// What was not decided again, and of how many requests.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Gap::ALL.iter().zip(self.gaps).map(|((_, what), count)| (*what, count)).filter(|(_, count)| *count > 0)
    }
}
