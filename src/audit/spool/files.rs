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

/// Opens a file of the spool, readable by its owner and group only.
pub(super) fn create(path: &Path) -> io::Result<File> {
    open_file::regular_with(OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640), path)
}
