//! What is in the folder at the start: the segments, and the last line that was written whole.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{self, Position, create};
use crate::audit::chain::Hash;
use crate::audit::full_disk::is_full;
use crate::audit::sealed_line::SealedLine;
use crate::open_file;

/// Stream, sequence and hash of a line.
type LastLine = (Box<str>, u64, Hash);

/// The content of a folder.
pub(super) struct Recovered {
    pub(super) segments: VecDeque<(u64, u64)>,
    pub(super) end: Position,
    pub(super) last: Option<LastLine>,
    pub(super) torn: u64,
}

/// Looks at the folder, and cuts what was not written whole off the last segment.
pub(super) fn recover(folder: &Path) -> io::Result<Recovered> {
    recover_and(folder, put_aside)
}

/// As [`recover`]; `put_aside` keeps what a segment has from an offset on.
fn recover_and(folder: &Path, put_aside: impl Fn(&Path, u64) -> io::Result<PathBuf>) -> io::Result<Recovered> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).filter(|number| number.len() == 20);
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    remove_empty(folder, &mut numbers)?;
    let mut segments = VecDeque::with_capacity(numbers.len() + 1);
    let (mut last, mut cut, mut end) = (None, None, Position::default());
    for (index, number) in numbers.iter().enumerate() {
        let path = files::segment(folder, *number);
        let mut bytes = fs::metadata(&path)?.len();
        // The last line is in the last segment, or if that was cut whole, in the one before it.
        if index + 2 >= numbers.len() {
            let tail = Tail::read(&path)?;
            if index + 1 == numbers.len() {
                bytes = tail.whole;
                end = Position { line: number + tail.lines, segment: *number, offset: bytes };
            }
            last = tail.last.clone().or(last);
            cut = Some((tail, path));
        }
        segments.push_back((*number, bytes));
    }
    if segments.is_empty() {
        segments.push_back((0, 0));
    }
    let behind = last.as_ref().map(named);
    let mut noted = Noted::read(folder, behind.clone())?;
    if let Some((tail, path)) = cut.filter(|(tail, _)| tail.torn > 0) {
        // A start that ended before it had cut has counted it.
        if noted.is_cut {
            noted.torn += tail.torn;
            noted.is_cut = false;
            noted.write(folder)?;
        }
        tail.cut(&path, put_aside)?;
    }
    if !noted.is_cut {
        noted.is_cut = true;
        noted.write(folder)?;
    }
    Ok(Recovered { segments, end, last, torn: noted.torn })
}

/// Removes segments without lines, but for one that is alone. They were made for lines that did not come, perhaps before others came to
/// the one before: the last of them is not the end of all lines.
fn remove_empty(folder: &Path, numbers: &mut Vec<u64>) -> io::Result<()> {
    let mut last = numbers.len();
    while let Some(index) = last.checked_sub(1) {
        last = index;
        let Some(path) = numbers.get(index).map(|number| files::segment(folder, *number)) else { continue };
        if numbers.len() > 1 && fs::metadata(&path)?.len() == 0 {
            fs::remove_file(path)?;
            numbers.remove(index);
        }
    }
    Ok(())
}

/// How much was cut behind a line. A process may end between the cut and the mark that says so.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    /// The line; none if nothing comes before the cut.
    behind: Option<String>,
    /// Bytes, at all starts since the line was written.
    torn: u64,
    /// They are off the segment.
    is_cut: bool,
}

impl Noted {
    /// The file that has it.
    const FILE: &str = "cut.json";

    /// What earlier starts noted behind this line. If another line is the last one, the mark was written with it.
    fn read(folder: &Path, behind: Option<String>) -> io::Result<Self> {
        let path = folder.join(Self::FILE);
        let nothing = Self { behind, torn: 0, is_cut: true };
        let text = match open_file::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(nothing),
            read => read?,
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(noted) if noted.behind == nothing.behind => Ok(noted),
            _ => fs::remove_file(&path).map(|()| nothing),
        }
    }

    /// Writes it, so that there is always a whole one. A full disk does not keep the process from starting.
    fn write(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join("cut.new");
        let write = || {
            let mut file = create(&new)?;
            file.set_len(0)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&new, folder.join(Self::FILE))?;
            sync_folder(folder)
        };
        match write() {
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, "how much was cut off the audit spool could not be noted for another start");
                Ok(())
            }
            written => written,
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// A line, by its stream, its sequence and its hash.
fn named((stream, sequence, hash): &LastLine) -> String {
    format!("{stream} {sequence} {}", String::from_utf8_lossy(hash))
}

