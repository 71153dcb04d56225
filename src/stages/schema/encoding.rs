//! Decodes the content coding of a body (RFC 9110 §8.4.1), within the limit of the decoded size.
//!
//! At most one coding is accepted. Decompression stops at the limit, so a small body cannot expand into a large one. The
//! encoded bytes are forwarded, so nothing may follow the end of the coded data: another decoder might read on.

use std::io::{self, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ruzstd::decoding::StreamingDecoder;

use super::malformed::malformed;
use crate::body::too_large;
use crate::refusal::{Reason, Refusal, Stage};

/// How a body was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Encoding {
    /// Reads the coding from the headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let text = match (values.next(), values.next()) {
            (None, _) => return Ok(Self::Identity),
            (Some(value), None) => value.to_str().unwrap_or_default().trim().to_ascii_lowercase(),
            _ => String::new(),
        };
        match text.as_str() {
            "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "br" => Ok(Self::Brotli),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Refusal::new(
                Stage::Schema,
                Reason::UnsupportedMediaType,
                "send the body unencoded, or with one of gzip, deflate, br, zstd",
            )),
        }
    }

    /// The decoded body, of at most `limit` bytes.
    pub(super) fn decode(self, body: Bytes, limit: u64) -> Result<Bytes, Refusal> {
        let encoded: &[u8] = &body;
        let decoded = match self {
            Self::Identity => return Ok(body),
            Self::Gzip => bounded(flate2::read::MultiGzDecoder::new(encoded), limit),
            Self::Deflate => {
                let mut decoder = flate2::bufread::ZlibDecoder::new(encoded);
                let decoded = bounded(&mut decoder, limit);
                ended(decoded, limit, decoder.into_inner())
            }
            Self::Brotli => unbrotli(encoded, limit),
            Self::Zstd => unzstd(encoded, limit),
        };
        match decoded {
            Ok(decoded) if decoded.len() as u64 > limit => Err(too_large(limit)),
            Ok(decoded) => Ok(decoded.into()),
            Err(error) => Err(malformed("the body is not what its Content-Encoding says").cause(error.to_string())),
        }
    }
}

/// Reads one byte past the limit, so that the caller can detect an excess.
fn bounded(decoder: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut decoded = Vec::new();
    decoder.take(limit.saturating_add(1)).read_to_end(&mut decoded)?;
    Ok(decoded)
}

/// Checks that a finished decoder has consumed all input.
fn ended(decoded: io::Result<Vec<u8>>, limit: u64, rest: &[u8]) -> io::Result<Vec<u8>> {
    match decoded {
        Ok(decoded) if decoded.len() as u64 <= limit && !rest.is_empty() => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "something follows its end"))
        }
        decoded => decoded,
    }
}

fn unbrotli(encoded: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let [first, second, third] = std::array::from_fn(|_| StandardAlloc::default());
    // Strict: the `br` coding has no windows over 16 MiB (RFC 7932 §9.1), and `new` takes those of up to 1 GiB.
    let mut state = BrotliState::new_strict(first, second, third);
    let (mut decoded, mut total) = (Vec::new(), 0);
    let (mut left, mut read) = (encoded.len(), 0);
    while total as u64 <= limit {
        let mut piece = [0; 8 * 1024];
        let (mut room, mut written) = (piece.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            encoded,
            &mut room,
            &mut written,
            &mut piece,
            &mut total,
            &mut state,
        );
        decoded.extend_from_slice(piece.get(..written).unwrap_or_default());
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess => {
                return ended(Ok(decoded), limit, encoded.get(read..).unwrap_or_default());
            }
            BrotliResult::NeedsMoreInput => return Err(io::ErrorKind::UnexpectedEof.into()),
            BrotliResult::ResultFailure => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is broken")),
        }
    }
    Ok(decoded)
}

fn unzstd(encoded: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    /// RFC 8878 §3.1.1.1.2 recommends that decoders support windows of 8 MiB, and lets them refuse larger ones.
    const MAX_WINDOW: u64 = 8 * 1024 * 1024;
    let mut rest = encoded;
    let mut decoded = Vec::new();
    while !rest.is_empty() && decoded.len() as u64 <= limit {
        let frame = StreamingDecoder::new_with_max_window_size(&mut rest, MAX_WINDOW).map_err(io::Error::other)?;
        let left = limit.saturating_add(1).saturating_sub(decoded.len() as u64);
        frame.take(left).read_to_end(&mut decoded)?;
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_are_decoded_within_the_limit() {
        let plain = b"{\"a\": 1}".repeat(100);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&plain).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(&*plain, ruzstd::encoding::CompressionLevel::Fastest);
        for (name, encoded) in [
            ("identity", plain.clone()),
            ("gzip", gzip(&plain)),
            ("GZip", gzip(&plain)),
            ("deflate", zlib.finish().unwrap()),
            ("zstd", [zstd.as_slice()].concat()),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
            let encoding = Encoding::of(&headers).unwrap();
            let limit = plain.len() as u64;
            assert_eq!(encoding.decode(encoded.clone().into(), limit).unwrap(), plain, "{name}");
            if encoding != Encoding::Identity {
                let refusal = encoding.decode(encoded.clone().into(), limit - 1).unwrap_err();
                assert_eq!(refusal.reason(), Reason::BodyTooLarge, "{name}");
                let followed = [&encoded[..], b"more"].concat();
                let refusal = encoding.decode(followed.into(), limit).unwrap_err();
                assert_eq!(refusal.reason(), Reason::MalformedBody, "{name}, with something behind");
                let refusal = encoding.decode(Bytes::from_static(b"not encoded at all"), limit).unwrap_err();
                assert_eq!(refusal.reason(), Reason::MalformedBody, "{name}");
            }
        }
    }

    #[test]
    fn brotli_is_decoded() {
        // "hello" as an uncompressed meta-block (RFC 7932 §9.2) between header and end.
        let encoded = Bytes::from_static(&[0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03]);
        assert_eq!(Encoding::Brotli.decode(encoded.clone(), 5).unwrap(), "hello");
        for (encoded, limit, reason) in [
            (&encoded[..], 4, Reason::BodyTooLarge),
            (&encoded[..encoded.len() - 1], 5, Reason::MalformedBody),
            (&[&encoded[..], b"x"].concat(), 5, Reason::MalformedBody),
            (&[0xff; 40], 5, Reason::MalformedBody),
            // An empty stream with a window of 1 GiB, which is not of this coding; found by the fuzz target `coding`.
            (&[0x11, 0xde], 5, Reason::MalformedBody),
        ] {
            let refusal = Encoding::Brotli.decode(Bytes::copy_from_slice(encoded), limit).unwrap_err();
            assert_eq!(refusal.reason(), reason, "{encoded:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_two_codings_are_refused() {
        let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
        let refusal = Encoding::Gzip.decode(bomb.into(), 1024).unwrap_err();
        assert_eq!(refusal.reason(), Reason::BodyTooLarge);
        for value in ["gzip, br", "compress", ""] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(Encoding::of(&headers).unwrap_err().reason(), Reason::UnsupportedMediaType, "{value}");
        }
    }
}
