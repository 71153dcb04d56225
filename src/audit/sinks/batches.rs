//! Takes a batch apart until every record of it is taken, refused for good, or to be sent again.
//!
//! A record is refused for good only if the sink takes another one in the same delivery: what all of them meet is no fault of
//! theirs, and an operator can mend it. Deliveries that fail grow by what comes after them, so another one will be there.

use std::ops::Range;

use bytes::Bytes;

use super::delivery::{Delivery, Failure, Rejections};
use super::lines::{count, fitting, lines};
use super::rejected::{Entry, Rejected};

/// A batch is not made smaller than this for what comes after it, in bytes.
const LEAST: usize = 64 << 10;
/// Most requests of a delivery that takes a batch apart, until one of them is taken.
const FRUITLESS: u32 = 32;

/// What a sink says of a part of a batch.
pub(super) enum Verdict {
    /// It was taken.
    Taken,
    /// It is done, but so many of its records are refused for good; nobody knows which.
    Partly { rejected: u64, why: String },
    /// Each of its records has an outcome of its own, in their order.
    Each(Vec<Outcome>),
    /// It is to be sent again.
    Again(Trouble),
    /// It is too large.
    TooLarge,
    /// It is refused for what is in it.
    Refused(String),
}

/// What became of one record.
pub(super) enum Outcome {
    /// It was taken.
    Taken,
    /// It is done, but not where it belongs.
    Misplaced(String),
    /// It is refused for what is in it.
    Refused(String),
    /// It is to be sent again.
    Again(Trouble),
}

/// Why something is to be sent again.
pub(super) struct Trouble {
    pub(super) failure: Failure,
    /// After so many failures, a record may be the reason; absent if none can be.
    pub(super) patience: Option<u32>,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self { failure, patience: None }
    }
}

/// Delivers batches to one sink.
pub(super) struct Batches {
    rejected: Rejected,
    /// Most bytes of lines in one request, as the sink has shown.
    most: usize,
    /// The first record of a delivery that failed and may fail because of a record, and how often it did.
    stuck: Option<(Bytes, u32)>,
}

impl Batches {
    /// Parts have at most `most` bytes, unless a record alone has more. Records that are refused are kept in `rejected`.
    pub(super) fn new(rejected: Rejected, most: usize) -> Self {
        Self { rejected, most, stuck: None }
    }

    /// Delivers a batch. Parts become smaller when they are too large; where one record spoils a part, it is halved.
    pub(super) async fn deliver(&mut self, batch: Bytes, send: impl AsyncFn(Bytes) -> Verdict) -> Delivery {
        let first = first(&batch);
        let failures = self.stuck.as_ref().filter(|(stuck, _)| *stuck == first).map_or(0, |(_, failures)| *failures);
        let mut round = Round::new(batch, self.most, failures);
        let mut failure = None;
        while let Some(part) = round.next() {
            let verdict = send(round.batch.slice(part.clone())).await;
            failure = round.sort(part, verdict);
            if failure.is_some() || (round.taken == 0 && round.fruitless >= FRUITLESS) {
                break;
            }
        }
        self.most = round.most;
        let doubtful = round.doubtful;
        let delivery = round.end(failure, &mut self.rejected);
        let left = match &delivery {
            Delivery::Done { .. } | Delivery::Sent { .. } => None,
            Delivery::Partly { rest, .. } => Some(self::first(rest)),
            Delivery::Failed(_) => Some(first.clone()),
        };
        self.stuck = left.map(|left| {
            let before = if left == first { failures } else { 0 };
            (Bytes::copy_from_slice(&left), before.saturating_add(u32::from(doubtful)))
        });
        delivery
    }
}

/// One delivery. Parts are ranges of its batch.
struct Round {
    batch: Bytes,
    /// Parts that are still to be sent; the last one is next.
    left: Vec<Range<usize>>,
    /// Records that are to be sent in another delivery.
    again: Vec<Range<usize>>,
    /// Records that were refused alone.
    refused: Vec<(Range<usize>, String)>,
    /// Records that are done, but have to be kept, and why.
    kept: Vec<(Range<usize>, String)>,
    /// Parts that are done, how many records of them are refused for good, and why.
    noted: Vec<(Range<usize>, u64, String)>,
    /// How many records were taken.
    taken: u64,
    /// Requests that took nothing.
    fruitless: u32,
    /// How often the first record has failed before.
    failures: u32,
    /// It failed, and a record may be the reason.
    doubtful: bool,
    /// Why the batch was taken apart.
    reason: Option<Failure>,
    size: usize,
    most: usize,
}

impl Round {
    fn new(batch: Bytes, most: usize, failures: u32) -> Self {
        Self {
            left: Vec::from_iter((!batch.is_empty()).then_some(0..batch.len())),
            batch,
            again: Vec::new(),
            refused: Vec::new(),
            kept: Vec::new(),
            noted: Vec::new(),
            taken: 0,
            fruitless: 0,
            failures,
            doubtful: false,
            reason: None,
            size: most,
            most,
        }
    }

    fn bytes(&self, part: &Range<usize>) -> &[u8] {
        self.batch.get(part.clone()).unwrap_or_default()
    }

    /// The next part, which is not too large.
    fn next(&mut self) -> Option<Range<usize>> {
        let part = self.left.pop()?;
        let end = part.start + fitting(self.bytes(&part), self.size);
        if end < part.end {
            self.left.push(end..part.end);
        }
        Some(part.start..end)
    }

