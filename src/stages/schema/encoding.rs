//! Decodes the content coding of a body (RFC 9110 §8.4.1), within the limit of the decoded size.
//!
//! At most one coding is accepted. Decompression stops at the limit, at a ratio that no ordinary body has, and at the memory
//! budget of the process, so a small body cannot expand into a large one, nor many small ones together. The encoded bytes are
//! forwarded, so nothing may follow the end of the coded data, not even more of it: another decoder might read on, or stop.

use std::io::{self, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ruzstd::decoding::StreamingDecoder;

use super::malformed::malformed;
use super::offload::offload;
use crate::body::{no_memory, too_large};
use crate::budget::{Exhausted, MemoryBudget, Reservation};
use crate::refusal::{Reason, Refusal, Stage};

/// Bodies of at most this many bytes, encoded and decoded, are decoded on the worker, in at most a millisecond.
const AT_ONCE: u64 = 256 << 10;
/// A body decodes to at most this many times its size. Texts reach 50, and generated ones 100; zeros reach 1000.
const MAX_RATIO: u64 = 200;
/// The ratio is not limited up to this decoded size, in bytes.
const ANY_RATIO: u64 = 1 << 20;
/// Bytes that a decoder yields at a time.
const PIECE: usize = 8 * 1024;

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
            (Some(value), None) => value.to_str().unwrap_or_default().trim(),
            _ => "",
        };
        Self::named(text).ok_or_else(|| {
            Refusal::new(
                Stage::Schema,
                Reason::UnsupportedMediaType,
                "send the body unencoded, or with one of gzip, deflate, br, zstd",
            )
        })
    }

    /// The coding with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        const NAMES: [(&str, Encoding); 6] = [
            ("identity", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("deflate", Encoding::Deflate),
            ("br", Encoding::Brotli),
            ("zstd", Encoding::Zstd),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, encoding)| *encoding)
    }

    /// Decodes a body of at most `limit` bytes: small ones here, others on another thread.
    pub(super) async fn decode(self, body: Bytes, limit: u64, memory: &MemoryBudget) -> Result<Bytes, Refusal> {
        if self == Self::Identity {
            return Ok(body);
        }
        if body.len() as u64 <= AT_ONCE {
            match self.decode_here(&body, limit.min(AT_ONCE), memory) {
                Err(refusal) if refusal.reason() == Reason::BodyTooLarge && limit > AT_ONCE => {}
                decoded => return decoded,
            }
        }
        let memory = memory.clone();
        // Boxed: rare and large, and it would be a part of every request's future.
        Box::pin(offload(move || self.decode_here(&body, limit, &memory))).await
    }

    fn decode_here(self, encoded: &[u8], limit: u64, memory: &MemoryBudget) -> Result<Bytes, Refusal> {
        let by_ratio = (encoded.len() as u64).saturating_mul(MAX_RATIO).max(ANY_RATIO);
        let mut decoded = Decoded { bytes: Vec::new(), limit: limit.min(by_ratio), taken: memory.reserve() };
        let done = match self {
            Self::Identity => decoded.add(encoded),
            Self::Gzip => gunzip(encoded, &mut decoded),
            Self::Deflate => inflate(encoded, &mut decoded),
            Self::Brotli => unbrotli(encoded, &mut decoded),
            Self::Zstd => unzstd(encoded, &mut decoded),
        };
        match done {
            Ok(()) => Ok(decoded.taken.attach(decoded.bytes)),
            Err(DecodeError::Large) if by_ratio < limit => {
                let detail = format!("the body decodes to more than {MAX_RATIO} times its size; compress it less");
                Err(Refusal::new(Stage::Schema, Reason::BodyTooLarge, detail))
            }
            Err(DecodeError::Large) => Err(too_large(limit)),
            Err(DecodeError::Exhausted) => Err(no_memory(Stage::Schema)),
            Err(DecodeError::Malformed(cause)) => {
                Err(malformed("the body is not what its Content-Encoding says").cause(cause))
            }
        }
    }
}

/// Why a body cannot be decoded.
enum DecodeError {
    Large,
    Exhausted,
    Malformed(String),
}

impl From<Exhausted> for DecodeError {
    fn from(Exhausted: Exhausted) -> Self {
        Self::Exhausted
    }
}

fn broken(error: impl std::fmt::Display) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}

/// The decoded bytes, within their limit and the memory budget.
struct Decoded {
    bytes: Vec<u8>,
    limit: u64,
    taken: Reservation,
}

