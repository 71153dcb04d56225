//! Classes of characters in patterns: categories and blocks of Unicode, and the escapes of XSD.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::blocks::block;
use crate::xsd::chars::{NAME_MORE, NAME_START};

/// The categories of Unicode that XSD 1.0 names.
const CATEGORIES: [&str; 36] = [
    "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "Z", "Zs", "Zl", "Zp", "S", "Sm", "Sc", "Sk", "So", "C", "Cc", "Cf", "Co", "Cn",
];

/// Returns a class of these ranges.
pub(super) fn of_ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(first, last)| ClassUnicodeRange::new(*first, *last)))
}

/// Returns what a class does not have.
pub(super) fn negated(mut class: ClassUnicode) -> ClassUnicode {
    class.negate();
    class
}

/// `.`: everything but the ends of lines.
pub(super) fn wildcard() -> ClassUnicode {
    negated(of_ranges(&[('\n', '\n'), ('\r', '\r')]))
}

/// `\s`, `\i`, `\c`, `\d`, `\w` and what they have not; `None` for another letter.
pub(super) fn of_escape(letter: char) -> Option<ClassUnicode> {
    let class = match letter.to_ascii_lowercase() {
        's' => of_ranges(&[(' ', ' '), ('\t', '\n'), ('\r', '\r')]),
        'i' => of_ranges(&NAME_START),
        'c' => {
            let mut class = of_ranges(&NAME_START);
            class.union(&of_ranges(&NAME_MORE));
            class
        }
        'd' => category("Nd")?,
        'w' => {
            let mut class = category("P")?;
            class.union(&category("Z")?);
            class.union(&category("C")?);
            negated(class)
        }
        _ => return None,
    };
    Some(if letter.is_ascii_uppercase() { negated(class) } else { class })
}

/// Returns the class of `\p{name}`: a category or a block.
pub(super) fn of_property(name: &str) -> Option<ClassUnicode> {
    match name.strip_prefix("Is") {
        None => CATEGORIES.contains(&name).then(|| category(name)).flatten(),
        // No text has surrogates: these blocks are known, and empty.
        Some("HighSurrogates" | "HighPrivateUseSurrogates" | "LowSurrogates") => Some(ClassUnicode::empty()),
        Some(name) => {
            let (first, last) = block(name)?;
            Some(of_ranges(&[(char::from_u32(first)?, char::from_u32(last)?)]))
        }
    }
}

fn category(name: &str) -> Option<ClassUnicode> {
    match name {
        // One character each, which the parser gives as a literal.
        "Zl" => return Some(of_ranges(&[('\u{2028}', '\u{2028}')])),
        "Zp" => return Some(of_ranges(&[('\u{2029}', '\u{2029}')])),
        _ => {}
    }
    let hir = regex_syntax::parse(&format!(r"\p{{{name}}}")).ok()?;
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_is_known() {
        for name in CATEGORIES {
            assert!(of_property(name).is_some(), "{name}");
        }
        assert!(of_property("Cs").is_none());
    }
}
