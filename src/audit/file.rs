//! The file sink: appends to a path, which may be rotated while it is open.

use std::fs::{File, Metadata, rename};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::config::Rotate;
use super::file_lock::{Access, FileLock};
use super::rotation::{self, Rotation};
use super::sealed_line::{self, FileEnd};
use super::sink_state;
use super::source::LineId;
use super::writer::Output;
use crate::open_file::{self, appending};

/// How much of a line has its time.
const TIMED: usize = 64;

/// An open audit file.
pub(super) struct FileOutput {
    path: PathBuf,
    file: File,
    rotation: Option<Rotation>,
    /// Keeps other processes from rotating it, and from writing to it if it is rotated here.
    lock: Option<FileLock>,
    /// The last attempt to rotate it failed.
    unrotated: bool,
    /// Bytes in the file.
    size: u64,
    /// `@timestamp` of its first line.
    start: Option<Timestamp>,
}

impl FileOutput {
    /// Opens `path` for appending. Creates the file, readable by its owner and group only, but not its folder.
    pub(super) fn open(path: &Path, rotate: Option<Rotate>) -> io::Result<Self> {
        let (file, rotation) = (appending(path)?, rotate.map(Rotation::new));
        let is_file = file.metadata()?.is_file();
        if rotation.is_some() && !is_file {
            let why = "only a regular file can be rotated; remove `rotate`, or name another file";
            return Err(io::Error::other(why));
        }
        let access = if rotation.is_some() { Access::Rotates } else { Access::Writes };
        let lock = if is_file { FileLock::take(path, &file, access)? } else { None };
        Ok(Self { lock, path: path.to_owned(), file, rotation, unrotated: false, size: 0, start: None })
    }

    /// Learns how large the file is, and from when.
    fn measure(&mut self) -> io::Result<()> {
        if self.rotation.is_none() {
            return Ok(());
        }
        let mut line = [0; TIMED];
        self.size = self.file.metadata()?.len();
        let read = open_file::regular(&self.path).and_then(|file| file.read_exact_at(&mut line, 0));
        self.start = read.ok().and_then(|()| sink_state::timestamp(&line));
        Ok(())
    }

    /// Puts the file aside, and goes on with a new one. On error, the old one stays in its place.
    fn rotate(&mut self, rotation: &Rotation, now: Timestamp) -> io::Result<()> {
        if !self.lock.as_ref().is_some_and(|lock| lock.is_in_place()) {
            self.lock = FileLock::take(&self.path, &self.file, Access::Rotates)?;
        }
        self.sync()?;
        let rotated = rotation.put_aside(&self.path, now)?;
        match appending(&self.path) {
            Ok(new) => self.file = new,
            Err(error) => {
                if let Some(rotated) = &rotated {
                    rename(rotated, &self.path)?;
                }
                return Err(error);
            }
        }
        (self.size, self.start) = (0, None);
        rotation.tidy(&self.path);
        Ok(())
    }

    /// Completes a last line that has no line break, as after a crash during a write. A file that cannot be read is assumed
    /// to be complete.
    fn end_torn_line(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        let Some(last) = metadata.len().checked_sub(1).filter(|_| metadata.is_file()) else { return Ok(()) };
        let mut byte = [b'\n'];
        let read = open_file::regular(&self.path).and_then(|file| file.read_exact_at(&mut byte, last));
        if read.is_ok() && byte != *b"\n" { self.file.write_all(b"\n") } else { Ok(()) }
    }
}

impl Write for FileOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        if self.rotation.is_some() {
            self.start = self.start.or_else(|| sink_state::timestamp(bytes));
            self.size += written as u64;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for FileOutput {
    fn begin(&mut self, spooled: bool, doubtful: Option<LineId>) -> io::Result<Option<LineId>> {
        if let Some(first) = &doubtful
            && !self.take_back(first)?
        {
            self.end_torn_line()?;
            return self.measure().map(|()| None);
        }
        let mut end = FileEnd::of(&self.path);
        if spooled && end.torn > 0 {
            // What is after the last line break comes again, whole. Torn lines that were ended are left as they are.
            let (length, ended) = (self.file.metadata()?.len(), end.ended);
            self.file.set_len(length.saturating_sub(end.torn - ended))?;
            end.torn = 0;
        }
        self.end_torn_line()?;
        self.measure()?;
        if end.last.is_none() {
            end = rotation::end_of(&self.path, self.rotation.is_some());
        }
        Ok(end.last.map(|(stream, sequence, _)| (stream, sequence)))
    }

    fn take_back(&mut self, first: &LineId) -> io::Result<bool> {
        // Others may have written behind it.
        let Ok(Some(_alone)) = FileLock::take(&self.path, &self.file, Access::Rotates) else { return Ok(false) };
        let (readable, metadata) = (open_file::regular(&self.path)?, self.file.metadata()?);
        let is_same = file_id(&readable.metadata()?) == file_id(&metadata);
        if is_same && let Some(start) = sealed_line::find_last(&readable, metadata.len(), first)? {
            self.file.set_len(start)?;
            self.measure()?;
        }
        Ok(true)
    }

    fn prepare(&mut self) {
        let now = Timestamp::now();
        let Some(rotation) = self.rotation.take() else { return };
        if rotation.is_due(self.size, self.start, now) {
            match self.rotate(&rotation, now) {
                Ok(()) => self.unrotated = false,
                // It is tried again with every write.
                Err(_) if self.unrotated => {}
                Err(error) => {
                    self.unrotated = true;
                    tracing::error!(path = %self.path.display(), %error, "the audit file could not be rotated; the old one is kept");
                }
            }
        }
        self.rotation = Some(rotation);
    }

    fn reopen(&mut self) -> io::Result<bool> {
        let (old, new) = (self.file.metadata()?, appending(&self.path)?);
        let metadata = new.metadata()?;
        if file_id(&old) == file_id(&metadata) {
            return Ok(false);
        }
        // The old file is complete. Failing to sync it must not prevent opening the new one.
        if let Err(error) = self.sync() {
            tracing::error!(path = %self.path.display(), %error, "the rotated audit file could not be synced");
        }
        self.file = new;
        self.end_torn_line()?;
        self.measure()?;
        Ok(true)
    }

    fn sync(&mut self) -> io::Result<()> {
        // Pipes and devices cannot be synced.
        if self.file.metadata()?.is_file() { self.file.sync_data() } else { Ok(()) }
    }
}

/// Device and number.
fn file_id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
