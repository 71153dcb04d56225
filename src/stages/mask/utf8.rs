//! Whether bytes that come in pieces are UTF-8 (RFC 3629).

/// The beginning of a character that the last piece ended in.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    begun: [u8; 4],
    length: usize,
}

impl Utf8 {
    /// Checks the next piece. The error: how many of its bytes are good.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while self.length > 0 {
            let Some(byte) = piece.get(at) else { return Ok(()) };
            // At most four bytes are a character, or an error.
            let Some(place) = self.begun.get_mut(self.length) else { return Err(at) };
            *place = *byte;
            self.length += 1;
            match str::from_utf8(self.begun.get(..self.length).unwrap_or_default()) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_some() => return Err(at),
                Err(_) => {}
            }
            at += 1;
        }
        let rest = piece.get(at..).unwrap_or_default();
        let Err(error) = str::from_utf8(rest) else { return Ok(()) };
        let good = error.valid_up_to();
        if error.error_len().is_some() {
            return Err(at + good);
        }
        let begun = rest.get(good..).unwrap_or_default();
        self.length = begun.len();
        self.begun.iter_mut().zip(begun).for_each(|(place, byte)| *place = *byte);
        Ok(())
    }

    /// Whether the pieces do not end within a character.
    pub(super) fn is_complete(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However they are split.
        #[test]
        fn pieces_are_judged_as_the_whole(
            bytes in prop_oneof![
                "[a\u{e9}\u{20ac}\u{1f600}]{0,6}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..6),
                prop::collection::vec(prop::sample::select(b"a\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0".to_vec()), 0..8),
            ],
            size in 1_usize..5,
        ) {
            let mut utf8 = Utf8::default();
            let judged = bytes.chunks(size).try_for_each(|piece| utf8.push(piece));
            prop_assert_eq!(judged.is_ok() && utf8.is_complete(), str::from_utf8(&bytes).is_ok());
        }
    }
}
