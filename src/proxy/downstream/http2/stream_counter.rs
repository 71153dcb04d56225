//! Counts the requests that a client sends on an HTTP/2 connection, from the frames as they are received, and the small parts of their
//! bodies.
//!
//! HTTP/2 refuses some requests itself, before they are handed over: malformed or too large headers, too many streams, an
//! error of the whole connection. They must leave a record, too, so somebody has to know that they were there.

use std::cell::Cell;
use std::rc::Rc;

/// Length of the client connection preface (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// Length of a frame's header (RFC 9113 §4.1).
const HEADER: usize = 9;
/// The type of a frame of a body (RFC 9113 §6.1).
const DATA: u8 = 0;
/// Parts of bodies that are smaller than this, in bytes, are counted by h2, which ends the connection when there are too many.
const SMALL: usize = 256;
/// How many of them are taken in one turn of the connection. h2 bears four times as many that nobody has read
/// ([`super`]), and nobody reads any before the turn ends.
const MOST_SMALL: u32 = 256;
/// Parts of bodies that nobody has read, on a connection, past which the client is asked to open another one. h2 bears fewer small
/// ones, but forgets those of one stream for large ones of another.
const MANY_UNREAD: u32 = 8192;
/// The same past which the connection ends. Each takes some 330 bytes, however small it is.
const MOST_UNREAD: u32 = 2 * MANY_UNREAD;
/// The type of a frame that begins the headers of a request, or its trailers (RFC 9113 §6.2).
const HEADERS: u8 = 1;
/// The type of a frame that promises a stream, which has headers, too (RFC 9113 §6.6). No client may send one, but HTTP/2 only says so
/// once they have ended.
const PUSH_PROMISE: u8 = 5;
/// The type of a frame that continues them (RFC 9113 §6.10).
const CONTINUATION: u8 = 9;
/// The flag of the frame that ends them.
const END_HEADERS: u8 = 4;

/// Reads the headers of frames and skips all else.
#[derive(Debug)]
pub(super) struct StreamCounter {
    /// Bytes to skip: the rest of the preface, or of a frame's payload.
    skip: usize,
    /// The header of a frame, as far as it was received.
    header: [u8; HEADER],
    received: usize,
    /// The highest stream that the client has opened.
    last: u32,
    /// Requests whose headers were received whole.
    whole: u64,
    /// The headers of a request have begun and have not ended.
    in_headers: bool,
    /// Fields have begun and have not ended, of whatever stream: until then HTTP/2 takes no other frame.
    in_fields: bool,
    /// The current frame ends them.
    ends_fields: bool,
    /// How often fields have begun.
    fields: u64,
    preface: bool,
    /// Small parts of bodies that were taken in this turn.
    small: u32,
    unread: Unread,
}

/// How many parts of bodies were received on a connection and not read. Those of requests that nobody reads any more count as well,
/// until no request is left.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Rc<Cell<u32>>);

impl Unread {
    fn received(&self) {
        self.0.set(self.0.get().saturating_add(1));
    }

    /// A part was read.
    pub(super) fn read(&self) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    /// No request is left.
    pub(super) fn forget(&self) {
        self.0.set(0);
    }

    /// Whether they are so many that the connection takes no further requests.
    pub(super) fn are_many(&self) -> bool {
        self.0.get() > MANY_UNREAD
    }

    /// Whether they are so many that the connection ends.
    pub(super) fn are_too_many(&self) -> bool {
        self.0.get() > MOST_UNREAD
    }
}

impl Default for StreamCounter {
    fn default() -> Self {
        let (header, received, last, whole, small) = ([0; HEADER], 0, 0, 0, 0);
        let (in_headers, in_fields, ends_fields, preface, fields) = (false, false, false, true, 0);
        Self {
            skip: PREFACE,
            header,
            received,
            last,
            whole,
            in_headers,
            in_fields,
            ends_fields,
            fields,
            preface,
            small,
            unread: Unread::default(),
        }
    }
}

