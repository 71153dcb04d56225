//! How much memory a schema may take while it is compiled.

use crate::budget::Exhausted;

/// Most bytes of what a schema is made of: the trees of its documents, its components, patterns, and tables of contents.
const MOST: usize = 256 << 20;

/// What is wrong with a schema that takes more.
pub(crate) const TOO_LARGE: &str =
    "the schema takes more than 256 MiB: its documents, types, patterns and content models, all together";

/// Bytes that may still be kept. Nothing is given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    left: usize,
    is_short: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Room {
    /// Returns so much room.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: bytes, is_short: false }
    }

    /// Takes bytes before they are kept. Once there were too few, nothing is left.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let left = self.left.checked_sub(bytes).filter(|_| !self.is_short);
        self.left = left.unwrap_or(0);
        self.is_short = left.is_none();
        left.map(|_| ()).ok_or(Exhausted)
    }

    /// Takes bytes of what is kept anyway, and is bounded by a document; see [`Room::is_short`].
    pub(crate) fn keep(&mut self, bytes: usize) {
        let _ = self.take(bytes);
    }

    /// Whether there was too little.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }
}
