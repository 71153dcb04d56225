//! `xs:hexBinary` and `xs:base64Binary`.

/// Returns how many bytes a hexadecimal text stands for.
pub(crate) fn hex_length(text: &str) -> Option<usize> {
    let sound = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    sound.then_some(text.len() / 2)
}

/// Returns the bytes that a hexadecimal text stands for.
pub(crate) fn hex_bytes(text: &str) -> Option<Box<[u8]>> {
    hex_length(text)?;
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    Some(pairs.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect())
}

const SPACE: u8 = 64;
const PADDING: u8 = 65;
const OTHER: u8 = 66;

/// What the bytes of Base64 are: six bits each, or something else. To tell ranges apart takes long where they come at random.
const SEXTETS: [u8; 256] = {
    let mut table = [OTHER; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut sextet = 0;
    while sextet < 64 {
        table[alphabet[sextet] as usize] = sextet as u8;
        sextet += 1;
    }
    table[b' ' as usize] = SPACE;
    table[b'\t' as usize] = SPACE;
    table[b'\n' as usize] = SPACE;
    table[b'\r' as usize] = SPACE;
    table[b'=' as usize] = PADDING;
    table
};

/// Reads Base64 (RFC 2045, with white space between characters) and hands over each byte; returns how many there are.
fn decode(text: &str, mut each: impl FnMut(u8)) -> Option<usize> {
    let (mut bits, mut held, mut length, mut padding) = (0_u32, 0_u32, 0_usize, 0_u32);
    for byte in text.bytes() {
        match SEXTETS.get(usize::from(byte)).copied().unwrap_or(OTHER) {
            SPACE => continue,
            PADDING => {
                padding += 1;
                if padding > 2 {
                    return None;
                }
            }
            OTHER => return None,
            _ if padding > 0 => return None,
            sextet => {
                bits = bits << 6 | u32::from(sextet);
                held += 6;
                if held >= 8 {
                    held -= 8;
                    each((bits >> held & 0xff) as u8);
                    length = length.saturating_add(1);
                    bits &= (1 << held) - 1;
                }
            }
        }
    }
    // What is left over are zeros, as many as the padding makes up for.
    let sound = bits == 0 && matches!((held, padding), (0, 0) | (4, 2) | (2, 1));
    sound.then_some(length)
}

/// Returns how many bytes a Base64 text stands for.
pub(crate) fn base64_length(text: &str) -> Option<usize> {
    decode(text, |_| {})
}

/// Returns the bytes that a Base64 text stands for.
pub(crate) fn base64_bytes(text: &str) -> Option<Box<[u8]>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    decode(text, |byte| bytes.push(byte))?;
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal() {
        assert_eq!(hex_bytes("0fB7").as_deref(), Some(&[0x0f, 0xb7][..]));
        assert_eq!((hex_length(""), hex_length("0"), hex_length("0g")), (Some(0), None, None));
    }

    #[test]
    fn base64() {
        assert_eq!(base64_bytes("aGVs bG8=").as_deref(), Some(&b"hello"[..]));
        for (text, length) in
            [("", Some(0)), ("AA==", Some(1)), ("AAA=", Some(2)), ("AAAA", Some(3)), ("A\r\nA =\t=", Some(1))]
        {
            assert_eq!(base64_length(text), length, "{text}");
        }
        for text in ["A", "AA", "AA=", "AAA", "AB==", "AAB=", "=", "A===", "AA==AA==", "AA-_", "AAAA="] {
            assert_eq!(base64_length(text), None, "{text}");
        }
    }
}
