//! Creates the files that `bartizan init` writes.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error_text;

/// Creates a file for its owner alone; never overwrites one. The error says which file and why.
pub(super) fn create(path: &Path, text: &str) -> Result<(), String> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("{} cannot be written: {}", path.display(), error_text::system(&error)))
}
