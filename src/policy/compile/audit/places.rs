//! The files of the record: each has one use, whatever its names are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::audit::{SinkConfig, is_spool_file, lock_of};
use crate::policy::compile::context::Context;
use crate::policy::tree::At;

/// Most symbolic links on the way to a file, as Linux has it.
const LINKS: usize = 40;

/// What a file is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Sink,
    Lock,
    Rejected,
    SpoolFolder,
    SpoolFile,
}

impl Use {
    fn message(self) -> &'static str {
        match self {
            Self::Sink => "this is also the file of another sink",
            Self::Lock => "this is also the lock of a file that is rotated",
            Self::Rejected => "this is also the file for records that a sink rejects",
            Self::SpoolFolder => "this is also the folder of the spool",
            Self::SpoolFile => "this is also a file of the spool",
        }
    }
}

/// Where a file is.
struct Place {
    path: PathBuf,
    /// Device and number of a regular file that exists: hard links have other paths.
    id: Option<(u64, u64)>,
}

impl Place {
    fn of(path: &Path) -> Self {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file);
        Self { path: resolved(path), id: metadata.map(|metadata| (metadata.dev(), metadata.ino())) }
    }

    fn is(&self, other: &Self) -> bool {
        self.path == other.path || (self.id.is_some() && self.id == other.id)
    }
}

/// The files that the sinks before use, and the spool.
pub(super) struct Places {
    known: Vec<(Place, Use)>,
    /// The folder of the spool.
    spool: Option<PathBuf>,
}

impl Places {
    /// With the folder of the spool, if there is one.
    pub(super) fn new(spool: Option<&Path>) -> Self {
        let spool = spool.filter(|spool| !spool.as_os_str().is_empty()).map(Place::of);
        let folder = spool.as_ref().map(|spool| spool.path.clone());
        Self { known: spool.into_iter().map(|spool| (spool, Use::SpoolFolder)).collect(), spool: folder }
    }

    /// Reports a file of this sink that has another use. `at` is the sink.
    pub(super) fn add(&mut self, context: &mut Context<'_>, sink: &SinkConfig, at: At<'_>) {
        let at = at.key(sink.kind());
        match sink {
            SinkConfig::File { path, rotate } => {
                self.add_file(context, path, Use::Sink, at.key("path"));
                if rotate.is_some() {
                    self.add_file(context, &lock_of(path), Use::Lock, at.key("path"));
                }
            }
            SinkConfig::Elasticsearch(sink) => self.add_rejected(context, &sink.endpoint.rejected, at),
            SinkConfig::Otlp(sink) => self.add_rejected(context, &sink.endpoint.rejected, at),
            SinkConfig::Http(sink) => self.add_rejected(context, &sink.endpoint.rejected, at),
            SinkConfig::Stdout { .. } | SinkConfig::Syslog(_) => {}
        }
    }

    fn add_rejected(&mut self, context: &mut Context<'_>, path: &Path, at: At<'_>) {
        self.add_file(context, path, Use::Rejected, at.key("rejected"));
    }

    fn add_file(&mut self, context: &mut Context<'_>, path: &Path, purpose: Use, at: At<'_>) {
        let place = Place::of(path);
        let in_spool = self.spool.as_deref().is_some_and(|spool| place.path.parent() == Some(spool));
        let name = place.path.file_name().unwrap_or_default().to_string_lossy();
        let known = self.known.iter().find(|(other, _)| other.is(&place)).map(|(_, other)| *other);
        let other = known.or((in_spool && is_spool_file(&name)).then_some(Use::SpoolFile));
        // Sinks may share the file of rejected records: each line says what it is of.
        if let Some(other) = other.filter(|other| (*other, purpose) != (Use::Rejected, Use::Rejected)) {
            context.error(at, other.message()).help("name a file that nothing else uses");
        }
        self.known.push((place, purpose));
    }
}

/// The path without links and `..`, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // Opening a link creates the file that it names.
    for _ in 0..LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    if let Ok(real) = fs::canonicalize(&path) {
        return real;
    }
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    match (folder.and_then(|folder| fs::canonicalize(folder).ok()), path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => lexical(&path),
    }
}

/// The absolute path without `..`, whatever exists.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}
