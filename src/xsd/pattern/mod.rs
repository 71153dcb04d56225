//! Patterns: the regular expressions of XSD 1.0 (Part 2, appendix F), matched in linear time.
//!
//! [`parse`] reads XSD's own syntax and builds the program of `regex-automata`, whose sizes are bounded: a pattern that
//! needs more is an error of the schema. [`engine`] matches by it, within a budget.

mod blocks;
mod class;
pub(crate) mod engine;
mod error;
mod making;
mod parse;
mod sample;

use std::sync::Arc;

use self::engine::Engine;
pub(crate) use self::error::PatternError;
pub(crate) use self::making::{Making, tables};
use super::datatypes::work::Work;
use super::room::TOO_LARGE;
use crate::budget::Steps;

/// A compiled pattern, which has to match the whole value.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    engine: Arc<Engine>,
    text: Arc<str>,
}

impl Pattern {
    /// Compiles a pattern, which may take so much.
    pub(crate) fn new(text: &str, making: &mut Making<'_>) -> Result<Self, PatternError> {
        let pattern = parse::parse(text, making.steps)?;
        let engine = Engine::new(&pattern, making).ok_or_else(|| match making.room.is_short() {
            true => PatternError { column: 1, message: TOO_LARGE.to_owned() },
            false => PatternError::too_large(),
        })?;
        Ok(Self { engine: Arc::new(engine), text: text.into() })
    }

    /// The pattern as written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Texts that match, unless they would be long.
    pub(crate) fn samples(&self) -> impl Iterator<Item = String> {
        let pattern = parse::parse(&self.text, &mut Steps::new(u64::MAX)).ok();
        [0, 1, 4, 16].into_iter().filter_map(move |times| sample::sample(pattern.as_ref()?, times))
    }

