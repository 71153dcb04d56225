//! The head of an answer to a client of HTTP/1.x: status line, fields, and how the body is framed (RFC 9112 §4, §6).

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use hyper::body::Body as _;
use hyper::ext::ReasonPhrase;

use super::writer::MessageWriter;
use crate::proxy::headers::write_line;
use crate::proxy::request::response_body::ResponseBody;

/// What of a request decides how its answer is framed.
pub(super) struct Asked {
    /// It is HEAD: the answer has no body.
    pub(super) head: bool,
    /// It is of HTTP/1.0, which has no chunks.
    pub(super) http_10: bool,
    /// The client takes trailers (RFC 9110 §6.5.1).
    pub(super) takes_trailers: bool,
    /// Another request may follow.
    pub(super) keep_alive: bool,
}

/// What comes after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Perhaps another request.
    Kept,
    /// The end of the connection.
    Close,
    /// The end of the connection, which ends the body.
    WithConnection,
}

/// Puts the head of an answer before its body. Returns what comes after it, and the body to be sent.
pub(super) fn write(
    outgoing: &mut MessageWriter,
    asked: &Asked,
    parts: &Parts,
    body: ResponseBody,
) -> (Ending, Option<ResponseBody>) {
    let Parts { status, headers, extensions, .. } = parts;
    // RFC 9110 §6.4.1: these have none, whatever their fields say.
    let without = matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let bodiless = asked.head || without;
    let length = body.size_hint().exact();

    let out = outgoing.room();
    out.extend_from_slice(if asked.http_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(match extensions.get::<ReasonPhrase>() {
        Some(reason) => reason.as_bytes(),
        None => status.canonical_reason().unwrap_or_default().as_bytes(),
    });
    out.extend_from_slice(b"\r\n");
    let Said { closes, length: said } = write_fields(out, headers);
    match length {
        // What a GET would have got.
        _ if bodiless && said.is_some() && *status != StatusCode::NO_CONTENT => {
            write_line(out, CONTENT_LENGTH.as_str(), said.map(HeaderValue::as_bytes).unwrap_or_default());
        }
        Some(length) if !bodiless || (length > 0 && !without) => {
            write_line(out, CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes());
        }
        None if !bodiless && !asked.http_10 => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    let ending = match () {
        () if !bodiless && length.is_none() && asked.http_10 => Ending::WithConnection,
        () if asked.keep_alive && !closes => Ending::Kept,
        () => Ending::Close,
    };
    match ending {
        Ending::Kept if asked.http_10 => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Ending::Kept => {}
        Ending::Close | Ending::WithConnection => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");

    outgoing.chunked = !bodiless && length.is_none() && !asked.http_10;
    outgoing.no_trailers = !asked.takes_trailers;
    (ending, Some(body).filter(|body| !bodiless && !body.is_end_stream()))
}

/// What the fields that are not written as they are say.
#[derive(Default)]
struct Said<'a> {
    closes: bool,
    length: Option<&'a HeaderValue>,
}

/// Writes the fields but for those that frame the body and those of the connection, with a date among them
/// (RFC 9110 §6.6.1).
fn write_fields<'a>(out: &mut Vec<u8>, headers: &'a HeaderMap) -> Said<'a> {
    let mut said = Said::default();
    let mut dated = false;
    for (name, value) in headers {
        if name == CONTENT_LENGTH {
            said.length = Some(value);
        } else if name == CONNECTION {
            said.closes |= value.as_bytes().eq_ignore_ascii_case(b"close");
        } else if name != TRANSFER_ENCODING {
            dated |= name == DATE;
            write_line(out, name.as_str(), value.as_bytes());
        }
    }
    if !dated {
        write_date(out, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    }
    said
}

fn write_date(out: &mut Vec<u8>, now: Duration) {
    thread_local! {
        /// The last second that was written, and how.
        static WRITTEN: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    WRITTEN.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() {
            let at = i64::try_from(now.as_secs()).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
            let printed = at.and_then(|at| printer.timestamp_to_rfc9110_string(&at).ok());
            (*second, *text) = (now.as_secs(), printed.unwrap_or_default());
        }
        if !text.is_empty() {
            write_line(out, "date", text.as_bytes());
        }
    });
}
