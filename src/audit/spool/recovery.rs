//! What is in the folder at the start: the segments, and the last line that was written whole.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::files::{self, Position, create};
use crate::audit::chain::Hash;
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
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).filter(|number| number.len() == 20);
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
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
    let mut torn = unmarked(folder, last.as_ref())?;
    if let Some((tail, path)) = cut.filter(|(tail, _)| tail.torn > 0) {
        torn += tail.torn;
        note(folder, last.as_ref(), torn)?;
        tail.cut(&path)?;
    }
    Ok(Recovered { segments, end, last, torn })
}

/// The file that says how much was cut behind which line. A process may end between the cut and the mark that says so.
const CUT: &str = "cut.json";

/// How much was cut behind this line at earlier starts. If another line is the last one, the mark was written with it.
fn unmarked(folder: &Path, last: Option<&LastLine>) -> io::Result<u64> {
    let path = folder.join(CUT);
    let text = match open_file::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        read => read?,
    };
    let noted: Option<(Option<String>, u64)> = serde_json::from_slice(&text).ok();
    match noted {
        Some((behind, torn)) if behind == last.map(named) => Ok(torn),
        _ => fs::remove_file(&path).map(|()| 0),
    }
}

/// A line, by its stream, its sequence and its hash.
fn named((stream, sequence, hash): &LastLine) -> String {
    format!("{stream} {sequence} {}", String::from_utf8_lossy(hash))
}

fn note(folder: &Path, last: Option<&LastLine>, torn: u64) -> io::Result<()> {
    let new = folder.join("cut.new");
    let mut file = create(&new)?;
    file.set_len(0)?;
    file.write_all(&serde_json::to_vec(&(last.map(named), torn))?)?;
    file.sync_all()?;
    fs::rename(new, folder.join(CUT))?;
    fs::File::open(folder)?.sync_all()
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

    fn cut(&self, path: &Path) -> io::Result<()> {
        // Whatever it is, it is evidence.
        let (aside, mut kept) = new_beside(path)?;
        let mut torn = open_file::regular(path)?;
        torn.seek(SeekFrom::Start(self.whole))?;
        io::copy(&mut torn, &mut kept)?;
        tracing::warn!(
            path = %path.display(), bytes = self.torn, aside = %aside.display(),
            "the end of the audit spool was not written whole, and is put aside"
        );
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(self.whole)?;
        file.sync_all()
    }
}
