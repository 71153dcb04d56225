//! Takes a batch apart until every part of it is taken, refused for good, or to be sent again.

use bytes::{Buf, Bytes};

use super::delivery::{Delivery, Failure};
use super::lines::{count, fitting, joined};
use super::rejected::Rejected;

/// A batch is not made smaller than this for what comes after it, in bytes.
const LEAST: usize = 64 << 10;

/// What a sink says of a part of a batch.
pub(super) enum Verdict {
    /// It was taken, but for so many records, which are refused for good.
    Taken { rejected: u64 },
    /// Some of its lines are to be sent again; so many of the others are refused for good.
    Some { again: Vec<u8>, rejected: u64, failure: Failure },
    /// It is to be sent again.
    Again(Failure),
    /// It is too large.
    TooLarge,
    /// It is refused for what is in it.
    Refused(String),
}

/// Delivers a batch, in parts of at most `most` bytes, which shrinks when they are too large. Where one line spoils a part,
/// its lines are sent alone. Lines that are refused alone are kept in `rejected`.
pub(super) async fn deliver(
    batch: Bytes,
    most: &mut usize,
    rejected: &Rejected,
    send: impl AsyncFn(Bytes) -> Verdict,
) -> Delivery {
    let (whole, mut left) = (batch.len(), batch);
    let (mut size, mut alone, mut refused) = (*most, 0_usize, 0_u64);
    while !left.is_empty() {
        let end = fitting(&left, if alone > 0 { 1 } else { size });
        let part = left.slice(..end);
        let failure = match (send(part.clone()).await, count(&part) <= 1) {
            (Verdict::Taken { rejected }, _) => {
                refused = refused.saturating_add(rejected);
                (alone, size) = (alone.saturating_sub(end), size.max(*most));
                left.advance(end);
                continue;
            }
            (Verdict::Some { again, rejected, failure }, _) => {
                left.advance(end);
                let refused = refused.saturating_add(rejected);
                return Delivery::Partly { rest: joined(again, &left), rejected: refused, failure };
            }
            (Verdict::Again(failure), _) => failure,
            (Verdict::TooLarge, false) => {
                size = end / 2;
                *most = size.max(LEAST).min(*most);
                continue;
            }
            (Verdict::Refused(_), false) => {
                alone = end;
                continue;
            }
            (verdict, true) => {
                let why = match verdict {
                    Verdict::Refused(why) => why,
                    _ => "the record alone is too large".to_owned(),
                };
                match rejected.keep([(&*part, why.as_str())]) {
                    Ok(()) => {
                        refused = refused.saturating_add(1);
                        alone = alone.saturating_sub(end);
                        left.advance(end);
                        continue;
                    }
                    Err(error) => Failure::new(error.to_string()),
                }
            }
        };
        return match left.len() == whole {
            true => Delivery::Failed(failure),
            false => Delivery::Partly { rest: left, rejected: refused, failure },
        };
    }
    Delivery::Done { rejected: refused }
}
