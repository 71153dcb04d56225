//! Which text may be written as it is, and how much of it.

/// Most bytes of one text in a record, as UTF-8 and before escaping.
pub(super) const TEXT_MAX: usize = 1024;

/// Returns whether a character is not visible but affects a line or a terminal: controls (C0, DEL, C1), line and paragraph
/// separators, and marks that are invisible or change the direction of text.
pub(super) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns whether a text is printable ASCII with nothing to escape.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = b' ' as usize;
        while byte < 0x7f {
            table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
            byte += 1;
        }
        table
    };
    let (blocks, rest) = bytes.as_chunks::<16>();
    // No early exit within a block, so that it is compiled to vector instructions.
    let plain = |block: &[u8; 16]| {
        block.iter().fold(true, |plain, &byte| plain & (b' '..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\'))
    };
    blocks.iter().all(plain) && rest.iter().all(|&byte| PLAIN[usize::from(byte)])
}

/// Truncates a text to [`TEXT_MAX`] bytes, or up to three fewer so that no character is split.
#[inline]
pub(super) fn cut(bytes: &[u8]) -> &[u8] {
    let mut end = TEXT_MAX;
    let Some(mut next) = bytes.get(end) else { return bytes };
    while (TEXT_MAX - 3..=TEXT_MAX).contains(&end) && (0x80..0xc0).contains(next) {
        end -= 1;
        next = bytes.get(end).unwrap_or(&0);
    }
    bytes.get(..end).unwrap_or(bytes)
}
