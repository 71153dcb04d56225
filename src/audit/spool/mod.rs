//! The spool: a folder that keeps sealed lines until every sink has them.
//!
//! - `NUMBER.jsonl` are segments, which the [`Appender`] of the sealer writes. The number is that of the first line in it, over
//!   the life of the folder. What a segment holds is exactly what sinks get.
//! - `NAME.cursor` is how far a sink has got; its [`Reader`] writes it. Segments that every sink is past are removed.
//! - `lock` keeps other processes out.
//!
//! What a process that was killed had appended is still there. What the machine had not written when it stopped is cut at the
//! next start, and the chain says so.

mod appender;
mod cursor;
mod files;
mod open;
mod reader;
mod recovery;
mod shared;

pub(super) use self::appender::{AppendError, Appender};
pub(crate) use self::files::is_spool_file;
pub(super) use self::open::{Opened, open};
pub(super) use self::reader::{Reader, Taken};
pub(super) use self::shared::{Spool, SpooledSink, Wanted};

#[cfg(test)]
mod tests;
