//! Opens files so that a pipe or a device in the place of one keeps nobody waiting.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Opens a regular file for reading.
///
/// # Errors
/// It cannot be opened, or is something else.
pub(crate) fn regular(path: &Path) -> io::Result<File> {
    regular_with(OpenOptions::new().read(true), path)
}

/// Opens a regular file with these options; other flags that they have are replaced.
///
/// # Errors
/// It cannot be opened, or is something else.
pub(crate) fn regular_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Opening a pipe or a device can have effects of its own.
    if let Ok(metadata) = std::fs::metadata(path) {
        expect_regular(path, &metadata)?;
    }
    let file = at_once(options, path)?;
    // Somebody may have put another in its place meanwhile.
    expect_regular(path, &file.metadata()?)?;
    Ok(file)
}

fn expect_regular(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let kind = if metadata.is_dir() { ErrorKind::IsADirectory } else { ErrorKind::InvalidInput };
    let what = if metadata.is_dir() { "is a folder" } else { "is not a regular file" };
    Err(io::Error::new(kind, format!("{} {what}; move it away, or name another file", path.display())))
}

/// Reads a regular file.
///
/// # Errors
/// It cannot be read, or is something else.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file, a device or a pipe for writing to its end, and creates the file if it is not there, readable by its owner and
/// group only.
///
/// # Errors
/// It cannot be opened, or is a pipe that nobody reads.
pub(crate) fn appending(path: &Path) -> io::Result<File> {
    let file = at_once(OpenOptions::new().append(true).create(true).mode(0o640), path)?;
    if !file.metadata()?.is_file() {
        // Only opening must not wait. A writer has a thread of its own, and a slow reader is no error.
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    }
    Ok(file)
}

/// Opens a path without waiting for the other end of a pipe.
fn at_once(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    options.custom_flags(flags).open(path).map_err(|error| {
        let is_pipe = || std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) && is_pipe() {
            let why = "it is a pipe that no process reads; start its reader first, or name another file";
            return io::Error::new(ErrorKind::BrokenPipe, why);
        }
        error
    })
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn only_a_regular_file_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        mkfifoat(CWD, path("pipe"), Mode::RWXU).unwrap();
        assert_eq!(read(&path("file")).unwrap(), b"text");
        for (path, why) in [
            (path("pipe"), "is not a regular file; move it away"),
            (folder.path().to_owned(), "is a folder; move it away"),
            ("/dev/null".into(), "/dev/null is not a regular file"),
        ] {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(read(&path("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_pipe_is_written_once_somebody_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        let error = appending(&path).unwrap_err().to_string();
        assert!(error.starts_with("it is a pipe that no process reads"), "{error}");
        let _reader = File::options().read(true).write(true).open(&path).unwrap();
        let opened = appending(&path).unwrap();
        assert!(!fcntl_getfl(&opened).unwrap().contains(OFlags::NONBLOCK), "writing waits for the reader");
    }
}
