//! The file sink: appends to a path, which may be rotated while it is open.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, rename};
use std::io::{self, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::chain::Hash;
use super::config::Rotate;
use super::file_lock::{Access, FileLock};
use super::file_tail::{FileTail, hashes_in};
use super::rotation::{self, Rotation};
use super::sealed_line::LineId;
use super::sink_state;
use super::source::Present;
use super::spool::Reader;
use super::writer::{Output, Reopened};
use crate::open_file::{self, appending};

/// How many files that were put aside may have lines that the spool still has.
const PUT_ASIDE: usize = 4;
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
        let first = next.first()?;
        let mut tail = FileTail::read(&file, first.as_ref())?;
        let mut here: HashSet<Hash> = tail.hashes().collect();
        if let Some(first) = first.filter(|_| !tail.is_whole()) {
            here.extend(self.put_aside(&first, is_doubtful));
        }
        let mut present = next.among(&here)?;
        if let Some(unwritten) = tail.unwritten(&present)
            // Others may write behind it, or go on with a line.
            && let Ok(Some(_alone)) = FileLock::take(&self.path, &self.file, Access::Rotates)
            // Somebody may have written while the other files were read.
            && tail.is_end_of(&self.file)
            // Not where a file can only be appended to.
            && self.file.set_len(unwritten).is_ok()
        {
            let bytes = tail.cut(unwritten, &mut present);
            tracing::warn!(path = %self.path.display(), bytes, "the end of the audit file was not written whole, and comes again");
        }
        for unreadable in tail.unreadable() {
            present.remove(&unreadable);
        }
        if is_doubtful {
            tail.write_again(&file)?;
        }
        Ok(present)
    }

    /// Lines of the spool that may be in files that were put aside. What cannot be read comes again.
    fn put_aside(&self, first: &LineId, is_doubtful: bool) -> HashSet<Hash> {
        let mut here = HashSet::new();
        for path in rotation::put_aside(&self.path, PUT_ASIDE) {
            let found = if rotation::is_compressed(&path) {
                open_file::regular(&path).and_then(|file| hashes_in(MultiGzDecoder::new(BufReader::new(file)), first))
            } else {
                let opened = open_file::regular_with(OpenOptions::new().read(true).write(is_doubtful), &path);
                opened.and_then(|file| {
                    let tail = FileTail::read(&file, Some(first))?;
                    if is_doubtful && tail.hashes().next().is_some() {
                        tail.write_again(&file)?;
                        file.sync_data()?;
                    }
                    Ok((tail.hashes().collect(), tail.is_whole()))
                })
            };
            let Ok((hashes, is_whole)) = found else { continue };
            here.extend(hashes);
            if is_whole {
                break;
            }
        }
        here
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
