//! The thread that sends spans: takes what is queued, sends it in batches, and tries again for a while what could not be sent.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::collector::{Collector, Verdict};
use super::request::FinishedRequest;
use crate::egress::Backoff;
use crate::telemetry::SpanCounters;

/// Most requests of a batch; each has one span or two.
const BATCH: usize = 256;
/// How long the first request of a batch waits for others.
const LINGER: Duration = Duration::from_millis(200);
/// How long a batch is tried again.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between the first attempts, and at most; half of it is random.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Sends what comes out of the queue.
pub(super) struct Exporter {
    queue: mpsc::Receiver<FinishedRequest>,
    /// Set when the process ends: until then, what is queued may be sent.
    stop: watch::Receiver<Option<Instant>>,
    counters: SpanCounters,
    batch: Vec<FinishedRequest>,
    /// The last attempt failed, and the log says so.
    failing: bool,
}

/// Where batches go: a collector, or what a test has in its place.
pub(super) trait Destination {
    /// The body of a request with the spans of these.
    fn body(&self, requests: &[FinishedRequest]) -> io::Result<Bytes>;
    /// Sends it.
    async fn send(&self, body: Bytes) -> Verdict;
}

impl Destination for Collector {
    fn body(&self, requests: &[FinishedRequest]) -> io::Result<Bytes> {
        self.body(requests)
    }

    async fn send(&self, body: Bytes) -> Verdict {
        self.send(body).await
    }
}

impl Exporter {
    pub(super) fn new(
        queue: mpsc::Receiver<FinishedRequest>,
        stop: watch::Receiver<Option<Instant>>,
        counters: SpanCounters,
    ) -> Self {
        Self { queue, stop, counters, batch: Vec::new(), failing: false }
    }

    /// Sends until the queue is closed and empty, or the time to stop has passed. What is left then is counted as dropped.
    pub(super) async fn run(mut self, destination: &impl Destination) {
        let mut stop = self.stop.clone();
        let too_late = async move {
            let deadline = stop.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                // The tracer is gone, and nobody waits.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.export(destination) => {}
            () = too_late => {
                self.queue.close();
                while let Ok(request) = self.queue.try_recv() {
                    self.batch.push(request);
                }
                self.drop_batch("the process ends, and the collector is too slow");
            }
        }
    }

    async fn export(&mut self, destination: &impl Destination) {
        while self.fill().await.is_continue() {
            match destination.body(&self.batch) {
                Ok(body) => self.deliver(destination, body).await,
                Err(error) => self.drop_batch(&error.to_string()),
            }
        }
    }

    /// Fills the batch with what is queued, or comes shortly. Breaks at the end of the queue.
    async fn fill(&mut self) -> ControlFlow<()> {
        let Self { queue, stop, batch, .. } = self;
        let stopped = async { _ = stop.wait_for(Option::is_some).await.is_ok() };
        tokio::select! {
            taken = queue.recv_many(batch, BATCH) => if taken == 0 { return ControlFlow::Break(()) },
            () = stopped => {
                // Spans that are sent from now on are dropped and counted.
                queue.close();
                return match queue.recv_many(batch, BATCH).await {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                };
            }
        }
        let stopped = async { _ = stop.wait_for(Option::is_some).await.is_ok() };
        let more = async { while batch.len() < BATCH && queue.recv_many(batch, BATCH - batch.len()).await > 0 {} };
        tokio::select! {
            () = more => {}
            () = tokio::time::sleep(LINGER) => {}
            () = stopped => {}
        }
        ControlFlow::Continue(())
    }

    /// Sends the batch, again and again if need be, and empties it.
    async fn deliver(&mut self, destination: &impl Destination, body: Bytes) {
        let (until, mut backoff) = (Instant::now() + PATIENCE, Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
        loop {
            let (why, wait) = match destination.send(body.clone()).await {
                Verdict::Taken { rejected } => return self.taken(rejected),
                Verdict::Refused { why } => return self.drop_batch(&why),
                Verdict::Again { why, wait } => (why, wait),
            };
            let next = Instant::now() + backoff.pause(wait);
            if next >= until || self.stop.borrow().is_some() {
                return self.drop_batch(&why);
            }
            self.failed(&why);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                // One more attempt, and no further.
                Ok(_) = self.stop.wait_for(Option::is_some) => {}
            }
        }
    }

    fn taken(&mut self, rejected: u64) {
        let spans = self.spans();
        let rejected = rejected.min(spans);
        self.counters.exported.inc_by(spans - rejected);
        self.counters.dropped.inc_by(rejected);
        self.batch.clear();
        if std::mem::take(&mut self.failing) {
            tracing::info!("spans are exported again");
        }
    }

    fn drop_batch(&mut self, why: &str) {
        let spans = self.spans();
        self.batch.clear();
        if spans > 0 {
            self.counters.dropped.inc_by(spans);
            self.failed(why);
        }
    }

