//! What is in the folder at the start: the segments, and the last line that was written whole.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::files::{self, Position, create};
use crate::audit::chain::Hash;
use crate::audit::sealed_line::SealedLine;

/// The content of a folder.
pub(super) struct Recovered {
    pub(super) segments: VecDeque<(u64, u64)>,
    pub(super) end: Position,
    pub(super) last: Option<(Box<str>, u64, Hash)>,
    pub(super) torn: u64,
}

/// Looks at the folder, and cuts what was not written whole off the last segment.
pub(super) fn recover(folder: &Path) -> io::Result<Recovered> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).filter(|number| number.len() == 20);
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let mut segments = VecDeque::with_capacity(numbers.len() + 1);
    let (mut last, mut torn, mut end) = (None, 0, Position::default());
    for (index, number) in numbers.iter().enumerate() {
        let path = files::segment(folder, *number);
        let mut bytes = fs::metadata(&path)?.len();
        // The last line is in the last segment, or if that was cut whole, in the one before it.
        if index + 2 >= numbers.len() {
            let tail = Tail::read(&path)?;
            if index + 1 == numbers.len() {
                tail.cut(&path)?;
                (bytes, torn) = (tail.whole, tail.torn);
                end = Position { line: number + tail.lines, segment: *number, offset: bytes };
            }
            last = tail.last.or(last);
        }
        segments.push_back((*number, bytes));
    }
    if segments.is_empty() {
        segments.push_back((0, 0));
    }
    Ok(Recovered { segments, end, last, torn })
}

/// The end of a segment.
struct Tail {
    /// Bytes up to the end of the last whole line.
    whole: u64,
    /// Bytes after it.
    torn: u64,
    /// Number of whole lines.
    lines: u64,
    last: Option<(Box<str>, u64, Hash)>,
}

impl Tail {
    /// Reads a segment up to the first line that does not hold, or does not follow the one before. A machine that stops may
    /// leave blocks that were never written, also between others.
    fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.read_to_end(&mut bytes)?;
        let mut tail = Self { whole: 0, torn: 0, lines: 0, last: None };
        let mut before: Option<SealedLine<'_>> = None;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let sealed = line.strip_suffix(b"\n").and_then(SealedLine::parse).filter(SealedLine::holds);
            let Some(sealed) = sealed else { break };
            let follows = before.is_none_or(|before| {
                sealed.sequence == 1 || (before.stream == sealed.stream && sealed.previous == Some(before.hash))
            });
            if !follows {
                break;
            }
            before = Some(sealed);
            tail.whole += line.len() as u64;
            tail.lines += 1;
        }
        tail.torn = bytes.len() as u64 - tail.whole;
        tail.last = before.map(|sealed| (sealed.stream.into(), sealed.sequence, sealed.hash));
        Ok(tail)
    }

    fn cut(&self, path: &Path) -> io::Result<()> {
        if self.torn == 0 {
            return Ok(());
        }
        // Whatever it is, it is evidence.
        let aside = path.with_extension("cut");
        let mut torn = fs::File::open(path)?;
        torn.seek(SeekFrom::Start(self.whole))?;
        io::copy(&mut torn, &mut create(&aside)?)?;
        tracing::warn!(
            path = %path.display(), bytes = self.torn, aside = %aside.display(),
            "the end of the audit spool was not written whole, and is put aside"
        );
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(self.whole)?;
        file.sync_all()
    }
}
