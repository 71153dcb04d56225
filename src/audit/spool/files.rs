//! Names and places in the folder of a spool.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::open_file;

/// A place between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) struct Position {
    /// Number of the line that follows.
    pub(super) line: u64,
    /// Number of the segment.
    pub(super) segment: u64,
    /// Bytes of the segment before the line.
    pub(super) offset: u64,
}

/// The file of a segment.
pub(super) fn segment(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.jsonl"))
}

/// Whether a file in the folder of a spool is one of its own, by its name.
pub(crate) fn is_spool_file(name: &str) -> bool {
    let is_number = |name: &str| name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    let ends = [".cursor", ".cursor.next", ".cut"];
    ["lock", "cut.json", "cut.new"].contains(&name)
        || ends.iter().any(|end| name.ends_with(end))
        || name.strip_suffix(".jsonl").is_some_and(is_number)
}

/// Opens a file of the spool, readable by its owner and group only.
pub(super) fn create(path: &Path) -> io::Result<File> {
    open_file::regular_with(OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640), path)
}
