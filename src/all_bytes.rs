//! Checks every byte of a text, in blocks that are compiled to vector instructions.

/// Whether `is_good` is true of every byte. It is fast if `is_good` does not branch: `&` and `|`, not `&&` and `||`.
#[inline]
pub(crate) fn all_bytes(bytes: &[u8], is_good: impl Fn(u8) -> bool) -> bool {
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // Both blocks may have the same bytes.
        (Some(first), Some(last)) if bytes.len() <= 8 => all_of_block(first, &is_good) & all_of_block(last, &is_good),
        (Some(_), Some(_)) => match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) if bytes.len() <= 16 => {
                all_of_block(first, &is_good) & all_of_block(last, &is_good)
            }
            _ => {
                bytes.as_chunks::<16>().0.iter().all(|chunk| all_of_block(chunk, &is_good))
                    && bytes.last_chunk::<16>().is_none_or(|last| all_of_block(last, &is_good))
            }
        },
        _ => bytes.iter().all(|&byte| is_good(byte)),
    }
}

/// As [`all_bytes`], without an early exit.
#[inline]
pub(crate) fn all_of_block<const N: usize>(block: &[u8; N], is_good: &impl Fn(u8) -> bool) -> bool {
    block.iter().fold(true, |good, &byte| good & is_good(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_left_out() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            assert!(all_bytes(&bytes, |byte| byte == b'a'), "{length}");
            for at in 0..length {
                bytes[at] = b'b';
                assert!(!all_bytes(&bytes, |byte| byte == b'a'), "{length} {at}");
                bytes[at] = b'a';
            }
        }
    }
}
