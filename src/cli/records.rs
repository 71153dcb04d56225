//! Reads the requests of a record for the commands that judge by them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

use super::audit::input;
use super::audit::progress::Progress;
use crate::audit::{LineRead, Lines};
use crate::error_text;
use crate::evidence::record::Record;
use crate::evidence::window::Window;
use crate::policy::units::Period;

/// What was read.
#[derive(Debug, Default)]
pub(in crate::cli) struct Read {
    /// Lines in all.
    pub(in crate::cli) lines: u64,
    /// Lines that are no record, or were not written whole.
    pub(in crate::cli) damaged: u64,
}

/// Reads every record of these files, in their order.
///
/// # Errors
/// A file cannot be read.
pub(in crate::cli) fn read(paths: &[PathBuf], mut add: impl FnMut(&Record<'_>)) -> Result<Read, String> {
    let files = input::files(paths)?;
    let bytes = Arc::new(AtomicU64::new(0));
    let mut progress = Progress::new(input::size(&files));
    let mut read = Read::default();
    for path in &files {
        let failed = |error: &io::Error| format!("{}: {}", path.display(), error_text::system(error));
        let input = input::open(path, &bytes).map_err(|error| failed(&error))?;
        let mut lines = Lines::new(input.text);
        while let Some(line) = lines.next().map_err(|error| failed(&error))? {
            read.lines += 1;
            let (LineRead::Whole(line) | LineRead::Torn(line)) = line;
            match Record::read(line) {
                Ok(record) => add(&record),
                Err(_) => read.damaged += 1,
            }
            if read.lines.is_multiple_of(4096) {
                progress.at(bytes.load(Relaxed), &format!("{} records", read.lines));
            }
        }
    }
    Ok(read)
}

/// Reads a duration of the policy language.
///
/// # Errors
/// It is none.
pub(in crate::cli) fn period(text: &str) -> Result<Duration, String> {
    let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
    Period::deserialize(deserializer).map(|Period(duration)| duration).map_err(|error| error.to_string())
}

/// Why records of this window say too little; `None` if they do not.
pub(in crate::cli) fn is_too_short(window: &Window, least: Duration) -> Option<String> {
    if window.ends().is_none() {
        return Some("there is no record of a request here; give files that have some".to_owned());
    }
    let is = window.covered();
    (is < least).then(|| {
        let holes = if is < window.length() { " without the days that have none" } else { "" };
        format!(
            "the records cover {}{holes}, which is less than {}; what happens once a week is not in them. \
             Give more of the record, or accept it with `--min-window`",
            in_words(is),
            in_words(least)
        )
    })
}

/// How long a window is, and its longest time without records.
pub(in crate::cli) fn window_in_words(window: &Window) -> String {
    let (length, hole) = (in_words(window.length()), window.longest_hole());
    if hole.is_zero() { length } else { format!("{length}; at most {} without a record", in_words(hole)) }
}

/// A duration in its two largest units.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}
