//! Which requests are sampled. Decisions depend on their arguments and on how many came before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::config::{SampledParents, TracesConfig, WHOLE};
use crate::exchange::TraceContext;

/// Decides which requests are sampled. All workers share it.
pub(super) struct Sampler {
    /// Ids below it are sampled.
    threshold: Threshold,
    strangers: Cap,
}

/// A share of all ids, by their value: a tracer that samples a larger share samples these, too.
enum Threshold {
    All,
    Below(u64),
}

impl Threshold {
    fn of(share: u32) -> Self {
        let part = (u128::from(share) << 64) / u128::from(WHOLE);
        u64::try_from(part).map_or(Self::All, Self::Below)
    }

    fn has(&self, id: u64) -> bool {
        match self {
            Self::All => true,
            Self::Below(threshold) => id < *threshold,
        }
    }
}

impl Sampler {
    pub(super) fn new(config: &TracesConfig, started: Instant) -> Self {
        Self { threshold: Threshold::of(config.share), strangers: Cap::new(config.sampled_parents, started) }
    }

    /// Whether this request is sampled. A trace that a trusted proxy samples is always followed. Strangers could make every
    /// request expensive by that flag, so theirs are followed up to a limit; past it, and where they do not sample, requests are
    /// chosen as if they came without a trace.
    pub(super) fn samples(&self, context: &TraceContext, trusted: bool, now: Instant) -> bool {
        match context.parent {
            Some(parent) if parent.sampled && (trusted || self.strangers.take(now)) => true,
            // A stranger chooses its trace id, but not the id of our span.
            Some(_) if !trusted => self.threshold.has(context.span.0),
            // The lower half, as in `TraceIdRatioBased` of OpenTelemetry's SDKs.
            _ => self.threshold.has(context.trace.0 as u64),
        }
    }
}

/// A number of requests in a time (GCRA), with as many at once as come in a second.
struct Cap {
    started: Instant,
    /// Time of one, in nanoseconds.
    one: u64,
    /// Time of all that may come at once.
    window: u64,
    /// When as many as possible may come at once again, in nanoseconds since `started`.
    full_at: AtomicU64,
}

impl Cap {
    fn new(SampledParents { count, per }: SampledParents, started: Instant) -> Self {
        let one = nanoseconds(per / count.get()).max(1);
        Self { started, one, window: one.max(1_000_000_000), full_at: AtomicU64::new(0) }
    }

    fn take(&self, now: Instant) -> bool {
        let now = nanoseconds(now.saturating_duration_since(self.started));
        let next = |full_at: u64| {
            let next = full_at.max(now).saturating_add(self.one);
            (next - now <= self.window).then_some(next)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::exchange::{Parent, SpanId, TraceId};

    fn sampler(share: u32, count: u32, started: Instant) -> Sampler {
        let parents = SampledParents { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(1) };
        Sampler { threshold: Threshold::of(share), strangers: Cap::new(parents, started) }
    }

    fn context(trace: u64, span: u64, parent: Option<bool>) -> TraceContext {
        let parent = parent.map(|sampled| Parent { span: SpanId(7), sampled });
        TraceContext { trace: TraceId(u128::MAX << 64 | u128::from(trace)), span: SpanId(span), parent }
    }

    #[test]
    fn who_is_sampled() {
        let now = Instant::now();
        const LOW: u64 = 1;
        const HIGH: u64 = u64::MAX;
        for (share, trace, span, parent, trusted, sampled) in [
            // Begun here: by the trace id alone.
            (500_000, LOW, HIGH, None, false, true),
            (500_000, HIGH, LOW, None, false, false),
            (0, LOW, LOW, None, false, false),
            (0, 0, 0, None, false, false),
            (WHOLE, HIGH, HIGH, None, false, true),
            // Sampled parents are followed.
            (0, HIGH, HIGH, Some(true), true, true),
            (0, HIGH, HIGH, Some(true), false, true),
            // Others are not, but may be sampled here; a stranger cannot choose an id that is.
            (500_000, LOW, HIGH, Some(false), true, true),
            (500_000, HIGH, LOW, Some(false), true, false),
            (500_000, LOW, HIGH, Some(false), false, false),
            (500_000, HIGH, LOW, Some(false), false, true),
            (0, LOW, LOW, Some(false), true, false),
            (0, LOW, LOW, Some(false), false, false),
        ] {
            let sampler = sampler(share, 100, now);
            let decided = sampler.samples(&context(trace, span, parent), trusted, now);
            assert_eq!(decided, sampled, "{share} {trace:x} {span:x} {parent:?} {trusted}");
        }
    }

    #[test]
    fn the_threshold_is_that_of_other_samplers() {
        // 1 % of 2^64, as Python's SDK computes it.
        for (share, id, sampled) in [
            (10_000, 184_467_440_737_095_515, true),
            (10_000, 184_467_440_737_095_516, false),
            (1, 18_446_744_073_708, true),
            (1, 18_446_744_073_709, false),
            (WHOLE - 1, u64::MAX - 18_446_744_073_709, false),
        ] {
            let threshold = Threshold::of(share);
            let last = match threshold {
                Threshold::All => unreachable!(),
                Threshold::Below(below) => below - 1,
            };
            assert!(threshold.has(last) && !threshold.has(last + 1));
            assert_eq!(threshold.has(id), sampled, "{share} {id}");
        }
    }

    #[test]
    fn strangers_are_followed_up_to_a_limit_and_trusted_proxies_without_one() {
        let begun = Instant::now();
        let sampler = sampler(0, 10, begun);
        let follows = |trusted, millis| {
            let now = begun + Duration::from_millis(millis);
            (0..1000).filter(|_| sampler.samples(&context(u64::MAX, u64::MAX, Some(true)), trusted, now)).count()
        };
        assert_eq!(follows(false, 0), 10, "what comes in a second may come at once");
        assert_eq!(follows(true, 0), 1000);
        assert_eq!(follows(false, 99), 0);
        assert_eq!(follows(false, 100), 1);
        assert_eq!(follows(false, 500), 4);
        assert_eq!(follows(false, 100_000), 10, "what was not used is not kept for longer than a second");
    }
}
