//! Histograms of durations: counted without a lock, and without an allocation.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets, in seconds: those that OpenTelemetry advises for `http.server.request.duration`, finer ones
/// below for what the proxy itself takes, and up to 30 s for timeouts. No bound is more than 2.5 times the one before it,
/// which is what a quantile that falls between two bounds can be wrong by.
pub(super) const BOUNDS: [f64; 19] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 30.0,
];

/// The same bounds as integers, which are quicker to compare and to add than fractions.
const NANOSECONDS: [u64; BOUNDS.len()] = {
    let mut bounds = [0; BOUNDS.len()];
    let mut position = 0;
    while position < bounds.len() {
        bounds[position] = (BOUNDS[position] * 1e9 + 0.5) as u64;
        position += 1;
    }
    bounds
};

/// One for each bound, and one for what is longer.
const BUCKETS: usize = BOUNDS.len() + 1;

/// The durations that were observed.
#[derive(Debug)]
pub(super) struct Durations {
    buckets: [AtomicU64; BUCKETS],
    /// In microseconds: in nanoseconds, 10,000 requests at any time would exceed it within a month.
    sum: AtomicU64,
}

impl Durations {
    pub(super) const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = NANOSECONDS.partition_point(|bound| *bound < nanoseconds);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanoseconds.saturating_add(500) / 1000, Ordering::Relaxed);
    }

    /// The counts of now. A request that ends meanwhile may be in the buckets and not yet in the sum.
    pub(super) fn counts(&self) -> DurationCounts {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets = bounds.zip(&self.buckets).map(|(bound, count)| (bound, count.load(Ordering::Relaxed)));
        DurationCounts { buckets: buckets.collect(), sum: self.sum.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

/// The counts of one moment, for the page.
#[derive(Debug)]
pub(super) struct DurationCounts {
    /// Upper bound → durations above the bound before it.
    buckets: Vec<(f64, u64)>,
    /// In seconds.
    sum: f64,
}

impl EncodeMetric for DurationCounts {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let count = self.buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum, count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for DurationCounts {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_close_enough_for_quantiles_from_half_a_millisecond_to_half_a_minute() {
        assert_eq!((BOUNDS[0], BOUNDS[BOUNDS.len() - 1]), (0.0005, 30.0));
        for pair in BOUNDS.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] <= pair[0] * 2.5 + 1e-9, "{pair:?}");
        }
        let advised = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
        assert!(advised.iter().all(|bound| BOUNDS.contains(bound)));
    }

    #[test]
    fn a_duration_is_in_the_bucket_of_the_first_bound_that_is_not_below_it() {
        for (duration, bound) in [
            (Duration::ZERO, 0.0005),
            (Duration::from_micros(500), 0.0005),
            (Duration::from_nanos(500_001), 0.001),
            (Duration::from_millis(1), 0.001),
            (Duration::from_millis(15_001), 20.0),
            (Duration::from_secs(30), 30.0),
            (Duration::from_millis(30_001), f64::INFINITY),
            (Duration::MAX, f64::INFINITY),
        ] {
            let durations = Durations::new();
            durations.observe(duration);
            let counts = durations.counts().buckets;
            let found: Vec<f64> = counts.iter().filter(|(_, count)| *count == 1).map(|(bound, _)| *bound).collect();
            assert_eq!((found, counts.len()), (vec![bound], BUCKETS), "{duration:?}");
        }
    }

    #[test]
    fn the_sum_is_in_seconds() {
        let durations = Durations::new();
        for _ in 0..3 {
            durations.observe(Duration::from_nanos(1_500_000_600));
        }
        assert!((durations.counts().sum - 4.500_003).abs() < 1e-9, "{:?}", durations.counts());
    }
}
