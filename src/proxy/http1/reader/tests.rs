//! Tests which requests are accepted and refused, and that hyper reads the same requests from the same bytes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::{FramingError, FramingErrorKind, HeadLimits, Reader};

const LIMITS: HeadLimits = HeadLimits { size: 256, headers: 8 };

type Case<'a> = (&'a str, &'a [u8], Result<u64, FramingErrorKind>);

/// Name, bytes of a connection, requests read or the error.
const CASES: &[Case<'_>] = &[
    ("nothing", b"", Ok(0)),
    ("plain", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("name in any case", b"GET / HTTP/1.1\r\nhOsT:a\r\n\r\n", Ok(1)),
    ("unfinished", b"GET / HTTP/1.1\r\nHost: a\r\n", Ok(0)),
    ("pipelined", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("http/1.0", b"GET / HTTP/1.0\r\n\r\n", Ok(1)),
    ("http/1.0 kept alive", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n", Ok(2)),
    ("query", b"GET /a?b={c}|`d`&e=^\\ HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("path hyper takes", b"GET /{a}|^\\[] HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("absolute", b"GET http://b:80/x HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("absolute, upper case", b"GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("connect", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("double slash", b"GET // HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("odd method", b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("one empty line before", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(1)),
    ("one empty line between", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("empty value", b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", Ok(1)),
    ("tabs around a value", b"GET / HTTP/1.1\r\nHost:\t a \t\r\nX: a\tb\r\n\r\n", Ok(1)),
    ("obs-text in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\xff\r\n\r\n", Ok(1)),
    ("colons in a value", b"GET / HTTP/1.1\r\nHost: a:1\r\nX::b:\r\n\r\n", Ok(1)),
    ("names alike", b"GET / HTTP/1.1\r\nHost: a\r\nHosts: b\r\nContent-Lengt: x\r\nTransfer-Encodin: y\r\n\r\n", Ok(1)),
    ("body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("body of anything", b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length:4 \r\n\r\n\0\n\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("body in http/1.0", b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", Ok(1)),
    ("empty body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("leading zeros", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("unfinished body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", Ok(1)),
    ("body and empty line", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("largest length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\nabc", Ok(1)),
    ("chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("chunked in any case", b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING:\tChUnKeD \r\n\r\nA\r\n0123456789\r\n00\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("chunked, only the end", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(2)),
    ("sixteen digits", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000001\r\na\r\n0\r\n\r\n", Ok(1)),
    ("largest chunk", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na\r\n0\r\n\r\n", Ok(1)),
    ("expectation", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", Ok(1)),
    ("as many fields as may be", b"GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\n\r\n", Ok(1)),
    (
        "upgrade that is not granted",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        Ok(2),
    ),
    // Lines.
    ("LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", Err(FramingErrorKind::BareLf)),
    ("LF after a field", b"GET / HTTP/1.1\r\nHost: a\n\r\n", Err(FramingErrorKind::BareLf)),
    ("LF ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n", Err(FramingErrorKind::BareLf)),
    ("LF before the request line", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::BareLf)),
    ("CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Err(FramingErrorKind::BareCr)),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Err(FramingErrorKind::BareCr)),
    ("CR in the request line", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::BareCr)),
    ("CR before the request line", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::BareCr)),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", Err(FramingErrorKind::Nul)),
    ("NUL in a name", b"GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n", Err(FramingErrorKind::Nul)),
    ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Nul)),
    ("control in a value", b"GET / HTTP/1.1\r\nHost: a\x0b\r\n\r\n", Err(FramingErrorKind::Control)),
    ("DEL in a value", b"GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n", Err(FramingErrorKind::Control)),
    ("two empty lines", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::EmptyLines)),
    ("second: two empty lines", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\n", Err(FramingErrorKind::EmptyLines)),
    // Request line.
    ("no version", b"GET /\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("empty target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("one word", b"GET\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("two spaces first", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("two spaces last", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("tab for a space", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("space at the end", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("space at the start", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("no method", b"/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("method of delimiters", b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("lower-case version", b"GET / http/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("http/0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Version)),
    ("http/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(FramingErrorKind::Version)),
    ("http/1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Err(FramingErrorKind::RequestLine)),
    ("fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Fragment)),
    ("non-ASCII target", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("angle brackets", b"GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("quote in the query", b"GET /?\" HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("backtick in the path", b"GET /`?` HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("relative target", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("query alone", b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("authority for GET", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("other scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("scheme alone", b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    ("asterisk and more", b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", Err(FramingErrorKind::Target)),
    // Fields.
    ("space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Err(FramingErrorKind::LeadingWhitespace)),
    ("folded with a space", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Err(FramingErrorKind::Folding)),
    ("folded with a tab", b"GET / HTTP/1.1\r\nHost: a\r\n\tTransfer-Encoding: chunked\r\n\r\n", Err(FramingErrorKind::Folding)),
    ("folded, empty", b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", Err(FramingErrorKind::Folding)),
    ("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Err(FramingErrorKind::MissingColon)),
    ("no colon, words", b"GET / HTTP/1.1\r\nHost a\r\n\r\n", Err(FramingErrorKind::MissingColon)),
    ("space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Err(FramingErrorKind::SpaceBeforeColon)),
    ("tab before the colon", b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", Err(FramingErrorKind::SpaceBeforeColon)),
    ("empty name", b"GET / HTTP/1.1\r\n: a\r\n\r\n", Err(FramingErrorKind::EmptyName)),
    ("name of delimiters", b"GET / HTTP/1.1\r\nHo(st: a\r\n\r\n", Err(FramingErrorKind::Name)),
    ("name of obs-text", b"GET / HTTP/1.1\r\nX\xff: a\r\n\r\n", Err(FramingErrorKind::Name)),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", Err(FramingErrorKind::HostMissing)),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Err(FramingErrorKind::HostRepeated)),
    ("no host, absolute", b"GET http://a/ HTTP/1.1\r\n\r\n", Err(FramingErrorKind::HostMissing)),
    // Length.
    ("two lengths, equal", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", Err(FramingErrorKind::LengthRepeated)),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", Err(FramingErrorKind::LengthRepeated)),
    ("list of lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na", Err(FramingErrorKind::LengthInvalid)),
    ("signed length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", Err(FramingErrorKind::LengthInvalid)),
    ("negative length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na", Err(FramingErrorKind::LengthInvalid)),
    ("hexadecimal length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na", Err(FramingErrorKind::LengthInvalid)),
    ("no length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na", Err(FramingErrorKind::LengthInvalid)),
    ("length with a space", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\na", Err(FramingErrorKind::LengthInvalid)),
    ("length too large", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\na", Err(FramingErrorKind::LengthInvalid)),
    ("length far too large", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\na", Err(FramingErrorKind::LengthInvalid)),
    ("length, then coding", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Err(FramingErrorKind::LengthAndEncoding)),
    ("coding, then length", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", Err(FramingErrorKind::LengthAndEncoding)),
    // Coding.
    ("gzip, chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Err(FramingErrorKind::EncodingUnsupported)),
    ("identity", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", Err(FramingErrorKind::EncodingUnsupported)),
    ("no coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", Err(FramingErrorKind::EncodingUnsupported)),
    ("xchunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", Err(FramingErrorKind::EncodingUnsupported)),
    ("chunked with a parameter", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", Err(FramingErrorKind::EncodingUnsupported)),
    ("chunked twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Err(FramingErrorKind::EncodingUnsupported)),
    ("two codings", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Err(FramingErrorKind::EncodingRepeated)),
    ("two codings, other first", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n", Err(FramingErrorKind::EncodingUnsupported)),
    ("chunked in http/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err(FramingErrorKind::EncodingInHttp10)),
    // Chunks.
    ("no size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", Err(FramingErrorKind::ChunkSize)),
    ("size of a word", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Err(FramingErrorKind::ChunkSize)),
    ("size with 0x", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", Err(FramingErrorKind::ChunkSize)),
    ("signed size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n", Err(FramingErrorKind::ChunkSize)),
    ("space before the size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\na\r\n", Err(FramingErrorKind::ChunkSize)),
    ("space after the size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n", Err(FramingErrorKind::ChunkSize)),
    ("seventeen digits", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\na\r\n", Err(FramingErrorKind::ChunkSize)),
    ("extension", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\x01\r\na\r\n", Err(FramingErrorKind::ChunkExtension)),
    ("extension on the last", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;\x7f\r\n\r\n", Err(FramingErrorKind::ChunkExtension)),
    ("LF after the size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n", Err(FramingErrorKind::BareLf)),
    ("CR after the size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\ra\r\n", Err(FramingErrorKind::BareCr)),
    ("data too long", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", Err(FramingErrorKind::ChunkEnd)),
    ("data with LF", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n", Err(FramingErrorKind::ChunkEnd)),
    ("data with CR", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r0\r\n\r\n", Err(FramingErrorKind::ChunkEnd)),
    ("LF in trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\r\n", Err(FramingErrorKind::BareLf)),
    ("LF ends trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", Err(FramingErrorKind::BareLf)),
    ("NUL in trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: \0\r\n\r\n", Err(FramingErrorKind::Nul)),
    ("space before trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n X: 1\r\n\r\n", Err(FramingErrorKind::LeadingWhitespace)),
    ("folded trailer", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n 2\r\n\r\n", Err(FramingErrorKind::Folding)),
    ("trailer without a colon", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n", Err(FramingErrorKind::MissingColon)),
    ("too many trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\n\r\n", Err(FramingErrorKind::TooManyFields)),
    ("too many fields", b"GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n\r\n", Err(FramingErrorKind::TooManyFields)),
    // A good request first.
    ("second: error", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\n\r\n", Err(FramingErrorKind::BareLf)),
    ("second: error in the body", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", Err(FramingErrorKind::ChunkSize)),
];

/// Cases that are too long for the table.
fn long_cases() -> Vec<(&'static str, Vec<u8>, Result<u64, FramingErrorKind>)> {
    let head = |size: usize| {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        head.resize(size - 4, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        head
    };
    let trailers = |size: usize| {
        let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_vec();
        let end = bytes.len() + size - 4;
        bytes.extend_from_slice(b"X: ");
        bytes.resize(end, b'x');
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes
    };
    let mut endless = b"GET /".to_vec();
    endless.resize(300, b'x');
    let mut empty_line = b"\r\n".to_vec();
    empty_line.extend_from_slice(&head(LIMITS.size - 2));
    vec![
        ("as large as may be", head(LIMITS.size), Ok(1)),
        ("with an empty line", empty_line, Ok(1)),
        ("too large", head(LIMITS.size + 1), Err(FramingErrorKind::TooLarge)),
        ("line without an end", endless, Err(FramingErrorKind::TargetTooLong)),
        ("trailers as large as may be", trailers(LIMITS.size - 1), Ok(1)),
        ("trailers too large", trailers(LIMITS.size), Err(FramingErrorKind::TooLarge)),
    ]
}

fn for_each_case(mut test: impl FnMut(&str, &[u8], Result<u64, FramingErrorKind>)) {
    CASES.iter().for_each(|(name, bytes, expected)| test(name, bytes, *expected));
    long_cases().iter().for_each(|(name, bytes, expected)| test(name, bytes, *expected));
}

/// The target of a request, and its body if it was complete.
type Seen = (String, Result<Bytes, ()>);

/// A connection, read as the proxy reads it.
struct Connection {
    reader: Reader,
    input: Bytes,
    seen: Vec<Seen>,
    body: BytesMut,
}

impl Connection {
    fn new(limits: HeadLimits) -> Self {
        Self { reader: Reader::new(limits), input: Bytes::new(), seen: Vec::new(), body: BytesMut::new() }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), FramingError> {
        self.input = [&self.input, chunk].concat().into();
        loop {
            if let Some(head) = self.reader.head(&mut self.input)? {
                self.seen.push((head.uri.to_string(), Err(())));
            } else if let Some(frame) = self.reader.body(&mut self.input)? {
                self.body.extend_from_slice(frame.data_ref().map(|data| &**data).unwrap_or_default());
            } else if !self.reader.between_messages() || self.input.is_empty() || self.ended() {
                self.end();
                return Ok(());
            }
            self.end();
        }
    }

    /// Whether the body of the last request has been reported already.
    fn ended(&self) -> bool {
        self.seen.last().is_none_or(|(_, body)| body.is_ok())
    }

    fn end(&mut self) {
        if self.reader.between_messages()
            && let Some((_, body @ Err(()))) = self.seen.last_mut()
        {
            *body = Ok(self.body.split().freeze());
        }
    }
}

/// Returns the requests read from these chunks, or the error, and the connection afterwards.
fn feed<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Result<u64, FramingErrorKind>, Connection) {
    let mut connection = Connection::new(LIMITS);
    for chunk in chunks {
        if let Err(error) = connection.take(chunk) {
            assert_eq!(connection.take(b"x"), Err(error), "an error is final");
            connection.input.truncate(connection.input.len() - 1);
            return (Err(error.kind), connection);
        }
    }
    (Ok(connection.seen.len() as u64), connection)
}

/// Returns the part of these bytes that was accepted: all, or what precedes the error.
fn admitted(bytes: &[u8]) -> (&[u8], Vec<Seen>) {
    match feed([bytes]) {
        (Ok(_), connection) => (bytes, connection.seen),
        (Err(_), connection) => (&bytes[..bytes.len() - connection.input.len()], connection.seen),
    }
}

#[test]
fn verdicts_do_not_depend_on_how_bytes_are_split() {
    for_each_case(|name, bytes, expected| {
        let whole = feed([bytes]);
        assert_eq!(whole.0, expected, "{name}");
        let read = |chunks: &[&[u8]], how: &str| {
            let (verdict, connection) = feed(chunks.iter().copied());
            assert_eq!((verdict, &connection.seen), (expected, &whole.1.seen), "{name}, {how}");
        };
        read(&bytes.chunks(1).collect::<Vec<_>>(), "byte by byte");
        for at in 0..=bytes.len() {
            let (first, second) = bytes.split_at(at);
            read(&[first, second], &format!("split at {at}"));
        }
    });
}

#[test]
fn what_precedes_a_flaw_is_read() {
    let good = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    for_each_case(|name, bytes, expected| {
        let whole = [good.as_slice(), good, bytes].concat();
        let (verdict, connection) = feed([whole.as_slice()]);
        assert_eq!(verdict, expected.map(|requests| requests + 2), "{name}");
        let before = connection.seen.get(..2).unwrap_or_default();
        assert!(before.iter().all(|(target, body)| target == "/good" && body.is_ok()), "{name}");
    });
}

#[test]
fn what_a_head_says_about_its_connection() {
    for (head, keep_alive, expects_continue, takes_trailers) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false, false, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n", false, false, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false, false, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true, false, false),
        ("GET / HTTP/1.0\r\n\r\n", false, false, false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, false, false),
        ("GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", false, false, false),
        ("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, Trailers\r\n\r\n", true, false, true),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n", true, true, false),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", true, false, false),
        ("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", false, false, false),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", true, false, false),
    ] {
        let read = Reader::new(LIMITS).head(&mut Bytes::from(head)).unwrap().unwrap();
        let found = (read.keep_alive, read.expects_continue, read.takes_trailers);
        assert_eq!(found, (keep_alive, expects_continue, takes_trailers), "{head}");
    }
}

#[test]
fn a_head_is_under_way_from_its_first_byte_to_its_last() {
    for (bytes, expected) in [
        (&b""[..], false),
        (b"\r", false),
        (b"\r\n", false),
        (b"G", true),
        (b"\r\nG", true),
        (b"GET / HTTP/1.1\r\n", true),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r", true),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na", false),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX:", false),
    ] {
        let under_way = |connection: &Connection| connection.reader.mid_head(&connection.input);
        assert_eq!(under_way(&feed([bytes]).1), expected, "{}", bytes.escape_ascii());
        assert_eq!(under_way(&feed(bytes.chunks(1)).1), expected, "{}", bytes.escape_ascii());
    }
}

/// F36
#[test]
fn sizes_targets_and_versions_have_statuses_of_their_own() {
    let status = |kind| FramingError { kind }.reason().status().as_u16();
    for (kind, expected) in [
        (FramingErrorKind::TooLarge, 431),
        (FramingErrorKind::TooManyFields, 431),
        (FramingErrorKind::TargetTooLong, 414),
        (FramingErrorKind::Version, 505),
        (FramingErrorKind::BareLf, 400),
        (FramingErrorKind::RequestLine, 400),
    ] {
        assert_eq!(status(kind), expected, "{kind:?}");
    }
    // Whether the line is complete or not, and within the limit of heads or not.
    for (size, length) in [(100_000, 70_000), (1_000, 2_000)] {
        let mut line = b"GET /".to_vec();
        line.resize(length, b'a');
        line.extend_from_slice(b" HTTP/1.1\r\n");
        for line in [&line[..], line.get(..1_500).filter(|_| size < 1_500).unwrap_or(&line)] {
            let mut connection = Connection::new(HeadLimits { size, headers: 8 });
            assert_eq!(connection.take(line), Err(FramingError { kind: FramingErrorKind::TargetTooLong }), "{size}");
        }
    }
}

/// F36. hyper refuses later minor versions, against RFC 9110 §2.5.
#[test]
fn later_minor_versions_are_read_as_1_1() {
    for minor in 1..=9 {
        let bytes =
            format!("POST / HTTP/1.{minor}\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
        let (read, connection) = feed([bytes.as_bytes()]);
        assert!(read.is_ok() && connection.seen.len() == 1, "{minor}");
        let head = Reader::new(LIMITS).head(&mut Bytes::from(bytes)).unwrap().unwrap();
        assert!(head.version == http::Version::HTTP_11 && head.keep_alive, "{minor}");
    }
}

/// Returns the requests that a hyper server reads from the bytes, in order.
fn seen_by_hyper(bytes: &[u8]) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let service = service_fn(|request: Request<Incoming>| {
            let seen = Rc::clone(&seen);
            async move {
                let at = seen.borrow().len();
                seen.borrow_mut().push((request.uri().to_string(), Err(())));
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).map_err(drop);
                seen.borrow_mut()[at].1 = body;
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let mut builder = http1::Builder::new();
        builder.half_close(true).max_headers(LIMITS.headers).max_header_size(LIMITS.size);
        // Fails when the bytes end in the middle of a message; only what the service received counts.
        let _ = builder.serve_connection(TokioIo::new(server), service).await;
    });
    Rc::into_inner(seen).unwrap().into_inner()
}

#[test]
fn hyper_sees_what_is_read() {
    for_each_case(|name, bytes, _| {
        let (bytes, seen) = admitted(bytes);
        assert_eq!(seen_by_hyper(bytes), seen, "{name}");
    });
}

#[test]
fn hyper_alone_would_see_more() {
    // Requests that are refused here and accepted by hyper.
    for bytes in [
        &b"GET / HTTP/1.1\nHost: a\n\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(feed([bytes]).0.is_err(), "{}", bytes.escape_ascii());
        assert_eq!(seen_by_hyper(bytes).len(), 1, "{}", bytes.escape_ascii());
    }
}

/// A valid request with its target, and its body as a server should receive it.
fn request() -> impl Strategy<Value = (String, Vec<u8>, Vec<u8>)> {
    let body = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..4);
    let trailers = proptest::collection::vec("[a-z]{1,8}: [ -~]{0,12}", 0..3);
    ("/[a-z0-9/?&=]{0,12}", 0..3, body, trailers, any::<bool>()).prop_map(
        |(target, kind, body, trailers, empty_line)| {
            let mut bytes = if empty_line { b"\r\n".to_vec() } else { Vec::new() };
            let whole = if kind == 0 { Vec::new() } else { body.concat() };
            bytes.extend_from_slice(format!("POST {target} HTTP/1.1\r\nHost: a\r\n").as_bytes());
            match kind {
                0 => bytes.extend_from_slice(b"X: y\r\n\r\n"),
                1 => {
                    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", whole.len()).as_bytes());
                    bytes.extend_from_slice(&whole);
                }
                _ => {
                    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    for chunk in &body {
                        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                        bytes.extend_from_slice(chunk);
                        bytes.extend_from_slice(b"\r\n");
                    }
                    bytes.extend_from_slice(b"0\r\n");
                    trailers.iter().for_each(|line| bytes.extend_from_slice(format!("{line}\r\n").as_bytes()));
                    bytes.extend_from_slice(b"\r\n");
                }
            }
            (target, bytes, whole)
        },
    )
}

/// The pieces that hostile requests are made of.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"abc",
        b"\r\n",
        b"\n",
        b"\r",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: ",
        b"0\r\n",
        b"3\r\nabc\r\n",
        b";a",
        b" ",
        b"\t",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        b"0\r\n\r\n",
        b":",
        b"\0",
        b"X: y\r\n",
        b"1",
        b"#",
        b"Connection: close\r\n",
        b"\xff",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_handled(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in 1_usize..50) {
        let _ = feed(bytes.chunks(size));
    }

    #[test]
    fn hostile_bytes_are_read_alike_however_they_are_split(bytes in fragments(), size in 1_usize..9) {
        let (whole, pieces) = (feed([bytes.as_slice()]), feed(bytes.chunks(size)));
        prop_assert_eq!((whole.0, whole.1.seen), (pieces.0, pieces.1.seen));
    }

    #[test]
    fn hyper_never_sees_anything_else(bytes in fragments()) {
        let (bytes, seen) = admitted(&bytes);
        let by_hyper = seen_by_hyper(bytes);
        // After `Connection: close`, and HTTP/1.0, hyper reads no further.
        let closes = memchr::memmem::find(bytes, b"close").is_some() || memchr::memmem::find(bytes, b"/1.0").is_some();
        prop_assert!(by_hyper == seen || (closes && seen.starts_with(&by_hyper)), "{} {by_hyper:?} {seen:?}", bytes.escape_ascii());
    }

    #[test]
    fn valid_requests_are_admitted(
        requests in proptest::collection::vec(request(), 0..6),
        splits in proptest::collection::vec(1_usize..60, 1..40),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|(_, bytes, _)| bytes.iter().copied()).collect();
        let mut rest = bytes.as_slice();
        let mut chunks = Vec::new();
        for size in splits {
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        let expected: Vec<_> = requests.into_iter().map(|(target, _, body)| (target, Ok(Bytes::from(body)))).collect();
        prop_assert_eq!(&seen_by_hyper(&bytes), &expected);
        prop_assert_eq!(feed(chunks).1.seen, expected);
    }
}
