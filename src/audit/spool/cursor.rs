//! How far a sink has got, on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::{Position, create};
use crate::audit::chain::hash_of;
use crate::open_file;

/// A cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The sink, for messages.
    pub(super) sink: String,
    /// What it is, such as `file`; empty if that is not known, or another sink has taken over.
    pub(super) kind: String,
    /// The first line that it does not have.
    pub(super) position: Position,
    /// It may have lines from there on that are not on its disk: a sync failed.
    pub(super) unsynced: bool,
}

#[derive(Serialize, Deserialize)]
struct Written {
    sink: String,
    kind: String,
    line: u64,
    segment: u64,
    offset: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unsynced: bool,
}

/// The name of a sink's cursor: the first 16 hexadecimal digits of the SHA-256 of what it is called.
pub(super) fn name(sink: &str) -> String {
    hash_of(sink.as_bytes()).iter().take(16).map(|digit| char::from(*digit)).collect()
}

impl Cursor {
    /// Writes it, so that there is always a whole one.
    pub(super) fn write(&self, folder: &Path, name: &str) -> io::Result<()> {
        let Position { line, segment, offset } = self.position;
        let (sink, kind) = (self.sink.clone(), self.kind.clone());
        let written = Written { sink, kind, line, segment, offset, unsynced: self.unsynced };
        let (next, path) = (folder.join(format!("{name}.cursor.next")), folder.join(format!("{name}.cursor")));
        let mut file = create(&next)?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(&written)?)?;
        fs::rename(next, path)
    }

    /// Goes back to the end of all lines, before any is appended there: other lines would come in the place of those that the sink
    /// had. Returns whether the cursor could be written; if not, that on disk starts with the first line.
    ///
    /// # Errors
    /// That on disk is still beyond the end.
    pub(super) fn go_back_to(&mut self, end: Position, folder: &Path, name: &str) -> io::Result<bool> {
        self.position = end;
        let written = self.write(folder, name);
        if let Err(error) = &written {
            tracing::warn!(sink = self.sink, %error, "a cursor of the audit spool is emptied: it is beyond the end");
            // Without content, it cannot be read. That takes no room.
            create(&folder.join(format!("{name}.cursor")))?.set_len(0)?;
        }
        File::open(folder)?.sync_all()?;
        Ok(written.is_ok())
    }

    /// Reads all cursors of a folder whose first segment is `first`. One that cannot be read, or is of lines that are not there any
    /// more, starts with the first line: doubled is better than lost.
    pub(super) fn all(folder: &Path, first: u64) -> io::Result<BTreeMap<String, Self>> {
        let mut cursors = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(name) = file.strip_suffix(".cursor") else { continue };
            let beginning = Position { line: first, segment: first, offset: 0 };
            let cursor = match read(&path) {
                Ok(cursor) if cursor.position.segment >= first => cursor,
                Ok(cursor) => Self { position: beginning, ..cursor },
                Err(error) => {
                    tracing::warn!(
                        path = %path.display(), %error,
                        "a cursor of the audit spool cannot be read: its sink gets again what the spool has"
                    );
                    Self { sink: name.to_owned(), kind: String::new(), position: beginning, unsynced: false }
                }
            };
            cursors.insert(name.to_owned(), cursor);
        }
        Ok(cursors)
    }
}

fn read(path: &Path) -> io::Result<Cursor> {
    let Written { sink, kind, line, segment, offset, unsynced } =
        serde_json::from_reader(io::BufReader::new(open_file::regular(path)?))?;
    Ok(Cursor { sink, kind, position: Position { line, segment, offset }, unsynced })
}
