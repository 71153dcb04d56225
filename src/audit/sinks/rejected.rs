//! The file for records that a sink refuses for good.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::lines::{count, event_id, lines, trimmed};
use crate::open_file;

/// Longest reason that is kept, in bytes.
const LONGEST: usize = 1024;

/// Largest file, in bytes.
const FULL: u64 = 1 << 30;

/// A file of JSON lines, one for each [`Entry`].
pub(super) struct Rejected {
    path: PathBuf,
    /// What came last found no room.
    is_full: bool,
}

/// What is kept.
pub(super) enum Entry<'a> {
    /// A record that was refused: `{"error":"…","record":{…}}`.
    Record { line: &'a [u8], why: &'a str },
    /// So many records of a part were refused, and nobody knows which: `{"error":"…","rejected":2,"of":3,"first":"…","last":"…"}`,
    /// with the ids of the first and the last record of the part. The sink has the others.
    Part { part: &'a [u8], rejected: u64, why: &'a str },
}

impl Rejected {
    /// The file at this path; it is created when it is needed.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, is_full: false }
    }

    /// Appends entries, and waits until they are on disk. Returns false if the file has no room for them: somebody has to look at
    /// it, but the records of other requests do not wait for that.
    ///
    /// # Errors
    /// They are not kept, and must not be counted as done.
    pub(super) fn keep<'a>(&mut self, entries: impl IntoIterator<Item = Entry<'a>>) -> io::Result<bool> {
        let mut text = Vec::new();
        for entry in entries {
            entry.write(&mut text)?;
        }
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let is_full = length.saturating_add(text.len() as u64) > FULL;
        if is_full && !std::mem::replace(&mut self.is_full, true) {
            tracing::error!(
                path = %self.path.display(),
                "the file of rejected records is full, so these are only counted: find out why they were rejected, and move it away"
            );
        }
        self.is_full = is_full;
        if is_full {
            return Ok(false);
        }
        let mut options = OpenOptions::new();
        let open = open_file::regular_with(options.append(true).create(true).mode(0o640), &self.path);
        let written = open.and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_data()
        });
        written.map(|()| true).map_err(|error| {
            io::Error::new(error.kind(), format!("rejected records cannot be kept in {}: {error}", self.path.display()))
        })
    }
}

impl Entry<'_> {
    fn write(&self, text: &mut Vec<u8>) -> io::Result<()> {
        let (Self::Record { why, .. } | Self::Part { why, .. }) = self;
        text.extend_from_slice(b"{\"error\":");
        serde_json::to_writer(&mut *text, why.get(..why.floor_char_boundary(LONGEST)).unwrap_or(why))?;
        match self {
            Self::Record { line, .. } => {
                text.extend_from_slice(b",\"record\":");
                text.extend_from_slice(trimmed(line));
            }
            Self::Part { part, rejected, .. } => {
                write!(text, ",\"rejected\":{rejected},\"of\":{},\"first\":", count(part))?;
                serde_json::to_writer(&mut *text, &lines(part).next().and_then(event_id))?;
                text.extend_from_slice(b",\"last\":");
                serde_json::to_writer(&mut *text, &lines(part).last().and_then(event_id))?;
            }
        }
        text.extend_from_slice(b"}\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.jsonl");
        let mut rejected = Rejected::at(path.clone());
        let entry = || [Entry::Record { line: b"{}\n", why: "why \"so\"" }];
        assert!(rejected.keep(entry()).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"error\":\"why \\\"so\\\"\",\"record\":{}}\n");
        std::fs::File::options().write(true).open(&path).unwrap().set_len(FULL).unwrap();
        assert!(!rejected.keep(entry()).unwrap() && !rejected.keep(entry()).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), FULL);
    }
}
