//! The standard output sink: JSON lines for a collector, or readable lines for people.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use bytes::Bytes;

use super::record::readable;
use super::writer::Output;

/// Standard output, without the buffer of [`io::stdout`], which would hide how much of a failed write succeeded.
pub(super) struct StdoutOutput {
    file: File,
    /// JSON if absent; otherwise readable, and in colour if true.
    readable: Option<bool>,
}

impl StdoutOutput {
    /// Duplicates the handle of standard output.
    pub(super) fn open(readable: Option<bool>) -> io::Result<Self> {
        Ok(Self { file: File::from(io::stdout().as_fd().try_clone_to_owned()?), readable })
    }
}

impl Write for StdoutOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for StdoutOutput {
    fn render(&self, lines: Bytes) -> Bytes {
        let Some(colour) = self.readable else { return lines };
        let mut rendered = Vec::new();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            rendered.extend_from_slice(readable(line, colour).as_bytes());
            rendered.push(b'\n');
        }
        rendered.into()
    }
}
