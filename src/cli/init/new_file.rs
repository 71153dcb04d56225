//! Creates the files that `bartizan init` writes.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error_text;

/// Creates a file for its owner alone; never overwrites one. The error says which file and why.
fn create(path: &Path, text: &str) -> Result<(), String> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("{} cannot be written: {}", path.display(), error_text::system(&error)))
}

/// Creates files, unless one of them exists: the last one exists only with all the others.
pub(super) fn create_all(files: &[(PathBuf, String)]) -> Result<(), String> {
    if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(format!(
            "{} cannot be written: it exists already; remove it, or choose another --out",
            path.display()
        ));
    }
    files.iter().try_for_each(|(path, text)| create(path, text))
}