impl StreamCounter {
    /// Takes the next bytes that were received, up to as many as HTTP/2 may have in this turn. Returns how many.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        while !bytes.is_empty() && !self.has_enough() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                self.preface &= self.skip > 0;
            } else {
                let room = self.header.get_mut(self.received..).unwrap_or_default();
                let size = room.len().min(bytes.len());
                let (header, rest) = bytes.split_at(size);
                room.iter_mut().zip(header).for_each(|(to, from)| *to = *from);
                self.received += size;
                bytes = rest;
                if self.received < HEADER {
                    break;
                }
                self.received = 0;
                self.begin_frame();
            }
            if self.skip == 0 {
                self.end_frame();
            }
        }
        all - bytes.len()
    }

    /// Whether HTTP/2 may have no more in this turn.
    pub(super) fn has_enough(&self) -> bool {
        self.small >= MOST_SMALL
    }

    /// The parts of bodies that were received and not read.
    pub(super) fn unread(&self) -> &Unread {
        &self.unread
    }

    /// The next turn of the connection begins.
    pub(super) fn next_turn(&mut self) {
        self.small = 0;
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit is reserved (RFC 9113 §4.1). Clients open odd streams, each higher than the last (§5.1.1).
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        if kind == HEADERS && stream > self.last && stream % 2 == 1 {
            self.last = stream;
            self.in_headers = true;
        }
        self.small += u32::from(kind == DATA && self.skip < SMALL);
        if kind == DATA && self.skip > 0 {
            self.unread.received();
        }
        if matches!(kind, HEADERS | PUSH_PROMISE) && !self.in_fields {
            self.in_fields = true;
            self.fields += 1;
        }
        let continues = matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION);
        self.ends_fields = self.in_fields && continues && flags & END_HEADERS != 0;
    }

    /// The payload was received: HTTP/2 decides about a request once it has all of its headers.
    fn end_frame(&mut self) {
        if std::mem::take(&mut self.ends_fields) {
            self.in_fields = false;
            self.whole += u64::from(std::mem::take(&mut self.in_headers));
        }
    }

    /// Whether the whole preface was received.
    pub(super) fn is_after_preface(&self) -> bool {
        !self.preface
    }

    /// How many requests have been received, each with all of its headers.
    pub(super) fn received(&self) -> u64 {
        self.whole
    }

    /// The fields that have begun and have not ended, those of a request or trailers, by how many have begun.
    pub(super) fn unfinished(&self) -> Option<u64> {
        self.in_fields.then_some(self.fields)
    }

    /// How many requests the client has begun, with the one whose headers have not ended.
    pub(super) fn begun(&self) -> u64 {
        self.whole + u64::from(self.in_headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flagged(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        flagged(kind, END_HEADERS, stream, payload)
    }

    /// S12: each request counts once, however its bytes arrive.
    #[test]
    fn each_stream_that_a_client_opens_counts_once() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (frames, expected) in [
            (vec![frame(4, 0, &[])], 0),
            (vec![frame(1, 1, b"head"), frame(1, 3, b"")], 2),
            (vec![frame(1, 1, b"head"), frame(0, 1, &frame(1, 3, b"not a head")), frame(1, 1, b"trailers")], 1),
            (vec![frame(1, 5, b""), frame(1, 3, b"")], 1),
            (vec![frame(1, 0x8000_0001, b""), frame(1, 2, b"")], 1),
            (vec![frame(1, 1, b"")[..8].to_vec()], 0),
        ] {
            let bytes = [vec![preface.clone()], frames].concat().concat();
            for size in [1, 2, 7, 1000] {
                let mut counter = StreamCounter::default();
                bytes.chunks(size).for_each(|chunk| assert_eq!(counter.take(chunk), chunk.len()));
                assert!(counter.is_after_preface());
                assert_eq!((counter.received(), counter.begun()), (expected, expected), "{bytes:?} {size}");
                assert_eq!(counter.unfinished(), None, "{bytes:?} {size}");
            }
        }
        let mut counter = StreamCounter::default();
        counter.take(&preface[..23]);
        assert!(!counter.is_after_preface());
    }

    #[test]
    fn small_parts_of_bodies_are_taken_turn_by_turn() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for (kind, size, turns) in [(DATA, 1, 3), (DATA, SMALL - 1, 3), (DATA, SMALL, 1), (HEADERS, 1, 1)] {
            let parts = frame(kind, 1, &vec![0; size]).repeat(MOST_SMALL as usize * 2 + 1);
            let bytes = [preface.as_slice(), &parts, &frame(HEADERS, 3, b"")].concat();
            let (mut counter, mut rest, mut taken) = (StreamCounter::default(), bytes.as_slice(), 0);
            while !rest.is_empty() {
                counter.next_turn();
                rest = &rest[counter.take(rest)..];
                taken += 1;
            }
            assert_eq!((taken, counter.received()), (turns, if kind == HEADERS { 2 } else { 1 }), "{kind} {size}");
        }
    }

    /// S12: HTTP/2 decides about a request when its headers have ended, so before that it only counts as begun.
    #[test]
    fn a_request_is_received_when_its_headers_have_ended() {
        let (headers, rest) = (flagged(HEADERS, 0, 1, b"he"), frame(CONTINUATION, 1, b"ad"));
        for (bytes, expected) in [
            (headers[..8].to_vec(), (0, 0)),
            (headers[..9].to_vec(), (0, 1)),
            (frame(HEADERS, 1, b"head")[..12].to_vec(), (0, 1)),
            (headers.clone(), (0, 1)),
            ([headers.clone(), flagged(CONTINUATION, 0, 1, b"")].concat(), (0, 1)),
            ([headers.clone(), rest[..10].to_vec()].concat(), (0, 1)),
            ([headers.clone(), rest.clone()].concat(), (1, 1)),
            // The trailers of a request are no other one.
            ([headers.clone(), rest.clone(), headers, rest, frame(HEADERS, 3, b"")].concat(), (2, 2)),
        ] {
            let mut counter = StreamCounter::default();
            counter.take(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes.as_slice()].concat());
            assert_eq!((counter.received(), counter.begun()), expected, "{bytes:?}");
            let (received, begun) = expected;
            assert_eq!(counter.unfinished(), (received < begun).then_some(begun), "{bytes:?}");
        }
    }

    /// S19: fields that do not end hold up the connection, whichever they are.
    #[test]
    fn fields_of_any_stream_are_unfinished_until_they_end() {
        let request = frame(HEADERS, 1, b"head");
        for (kind, stream) in [(HEADERS, 1), (HEADERS, 2), (PUSH_PROMISE, 1)] {
            let begun = [request.clone(), flagged(kind, 0, stream, b"fi")].concat();
            let more = flagged(CONTINUATION, 0, stream, b"el");
            let ended = frame(CONTINUATION, stream, b"ds");
            let mut counter = StreamCounter::default();
            counter.take(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            for (bytes, expected) in [
                (begun.as_slice(), Some(2)),
                (&more, Some(2)),
                (&ended, None),
                (&begun[request.len()..], Some(3)),
                (&ended[..ended.len() - 1], Some(3)),
                (&ended[ended.len() - 1..], None),
            ] {
                counter.take(bytes);
                assert_eq!(counter.unfinished(), expected, "{kind} {stream} {bytes:?}");
            }
            assert_eq!((counter.received(), counter.begun()), (1, 1), "{kind} {stream}");
        }
    }
}
