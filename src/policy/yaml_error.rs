//! Text that is not YAML: turns the parser's errors into messages that help its author.
//!
//! Parsing stops at such an error, so there is exactly one.

use std::sync::Arc;

use granit_parser::{ErrorKind, ScanError};

use super::diagnostic::Problems;
use super::source::{Place, SourceText, quote};

/// Reports a syntax error at its place.
pub(super) fn report(error: &ScanError, source: &Arc<SourceText>, problems: &mut Problems) {
    let at = error.marker().byte_offset().unwrap_or(source.text.len());
    let mut at = source.text.floor_char_boundary(at);
    // The parser has sometimes read past the tab that it complains about.
    let before = source.text.get(..at).unwrap_or("");
    if is_tab(error.kind()) && before.ends_with('\t') {
        at = before.trim_end_matches('\t').len();
    }
    let length = source.text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    let (message, help) = words(error.kind());
    let mut help = help.map(str::to_owned);
    let line = line_at(&source.text, at);
    if is_flow(error.kind()) && line.contains("${") {
        help = Some("between `{ }` and `[ ]` a reference needs quotes, such as `\"${env:NAME}\"`".to_owned());
    }
    problems.error(Place::new(source, at..at + length), message).help = help;
}

fn line_at(text: &str, at: usize) -> &str {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    text.get(start..).unwrap_or("").split('\n').next().unwrap_or("")
}

/// Whether unquoted braces can cause this kind of error.
fn is_flow(kind: &ErrorKind) -> bool {
    use ErrorKind as K;
    matches!(
        kind,
        K::UnexpectedEofFlowSequence
            | K::UnexpectedEofFlowMapping
            | K::UnexpectedEofImplicitFlowMapping
            | K::ExpectedFlowMappingSeparator
            | K::ExpectedFlowSequenceSeparator
            | K::MisplacedFlowCollectionEnd
            | K::MismatchedFlowCollectionEnd { .. }
            | K::UnclosedFlowCollection { .. }
            | K::FlowMappingValueAdjacentCollection
            | K::InvalidColonPlacement
    )
}

fn is_tab(kind: &ErrorKind) -> bool {
    use ErrorKind as K;
    matches!(
        kind,
        K::TabInIndentation
            | K::TabInBlockIndentation
            | K::TabNotAllowed
            | K::TabAtBlockScalarStart
            | K::TabInPlainScalar
    )
}

fn words(kind: &ErrorKind) -> (String, Option<&'static str>) {
    use ErrorKind as K;
    let (message, help) = match kind {
        kind if is_tab(kind) => ("YAML allows only spaces here, but this is a tab", Some("indent with spaces")),
        K::UnclosedQuotedScalar | K::DocumentIndicatorInQuotedScalar => {
            ("a quoted text is not closed", Some("close it with the quote it was opened with"))
        }
        K::InvalidTrailingSingleQuotedScalar => (
            "something follows the closing `'` of a quoted text",
            Some("within single quotes, `'` is written twice: `''`"),
        ),
        K::InvalidTrailingDoubleQuotedScalar => (
            "something follows the closing `\"` of a quoted text",
            Some("within double quotes, `\"` is written `\\\"`"),
        ),
        K::UnknownQuotedScalarEscape | K::InvalidQuotedScalarHexEscape => {
            ("this `\\` is not the start of a known escape", Some("write `\\\\` for a backslash, or use single quotes"))
        }
        K::MappingValueNotAllowed => (
            "a `:` is not allowed here",
            Some("put text that contains `: ` in quotes, and check that keys of one map are indented alike"),
        ),
        K::InvalidIndentation
        | K::ExpectedBlockMappingKey
        | K::ExpectedBlockSequenceEntry
        | K::BlockSequenceEntryNotAllowed
        | K::InvalidQuotedScalarIndent
        | K::InvalidFlowScalarIndent
        | K::InvalidBlockScalarIndent => (
            "the indentation does not match the lines above",
            Some("keys of one map, and entries of one list, begin in the same column"),
        ),
        K::SimpleKeyExpected | K::InvalidSimpleKey => {
            ("this is neither `key: value` nor an entry of a list", Some("is a `:` (followed by a space) missing?"))
        }
        K::UnclosedFlowCollection { open } | K::MismatchedFlowCollectionEnd { open, .. } => {
            let message = match kind {
                K::MismatchedFlowCollectionEnd { close, .. } => format!("`{open}` is closed by `{close}`"),
                _ => format!("`{open}` is never closed"),
            };
            return (message, Some("close every `[` with `]` and every `{` with `}`"));
        }
        K::UnexpectedEofFlowSequence => ("`[` is never closed", Some("close every `[` with `]`")),
        K::UnexpectedEofFlowMapping | K::UnexpectedEofImplicitFlowMapping => {
            ("`{` is never closed", Some("close every `{` with `}`"))
        }
        K::ExpectedFlowMappingSeparator => (
            "a `,` or `}` is missing before this",
            Some("put text that contains any of `{ } [ ] ,` in quotes between braces"),
        ),
        K::ExpectedFlowSequenceSeparator => (
            "a `,` or `]` is missing before this",
            Some("put text that contains any of `{ } [ ] ,` in quotes between brackets"),
        ),
        K::InvalidColonPlacement | K::FlowMappingValueAdjacentCollection => (
            "a `:` is not allowed here; a `[` or `{` above may not be closed",
            Some("close every `[` with `]` and every `{` with `}`, and separate entries with `,`"),
        ),
        K::MisplacedFlowCollectionEnd => {
            ("there is nothing to close here", Some("text that begins with `]` or `}` needs quotes"))
        }
        K::BlockEntryInFlowCollection => {
            ("a `-` is not allowed between brackets or braces", Some("separate entries with `,`"))
        }
        K::UnexpectedCharacter { character } => {
            let shown = quote(character.encode_utf8(&mut [0; 4]));
            return (format!("text cannot begin with {shown}"), Some("put it in quotes"));
        }
        K::RecursionLimitExceeded => ("the policy is nested too deeply", None),
        K::CommentNotSeparated => {
            ("a comment needs a space before its `#`", Some("put text that contains `#` in quotes"))
        }
        other => return (format!("this is not valid YAML: {other}"), None),
    };
    (message.to_owned(), help)
}
