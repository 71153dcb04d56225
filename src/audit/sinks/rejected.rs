//! The file for records that a sink refuses for good.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::super::full_disk::is_full;
use super::lines::{count, event_id, lines, trimmed};
use crate::open_file;

/// Longest reason that is kept, in bytes.
const LONGEST: usize = 1024;

/// Largest file, in bytes.
const FULL: u64 = 1 << 30;

/// Held while entries are appended.
static APPENDING: Mutex<()> = Mutex::new(());

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

    /// Appends entries, and waits until they are on disk. Returns false if the file or the disk has no room for them: somebody has
    /// to look at it, but the records of other requests do not wait for that. On a disk that the spool has filled, they would
    /// wait for ever, since nothing of it is removed before they are done.
    ///
    /// # Errors
    /// They are not kept, and must not be counted as done.
    pub(super) fn keep<'a>(&mut self, entries: impl IntoIterator<Item = Entry<'a>>) -> io::Result<bool> {
        self.keep_by(entries, |mut file, text| {
            file.write_all(text)?;
            file.sync_data()
        })
    }

    /// As [`keep`](Self::keep); `write` appends the text to the file.
    fn keep_by<'a>(
        &mut self,
        entries: impl IntoIterator<Item = Entry<'a>>,
        write: impl FnOnce(&File, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut text = Vec::new();
        for entry in entries {
            entry.write(&mut text)?;
        }
        // Sinks may share the file.
        let _alone = APPENDING.lock().unwrap_or_else(PoisonError::into_inner);
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if length.saturating_add(text.len() as u64) > FULL {
            self.has_no_room("the file is full: find out why they were rejected, and move it away");
            return Ok(false);
        }
        let mut options = OpenOptions::new();
        let open = open_file::regular_with(options.append(true).create(true).mode(0o640), &self.path);
        let written = open.and_then(|file| {
            let length = file.metadata()?.len();
            // The next entry would be in the same line as the part of one.
            write(&file, &text).inspect_err(|_| drop(file.set_len(length)))
        });
        match written {
            Err(error) if is_full(&error) => {
                self.has_no_room("the disk is full; free some space");
                Ok(false)
            }
            Err(error) => {
                let why = format!("rejected records cannot be kept in {}: {error}", self.path.display());
                Err(io::Error::new(error.kind(), why))
            }
            Ok(()) => {
                self.is_full = false;
                Ok(true)
            }
        }
    }

    fn has_no_room(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::error!(path = %self.path.display(), why, "rejected records are not kept, and only counted");
        }
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

    #[test]
    fn what_was_written_in_part_is_cut_and_a_full_disk_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.jsonl");
        let mut rejected = Rejected::at(path.clone());
        let entry = || [Entry::Record { line: b"{}\n", why: "why" }];
        assert!(rejected.keep(entry()).unwrap());
        let before = std::fs::read(&path).unwrap();
        for (kind, counted) in [
            (io::ErrorKind::StorageFull, Some(false)),
            (io::ErrorKind::QuotaExceeded, Some(false)),
            // Somebody can mend it, and nothing waits for that but this sink.
            (io::ErrorKind::PermissionDenied, None),
        ] {
            let in_part = |mut file: &File, text: &[u8]| {
                file.write_all(&text[..text.len() / 2])?;
                Err(kind.into())
            };
            assert_eq!(rejected.keep_by(entry(), in_part).ok(), counted, "{kind}");
            assert_eq!(std::fs::read(&path).unwrap(), before, "{kind}");
        }
        assert!(rejected.keep(entry()).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before.repeat(2));
    }
}
