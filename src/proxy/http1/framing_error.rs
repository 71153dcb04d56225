//! The errors in the framing of an HTTP/1.x message, and the advice for its sender.

use crate::refusal::Reason;

/// Why a message is refused for its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FramingError {
    /// What is wrong.
    pub(super) kind: FramingErrorKind,
}

impl FramingError {
    /// Returns what the sender has to change: a fixed text that never contains any part of the message.
    pub(crate) fn detail(self) -> &'static str {
        self.kind.detail()
    }

    /// Returns the reason for which the message is refused.
    pub(crate) fn reason(self) -> Reason {
        match self.kind {
            FramingErrorKind::TooLarge | FramingErrorKind::TooManyFields => Reason::HeadersTooLarge,
            FramingErrorKind::TargetTooLong => Reason::TargetTooLong,
            FramingErrorKind::Version => Reason::VersionNotSupported,
            _ => Reason::MalformedRequest,
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $detail:literal),+ $(,)?) => {
        /// The kinds of errors in the framing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum FramingErrorKind { $($(#[$doc])* $name),+ }

        impl FramingErrorKind {
            fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail),+ }
            }
        }
    };
}

kinds! {
    /// LF without CR (RFC 9112 §2.2 lets a recipient accept it; parsers differ).
    BareLf = "End every line with CRLF, not with LF alone.",
    /// CR without LF (RFC 9112 §2.2).
    BareCr = "Send CR only as part of CRLF.",
    /// NUL in a head or in trailers (RFC 9110 §5.5).
    Nul = "Remove the NUL byte from the head.",
    /// Another control character (RFC 9110 §5.5).
    Control = "Remove the control character from the head.",
    /// More than one empty line before the request line (RFC 9112 §2.2).
    EmptyLines = "Send no empty lines before the request line.",
    /// Not `METHOD SP TARGET SP VERSION` (RFC 9112 §3).
    RequestLine = "Write the request line as METHOD, target and version, with one space between them.",
    /// Another major version than 1 (RFC 9110 §2.5).
    Version = "Use HTTP/1.1 or HTTP/1.0 on this connection.",
    /// A byte or a form that is not allowed in the target (RFC 9112 §3.2).
    Target = "Send a valid request target, with everything but URI characters percent-encoded.",
    /// `#` in the target (RFC 9112 §3.2: the target has no fragment).
    Fragment = "Send the request target without a fragment.",
    /// A request line beyond the limit of heads, or a target longer than `http::Uri` supports (RFC 9112 §3).
    TargetTooLong = "Shorten the request target.",
    /// Whitespace between the request line and the first field (RFC 9112 §2.2).
    LeadingWhitespace = "Send no whitespace before the first header field.",
    /// A field continued on the next line (RFC 9112 §5.2).
    Folding = "Send each header field on one line.",
    /// A line without a colon.
    MissingColon = "Put a colon between a header field's name and value.",
    /// Whitespace before the colon (RFC 9112 §5.1).
    SpaceBeforeColon = "Send no whitespace between a header field's name and the colon.",
    /// A line that begins with a colon.
    EmptyName = "Give every header field a name.",
    /// A name that is not a token (RFC 9110 §5.1).
    Name = "Use only letters, digits and the characters of a token in header field names.",
    /// HTTP/1.1 without Host (RFC 9112 §3.2).
    HostMissing = "Send a Host header field.",
    /// More than one Host (RFC 9112 §3.2).
    HostRepeated = "Send exactly one Host header field.",
    /// Not one decimal number below 2^63 (RFC 9112 §6.3).
    LengthInvalid = "Send Content-Length as one decimal number.",
    /// More than one Content-Length, even if equal.
    LengthRepeated = "Send Content-Length only once.",
    /// Content-Length beside Transfer-Encoding (RFC 9112 §6.1).
    LengthAndEncoding = "Send either Content-Length or Transfer-Encoding, not both.",
    /// Anything other than a single `chunked` (RFC 9112 §6.1).
    EncodingUnsupported = "Use chunked as the only transfer coding.",
    /// More than one Transfer-Encoding.
    EncodingRepeated = "Send Transfer-Encoding only once.",
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1).
    EncodingInHttp10 = "Use HTTP/1.1 to send a transfer coding.",
    /// Not 1 to 16 hexadecimal digits (RFC 9112 §7.1).
    ChunkSize = "Send each chunk's size as hexadecimal digits alone.",
    /// Chunk extensions that are too large together, or a control character in one (RFC 9112 §7.1.1).
    ChunkExtension = "Send shorter chunk extensions, without control characters.",
    /// Chunk data that is not followed by CRLF (RFC 9112 §7.1).
    ChunkEnd = "End each chunk's data with CRLF, after exactly as many bytes as announced.",
    /// The head, or the trailers, are larger than the limit (RFC 6585 §5).
    TooLarge = "Send smaller header fields.",
    /// More fields than the limit (RFC 6585 §5).
    TooManyFields = "Send fewer header fields.",
}
