//! References to characters (XML 1.0 §4.1 and §4.6), and the values of attributes and text that they are in.

use std::borrow::Cow;

use super::malformed::Malformed;
use crate::xsd::chars::is_xml_char;

/// Returns the character that a reference, given without `&` and `;`, stands for.
pub(crate) fn resolve(reference: &str, offset: usize) -> Result<char, Malformed> {
    let c = match reference {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => {
            let number = reference
                .strip_prefix('#')
                .map(|number| number.strip_prefix('x').map_or((number, 10), |hex| (hex, 16)));
            number.filter(|(digits, _)| digits.bytes().all(|digit| digit.is_ascii_hexdigit())).and_then(
                |(digits, radix)| {
                    u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).filter(|c| is_xml_char(*c))
                },
            )
        }
    };
    c.ok_or_else(|| {
        let message = "a reference must be to a character, or one of `lt`, `gt`, `amp`, `apos`, `quot`";
        Malformed::new(offset, message)
    })
}

/// Returns the value of an attribute that is not plain (§3.3.3).
pub(crate) fn attribute_value(raw: &str, offset: usize) -> Result<String, Malformed> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '\t', '\n', '\r']) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        value.push_str(before);
        if let Some(reference) = after.strip_prefix('&') {
            let Some((reference, after)) = reference.split_once(';') else {
                return Err(Malformed::new(offset, "an `&` in an attribute begins no reference; write `&amp;`"));
            };
            value.push(resolve(reference, offset)?);
            rest = after;
        } else {
            value.push(' ');
            rest = after.strip_prefix("\r\n").or_else(|| after.get(1..)).unwrap_or("");
        }
    }
    value.push_str(rest);
    Ok(value)
}

/// Returns text with line ends as `\n` (§2.11).
pub(crate) fn line_ends(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\r', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_attributes() {
        for (raw, value) in [("a&lt;b", "a<b"), ("a\r\nb\tc\n", "a b c "), ("&#10;&#x20AC;", "\n€")] {
            assert_eq!(attribute_value(raw, 0).unwrap(), value, "{raw:?}");
        }
        for raw in ["&", "&x;", "&#xd800;", "&#;", "&#x;", "&#+1;"] {
            assert!(attribute_value(raw, 0).is_err(), "{raw}");
        }
        assert_eq!(line_ends("a\r\nb\rc"), "a\nb\nc");
    }
}
