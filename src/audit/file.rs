//! The file sink: appends to a path, which may be rotated while it is open.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::config::Rotate;
use super::file_lock::{Access, FileLock};
use super::file_tail::FileTail;
use super::rotation::Rotation;
use super::sink_state;
use super::source::Present;
use super::spool::Reader;
use super::writer::{Output, Reopened};
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

    /// Puts the file, which was synced, aside, and goes on with a new one. On error, the old one stays in its place.
    fn rotate(&mut self, rotation: &Rotation, now: Timestamp) -> io::Result<()> {
        if !self.lock.as_ref().is_some_and(|lock| lock.is_in_place()) {
            self.lock = FileLock::take(&self.path, &self.file, Access::Rotates)?;
        }
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

    /// Which of the next lines it has. What was not written whole comes again. If a sync failed, what it has is written again in its
    /// place; others may have written between.
    fn present(&mut self, next: &mut Reader) -> io::Result<Present> {
        let is_doubtful = next.is_doubtful();
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        // The open file, wherever it was moved to, and not for appending. Without the rights for that, lines come twice.
        let opened = open_file::regular_with(OpenOptions::new().read(true).write(is_doubtful), &path);
        let Ok(file) = opened else { return Ok(Present::default()) };
        let mut tail = FileTail::read(&file, next.first()?.as_ref())?;
        let spooled = next.hashes(tail.bytes())?;
        if let Some(unwritten) = tail.unwritten(&spooled)
            // Others may write behind it, or go on with a line.
            && let Ok(Some(_alone)) = FileLock::take(&self.path, &self.file, Access::Rotates)
        {
            self.file.set_len(unwritten)?;
            tail.cut(unwritten);
        }
        if is_doubtful {
            tail.write_again(&file)?;
        }
        Ok(tail.present(spooled))
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
    fn begin(&mut self, next: Option<&mut Reader>) -> io::Result<Present> {
        let present = match next {
            Some(next) if self.file.metadata()?.is_file() => self.present(next)?,
            _ => Present::default(),
        };
        self.end_torn_line()?;
        self.measure()?;
        Ok(present)
    }

    fn prepare(&mut self, synced: Option<&mut dyn FnMut()>) -> io::Result<()> {
        let now = Timestamp::now();
        let Some(rotation) = self.rotation.take() else { return Ok(()) };
        let mut prepared = Ok(());
        if rotation.is_due(self.size, self.start, now) {
            let rotated = match (self.sync(), synced) {
                (Ok(()), Some(synced)) => {
                    synced();
                    self.rotate(&rotation, now)
                }
                (Err(error), Some(_)) => {
                    prepared = Err(error);
                    Ok(())
                }
                (synced, None) => synced.and_then(|()| self.rotate(&rotation, now)),
            };
            match rotated {
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
        prepared
    }

    fn reopen(&mut self) -> io::Result<Reopened> {
        let (old, new) = (self.file.metadata()?, appending(&self.path)?);
        let metadata = new.metadata()?;
        if (old.dev(), old.ino()) == (metadata.dev(), metadata.ino()) {
            return Ok(Reopened::Same);
        }
        // The old file is complete. Failing to sync it must not prevent opening the new one.
        let synced = self.sync();
        self.file = new;
        self.end_torn_line()?;
        self.measure()?;
        Ok(Reopened::Other(synced))
    }

    fn sync(&mut self) -> io::Result<()> {
        // Pipes and devices cannot be synced.
        if self.file.metadata()?.is_file() { self.file.sync_data() } else { Ok(()) }
    }
}
