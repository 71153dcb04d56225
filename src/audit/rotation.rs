//! Rotation of files: when a file is put aside, what it is called then, and which rotated ones are kept.
//!
//! `audit.jsonl` becomes `audit-20261127T103000.123Z.jsonl`, then perhaps `….jsonl.gz`. In the order of their names, rotated files
//! are in the order of their lines, and the hash chain goes on from one to the next.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::config::Rotate;
use super::sealed_line::FileEnd;
use super::thread;
use crate::open_file;

/// Ends the name of a compressed file.
const GZ: &str = ".gz";
/// Ends the name of a file that is being compressed.
const PART: &str = ".gz.part";

/// The files whose rotated ones are being compressed and removed in this process, with the settings that were given last and how often
/// that was asked for: two threads would take away each other's files, also after a reload.
static TIDYING: Mutex<BTreeMap<PathBuf, (Rotate, u64)>> = Mutex::new(BTreeMap::new());

fn tidying() -> MutexGuard<'static, BTreeMap<PathBuf, (Rotate, u64)>> {
    TIDYING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rotation of one file.
pub(super) struct Rotation {
    settings: Rotate,
}

impl Rotation {
    pub(super) fn new(settings: Rotate) -> Self {
        Self { settings }
    }

    /// Whether a file of this size, whose first line is of `start`, is put aside.
    pub(super) fn is_due(&self, size: u64, start: Option<Timestamp>, now: Timestamp) -> bool {
        let Rotate { size: most, every, .. } = self.settings;
        let old =
            |start: Timestamp, every| now.duration_since(start).try_into().is_ok_and(|age: Duration| age >= every);
        size > 0
            && (most.is_some_and(|most| size >= most)
                || start.zip(every).is_some_and(|(start, every)| old(start, every)))
    }

    /// Renames the file. Returns its new name; none if somebody else has moved it away.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub(super) fn put_aside(&self, path: &Path, now: Timestamp) -> io::Result<Option<PathBuf>> {
        let rotated = Names::of(path).next_name(now)?;
        match fs::rename(path, &rotated) {
            Ok(()) => Ok(Some(rotated)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Compresses and removes rotated files, on another thread.
    pub(super) fn tidy(&self, path: &Path) {
        let mut all = tidying();
        let is_running = all.contains_key(path);
        let (settings, asked) = all.entry(path.to_owned()).or_insert((self.settings, 0));
        (*settings, *asked) = (self.settings, asked.wrapping_add(1));
        drop(all);
        if is_running {
            return;
        }
        let (names, work, after_fault) = (Names::of(path), path.to_owned(), path.to_owned());
        let tidy = move || {
            loop {
                let Some((settings, seen)) = tidying().get(&work).copied() else { return };
                if let Err(error) = names.tidy(&settings) {
                    tracing::error!(%error, "rotated audit files could not be compressed or removed");
                }
                let mut all = tidying();
                if all.get(&work).is_some_and(|(_, asked)| *asked == seen) {
                    all.remove(&work);
                    return;
                }
            }
        };
        // After a fault, the next rotation starts another thread.
        let died = move || {
            tidying().remove(&after_fault);
        };
        if let Err(error) = thread::spawn("audit-rotate", tidy, died) {
            tidying().remove(path);
            tracing::error!(%error, "rotated audit files are compressed and removed at the next rotation");
        }
    }
}

/// A file of records and those that were rotated out of it, in the order of their lines; none that is not there.
///
/// # Errors
/// Its folder cannot be read.
pub(crate) fn record_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let names = Names::of(path);
    let mut all = names.rotated(GZ)?;
    // Compression that was interrupted leaves a file beside its compressed copy.
    let is_copied = |plain: &PathBuf| {
        let mut copy = plain.as_os_str().to_owned();
        copy.push(GZ);
        all.iter().any(|compressed| compressed.as_os_str() == copy)
    };
    let plain: Vec<_> = names.rotated("")?.into_iter().filter(|plain| !is_copied(plain)).collect();
    all.extend(plain);
    all.sort();
    all.extend(Some(path.to_owned()).filter(|path| path.is_file()));
    Ok(all)
}

/// Files in which lines may be that were in this one before it was put aside, here or by others, the newest first; at most `most`.
pub(super) fn put_aside(path: &Path, most: usize) -> Vec<PathBuf> {
    let names = Names::of(path);
    let rotated = [names.rotated(""), names.rotated(GZ)].into_iter().flatten().flatten();
    // `audit.jsonl.1`, `audit.jsonl-20261129`
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_beside = |entry: &fs::DirEntry| {
        let other = entry.file_name().to_string_lossy().into_owned();
        other.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['.', '-']))
    };
    let beside =
        fs::read_dir(&names.folder).into_iter().flatten().flatten().filter(is_beside).map(|entry| entry.path());
    // No links: what they lead to was not put aside.
    let modified = |path: PathBuf| {
        let metadata = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some((metadata.modified().ok()?, path))
    };
    let mut all: Vec<_> = rotated.chain(beside).filter_map(modified).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().rev().map(|(_, path)| path).take(most).collect()
}

