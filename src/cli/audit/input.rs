//! The files that records are read from: plain or compressed by gzip, standard input, or a folder of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use flate2::read::MultiGzDecoder;

/// The first bytes of gzip (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An open file of records.
pub(in crate::cli) struct Input {
    /// Its name, for messages.
    pub(in crate::cli) name: String,
    /// Its text.
    pub(in crate::cli) text: Box<dyn Read>,
    /// What it is read from is compressed.
    pub(in crate::cli) is_compressed: bool,
}

/// The files to read, in order: a folder stands for the `.jsonl` files in it, by name. `-` is standard input.
///
/// # Errors
/// A folder cannot be read, or holds no such file.
pub(in crate::cli) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |error: io::Error| format!("{}: {}", path.display(), crate::error_text::system(&error));
        let entries: Result<Vec<_>, _> = fs::read_dir(path).map_err(failed)?.collect();
        let paths = entries.map_err(failed)?.into_iter().map(|entry| entry.path());
        let mut inside: Vec<_> = paths.filter(|path| path.is_file() && is_record(path)).collect();
        // A rotation that was interrupted leaves a file beside its compressed copy.
        let compressed: BTreeSet<_> = inside.iter().map(|path| path.as_os_str().to_owned()).collect();
        inside.retain(|path| {
            let mut copy = path.as_os_str().to_owned();
            copy.push(".gz");
            !compressed.contains(&copy)
        });
        if inside.is_empty() {
            return Err(format!(
                "{}: there is no file of records (`*.jsonl`, `*.jsonl.gz`) in this folder",
                path.display()
            ));
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

fn is_record(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // What sinks refuse for good is beside the segments of a spool, and is no record.
    !name.starts_with("rejected-") && name.strip_suffix(".gz").unwrap_or(&name).ends_with(".jsonl")
}

/// Bytes of all files together; zero if one of them has no known size.
pub(in crate::cli) fn size(files: &[PathBuf]) -> u64 {
    let size = |path: &PathBuf| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
    files.iter().map(size).sum::<Option<u64>>().unwrap_or_default()
}

/// Opens a file; what is read of it, compressed or not, is added to `read`.
///
/// # Errors
/// It cannot be opened or read.
pub(in crate::cli) fn open(path: &Path, read: &Arc<AtomicU64>) -> io::Result<Input> {
    let (name, source): (_, Box<dyn Read>) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), Box::new(io::stdin().lock()))
    } else {
        (path.display().to_string(), Box::new(File::open(path)?))
    };
    let mut source = BufReader::with_capacity(256 * 1024, Counted { source, read: Arc::clone(read) });
    let is_compressed = io::BufRead::fill_buf(&mut source)?.starts_with(&GZIP);
    let text: Box<dyn Read> = if is_compressed { Box::new(MultiGzDecoder::new(source)) } else { Box::new(source) };
    Ok(Input { name, text, is_compressed })
}

/// Counts what is read.
struct Counted {
    source: Box<dyn Read>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read.fetch_add(count as u64, Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_records_in_the_order_of_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = ("audit-20261127T103000.123Z.jsonl", "audit-20261127T113000.123Z.jsonl");
        let copy = format!("{second}.gz");
        for name in ["audit.jsonl", first, second, &copy, "rejected-http.jsonl", "lock", "0.cursor"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = files(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, [first, &copy, "audit.jsonl"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(files(&[empty.path().to_owned()]).unwrap_err().contains("no file of records"));
    }
}
