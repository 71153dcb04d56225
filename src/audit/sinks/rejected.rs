//! The file for records that a sink refuses for good.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::lines::trimmed;
use crate::open_file;

/// Longest reason that is kept, in bytes.
const LONGEST: usize = 1024;

/// Largest file, in bytes: one that is full is for somebody to look at, and nothing is lost meanwhile.
const FULL: u64 = 1 << 30;

/// A file of JSON lines: `{"error":"…","record":{…}}`.
pub(super) struct Rejected {
    path: PathBuf,
}

impl Rejected {
    /// The file at this path; it is created when it is needed.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Appends records with the reasons why they were refused, and waits until they are on disk.
    ///
    /// # Errors
    /// They are not kept, and must not be counted as done.
    pub(super) fn keep<'a>(&self, records: impl IntoIterator<Item = (&'a [u8], &'a str)>) -> io::Result<()> {
        let mut text = Vec::new();
        for (line, why) in records {
            let why = why.get(..why.floor_char_boundary(LONGEST)).unwrap_or(why);
            text.extend_from_slice(b"{\"error\":");
            serde_json::to_writer(&mut text, why)?;
            text.extend_from_slice(b",\"record\":");
            text.extend_from_slice(trimmed(line));
            text.extend_from_slice(b"}\n");
        }
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if length.saturating_add(text.len() as u64) > FULL {
            let path = self.path.display();
            return Err(io::Error::other(format!(
                "the file of rejected records is full: find out why they were rejected, and move {path} away"
            )));
        }
        let mut options = OpenOptions::new();
        let open = open_file::regular_with(options.append(true).create(true).mode(0o640), &self.path);
        let written = open.and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_data()
        });
        written.map_err(|error| {
            io::Error::new(error.kind(), format!("rejected records cannot be kept in {}: {error}", self.path.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.jsonl");
        let rejected = Rejected::at(path.clone());
        rejected.keep([(&b"{}\n"[..], "why \"so\"")]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"error\":\"why \\\"so\\\"\",\"record\":{}}\n");
        std::fs::File::options().write(true).open(&path).unwrap().set_len(FULL).unwrap();
        let error = rejected.keep([(&b"{}\n"[..], "why")]).unwrap_err().to_string();
        assert!(
            error.starts_with("the file of rejected records is full") && error.contains("rejected.jsonl"),
            "{error}"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), FULL);
    }
}