    /// Says once that spans cannot be exported.
    fn failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                why,
                "spans cannot be exported; those that are refused, or find no place in the queue, are dropped and counted"
            );
        }
    }

    fn spans(&self) -> u64 {
        self.batch.iter().map(|request| request.span_count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::*;
    use crate::traces::request::tests::sample;

    /// Says these verdicts, one after the other, and then that all was taken. Keeps how many requests came, and when.
    struct Script {
        verdicts: RefCell<VecDeque<Verdict>>,
        begun: Instant,
        seen: RefCell<Vec<(Duration, usize)>>,
        /// Never answers.
        hangs: bool,
    }

    impl Script {
        fn new(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
            let verdicts = RefCell::new(verdicts.into_iter().collect());
            Self { verdicts, begun: Instant::now(), seen: RefCell::default(), hangs: false }
        }

        fn sizes(&self) -> Vec<usize> {
            self.seen.borrow().iter().map(|(_, size)| *size).collect()
        }
    }

    impl Destination for Script {
        fn body(&self, requests: &[FinishedRequest]) -> io::Result<Bytes> {
            Ok(vec![0; requests.len()].into())
        }

        async fn send(&self, body: Bytes) -> Verdict {
            self.seen.borrow_mut().push((self.begun.elapsed(), body.len()));
            if self.hangs {
                std::future::pending::<()>().await;
            }
            self.verdicts.borrow_mut().pop_front().unwrap_or(Verdict::Taken { rejected: 0 })
        }
    }

    struct Ends {
        queue: mpsc::Sender<FinishedRequest>,
        stop: watch::Sender<Option<Instant>>,
        counters: SpanCounters,
    }

    impl Ends {
        /// Exported and dropped.
        fn counted(&self) -> (u64, u64) {
            (self.counters.exported.get(), self.counters.dropped.get())
        }
    }

    /// An exporter with so many requests in its queue.
    fn exporter(requests: usize) -> (Exporter, Ends) {
        let ((queue, receiver), (stop, stopping)) = (mpsc::channel(1000), watch::channel(None));
        for _ in 0..requests {
            queue.try_send(sample()).unwrap();
        }
        let counters = SpanCounters::default();
        (Exporter::new(receiver, stopping, counters.clone()), Ends { queue, stop, counters })
    }

    fn again(wait: Option<Duration>) -> Verdict {
        Verdict::Again { why: "no".to_owned(), wait }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_queued_goes_in_batches_and_the_rest_when_the_tracer_is_gone() {
        let (exporter, ends) = exporter(600);
        let (script, counters) = (Script::new([]), ends.counters.clone());
        drop(ends);
        exporter.run(&script).await;
        assert_eq!(script.sizes(), [256, 256, 88]);
        assert_eq!((counters.exported.get(), counters.dropped.get()), (1200, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_a_moment_for_others() {
        let (exporter, ends) = exporter(1);
        let (script, queue) = (Script::new([]), ends.queue.clone());
        let later = async {
            tokio::time::sleep(LINGER / 2).await;
            queue.try_send(sample()).unwrap();
            tokio::time::sleep(LINGER * 2).await;
            queue.try_send(sample()).unwrap();
            ends.stop.send_replace(Some(Instant::now() + LINGER));
        };
        tokio::join!(exporter.run(&script), later);
        assert_eq!(script.sizes(), [2, 1]);
        assert_eq!(script.seen.borrow()[0].0, LINGER);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_with_growing_pauses_and_not_before_the_collector_asks_for_it() {
        let minute = Duration::from_secs(60);
        let (exporter, ends) = exporter(1);
        let script = Script::new([again(None), again(None), again(Some(minute)), again(None)]);
        let counters = ends.counters.clone();
        drop(ends);
        exporter.run(&script).await;
        let times: Vec<Duration> = script.seen.borrow().iter().map(|(at, _)| *at).collect();
        let pauses: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        assert_eq!(pauses.len(), 4);
        for (pause, (least, most)) in pauses.iter().zip([(0.5, 1.1), (1.0, 2.1), (60.0, 60.1), (4.0, 8.1)]) {
            assert!((least..=most).contains(pause), "{pauses:?}");
        }
        assert_eq!((counters.exported.get(), counters.dropped.get()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_or_rejected_or_fails_for_too_long_is_dropped_and_counted() {
        let (exporter, ends) = exporter(256 * 3);
        let refused = Verdict::Refused { why: "no".to_owned() };
        let verdicts = [refused, Verdict::Taken { rejected: 12 }];
        let script = Script::new(verdicts.into_iter().chain(std::iter::repeat_n(again(None), 100)));
        let (counters, end) = (ends.counters.clone(), Instant::now() + PATIENCE);
        drop(ends);
        exporter.run(&script).await;
        assert_eq!((counters.exported.get(), counters.dropped.get()), (500, 512 + 12 + 512));
        let last = script.begun + script.seen.borrow().last().unwrap().0;
        assert!(last < end && last > end - LONGEST_PAUSE - LONGEST_PAUSE, "{:?}", end - last);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_collector_is_tried_once_more_when_the_process_ends() {
        let (exporter, ends) = exporter(300);
        let script = Script::new([again(None), again(Some(Duration::from_secs(200))), again(None), again(None)]);
        let stop = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            ends.stop.send_replace(Some(Instant::now() + Duration::from_secs(3)));
        };
        tokio::join!(exporter.run(&script), stop);
        assert_eq!(script.sizes(), [256, 256, 256, 44]);
        assert_eq!(ends.counted(), (0, 600));
        assert!(script.begun.elapsed() < Duration::from_secs(31), "nobody waits for it");
        assert!(ends.queue.try_send(sample()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_does_not_answer_keeps_nobody_longer_than_the_deadline() {
        let (exporter, ends) = exporter(300);
        let script = Script { hangs: true, ..Script::new([]) };
        ends.stop.send_replace(Some(Instant::now() + Duration::from_secs(3)));
        exporter.run(&script).await;
        assert_eq!((script.begun.elapsed(), script.sizes()), (Duration::from_secs(3), vec![256]));
        assert_eq!(ends.counted(), (0, 600), "what was being sent counts as dropped, too");
    }
}
