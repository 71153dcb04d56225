//! The file sink: appends to a path, which may be rotated while it is open.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::chain::Hash;
use super::sealed_line::FileEnd;
use super::writer::Output;

/// An open audit file.
pub(super) struct FileOutput {
    path: PathBuf,
    file: File,
}

impl FileOutput {
    /// Opens `path` for appending. Creates the file, readable by its owner and group only, but not its folder.
    pub(super) fn open(path: &Path, spooled: bool) -> io::Result<Self> {
        let mut opened = Self { path: path.to_owned(), file: append(path)? };
        if !spooled {
            opened.end_torn_line()?;
        }
        Ok(opened)
    }

    /// Completes a last line that has no line break, as after a crash during a write. A file that cannot be read is assumed
    /// to be complete.
    fn end_torn_line(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        let Some(last) = metadata.len().checked_sub(1).filter(|_| metadata.is_file()) else { return Ok(()) };
        let mut byte = [b'\n'];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut byte, last));
        if read.is_ok() && byte != *b"\n" { self.file.write_all(b"\n") } else { Ok(()) }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

impl Write for FileOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for FileOutput {
    fn last(&mut self) -> io::Result<Option<Hash>> {
        let end = FileEnd::of(&self.path);
        if end.torn > 0 {
            self.file.set_len(self.file.metadata()?.len().saturating_sub(end.torn))?;
        }
        Ok(end.last.map(|(_, _, hash)| hash))
    }

    fn reopen(&mut self) -> io::Result<bool> {
        let (old, new) = (self.file.metadata()?, append(&self.path)?);
        let metadata = new.metadata()?;
        if (old.dev(), old.ino()) == (metadata.dev(), metadata.ino()) {
            return Ok(false);
        }
        // The old file is complete. Failing to sync it must not prevent opening the new one.
        if let Err(error) = self.sync() {
            tracing::error!(path = %self.path.display(), %error, "the rotated audit file could not be synced");
        }
        self.file = new;
        self.end_torn_line()?;
        Ok(true)
    }

    fn sync(&mut self) -> io::Result<()> {
        // Pipes and devices cannot be synced.
        if self.file.metadata()?.is_file() { self.file.sync_data() } else { Ok(()) }
    }
}
