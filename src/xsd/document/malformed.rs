//! Why a text is not XML.

use std::borrow::Cow;

/// A text is not well-formed, or uses what is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// In bytes from the beginning.
    pub(crate) offset: usize,
    /// What is wrong, in plain words; nothing of the document is in it.
    pub(crate) message: Cow<'static, str>,
}

impl Malformed {
    /// Returns the problem at this offset.
    pub(crate) fn new(offset: usize, message: impl Into<Cow<'static, str>>) -> Self {
        Self { offset, message: message.into() }
    }
}

/// Line and column of an offset, both from 1; columns count characters.
pub(crate) fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    let line = memchr::memchr_iter(b'\n', before).count().saturating_add(1);
    let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline.saturating_add(1));
    let bytes = before.get(start..).unwrap_or_default();
    let column = bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count().saturating_add(1);
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}
