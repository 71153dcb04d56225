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

/// Lines and columns of a text, both from 1; columns count characters.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    /// The last offset that was asked for, and its place.
    at: usize,
    line: u32,
    column: u32,
}

impl<'a> Lines<'a> {
    /// Starts at the beginning of a text.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1, column: 1 }
    }

    /// The place of an offset in bytes. Offsets that grow are found without reading the text again.
    pub(crate) fn place(&mut self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.text.len());
        if offset < self.at {
            *self = Self::new(self.text);
        }
        let between = self.text.as_bytes().get(self.at..offset).unwrap_or_default();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(last) = memchr::memrchr(b'\n', between) {
            self.line = self.line.saturating_add(count(memchr::memchr_iter(b'\n', between).count()));
            self.column = 1;
            self.at = self.at.saturating_add(last).saturating_add(1);
        }
        let rest = self.text.as_bytes().get(self.at..offset).unwrap_or_default();
        let characters = rest.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        self.column = self.column.saturating_add(count(characters));
        self.at = offset;
        (self.line, self.column)
    }
}

/// Line and column of an offset, both from 1; columns count characters.
pub(crate) fn position(text: &str, offset: usize) -> (u32, u32) {
    Lines::new(text).place(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_right_in_any_order() {
        let text = "aü\n\nb\ncd";
        let mut lines = Lines::new(text);
        for (offset, place) in
            [(0, (1, 1)), (1, (1, 2)), (3, (1, 3)), (4, (2, 1)), (7, (4, 1)), (8, (4, 2)), (5, (3, 1)), (99, (4, 3))]
        {
            assert_eq!((lines.place(offset), position(text, offset)), (place, place), "{offset}");
        }
    }
}
