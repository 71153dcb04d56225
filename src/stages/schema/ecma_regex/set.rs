//! Sets of characters: classes, class escapes and properties (ECMA-262 §22.2.1, §22.2.2.9).

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// The code points that stand for no character by themselves: a pair of them is one character in UTF-16.
const SURROGATES: (u32, u32) = (0xd800, 0xdfff);
const LEAD: (u32, u32) = (0xd800, 0xdbff);
const TRAIL: (u32, u32) = (0xdc00, 0xdfff);

/// A set of characters. JSON texts contain no lone surrogates, but patterns name them to describe characters beyond the
/// Basic Multilingual Plane.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) characters: ClassUnicode,
    surrogates: Vec<(u32, u32)>,
}

impl Set {
    pub(super) fn empty() -> Self {
        Self { characters: ClassUnicode::empty(), surrogates: Vec::new() }
    }

    pub(super) fn of(c: char) -> Self {
        Self::from(ClassUnicode::new([ClassUnicodeRange::new(c, c)]))
    }

    fn ranges(ranges: &[(char, char)]) -> Self {
        Self::from(ClassUnicode::new(ranges.iter().map(|(from, to)| ClassUnicodeRange::new(*from, *to))))
    }

    /// `\d`.
    pub(super) fn digits() -> Self {
        Self::ranges(&[('0', '9')])
    }

    /// `\w`.
    pub(super) fn word() -> Self {
        Self::ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')])
    }

    /// `\s`: white space and line terminators (§12.2, §12.3).
    pub(super) fn space() -> Self {
        Self::ranges(&[
            ('\t', '\r'),
            (' ', ' '),
            ('\u{a0}', '\u{a0}'),
            ('\u{1680}', '\u{1680}'),
            ('\u{2000}', '\u{200a}'),
            ('\u{2028}', '\u{2029}'),
            ('\u{202f}', '\u{202f}'),
            ('\u{205f}', '\u{205f}'),
            ('\u{3000}', '\u{3000}'),
            ('\u{feff}', '\u{feff}'),
        ])
    }

    /// `.`: everything but line terminators.
    pub(super) fn dot() -> Self {
        Self::ranges(&[('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')]).negated()
    }

    pub(super) fn all() -> Self {
        Self::empty().negated()
    }

    /// `\p{…}`, by the text between the braces; `None` if there is no such property.
    pub(super) fn property(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match text.split_once('=') {
            Some((key, value)) => {
                let keys = ["General_Category", "gc", "Script", "sc", "Script_Extensions", "scx"];
                (keys.contains(&key) && !value.is_empty() && value.chars().all(plain)).then(|| known(text))?
            }
            // A script must be named as one (§22.2.1.4); a category need not.
            None => {
                let plain = !text.is_empty() && text.chars().all(plain);
                let category = || known(&format!("gc={text}"));
                let flag = || known(text).filter(|_| known(&format!("sc={text}")).is_none());
                plain.then(|| category().or_else(flag))?
            }
        }
    }

    /// Adds the code points from one to another, which may be surrogates.
    pub(super) fn add(&mut self, from: u32, to: u32) {
        let (low, high) = SURROGATES;
        for (from, to) in [(from, to.min(low - 1)), (from.max(high + 1), to)] {
            if let (Some(from), Some(to)) = (char::from_u32(from), char::from_u32(to))
                && from <= to
            {
                self.characters.push(ClassUnicodeRange::new(from, to));
            }
        }
        let (from, to) = (from.max(low), to.min(high));
        if from <= to {
            self.surrogates.push((from, to));
        }
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.characters.union(&other.characters);
        self.surrogates.extend(&other.surrogates);
    }

    /// Everything that is not in it. What lone surrogates it has does not matter any more: texts have none.
    pub(super) fn negated(mut self) -> Self {
        self.characters.negate();
        self.surrogates.clear();
        self
    }

    /// Adds the characters that differ from those in it only by case.
    pub(super) fn ignoring_case(mut self) -> Self {
        // The tables are compiled in, so this cannot fail.
        let _ = self.characters.try_case_fold_simple();
        self
    }

    /// The characters that this set of leading surrogates makes with a set of trailing ones; `None` if they are not.
    pub(super) fn paired_with(&self, other: &Self) -> Option<Self> {
        let only = |set: &Self, (low, high): (u32, u32)| {
            let within = |(from, to): &(u32, u32)| low <= *from && *to <= high;
            set.characters.ranges().is_empty() && !set.surrogates.is_empty() && set.surrogates.iter().all(within)
        };
        if !only(self, LEAD) || !only(other, TRAIL) {
            return None;
        }
        let mut pairs = Self::empty();
        for (first, last) in &self.surrogates {
            for lead in *first..=*last {
                for (from, to) in &other.surrogates {
                    pairs.add(pair(lead, *from), pair(lead, *to));
                }
            }
        }
        Some(pairs)
    }

    pub(super) fn contains(&self, c: char) -> bool {
        let ranges = self.characters.ranges();
        let after = ranges.partition_point(|range| range.start() <= c);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| c <= range.end())
    }
}

impl From<ClassUnicode> for Set {
    fn from(characters: ClassUnicode) -> Self {
        Self { characters, surrogates: Vec::new() }
    }
}

pub(super) fn is_lead(unit: u32) -> bool {
    (LEAD.0..=LEAD.1).contains(&unit)
}

pub(super) fn is_trail(unit: u32) -> bool {
    (TRAIL.0..=TRAIL.1).contains(&unit)
}

/// The code point of a surrogate pair.
pub(super) fn pair(lead: u32, trail: u32) -> u32 {
    0x1_0000 + ((lead - LEAD.0) << 10) + (trail - TRAIL.0)
}

/// A property as the tables of `regex-syntax` have it.
fn known(property: &str) -> Option<Set> {
    let parsed = regex_syntax::parse(&format!(r"\p{{{property}}}")).ok()?;
    match parsed.into_kind() {
        HirKind::Class(Class::Unicode(characters)) => Some(Set::from(characters)),
        // A property of only one character.
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok()?.chars().next().map(Set::of),
        HirKind::Class(Class::Bytes(bytes)) => bytes.to_unicode_class().map(Set::from),
        _ => None,
    }
}