/// A new file for what is cut off a segment: earlier starts may have cut something, too.
fn new_beside(segment: &Path) -> io::Result<(PathBuf, fs::File)> {
    let mut number = 1_u32;
    loop {
        let end = if number == 1 { "cut".to_owned() } else { format!("{number}.cut") };
        let path = segment.with_extension(end);
        match OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number = number.saturating_add(1),
            Err(error) => return Err(error),
        }
    }
}

/// Copies what a segment has from an offset on, to disk: whatever it is, it is evidence.
fn put_aside(segment: &Path, from: u64) -> io::Result<PathBuf> {
    let (aside, mut kept) = new_beside(segment)?;
    let mut torn = open_file::regular(segment)?;
    torn.seek(SeekFrom::Start(from))?;
    let copied = io::copy(&mut torn, &mut kept).and_then(|_| kept.sync_all());
    let copied = copied.and_then(|()| segment.parent().map_or(Ok(()), sync_folder));
    match copied {
        Ok(()) => Ok(aside),
        Err(error) => {
            // Half of it would take the room of lines.
            let _ = fs::remove_file(&aside);
            Err(error)
        }
    }
}

/// The end of a segment.
struct Tail {
    /// Bytes up to the end of the last whole line.
    whole: u64,
    /// Bytes after it.
    torn: u64,
    /// Number of whole lines.
    lines: u64,
    last: Option<LastLine>,
}

impl Tail {
    /// Reads a segment up to the first line that does not hold, or does not follow the one before. A machine that stops may
    /// leave blocks that were never written, also between others.
    fn read(path: &Path) -> io::Result<Self> {
        let bytes = open_file::read(path)?;
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

    fn cut(&self, path: &Path, put_aside: impl Fn(&Path, u64) -> io::Result<PathBuf>) -> io::Result<()> {
        let bytes = self.torn;
        match put_aside(path, self.whole) {
            Ok(aside) => tracing::warn!(
                path = %path.display(), bytes, aside = %aside.display(),
                "the end of the audit spool was not written whole, and is put aside"
            ),
            Err(error) if is_full(&error) => tracing::error!(
                path = %path.display(), bytes, %error,
                "the end of the audit spool was not written whole, and is removed: there is no room to put it aside"
            ),
            Err(error) => return Err(error),
        }
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(self.whole)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::Chain;
    use crate::audit::chain::tests::unsealed;

    /// A folder with a line and what was torn behind it, and the segment.
    fn torn(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let mut text = Vec::new();
        Chain::new("a/1", None).seal(unsealed("1").as_bytes(), &mut text);
        text.extend_from_slice(bytes);
        let segment = files::segment(folder.path(), 0);
        fs::write(&segment, text).unwrap();
        (folder, segment)
    }

    #[test]
    fn a_start_that_ends_before_it_has_cut_counts_nothing_twice() {
        let (folder, segment) = torn(b"torn");
        let before = fs::read(&segment).unwrap();
        let ends = |_: &Path, _| Err(io::Error::other("the process is killed"));
        for _ in 0..2 {
            assert!(recover_and(folder.path(), ends).is_err());
        }
        assert_eq!((recover(folder.path()).unwrap().torn, fs::read(&segment).unwrap().len()), (4, before.len() - 4));
        // More that is torn at the same place is counted.
        fs::write(&segment, before).unwrap();
        assert_eq!(recover(folder.path()).unwrap().torn, 8);
        assert_eq!(recover(folder.path()).unwrap().torn, 8);
    }

    #[test]
    fn a_segment_without_lines_is_not_the_end() {
        let (folder, _) = torn(b"");
        // What a full disk left that was not started over, before and after more lines came.
        for number in [0, 1, 5] {
            let path = files::segment(folder.path(), number);
            fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        }
        let Recovered { segments, end, last, .. } = recover(folder.path()).unwrap();
        assert_eq!((segments.len(), end.line, end.segment), (1, 1, 0));
        assert_eq!(last.map(|(_, sequence, _)| sequence), Some(1));
    }

    #[test]
    fn a_full_disk_does_not_prevent_a_start() {
        let (folder, segment) = torn(b"torn");
        let length = fs::metadata(&segment).unwrap().len();
        let full = |_: &Path, _| Err(io::ErrorKind::StorageFull.into());
        assert_eq!(recover_and(folder.path(), full).unwrap().torn, 4);
        assert_eq!(fs::metadata(&segment).unwrap().len(), length - 4);
    }
}