    /// Sorts a part by what was said of it; returns why the delivery ends here.
    fn sort(&mut self, part: Range<usize>, verdict: Verdict) -> Option<Failure> {
        let records = count(self.bytes(&part));
        match verdict {
            Verdict::Taken => {
                self.taken += records;
                self.size = self.size.max(self.most);
            }
            Verdict::Partly { rejected, why } => {
                let rejected = rejected.min(records);
                self.taken += records - rejected;
                self.noted.push((part, rejected, why));
            }
            Verdict::Each(outcomes) => return self.each(part, outcomes),
            Verdict::Again(Trouble { failure, patience }) => {
                let is_due = |patience| self.failures > 0 && self.failures.is_multiple_of(patience);
                self.doubtful |= patience.is_some();
                if !patience.is_some_and(is_due) {
                    self.left.push(part);
                    return Some(failure);
                }
                let why = failure.why.clone();
                self.reason.get_or_insert(failure);
                self.split(part, why);
            }
            Verdict::TooLarge if records > 1 => {
                self.fruitless += 1;
                self.size = part.len() / 2;
                self.most = self.size.max(LEAST).min(self.most);
                self.left.push(part);
            }
            Verdict::TooLarge => self.refuse(part, "the record alone is too large".to_owned()),
            Verdict::Refused(why) => self.refuse(part, why),
        }
        None
    }

    fn refuse(&mut self, part: Range<usize>, why: String) {
        self.refuses(&why);
        self.split(part, why);
    }

    fn refuses(&mut self, why: &str) {
        self.doubtful = true;
        self.reason.get_or_insert_with(|| Failure::new(format!("no record is taken: {why}")));
    }

    /// Halves a part that was not taken; a record alone is put aside.
    fn split(&mut self, part: Range<usize>, why: String) {
        self.fruitless += 1;
        let bytes = self.bytes(&part);
        let half = fitting(bytes, bytes.len() / 2);
        if half == bytes.len() {
            return self.refused.push((part, why));
        }
        let middle = part.start + half;
        let (first, second) = (part.start..middle, middle..part.end);
        // In their order. While nothing is taken, every other delivery looks for a good record from the end.
        let reversed = self.taken == 0 && self.failures % 2 == 1;
        self.left.extend(if reversed { [first, second] } else { [second, first] });
    }

    /// Sorts the records of a part.
    fn each(&mut self, part: Range<usize>, outcomes: Vec<Outcome>) -> Option<Failure> {
        let (mut start, records) = (part.start, outcomes.len());
        let lengths: Vec<usize> = lines(self.bytes(&part)).map(<[u8]>::len).collect();
        let mut waiting = Vec::new();
        for (length, outcome) in lengths.into_iter().zip(outcomes) {
            let record = start..start + length;
            start = record.end;
            match outcome {
                Outcome::Taken => self.taken += 1,
                Outcome::Misplaced(why) => self.kept.push((record, why)),
                Outcome::Refused(why) => {
                    self.refuses(&why);
                    self.refused.push((record, why));
                }
                Outcome::Again(trouble) => waiting.push((record, trouble)),
            }
        }
        let mut first: Option<Trouble> = None;
        let before = self.again.len();
        for (record, trouble) in waiting {
            // It was first in all the deliveries that failed.
            let is_due = trouble.patience.is_some_and(|patience| self.failures >= patience);
            if self.taken > 0 && record.start == 0 && is_due {
                self.refused.push((record, trouble.failure.why));
            } else {
                self.again.push(record);
                first.get_or_insert(trouble);
            }
        }
        let Trouble { mut failure, patience } = first?;
        self.doubtful |= patience.is_some();
        failure.why = format!("{} of {records} records: {}", self.again.len() - before, failure.why);
        Some(failure)
    }

    /// Keeps what is refused for good, and says what is left.
    fn end(mut self, failure: Option<Failure>, file: &mut Rejected) -> Delivery {
        let mut failure = failure.or(self.reason);
        if self.taken > 0 {
            self.kept.append(&mut self.refused);
            self.kept.sort_unstable_by_key(|(part, _)| part.start);
        }
        let noted: u64 = self.noted.iter().map(|(_, rejected, _)| rejected).sum();
        let mut rejected = Rejections { records: noted + self.kept.len() as u64, not_kept: 0 };
        let mut left: Vec<Range<usize>> = self.refused.into_iter().map(|(part, _)| part).collect();
        if rejected.records > 0 {
            let bytes = |part: &Range<usize>| self.batch.get(part.clone()).unwrap_or_default();
            let records = self.kept.iter().map(|(part, why)| Entry::Record { line: bytes(part), why });
            let parts = self.noted.iter();
            let parts = parts.map(|(part, rejected, why)| Entry::Part { part: bytes(part), rejected: *rejected, why });
            match file.keep(records.chain(parts)) {
                Ok(true) => {}
                Ok(false) => rejected.not_kept = rejected.records,
                Err(error) => {
                    if noted > 0 {
                        tracing::error!(%error, records = noted, "records that a sink rejected are only counted");
                    }
                    failure = Some(Failure::new(error.to_string()));
                    // What the sink has taken of a part would be doubled.
                    rejected = Rejections { records: noted, not_kept: noted };
                    left.extend(self.kept.into_iter().map(|(part, _)| part));
                }
            }
        }
        left.extend(self.again.into_iter().chain(self.left));
        let length: usize = left.iter().map(Range::len).sum();
        if length == 0 {
            return Delivery::Done { rejected };
        }
        let failure = failure.unwrap_or_else(|| Failure::new("no record is taken"));
        if length == self.batch.len() {
            return Delivery::Failed(failure);
        }
        left.sort_unstable_by_key(|part| part.start);
        let mut rest = Vec::with_capacity(length);
        for part in left {
            rest.extend_from_slice(self.batch.get(part).unwrap_or_default());
        }
        Delivery::Partly { rest: rest.into(), rejected, failure }
    }
}

/// The first line of a batch.
fn first(batch: &Bytes) -> Bytes {
    batch.slice(..fitting(batch, 1))
}
