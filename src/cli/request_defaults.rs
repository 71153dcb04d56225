//! Defaults for the requests of `explain` and `test`, and how they read bodies.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use bytes::Bytes;

use crate::open_file;

/// Default client address: one for documentation (RFC 5737), which no policy trusts.
pub(super) const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Returns the content type of a file by its extension.
pub(super) fn media_type(file: &Path) -> Option<&'static str> {
    match file.extension()?.to_str()? {
        "json" => Some("application/json"),
        "xml" => Some("application/xml"),
        "txt" => Some("text/plain; charset=utf-8"),
        _ => None,
    }
}

/// Most bytes of a body, which is held in memory.
const MAX_BODY: u64 = 1 << 30;

/// Reads the file of a body.
///
/// # Errors
/// It cannot be read, is no regular file, or is too large.
pub(super) fn read_body(path: &Path) -> io::Result<Bytes> {
    within(open_file::regular(path)?, MAX_BODY)
}

/// Reads a body from standard input.
///
/// # Errors
/// It cannot be read, or is too large.
pub(super) fn read_piped_body() -> io::Result<Bytes> {
    within(io::stdin().lock(), MAX_BODY)
}

fn within(from: impl Read, most: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("it is larger than {} MiB, the most for a body here", most >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes.into())
}

/// Splits `METHOD /path`.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (method, target) = text.split_once(' ')?;
    let good = !method.is_empty() && !target.is_empty() && !target.contains(char::is_whitespace);
    good.then_some((method, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_an_end() {
        assert_eq!(within(&b"1234"[..], 4).unwrap(), "1234");
        assert_eq!(
            within(io::repeat(b'0'), 1 << 20).unwrap_err().to_string(),
            "it is larger than 1 MiB, the most for a body here"
        );
    }
}
