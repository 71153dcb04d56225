//! Tests how bodies are delimited, with the same bytes as a request and as a response: requests are read strictly, and
//! responses leniently where upstreams need it (RFC 9112 §2.2, §6, §7.1).

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderMap, Method};
use hyper::body::Frame;
use proptest::prelude::*;

use super::head::{self, Interims, MAX_HEADERS};
use crate::proxy::http1::body_decoder::{BodyDecoder, Framing};
use crate::proxy::http1::fields::HeadLimits;
use crate::proxy::http1::reader::Reader;

/// A message that is refused.
const NO: Option<&str> = None;
/// A message that goes on after the end of these bytes.
const MORE: &str = "…";

/// Name, bytes after the start line, and what is read of the request and of the response: the body with its trailers,
/// or `None` if it is refused. Each ends with `!`, which belongs to the next message.
type Case<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>);

const FIELDS: &[Case<'_>] = &[
    ("length", "Content-Length: 3\r\n\r\nabc!", Some("abc"), Some("abc")),
    ("length 0", "Content-Length: 0\r\n\r\n!", Some(""), Some("")),
    ("neither", "X: y\r\n\r\n!", Some(""), Some("!…")),
    ("leading zeros", "Content-Length: 0003\r\n\r\nabc!", Some("abc"), Some("abc")),
    ("length 2^63-1", "Content-Length: 9223372036854775807\r\n\r\na!", Some("a!…"), Some("a!…")),
    ("length 2^63", "Content-Length: 9223372036854775808\r\n\r\na!", NO, Some("a!…")),
    ("length 2^64", "Content-Length: 18446744073709551616\r\n\r\na!", NO, NO),
    ("length repeated", "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc!", NO, NO),
    ("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc!", NO, NO),
    ("list of lengths", "Content-Length: 3, 3\r\n\r\nabc!", NO, NO),
    ("signed length", "Content-Length: +3\r\n\r\nabc!", NO, NO),
    ("hexadecimal length", "Content-Length: 0x3\r\n\r\nabc!", NO, NO),
    ("no length", "Content-Length:\r\n\r\nabc!", NO, NO),
    ("chunked", "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n!", Some(""), Some("")),
    ("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n!", NO, NO),
    ("length and chunked", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n!", NO, NO),
    ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n!", NO, NO),
    ("list of codings", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n!", NO, NO),
    ("identity", "Transfer-Encoding: identity\r\n\r\n!", NO, NO),
    ("coding with a parameter", "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n!", NO, NO),
    // S21: a head with LF alone is refused in both directions.
    ("bare LF in the head", "Content-Length: 3\n\r\nabc!", NO, NO),
    ("bare LF ends the head", "Content-Length: 3\r\n\nabc!", NO, NO),
    ("bare CR in the head", "Content-Length: 3\rX: y\r\n\r\nabc!", NO, NO),
    ("obs-fold in the head", "X: y\r\n Content-Length: 3\r\n\r\nabc!", NO, NO),
    ("space before the colon", "Content-Length : 3\r\n\r\nabc!", NO, NO),
];

/// The same for chunked bodies, without the head.
const CHUNKS: &[Case<'_>] = &[
    ("chunks", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n!", Some("abcde"), Some("abcde")),
    (
        "upper and lower case",
        "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n!",
        Some("01234567890123456789"),
        Some("01234567890123456789"),
    ),
    ("leading zeros", "003\r\nabc\r\n000\r\n\r\n!", Some("abc"), Some("abc")),
    ("16 digits", "0000000000000003\r\nabc\r\n0\r\n\r\n!", Some("abc"), Some("abc")),
    ("17 digits", "00000000000000003\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("size 2^64-1", "ffffffffffffffff\r\na!", Some("a!…"), Some("a!…")),
    ("size 2^64", "10000000000000000\r\na!", NO, NO),
    ("no size", "\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("size with 0x", "0x3\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("signed size", "+3\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("negative size", "-3\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("size of other digits", "g\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("space before the size", " 3\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("space after the size", "3 \r\nabc\r\n0\t \r\n\r\n!", NO, Some("abc")),
    ("space within the size", "1 0\r\nabc\r\n0\r\n\r\n!", NO, NO),
    // A1: RFC 9112 §7.1.1 requires to ignore extensions.
    ("extension", "3;a=b\r\nabc\r\n0;c\r\n\r\n!", Some("abc"), Some("abc")),
    ("quoted extension", "3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n!", Some("abc"), Some("abc")),
    ("extension after a space", "3 \t;a=\"b;c\"\r\nabc\r\n0\r\n\r\n!", NO, Some("abc")),
    ("empty extension", "3;\r\nabc\r\n0\r\n\r\n!", Some("abc"), Some("abc")),
    ("extension alone", ";a\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("NUL in an extension", "3;\0\r\nabc\r\n0\r\n\r\n!", NO, Some("abc")),
    ("bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("bare LF ends an extension", "3;a\nabc\r\n0\r\n\r\n!", NO, NO),
    ("bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("two CRs after an extension", "3;a\r\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("bare LF after the size", "3\nabc\r\n0\r\n\r\n!", NO, NO),
    ("bare CR after the size", "3\rabc\r\n0\r\n\r\n!", NO, NO),
    ("two CRs after the size", "3\r\r\nabc\r\n0\r\n\r\n!", NO, NO),
    ("bare LF after the data", "3\r\nabc\n0\r\n\r\n!", NO, NO),
    ("bare CR after the data", "3\r\nabc\r0\r\n\r\n!", NO, NO),
    ("data too long", "3\r\nabcd\r\n0\r\n\r\n!", NO, NO),
    ("data too short", "3\r\nab\r\n0\r\n\r\n!", NO, NO),
    ("unfinished data", "4\r\nabc", Some("abc…"), Some("abc…")),
    ("unfinished trailers", "3\r\nabc\r\n0\r\nX: 1\r\n", Some("abc…"), Some("abc…")),
    ("trailers", "3\r\nabc\r\n0\r\nX: 1\r\ny:\t 2 \r\n\r\n!", Some("abc|x:1|y:2"), Some("abc|x:1|y:2")),
    ("trailer without a value", "0\r\nX:\r\n\r\n!", Some("|x:"), Some("|x:")),
    ("trailer repeated", "0\r\nX: 1\r\nX: 2\r\n\r\n!", Some("|x:1|x:2"), Some("|x:1|x:2")),
    (
        "length among the trailers",
        "0\r\nContent-Length: 3\r\n\r\n!",
        Some("|content-length:3"),
        Some("|content-length:3"),
    ),
    ("bare LF after a trailer", "0\r\nX: 1\n\r\n!", NO, Some("|x:1")),
    ("bare LF ends the trailers", "0\r\nX: 1\r\n\n!", NO, Some("|x:1")),
    ("bare LF for no trailers", "0\r\n\n!", NO, Some("")),
    ("bare CR in a trailer", "0\r\nX: 1\rY: 2\r\n\r\n!", NO, NO),
    ("bare CR before LF in a trailer", "0\r\nX: 1\r\r\n\r\n!", NO, NO),
    ("bare CR ends the trailers", "0\r\n\r!\r\n\r\n!", NO, NO),
    ("NUL in a trailer", "0\r\nX: \0\r\n\r\n!", NO, NO),
    ("control in a trailer", "0\r\nX: \x01\r\n\r\n!", NO, NO),
    ("DEL in a trailer", "0\r\nX: a\x7f\r\n\r\n!", NO, NO),
    ("tab in a trailer", "0\r\nX: a\tb\r\n\r\n!", Some("|x:a\tb"), Some("|x:a\tb")),
    ("obs-fold in the trailers", "0\r\nX: 1\r\n 2\r\n\r\n!", NO, NO),
    ("obs-fold of nothing", "0\r\nX: 1\r\n \r\n\r\n!", NO, NO),
    ("space before the trailers", "0\r\n X: 1\r\n\r\n!", NO, NO),
    ("space before a trailer's colon", "0\r\nX : 1\r\n\r\n!", NO, NO),
    ("trailer without a name", "0\r\n: 1\r\n\r\n!", NO, NO),
    ("trailer without a colon", "0\r\nGET / HTTP/1.1\r\n\r\n!", NO, NO),
    ("trailer that is no token", "0\r\nX(: 1\r\n\r\n!", NO, NO),
];

/// The limits of a request. They allow more than those of a response, so that only the framing decides.
const LIMITS: HeadLimits = HeadLimits { size: 32 * 1024, headers: 100 };

/// Appends a piece of the body as the tables write it.
fn append(text: &mut String, frame: &Frame<Bytes>) {
    if let Some(data) = frame.data_ref() {
        text.push_str(str::from_utf8(data).unwrap());
    }
    for (name, value) in frame.trailers_ref().into_iter().flatten() {
        write!(text, "|{name}:{}", value.to_str().unwrap()).unwrap();
    }
}

/// Reads a request in these pieces. Returns what the tables expect.
fn read_request<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let (mut reader, mut input, mut text, mut head) = (Reader::new(LIMITS), Bytes::new(), String::new(), false);
    for piece in pieces {
        input = [&input, piece].concat().into();
        head = head || reader.head(&mut input).ok()?.is_some();
        while let Some(frame) = reader.body(&mut input).ok()?.filter(|_| head) {
            append(&mut text, &frame);
        }
    }
    Some(finish(text, head && reader.between_messages(), &input))
}

/// Reads a response in these pieces. Returns what the tables expect.
fn read_response<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let (mut input, mut text, mut head) = (Bytes::new(), String::new(), None);
    let mut decoder = BodyDecoder::for_responses(MAX_HEADERS);
    for piece in pieces {
        input = [&input, piece].concat().into();
        if head.is_none() {
            head = head::read(&mut input, &Method::GET, false, &mut Interims::default()).ok()?;
            head.iter().for_each(|head| decoder.begin(head.framing));
        }
        while let Some(frame) = head.as_ref().map_or(Ok(None), |_| decoder.decode(&mut input)).ok()? {
            append(&mut text, &frame);
        }
    }
    Some(finish(text, head.is_some() && decoder.has_ended(), &input))
}

fn finish(text: String, ended: bool, rest: &[u8]) -> String {
    if !ended {
        return text + MORE;
    }
    assert_eq!(rest, b"!", "the next message begins after the body");
    text
}

fn check(name: &str, message: &[u8], sizes: &[usize], request: Option<&str>, response: Option<&str>) {
    let request_bytes = [b"POST / HTTP/1.1\r\nHost: a\r\n", message].concat();
    let response_bytes = [b"HTTP/1.1 200 OK\r\n", message].concat();
    for &size in sizes {
        assert_eq!(read_request(request_bytes.chunks(size)).as_deref(), request, "request, {name}, {size}");
        assert_eq!(read_response(response_bytes.chunks(size)).as_deref(), response, "response, {name}, {size}");
    }
}

#[test]
fn what_delimits_a_message() {
    for (name, message, request, response) in FIELDS {
        check(name, message.as_bytes(), &[1, 2, 3, 7, usize::MAX], *request, *response);
    }
}

/// S21: what parsers read in two ways, or what nobody understands, is no head of a response.
#[test]
fn heads_of_responses_are_read_strictly() {
    for (head, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some(200)),
        ("HTTP/1.0 599 \r\nContent-Length: 0\r\n\r\n", Some(599)),
        ("HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", None),
        ("\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
        ("\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\n\n", None),
        ("HTTP/1.3 200 OK\r\nContent-Length: 0\r\n\r\n", Some(200)),
        ("HTTP/1.x 200 OK\r\nContent-Length: 0\r\n\r\n", None),
        ("220 mail.example\r\n", None),
        ("HTTP/1.1 103 Early Hints\n\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
    ] {
        let mut input = Bytes::from(head);
        let read = head::read(&mut input, &Method::GET, false, &mut Interims::default());
        assert_eq!(read.ok().flatten().map(|head| head.status.as_u16()), status, "{head:?}");
    }
    for (beginning, refused) in [("", false), ("HTTP/1.", false), ("HTTP/2", true), ("220", true), ("\r", true)] {
        let read = head::read(&mut Bytes::from(beginning), &Method::GET, false, &mut Interims::default());
        assert_eq!(read.is_err(), refused, "it is refused before its line is complete: {beginning:?}");
    }
}

#[test]
fn what_a_chunked_message_may_contain() {
    for (name, body, request, response) in CHUNKS {
        let message = format!("Transfer-Encoding: chunked\r\n\r\n{body}");
        check(name, message.as_bytes(), &[1, 2, 3, 7, usize::MAX], *request, *response);
    }
}

#[test]
fn lines_and_trailers_are_limited() {
    let body = |size: &str, trailers: &str| format!("Transfer-Encoding: chunked\r\n\r\n{size}\r\n{trailers}\r\n!");
    let extension = |line: usize| body(&format!("0;{}", "x".repeat(line - 4)), "");
    let extensions = |chunks| body(&format!("{}0", format!("1;{}\r\nx\r\n", "e".repeat(2000)).repeat(chunks)), "");
    let trailers = |size: usize| body("0", &format!("X:{}\r\n", "x".repeat(size - 6)));
    let fields = |count: usize| body("0", &"X:\r\n".repeat(count));
    let long = |size: usize| format!("|x:{}", "x".repeat(size - 6));
    for (name, message, request, response) in [
        ("trailers of 16 KiB - 1", trailers(16 * 1024 - 1), Some(long(16 * 1024 - 1)), Some(long(16 * 1024 - 1))),
        ("trailers of 16 KiB", trailers(16 * 1024), None, Some(long(16 * 1024))),
        ("trailers of 16 KiB + 1", trailers(16 * 1024 + 1), None, None),
        ("100 trailers", fields(100), Some("|x:".repeat(100)), Some("|x:".repeat(100))),
        ("101 trailers", fields(101), None, Some("|x:".repeat(101))),
        ("1000 trailers", fields(1000), None, Some("|x:".repeat(1000))),
        ("1001 trailers", fields(1001), None, None),
        ("extension of 4 KiB", extension(4 * 1024), Some(String::new()), Some(String::new())),
        // A1: a body cannot consist of extensions.
        ("extensions of 18 KB in all", extensions(9), None, Some("x".repeat(9))),
        ("extension of 4 KiB + 1", extension(4 * 1024 + 1), None, None),
    ] {
        check(name, message.as_bytes(), &[1000, usize::MAX], request.as_deref(), response.as_deref());
    }
}

/// A chunked body that was read whole: its data, its trailers, and how many bytes follow.
type Whole = (Vec<u8>, HeaderMap, usize);

/// Decodes a chunked response body in pieces of this size, unless it is refused or incomplete.
fn decode(body: &[u8], size: usize) -> Option<Whole> {
    let (mut decoder, mut input) = (BodyDecoder::for_responses(MAX_HEADERS), Bytes::new());
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    decoder.begin(Framing::Chunked);
    for piece in body.chunks(size) {
        input = [&input, piece].concat().into();
        while let Some(frame) = decoder.decode(&mut input).ok()? {
            match frame.into_data() {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(frame) => trailers = frame.into_trailers().ok()?,
            }
        }
    }
    decoder.has_ended().then_some((data, trailers, input.len()))
}

/// Decodes a chunked response body as httparse reads it, with the size of each chunk in front and no LF in extensions.
fn decode_by_httparse(mut body: &[u8]) -> Option<Whole> {
    let mut data = Vec::new();
    loop {
        let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(body).ok()? else { return None };
        let (first, rest) = body.split_at(line);
        if !first[0].is_ascii_hexdigit() || first[..line - 1].contains(&b'\n') {
            return None;
        }
        body = rest;
        if size == 0 {
            break;
        }
        let (chunk, rest) = body.split_at_checked(usize::try_from(size).ok()?)?;
        data.extend_from_slice(chunk);
        body = rest.strip_prefix(b"\r\n")?;
    }
    let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let httparse::Status::Complete((size, fields)) = httparse::parse_headers(body, &mut room).ok()? else {
        return None;
    };
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name: http::HeaderName = field.name.parse().unwrap();
        trailers.append(name, http::HeaderValue::from_bytes(field.value).unwrap());
    }
    Some((data, trailers, body.len() - size))
}

/// Returns up to `max` of these pieces in a row.
fn some_of(pieces: &'static [&'static str], max: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(pieces), 0..=max).prop_map(|pieces| pieces.concat())
}

/// A chunked body, about as often valid as not.
fn chunked_body() -> impl Strategy<Value = String> {
    const CHUNKS: &[&str] =
        &["3\r\nabc\r\n", "3 \t;x=\"y\"\r\nabc\r\n", "0003;\0\r\nabc\r\n", "3\r\nab\r\n", "3;\n\r\nabc\r\n"];
    const LAST: &[&str] = &["0\r\n", "00 \r\n", "0;x\r\n", "0\n", ";\r\n"];
    const TRAILERS: &[&str] =
        &["X: 1\r\n", "y:\t2 \n", "X:\r\n", "Z: é\r\n", "X : 1\r\n", " X: 1\r\n", "X: \r1\r\n", "X\r\n"];
    const NOISE: &[&str] = &["\r\n", "\n", "\r", "\0", ";", " ", "0", "a", ":", "!"];
    (
        some_of(CHUNKS, 2),
        proptest::sample::select(LAST),
        some_of(TRAILERS, 2),
        proptest::sample::select(&["\r\n", "\r\n", "\n", "\r", ""][..]),
        some_of(NOISE, 1),
    )
        .prop_map(|(chunks, last, trailers, end, noise)| [&chunks, last, &trailers, end, &noise].concat())
}

/// A head: its status, its reason phrase unless it is the standard one, its fields, and how many bytes follow.
type WholeHead = (u16, Option<Vec<u8>>, Vec<(String, Vec<u8>)>, usize);

/// Reads a head that arrives in pieces of this size, unless it is refused or incomplete.
fn read_head(head: &[u8], size: usize) -> Option<WholeHead> {
    let (mut input, mut interims) = (Bytes::new(), Interims::default());
    let mut pieces = head.chunks(size);
    let read = loop {
        input = [&input, pieces.next()?].concat().into();
        if let Some(head) = head::read(&mut input, &Method::GET, false, &mut interims).ok()? {
            break head;
        }
    };
    let fields = read.fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    let reason = read.reason.map(|reason| reason.as_bytes().to_vec());
    Some((read.status.as_u16(), reason, fields, input.len() + pieces.map(<[u8]>::len).sum::<usize>()))
}

/// Reads a head as httparse does, if its lines end in CRLF and nothing precedes it.
fn read_head_by_httparse(head: &[u8]) -> Option<WholeHead> {
    let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut room);
    let httparse::Status::Complete(size) = parsed.parse(head).ok()? else { return None };
    let lines = head[..size].split_inclusive(|byte| *byte == b'\n').all(|line| line.ends_with(b"\r\n"));
    let status = http::StatusCode::from_u16(parsed.code?).ok()?;
    if !lines || !head.starts_with(b"HTTP/") {
        return None;
    }
    let fields = parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect();
    let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    Some((status.as_u16(), reason.map(|reason| reason.as_bytes().to_vec()), fields, head.len() - size))
}

/// A head with fields that are all forwarded, about as often valid as not.
fn head() -> impl Strategy<Value = String> {
    const LINES: &[&str] = &[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404 Not Found\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 500 \r\n",
        "HTTP/1.1 299 Odd\tphrase \r\n",
        "HTTP/1.1 200 caf\u{e9}\r\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1 200\tOK\r\n",
        "HTTP/2.0 200 OK\r\n",
        "http/1.1 200 OK\r\n",
        "HTTP/1.1 200 \x01\r\n",
        "",
    ];
    const FIELDS: &[&str] = &[
        "X: 1\r\n",
        "Vary:a\r\n",
        "y:\t 2 \t\r\n",
        "X-Empty:\r\n",
        "X-Blank: \t \r\n",
        "Z: \u{e9}\r\n",
        "tab: a\tb\r\n",
    ];
    const WRONG: &[&str] = &[
        "X : 1\r\n",
        " X: 1\r\n",
        ": 1\r\n",
        "X\r\n",
        "X: \r1\r\n",
        "X: 1\n",
        "X: \0\r\n",
        "X: \x7f\r\n",
        "X(: 1\r\n",
    ];
    (
        proptest::sample::select(LINES),
        some_of(FIELDS, 3),
        proptest::option::weighted(0.3, proptest::sample::select(WRONG)),
        some_of(FIELDS, 1),
        proptest::sample::select(&["\r\n", "\r\n", "\r\n", "\n", "\r", ""][..]),
        some_of(&["", "body", "\r\n"], 1),
    )
        .prop_map(|(line, fields, wrong, more, end, body)| {
            [line, &fields, wrong.unwrap_or_default(), &more, end, &body].concat()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn responses_are_read_as_httparse_reads_them(body in chunked_body(), size in 1_usize..9) {
        prop_assert_eq!(decode(body.as_bytes(), size), decode_by_httparse(body.as_bytes()));
    }

    #[test]
    fn heads_of_responses_are_read_as_httparse_reads_them(head in head(), size in 1_usize..99) {
        prop_assert_eq!(read_head(head.as_bytes(), size), read_head_by_httparse(head.as_bytes()));
    }
}

/// Bytes that end no line are no reason to read a head again.
#[test]
fn a_head_is_read_again_when_a_line_has_ended() {
    let long = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"y".repeat(70_000);
    for (input, looked_at, expected) in [
        ("", 0, false),
        ("H", 0, true),
        ("HTTP/1", 1, true),
        ("HTTP/1.1 20", 9, false),
        ("HTTP/1.1 200 OK\r", 10, false),
        ("HTTP/1.1 200 OK\r\n", 10, true),
        ("HTTP/1.1 200 OK\r\n", 17, false),
        ("HTTP/1.1 200 OK\r\nx: y", 17, false),
        ("HTTP/1.1 200 OK\r\nx: y\r\n", 21, true),
        (&long, 60_000, true),
    ] {
        let input = Bytes::copy_from_slice(input.as_bytes());
        assert_eq!(head::may_go_on(&input, looked_at), expected, "{} {looked_at}", input.len());
    }
}

/// A field of a few bytes is held as an entry of a map.
#[test]
fn of_interim_responses_with_many_small_fields_few_are_held() {
    for (fields, held) in [(1, 16), (100, 5), (900, 1)] {
        let fields: String = (0..fields).map(|number| format!("z{number}:1\r\n")).collect();
        let early = format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n").repeat(16);
        let mut input = Bytes::from(early + "HTTP/1.1 200 OK\r\n\r\n");
        let mut interims = Interims::default();
        head::read(&mut input, &Method::GET, false, &mut interims).unwrap().unwrap();
        assert_eq!(interims.take_heads().len(), held, "{} bytes", fields.len());
    }
}
