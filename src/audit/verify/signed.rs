//! How much of a record may lack a signature.
//!
//! Somebody who can write a file can add lines that no checkpoint covers, with whatever time they like. So that is allowed at the
//! end alone, and counted: the last lines of a node that runs, and the streams of processes that ended before their first
//! checkpoint and that no signed stream follows yet.

use std::collections::HashMap;
use std::time::Duration;

use super::stream::Stream;
use super::terms::{Break, Terms};

/// Returns what is wrong at the end of a record. `latest` is the stream of its last line; `most` is how long lines may lack a
/// signature.
pub(super) fn check(
    streams: &HashMap<Box<str>, Stream>,
    latest: &str,
    terms: &Terms,
    most: Duration,
) -> Result<(), Break> {
    if streams.values().all(|stream| !stream.is_signed()) {
        return Err(Break::new("no checkpoint signs any of these lines"));
    }
    let mut sorted: Vec<(&str, &Stream)> = streams.iter().map(|(name, stream)| (&**name, stream)).collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    for (name, stream) in sorted {
        stream.ends_where_the_next_says(name)?;
        if !terms.partial && !stream.is_signed() && stream.followers == 0 {
            is_an_end(streams, name, latest)?;
        }
        stream.is_covered_in_time(name, most)?;
        let lines = stream.uncovered();
        if terms.strict && lines > 0 {
            return Err(Break::new(format!("no checkpoint signs the last {lines} lines of the stream {name}")));
        }
    }
    Ok(())
}

/// Whether a stream without a signature, which no other follows, is at the end: the last one here, or the only one that follows
/// a signed one, perhaps by way of others without a signature.
fn is_an_end(streams: &HashMap<Box<str>, Stream>, name: &str, latest: &str) -> Result<(), Break> {
    let unsigned = |why: &str| Err(Break::new(format!("no checkpoint signs the stream {name}, and {why}")));
    let mut next = name;
    while let Some((before, after)) = streams.get(next).and_then(|stream| stream.follows.as_ref())
        && let Some(stream) = streams.get(before)
    {
        if stream.followers > 1 || stream.followed_after != Some(*after) {
            return unsigned("another stream follows the same one");
        }
        if stream.is_signed() {
            let is_last = stream.last.sequence == *after || name == latest;
            return if is_last { Ok(()) } else { unsigned("the stream that it follows goes on") };
        }
        next = before;
    }
    if name == latest { Ok(()) } else { unsigned("it neither follows a signed stream nor ends the record") }
}
