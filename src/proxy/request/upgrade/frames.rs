//! Follows the frames of one direction of a WebSocket (RFC 6455 §5.2), without looking at what is in them.

/// Longest header of a frame: two bytes, a length of eight, a mask of four.
const LONGEST: usize = 14;

/// Where the bytes that were read end: between two frames, in the header of one, or in its payload.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; LONGEST],
    /// Bytes of the header of the frame that was begun.
    begun: u8,
    /// Bytes that the payload of the current frame still has.
    left: u64,
}

impl Frames {
    /// Follows bytes that were read.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= taken as u64;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            if let Some(byte) = self.header.get_mut(usize::from(self.begun)) {
                *byte = *first;
            }
            self.begun += 1;
            bytes = rest;
            if let Some(length) = self.length() {
                (self.begun, self.left) = (0, length);
            }
        }
    }

    /// Whether the last frame is complete, so that another may follow.
    pub(super) fn is_between(&self) -> bool {
        self.begun == 0 && self.left == 0
    }

    /// The length of the payload, once the header is complete.
    fn length(&self) -> Option<u64> {
        let second = *self.header.get(1).filter(|_| self.begun >= 2)?;
        let extended: usize = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if usize::from(self.begun) < 2 + extended + mask {
            return None;
        }
        let digits = self.header.get(2..2 + extended).unwrap_or_default();
        Some(match extended {
            0 => u64::from(second & 0x7F),
            _ => digits.iter().fold(0, |length, digit| length << 8 | u64::from(*digit)),
        })
    }
}

/// A Close frame as a server sends it (RFC 6455 §5.5.1), with a status code of §7.4 and a reason of at most 123 bytes.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason = reason.as_bytes().get(..reason.len().min(123)).unwrap_or_default();
    let length = u8::try_from(2 + reason.len()).unwrap_or(2);
    let mut frame = vec![0x88, length];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..=125 => frame.push(mask | payload as u8),
            126..=0xFFFF => {
                frame.push(mask | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + payload + if masked { 4 } else { 0 }, 0xFF);
        frame
    }

    #[test]
    fn the_end_of_a_frame_is_found_however_it_is_split() {
        for masked in [false, true] {
            for payload in [0, 1, 125, 126, 65_535, 65_536] {
                for step in [1, 2, 7, 1000, 100_000] {
                    let bytes = [frame(payload, masked), frame(3, masked)].concat();
                    let ends = [frame(payload, masked).len(), bytes.len()];
                    let (mut frames, mut fed) = (Frames::default(), 0);
                    for piece in bytes.chunks(step) {
                        frames.feed(piece);
                        fed += piece.len();
                        assert_eq!(frames.is_between(), ends.contains(&fed), "{payload} {masked} {fed}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_length_that_no_payload_has_is_waited_for() {
        let mut frames = Frames::default();
        frames.feed(&[0x82, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3]);
        assert!(!frames.is_between());
        assert_eq!(frames.left, u64::MAX - 3);
    }

    #[test]
    fn a_close_frame_has_a_code_and_a_reason() {
        assert_eq!(close(1008, "revoked"), *b"\x88\x09\x03\xf0revoked");
        assert_eq!(close(1001, &"x".repeat(500)).len(), 127);
    }
}