/// The names of a file and the rotated ones.
struct Names {
    folder: PathBuf,
    /// Up to the time.
    stem: String,
    /// After the time; with the dot.
    extension: String,
}

impl Names {
    fn of(path: &Path) -> Self {
        let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().map(|_| format!(".{}", text(path.extension()))).unwrap_or_default();
        let folder = path.parent().map(Path::to_owned).filter(|folder| !folder.as_os_str().is_empty());
        Self { folder: folder.unwrap_or_else(|| ".".into()), stem: format!("{}-", text(path.file_stem())), extension }
    }

    /// A name for the file that is put aside now. It comes after those of all rotated ones, even if the clock was set back.
    fn next_name(&self, now: Timestamp) -> io::Result<PathBuf> {
        let named = |time: Timestamp| {
            let text = time.strftime("%Y%m%dT%H%M%S%.3fZ");
            self.folder.join(format!("{}{text}{}", self.stem, self.extension))
        };
        let mut rotated = self.rotated("")?;
        rotated.append(&mut self.rotated(GZ)?);
        let last = rotated.iter().filter_map(|rotated| Some((self.time_of(rotated)?, rotated))).max();
        let Some((last, rotated)) = last.filter(|(last, _)| *last >= now) else { return Ok(named(now)) };
        let next = last.checked_add(Duration::from_millis(1)).map_err(|_| {
            let name = rotated.display();
            io::Error::other(format!("no time comes after the one that is in the name of {name}; rename it"))
        });
        next.map(named)
    }

    /// When a rotated file was put aside, by its name.
    fn time_of(&self, rotated: &Path) -> Option<Timestamp> {
        let name = rotated.file_name()?.to_str()?.strip_prefix(&self.stem)?;
        // `20261127T103000.123Z`, in UTC.
        let (seconds, milliseconds) = (name.get(..15)?, name.get(16..19)?.parse::<u64>().ok()?);
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", seconds).ok()?;
        let time = jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?;
        time.checked_add(Duration::from_millis(milliseconds)).ok()
    }

    /// Rotated files whose names end like this after the extension, oldest first.
    fn rotated(&self, end: &str) -> io::Result<Vec<PathBuf>> {
        let is_time =
            |text: &str| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit() || b"TZ.".contains(&byte));
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&self.stem).and_then(|rest| rest.strip_suffix(end));
            let path = self.folder.join(&name);
            if time.and_then(|rest| rest.strip_suffix(&self.extension)).is_some_and(is_time) && path.is_file() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Compresses rotated files, and removes those that are not kept.
    fn tidy(&self, settings: &Rotate) -> io::Result<()> {
        for part in self.rotated(PART)? {
            fs::remove_file(part)?;
        }
        let mut all = self.rotated("")?;
        all.append(&mut self.rotated(GZ)?);
        all.sort();
        let keep = usize::try_from(settings.keep).unwrap_or(usize::MAX);
        for rotated in all.drain(..all.len().saturating_sub(keep)) {
            fs::remove_file(rotated)?;
        }
        if settings.compress {
            for path in all.iter().filter(|path| !is_compressed(path)) {
                compress(path)?;
            }
        }
        Ok(())
    }
}

