//! Writes the head of a response to an HTTP/1.x client: status line, fields, and the framing of the body (RFC 9112 §4,
//! §6).

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderValue, TRAILER, TRANSFER_ENCODING, UPGRADE};
use hyper::body::Body as _;

use super::fields::write_line;
use super::writer::MessageWriter;
use crate::proxy::headers::{ResponseFields, date};
use crate::proxy::request::client_response::ClientResponse;
use crate::proxy::request::upgrade::WEBSOCKET;

/// The properties of a request that determine how its response is framed.
pub(super) struct RequestFraming {
    /// The method is HEAD: the response has no body.
    pub(super) head: bool,
    /// The version is HTTP/1.0, which has no chunked coding.
    pub(super) http_10: bool,
    /// The client accepts trailers (RFC 9110 §6.5.1).
    pub(super) takes_trailers: bool,
    /// Another request may follow on the connection.
    pub(super) keep_alive: bool,
}

/// What happens to the connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The connection stays open for another request.
    KeepAlive,
    /// The connection closes.
    Close,
    /// The connection closes, and thereby delimits the body.
    CloseDelimited,
}

/// Writes the head of a response to `writer`. Returns what happens to the connection afterwards.
pub(super) fn write(writer: &mut MessageWriter, request: &RequestFraming, response: &ClientResponse) -> After {
    let ClientResponse { status, reason, fields, body, .. } = response;
    // RFC 9110 §6.4.1: responses with these statuses have no body, whatever their fields say.
    let status_without_body = matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let bodiless = request.head || status_without_body;
    let length = body.size_hint().exact();

    let out = writer.buffer();
    out.extend_from_slice(if request.http_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(match reason {
        Some(reason) => reason.as_bytes(),
        None => status.canonical_reason().unwrap_or_default().as_bytes(),
    });
    out.extend_from_slice(b"\r\n");
    if *status == StatusCode::SWITCHING_PROTOCOLS {
        write_fields(out, fields, false);
        write_line(out, CONNECTION.as_str(), b"upgrade");
        write_line(out, UPGRADE.as_str(), WEBSOCKET.as_bytes());
        out.extend_from_slice(b"\r\n");
        writer.ended = true;
        return After::Close;
    }
    // A client that gets no trailers must not expect any (RFC 9110 §6.6.2).
    let trailers = request.takes_trailers && !request.http_10 && (bodiless || length.is_none());
    let SkippedFields { close, content_length } = write_fields(out, fields, trailers);
    match length {
        // The length that the body would have (RFC 9110 §8.6).
        _ if bodiless && content_length.is_some() && *status != StatusCode::NO_CONTENT => {
            write_line(out, CONTENT_LENGTH.as_str(), content_length.map(HeaderValue::as_bytes).unwrap_or_default());
        }
        Some(length) if !bodiless || (length > 0 && !status_without_body) => {
            write_line(out, CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes());
        }
        None if !bodiless && !request.http_10 => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    let after = match () {
        () if !bodiless && length.is_none() && request.http_10 => After::CloseDelimited,
        () if request.keep_alive && !close => After::KeepAlive,
        () => After::Close,
    };
    match after {
        After::KeepAlive if request.http_10 => out.extend_from_slice(b"connection: keep-alive\r\n"),
        After::KeepAlive => {}
        After::Close | After::CloseDelimited => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");

    writer.chunked = !bodiless && length.is_none() && !request.http_10;
    writer.no_trailers = !request.takes_trailers;
    writer.ended = bodiless || body.is_end_stream();
    after
}

/// The meaning of the fields that are not copied to the client.
#[derive(Default)]
struct SkippedFields<'a> {
    close: bool,
    content_length: Option<&'a HeaderValue>,
}

/// Writes all fields except those that concern framing and the connection, and `Trailer` where none follow. Adds `Date` if it is missing (RFC 9110
/// §6.6.1).
fn write_fields<'a>(out: &mut Vec<u8>, fields: &'a ResponseFields, trailers: bool) -> SkippedFields<'a> {
    let mut skipped = SkippedFields::default();
    let mut dated = false;
    for (name, value) in fields.iter() {
        if name == CONTENT_LENGTH {
            skipped.content_length = Some(value);
        } else if name == CONNECTION {
            skipped.close |= value.as_bytes().eq_ignore_ascii_case(b"close");
        } else if name != TRANSFER_ENCODING && (trailers || name != TRAILER) {
            dated |= name == DATE;
            write_line(out, name.as_str(), value.as_bytes());
        }
    }
    if !dated {
        write_line(out, DATE.as_str(), date().as_bytes());
    }
    skipped
}