    /// Whether the whole value matches; `false` if there is too little work left to tell.
    pub(crate) fn matches(&self, value: &str, work: &Work) -> bool {
        work.within(|steps| self.engine.matches(value, steps)).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;

    fn compiled(text: &str) -> Result<Pattern, PatternError> {
        let (mut steps, mut tables, mut room) = (Steps::new(50_000_000), tables(), Room::default());
        Pattern::new(text, &mut Making { steps: &mut steps, tables: &mut tables, room: &mut room })
    }

    #[test]
    fn what_matches() {
        for (pattern, value, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a|bc", "bc", true),
            ("a|bc", "abc", false),
            ("(a|b)*c?", "abab", true),
            ("[a-z-[aeiou]]+", "xyz", true),
            ("[a-z-[aeiou]]+", "xaz", false),
            ("[^a-z-[0-9]]", "A", true),
            ("[^a-z-[0-9]]", "5", false),
            ("[-a]", "-", true),
            ("[a-]", "-", true),
            (r"\d{2,3}", "12", true),
            (r"\d{2,3}", "١٢", true),
            (r"\d{2,3}", "1234", false),
            (r"\i\c*", "_a-b", true),
            (r"\i\c*", "-a", false),
            (r"\w+", "añ+1", true),
            (r"\w+", "a.b", false),
            (r"\p{Lu}\P{Lu}", "Aa", true),
            (r"\p{IsBasicLatin}*", "abc", true),
            (r"\p{IsBasicLatin}*", "ä", false),
            (r"\p{IsCyrillic}", "ж", true),
            (".", "\n", false),
            (".", "x", true),
            ("^a$", "^a$", true),
            (r"a\.b", "a.b", true),
            ("a{0}", "", true),
            (r"[\d\-x]+", "1-x", true),
        ] {
            assert_eq!(compiled(pattern).unwrap().matches(value, &Work::in_schema()), expected, "{pattern} on {value}");
        }
    }

    #[test]
    fn samples_match() {
        for (pattern, expected) in [
            ("[A-Z]{2}[0-9]{2}[A-Za-z0-9]{1,30}", ["AA11a", "AA11a"]),
            (r"\d{3}(-\d{4})?", ["111", "111-1111"]),
            ("a|b", ["a", "a"]),
            ("[x-z]*", ["", "x"]),
            (r".+@.+", ["a@a", "a@a"]),
            (r"\p{Lu}\s", ["A ", "A "]),
        ] {
            let pattern = compiled(pattern).unwrap();
            assert_eq!(pattern.samples().take(2).collect::<Vec<_>>(), expected);
            assert!(pattern.samples().all(|text| pattern.matches(&text, &Work::in_schema())));
        }
        assert_eq!(compiled("(a{1000}){1000}").map_or(0, |pattern| pattern.samples().count()), 0);
    }

    #[test]
    fn what_is_no_pattern() {
        for pattern in [
            "(",
            ")",
            "(a",
            "a)",
            "*",
            "+a",
            "?",
            "a**",
            "[",
            "]",
            "[]",
            "[^]",
            "[z-a]",
            "[a-c-e]",
            r"\",
            r"\q",
            r"\p{}",
            r"\p{Xx}",
            r"\p{IsNowhere}",
            "a{",
            "a{2,1}",
            "a{,2}",
            "{1}",
            r"[a-\d]",
            "[a-z-[aeiou]b]",
            "[a[b]]",
            r"\u0041",
        ] {
            assert!(compiled(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn what_is_too_large() {
        for pattern in ["((a{1000}){1000}){1000}", r"(\c{5000}){5000}", "a{99999999999999999999}"] {
            assert!(compiled(pattern).is_err(), "{pattern}");
        }
        assert!(compiled(".{1,2000}").is_ok());
        assert!(compiled(&"(".repeat(100_000)).is_err());
    }

    #[test]
    fn patterns_without_a_table_match_the_same() {
        let (mut steps, mut tables) = (Steps::new(1_000_000), Steps::new(40_000));
        let mut making = |text: &str| {
            let room = &mut Room::default();
            Pattern::new(text, &mut Making { steps: &mut steps, tables: &mut tables, room }).unwrap()
        };
        let is_table = |pattern: &Pattern| matches!(*pattern.engine, Engine::Table(_));
        let patterns: Vec<Pattern> = (0..5).map(|n| making(&format!("a{n}|[0-9]{{1,{}}}", n + 1))).collect();
        assert!(patterns.iter().all(is_table));
        // What is too large for a table takes the steps of the largest.
        let patterns: Vec<Pattern> = (0..9).map(|n| making(&format!(r"\w+(y{n})?"))).collect();
        assert!(!patterns.iter().any(is_table));
        let later = making("[a-z]{3}");
        assert!(!is_table(&later));
        assert_eq!((matches(&later, "abc", 1_000), matches(&later, "ab", 1_000)), (Ok(true), Ok(false)));
    }

    fn matches(pattern: &Pattern, text: &str, steps: u64) -> Result<bool, crate::budget::Exhausted> {
        pattern.engine.matches(text, &mut Steps::new(steps))
    }

    #[test]
    fn the_first_text_pays_for_the_states_that_wait_for_others() {
        let optional: String = ('a'..='z').map(|c| format!("{c}?")).collect();
        let pattern = compiled(&format!("({optional}){{1000}}")).unwrap();
        assert!(matches(&pattern, "", 5_000).is_err());
        assert_eq!(matches(&pattern, "", 200_000), Ok(true));
    }

    #[test]
    fn a_state_that_stands_for_many_places_is_paid_for_when_it_is_left() {
        let optional: String = ('a'..='z').map(|c| format!("{c}?")).collect();
        let pattern = compiled(&format!("({optional}){{1000}}")).unwrap();
        assert_eq!(matches(&pattern, "a", 200_000), Ok(true));
        // The state after `a` is known, and so is that after `b` from the start.
        assert_eq!(matches(&pattern, "b", 200_000), Ok(true));
        for text in ["aa", "ab", "ba", "bb"] {
            assert!(matches(&pattern, text, 1_000).is_err(), "{text}");
            assert_eq!(matches(&pattern, text, 200_000), Ok(true), "{text}");
        }
    }

    #[test]
    fn states_are_paid_for_after_all_others_were_forgotten() {
        let pattern = compiled(".*[0-9].{0,1000}").unwrap();
        // Some hundred places each, and never the same ones.
        let mut random = 1_u32;
        let mut digit = |_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 { '1' } else { 'x' }
        };
        let text: String = (0..4000).map(&mut digit).collect();
        for _ in 0..2 {
            assert!(matches(&pattern, &text, 1_000_000).is_err());
            assert_eq!(matches(&pattern, &text, 10_000_000), Ok(true));
        }
    }
}