/// Whether a file is compressed, by its name.
pub(super) fn is_compressed(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(GZ.as_bytes())
}

/// Replaces a file by a compressed one; there is always one of them whole.
fn compress(path: &Path) -> io::Result<()> {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let mut source = open_file::regular(path)?;
    let part = with(PART);
    // Whatever is there by this name: to write into it could wait, or write elsewhere.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let target = File::create_new(&part)?;
    let copy = || {
        target.set_permissions(source.metadata()?.permissions())?;
        let mut encoder = GzEncoder::new(target, Compression::default());
        io::copy(&mut source, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        fs::rename(&part, with(GZ))
    };
    if let Err(error) = copy() {
        // The records that come next need the room, and nobody the half of a copy.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    fs::remove_file(path)
}

/// The end of the lines in a file, or if it is empty, in the one that was put aside last.
pub(super) fn end_of(path: &Path, rotates: bool) -> FileEnd {
    let end = FileEnd::of(path);
    if !rotates || end.last.is_some() || end.torn > 0 {
        return end;
    }
    let names = Names::of(path);
    let last = |end| names.rotated(end).unwrap_or_default().pop();
    match (last(""), last(GZ)) {
        (Some(plain), compressed) if compressed.as_ref().is_none_or(|compressed| *compressed < plain) => {
            FileEnd::of(&plain)
        }
        (_, Some(compressed)) => decompressed(&compressed).map(|text| FileEnd::in_text(&text)).unwrap_or_default(),
        _ => end,
    }
}

/// The end of a compressed file.
fn decompressed(path: &Path) -> io::Result<Vec<u8>> {
    const END: usize = 2 * super::sealed_line::LINE_MAX;
    let (mut source, mut text) = (MultiGzDecoder::new(BufReader::new(open_file::regular(path)?)), Vec::new());
    let mut piece = vec![0; END];
    loop {
        match source.read(&mut piece)? {
            0 => return Ok(text),
            count => {
                text.extend_from_slice(piece.get(..count).unwrap_or_default());
                let before = text.len().saturating_sub(END);
                text.drain(..before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(size: Option<u64>, every: Option<u64>) -> Rotate {
        Rotate { size, every: every.map(Duration::from_secs), keep: 2, compress: false }
    }

    #[test]
    fn a_file_is_put_aside_when_it_is_large_or_old() {
        let (start, now): (Timestamp, Timestamp) =
            ("2026-11-27T10:00:00Z".parse().unwrap(), "2026-11-27T11:00:00Z".parse().unwrap());
        for (size, every, file, start, due) in [
            (Some(100), None, 99, Some(start), false),
            (Some(100), None, 100, None, true),
            (None, Some(3600), 1, Some(start), true),
            (None, Some(3601), 1, Some(start), false),
            (None, Some(3600), 0, Some(start), false),
            (None, Some(3600), 1, None, false),
            // The clock was set back.
            (None, Some(3600), 1, Some(now + Duration::from_secs(9999)), false),
            (Some(100), Some(3600), 1, Some(start), true),
        ] {
            assert_eq!(Rotation::new(settings(size, every)).is_due(file, start, now), due, "{size:?} {every:?} {file}");
        }
    }

    #[test]
    fn what_is_in_the_place_of_a_compressed_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, outside) = (folder.path().join("audit-20260101T000000.000Z.jsonl"), folder.path().join("outside"));
        for kind in ["pipe", "link"] {
            fs::write(&path, "{}\n").unwrap();
            let part = folder.path().join("audit-20260101T000000.000Z.jsonl.gz.part");
            match kind {
                "pipe" => assert!(std::process::Command::new("mkfifo").arg(&part).status().unwrap().success()),
                _ => std::os::unix::fs::symlink(&outside, &part).unwrap(),
            }
            compress(&path).unwrap();
            let compressed = folder.path().join("audit-20260101T000000.000Z.jsonl.gz");
            assert!(compressed.is_file() && !path.exists() && !part.exists() && !outside.exists(), "{kind}");
            fs::remove_file(compressed).unwrap();
        }
    }

    /// Half of a copy would hold the room that lines need.
    #[test]
    fn a_file_that_cannot_be_compressed_leaves_no_part_of_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit-20260101T000000.000Z.jsonl");
        fs::write(&path, "{}\n").unwrap();
        fs::create_dir(folder.path().join("audit-20260101T000000.000Z.jsonl.gz")).unwrap();
        assert!(compress(&path).is_err());
        assert!(path.is_file() && !folder.path().join("audit-20260101T000000.000Z.jsonl.gz.part").exists());
    }

    #[test]
    fn one_thread_tidies_a_path_whatever_policy_it_is_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (running, new) = (settings(Some(1), None), settings(Some(2), None));
        tidying().insert(path.clone(), (running, 0));
        Rotation::new(new).tidy(&path);
        assert_eq!(tidying().get(&path), Some(&(new, 1)), "the thread that runs does it, with the new settings");
        tidying().remove(&path);
        fs::write(folder.path().join("audit-20260101T000000.000Z.jsonl.gz.part"), "half").unwrap();
        Rotation::new(new).tidy(&path);
        while tidying().contains_key(&path) {
            std::thread::yield_now();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_and_folders_were_not_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["audit.jsonl", "audit.jsonl.1", "audit-20260101T000000.000Z.jsonl.gz", "other.jsonl"] {
            fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink(at("other.jsonl"), at("audit.jsonl.2")).unwrap();
        fs::create_dir(at("audit.jsonl.3")).unwrap();
        let mut found = put_aside(&at("audit.jsonl"), 4);
        found.sort();
        assert_eq!(found, [at("audit-20260101T000000.000Z.jsonl.gz"), at("audit.jsonl.1")]);
        assert_eq!(put_aside(&at("audit.jsonl"), 1).len(), 1);
    }

    #[test]
    fn a_name_that_no_other_can_follow_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let last = folder.path().join("audit-99991230T220000.999Z.jsonl");
        fs::write(&last, "").unwrap();
        let names = Names::of(&folder.path().join("audit.jsonl"));
        let error = names.next_name(Timestamp::UNIX_EPOCH).unwrap_err().to_string();
        assert!(error.contains("audit-99991230T220000.999Z.jsonl") && error.contains("rename it"), "{error}");
        fs::remove_file(last).unwrap();
        assert!(names.next_name(Timestamp::UNIX_EPOCH).is_ok());
    }

    #[test]
    fn the_files_of_a_record_are_in_the_order_of_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        assert!(record_files(&path).unwrap().is_empty());
        let (first, second) = ("audit-20261127T103000.123Z.jsonl.gz", "audit-20261127T113000.123Z.jsonl");
        let copied = "audit-20261127T103000.123Z.jsonl";
        for name in ["audit.jsonl", second, copied, first, "audit-old.jsonl", "other.jsonl"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = record_files(&path).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, [first, second, "audit.jsonl"]);
    }

    #[test]
    fn former_files_are_compressed_and_the_oldest_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let at = |second: i64| Timestamp::from_second(1_795_000_000 + second).unwrap();
        let names = Names::of(&path);
        for second in [0, 0, 1, 2] {
            fs::write(&path, format!("{second}\n")).unwrap();
            fs::rename(&path, names.next_name(at(second)).unwrap()).unwrap();
        }
        // Others' files are left alone.
        for other in
            ["audit-old.jsonl", "audit.jsonl.1", "audit-20261127T103000.123Z.txt", "audit2-20261127T103000.123Z.jsonl"]
        {
            fs::write(folder.path().join(other), "").unwrap();
        }
        let part = folder.path().join("audit-20261118T110640.000Z.jsonl.gz.part");
        fs::write(&part, "half").unwrap();
        names.tidy(&Rotate { compress: true, ..settings(Some(1), None) }).unwrap();
        let kept = names.rotated(GZ).unwrap();
        let texts: Vec<_> = kept.iter().map(|path| String::from_utf8(decompressed(path).unwrap()).unwrap()).collect();
        assert_eq!(
            (texts, names.rotated("").unwrap().len(), part.exists()),
            (vec!["1\n".into(), "2\n".into()], 0, false)
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2 + 4);
    }
}
