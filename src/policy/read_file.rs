//! Reads text files within bounds, and says in words why one cannot be used.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::SystemTime;

use secrecy::zeroize::Zeroize;

use super::quoted::quote;
use crate::open_file;

/// Largest policy file: half a million consumers.
pub(crate) const POLICY_LIMIT: u64 = 64 << 20;
/// Largest file that a policy names.
pub(crate) const FILE_LIMIT: u64 = 16 << 20;
/// Largest file of a `${file:…}`.
pub(crate) const SECRET_LIMIT: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadErrorKind {
    /// It does not exist.
    NotFound,
    /// It is a folder.
    Folder,
    /// It is a pipe, a device or a socket.
    NotAFile,
    /// This process has no permission to read it.
    Denied,
    /// It is not UTF-8 text.
    NotText,
    /// It is larger than this many bytes.
    TooLarge(u64),
    /// It and what was read before are larger than this many bytes together.
    TooLargeTogether(u64),
    /// The path is empty.
    NoPath,
    /// It is no pattern for paths.
    NoPattern,
    /// A file that it finds has a name that cannot be shown.
    BadName,
    /// A pattern finds no file.
    NoneFound,
    /// A pattern finds more files than this.
    TooManyFiles(usize),
    /// Any other error of the system.
    Other(ErrorKind),
}

/// A file that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadError {
    /// The file name that messages show.
    pub(crate) name: String,
    /// Why.
    pub(crate) kind: ReadErrorKind,
}

impl ReadError {
    /// How to fix it, if that is known.
    pub(crate) fn help(&self) -> Option<&'static str> {
        match self.kind {
            ReadErrorKind::NotFound | ReadErrorKind::NoneFound => {
                Some("paths are relative to the folder of the policy file")
            }
            ReadErrorKind::Folder | ReadErrorKind::NotAFile => Some("name a regular file"),
            ReadErrorKind::Denied => Some("let the user that runs this process read it"),
            ReadErrorKind::NotText => Some("save it as UTF-8 text"),
            _ => None,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = quote(&self.name);
        match self.kind {
            ReadErrorKind::NotFound => write!(f, "there is no file {name}"),
            ReadErrorKind::Folder => write!(f, "{name} is a folder"),
            ReadErrorKind::NotAFile => write!(f, "{name} is not a regular file"),
            ReadErrorKind::Denied => write!(f, "there is no permission to read {name}"),
            ReadErrorKind::NotText => write!(f, "{name} is not UTF-8 text"),
            ReadErrorKind::TooLarge(limit) => write!(f, "{name} is larger than {} MiB", limit >> 20),
            ReadErrorKind::TooLargeTogether(limit) => {
                write!(f, "the policy and the files that it includes, up to {name}, have more than {} MiB", limit >> 20)
            }
            ReadErrorKind::NoPattern => write!(f, "{name} is no pattern for paths, such as `teams/*.yaml`"),
            ReadErrorKind::BadName => write!(f, "{name} finds a file whose name is not plain UTF-8 text"),
            ReadErrorKind::NoneFound => write!(f, "no file is found by {name}"),
            ReadErrorKind::TooManyFiles(most) => write!(f, "{name} finds more than {most} files"),
            ReadErrorKind::NoPath => write!(f, "the path of a file is empty"),
            ReadErrorKind::Other(kind) => write!(f, "{name} cannot be read: {kind}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads a text file of at most `limit` bytes. Returns it with the time when it was last written.
pub(crate) fn read_text(path: &Path, name: &str, limit: u64) -> Result<(String, Option<SystemTime>), ReadError> {
    let (bytes, modified) = read_bytes(path, name, limit)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        ReadError { name: name.to_owned(), kind: ReadErrorKind::NotText }
    })?;
    Ok((text, modified))
}

/// Reads a file of at most `limit` bytes. Returns it with the time when it was last written.
pub(crate) fn read_bytes(path: &Path, name: &str, limit: u64) -> Result<(Vec<u8>, Option<SystemTime>), ReadError> {
    let failed = |kind| ReadError { name: name.to_owned(), kind };
    let io = |error: std::io::Error| {
        failed(match error.kind() {
            ErrorKind::NotFound => ReadErrorKind::NotFound,
            ErrorKind::PermissionDenied => ReadErrorKind::Denied,
            ErrorKind::IsADirectory => ReadErrorKind::Folder,
            other => ReadErrorKind::Other(other),
        })
    };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(failed(ReadErrorKind::Folder));
    }
    if !metadata.is_file() {
        return Err(failed(ReadErrorKind::NotAFile));
    }
    if metadata.len() > limit {
        return Err(failed(ReadErrorKind::TooLarge(limit)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1));
    // Bounded again: the file may have grown, and some files report no length.
    open_file::regular(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(io)?;
    if bytes.len() as u64 > limit {
        bytes.zeroize();
        return Err(failed(ReadErrorKind::TooLarge(limit)));
    }
    Ok((bytes, metadata.modified().ok()))
}
