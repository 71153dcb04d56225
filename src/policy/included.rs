//! Finds the files of a pattern of `include`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::read_file::ReadErrorKind;

/// Most files that a policy includes.
pub(super) const MOST_FILES: usize = 10_000;

/// `*` does not lead into folders. Hidden files are left out below: the crate would panic at names that are not UTF-8.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// Whether it stands for any number of files, and not for one.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The files that a pattern finds in this folder, in the order of their names. There is at least one.
pub(super) fn find(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, ReadErrorKind> {
    if pattern.contains("**") {
        return Err(ReadErrorKind::NoPattern);
    }
    let shown = folder.to_str().ok_or(ReadErrorKind::BadName)?;
    let whole = Path::new(&Pattern::escape(shown)).join(pattern);
    let paths = glob::glob_with(whole.to_str().unwrap_or_default(), OPTIONS).map_err(|_| ReadErrorKind::NoPattern)?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|error| match error.error().kind() {
            ErrorKind::PermissionDenied => ReadErrorKind::Denied,
            kind => ReadErrorKind::Other(kind),
        })?;
        if found.len() >= MOST_FILES {
            return Err(ReadErrorKind::TooManyFiles(MOST_FILES));
        }
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(ReadErrorKind::BadName)?;
        if name.starts_with('.') {
            continue;
        }
        if path.to_str().is_none_or(|path| path.contains(char::is_control)) {
            return Err(ReadErrorKind::BadName);
        }
        found.push(path);
    }
    // Sorted by names, whatever the language of the machine.
    found.sort();
    if found.is_empty() { Err(ReadErrorKind::NoneFound) } else { Ok(found) }
}

/// Their names, to notice when there are others.
pub(super) fn names(found: &[PathBuf]) -> String {
    found.iter().map(|path| format!("{}\n", path.display())).collect()
}