impl Decoded {
    /// Adds bytes; takes their memory before it is used.
    fn add(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        let needed = self.bytes.len().saturating_add(piece.len());
        if needed as u64 > self.limit {
            return Err(DecodeError::Large);
        }
        if needed > self.bytes.capacity() {
            let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
            let room = needed.saturating_mul(2).min(limit).max(needed);
            self.taken.grow_to(room)?;
            self.bytes.reserve_exact(room.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Adds everything that a decoder yields.
    fn read(&mut self, mut decoder: impl Read) -> Result<(), DecodeError> {
        let mut piece = [0; PIECE];
        loop {
            match decoder.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => self.add(piece.get(..count).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

/// A finished decoder must have consumed all input.
fn ended(rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() { Ok(()) } else { Err(broken("something follows its end")) }
}

/// One member: of several (RFC 1952 §2.2), some decoders read only the first.
fn gunzip(encoded: &[u8], decoded: &mut Decoded) -> Result<(), DecodeError> {
    let mut decoder = flate2::bufread::GzDecoder::new(encoded);
    decoded.read(&mut decoder)?;
    ended(decoder.into_inner())
}

fn inflate(encoded: &[u8], decoded: &mut Decoded) -> Result<(), DecodeError> {
    let mut decoder = flate2::bufread::ZlibDecoder::new(encoded);
    decoded.read(&mut decoder)?;
    ended(decoder.into_inner())?;
    match is_raw(encoded, decoded.limit) {
        true => Err(broken("it means something else without the format that is around it")),
        false => Ok(()),
    }
}

/// Whether it is data without the zlib format, too, which some decoders try first (RFC 9110 §8.4.1.2). Of what is not made for
/// it, the first bytes say that it is not; otherwise, as much is decoded as the body may have.
fn is_raw(encoded: &[u8], limit: u64) -> bool {
    io::copy(&mut flate2::bufread::DeflateDecoder::new(encoded).take(limit), &mut io::sink()).is_ok()
}

fn unbrotli(encoded: &[u8], decoded: &mut Decoded) -> Result<(), DecodeError> {
    let [first, second, third] = std::array::from_fn(|_| StandardAlloc::default());
    // Strict: the `br` coding has no windows over 16 MiB (RFC 7932 §9.1), and `new` takes those of up to 1 GiB.
    let mut state = BrotliState::new_strict(first, second, third);
    let (mut left, mut read, mut total) = (encoded.len(), 0, 0);
    loop {
        let mut piece = [0; PIECE];
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
        decoded.add(piece.get(..written).unwrap_or_default())?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess => return ended(encoded.get(read..).unwrap_or_default()),
            BrotliResult::NeedsMoreInput => return Err(broken(io::Error::from(io::ErrorKind::UnexpectedEof))),
            BrotliResult::ResultFailure => return Err(broken("it is broken")),
        }
    }
}

fn unzstd(encoded: &[u8], decoded: &mut Decoded) -> Result<(), DecodeError> {
    /// RFC 8878 §3.1.1.1.2 recommends that decoders support windows of 8 MiB, and lets them refuse larger ones.
    const MAX_WINDOW: u64 = 8 * 1024 * 1024;
    let mut rest = encoded;
    // One frame: of several, some decoders read only the first.
    decoded.read(StreamingDecoder::new_with_max_window_size(&mut rest, MAX_WINDOW).map_err(broken)?)?;
    ended(rest)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    fn decode(encoding: Encoding, body: impl Into<Bytes>, limit: u64) -> Result<Bytes, Refusal> {
        encoding.decode_here(&body.into(), limit, &MemoryBudget::new(u64::MAX))
    }

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
            assert_eq!(decode(encoding, encoded.clone(), limit).unwrap(), plain, "{name}");
            if encoding != Encoding::Identity {
                let refusal = decode(encoding, encoded.clone(), limit - 1).unwrap_err();
                assert_eq!(refusal.reason(), Reason::BodyTooLarge, "{name}");
                let followed = [&encoded[..], b"more"].concat();
                let refusal = decode(encoding, followed, limit).unwrap_err();
                assert_eq!(refusal.reason(), Reason::MalformedBody, "{name}, with something behind");
                let refusal = decode(encoding, Bytes::from_static(b"not encoded at all"), limit).unwrap_err();
                assert_eq!(refusal.reason(), Reason::MalformedBody, "{name}");
            }
        }
    }

    /// F25's kind: what decoders read in two ways is refused.
    #[test]
    fn encoded_data_that_decoders_end_or_begin_in_different_places_are_refused() {
        let zstd = |plain: &[u8]| ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest);
        // A block of zlib's whose length, and what it begins with, are a header, a length and a block for others.
        let mut inner = [b"a".repeat(8199), vec![1, 1, 0, 0xfe, 0xff, b'x']].concat();
        inner.resize(0xdff6, b'b');
        let (low, high) = inner.iter().fold((1_u32, 0), |(low, high), byte| {
            let low = (low + u32::from(*byte)) % 65_521;
            (low, (high + low) % 65_521)
        });
        let start = [0x58, 0x09, 0x20, 0xf6, 0xdf, 0x09, 0x20];
        let end = [1, 0, 0, 0xff, 0xff];
        let checksum = ((high << 16) | low).to_be_bytes();
        let two = [&start[..], &inner, &end, &checksum].concat();
        for (encoding, encoded) in [
            (Encoding::Gzip, [gzip(b"amount=1"), gzip(b"000")].concat()),
            (Encoding::Gzip, [gzip(b"amount=1"), gzip(b"")].concat()),
            (Encoding::Zstd, [zstd(b"amount=1"), zstd(b"000")].concat()),
            (Encoding::Deflate, two),
        ] {
            let refusal = decode(encoding, encoded, 1 << 20).unwrap_err();
            assert_eq!(refusal.reason(), Reason::MalformedBody, "{encoding:?}");
            assert!(refusal.logged().is_some_and(|why| why.contains("its end") || why.contains("around it")));
        }
    }

    #[test]
    fn brotli_is_decoded() {
        // "hello" as an uncompressed meta-block (RFC 7932 §9.2) between header and end.
        let encoded = Bytes::from_static(&[0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03]);
        assert_eq!(decode(Encoding::Brotli, encoded.clone(), 5).unwrap(), "hello");
        for (encoded, limit, reason) in [
            (&encoded[..], 4, Reason::BodyTooLarge),
            (&encoded[..encoded.len() - 1], 5, Reason::MalformedBody),
            (&[&encoded[..], b"x"].concat(), 5, Reason::MalformedBody),
            (&[0xff; 40], 5, Reason::MalformedBody),
            // An empty stream with a window of 1 GiB, which is not of this coding; found by the fuzz target `coding`.
            (&[0x11, 0xde], 5, Reason::MalformedBody),
        ] {
            let refusal = decode(Encoding::Brotli, Bytes::copy_from_slice(encoded), limit).unwrap_err();
            assert_eq!(refusal.reason(), reason, "{encoded:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_two_codings_are_refused() {
        let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
        let refusal = decode(Encoding::Gzip, bomb, 1024).unwrap_err();
        assert_eq!(refusal.reason(), Reason::BodyTooLarge);
        for value in ["gzip, br", "compress", ""] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(Encoding::of(&headers).unwrap_err().reason(), Reason::UnsupportedMediaType, "{value}");
        }
    }

    #[test]
    fn a_small_body_cannot_expand_without_measure() {
        // S9: the limit of the route may be large; a ratio that no text has is refused before.
        let spaces = gzip(&vec![b' '; 8 << 20]);
        let refusal = decode(Encoding::Gzip, spaces, 64 << 20).unwrap_err();
        assert_eq!(refusal.reason(), Reason::BodyTooLarge);
        assert!(refusal.detail().contains("200 times its size"), "{}", refusal.detail());
        let small = gzip(&vec![b' '; 1 << 20]);
        assert_eq!(decode(Encoding::Gzip, small, 64 << 20).unwrap().len(), 1 << 20);
    }

    #[test]
    fn memory_is_taken_before_it_is_filled_and_returned_with_the_body() {
        // S9: many bodies that decode to what each of them may, all together past what the process may hold.
        let body = gzip(&vec![b' '; 600 << 10]);
        let memory = MemoryBudget::new(1 << 20);
        let first = Encoding::Gzip.decode_here(&body, 700 << 10, &memory).unwrap();
        assert!((600 << 10..=700 << 10).contains(&memory.in_use()), "{}", memory.in_use());
        let refusal = Encoding::Gzip.decode_here(&body, 700 << 10, &memory).unwrap_err();
        assert_eq!((refusal.reason(), refusal.own_members().retry_after), (Reason::Overloaded, Some(1)));
        drop(first);
        assert_eq!((memory.in_use(), memory.refusals()), (0, 1));
        Encoding::Gzip.decode_here(&body, 700 << 10, &memory).unwrap();
    }

    #[test]
    fn a_body_that_becomes_large_is_decoded_beside_the_worker() {
        let memory = MemoryBudget::new(u64::MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_time().build();
        let poll = |size: usize| {
            let body = Bytes::from(gzip(&vec![b' '; size]));
            let memory = &memory;
            async move {
                // The only other thread is busy, so that nothing ends there before the first poll does.
                let (go, may_go) = std::sync::mpsc::channel::<()>();
                tokio::task::spawn_blocking(move || may_go.recv());
                let mut decoding = std::pin::pin!(Encoding::Gzip.decode(body, 1 << 20, memory));
                let first = std::future::poll_fn(|cx| std::task::Poll::Ready(decoding.as_mut().poll(cx))).await;
                drop(go);
                match first {
                    std::task::Poll::Ready(decoded) => (true, decoded.unwrap().len()),
                    std::task::Poll::Pending => (false, decoding.await.unwrap().len()),
                }
            }
        };
        runtime.unwrap().block_on(async {
            assert_eq!(poll(256 << 10).await, (true, 256 << 10));
            assert_eq!(poll((256 << 10) + 1).await, (false, (256 << 10) + 1));
        });
    }
}
