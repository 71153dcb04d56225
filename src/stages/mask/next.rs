//! What may come next in a JSON text (RFC 8259).

use super::number::Number;

/// What may come next, after blanks where these are allowed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// The rest of a byte order mark.
    Mark(&'static [u8]),
    /// A value; or the end of an array, if it would be the first.
    Value {
        is_first: bool,
    },
    /// The name of a member; or the end of the object, if it would be the first.
    Name {
        is_first: bool,
    },
    Colon,
    /// A comma, or the end of the object or array.
    After,
    /// The rest of a string.
    Text(StringRole),
    /// What follows a backslash.
    Escape(StringRole),
    /// So many hexadecimal digits.
    Hex(StringRole, u8),
    Number(Number),
    /// The rest of `true`, `false` or `null`.
    Word(&'static [u8]),
    /// Nothing: the text is complete.
    End,
}

/// What a string is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StringRole {
    Name,
    Value,
}
