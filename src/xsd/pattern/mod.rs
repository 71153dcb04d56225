//! Patterns: the regular expressions of XSD 1.0 (Part 2, appendix F), matched in linear time.
//!
//! [`parse`] reads XSD's own syntax and builds the program of `regex-automata`, whose sizes are bounded: a pattern that
//! needs more is an error of the schema.

mod blocks;
mod class;
mod error;
mod parse;
mod sample;

use std::sync::Arc;

use regex_automata::meta::{Config, Regex};

pub(crate) use self::error::PatternError;

/// Most bytes of a compiled pattern.
const MAX_PROGRAM: usize = 8 << 20;
/// Patterns of up to this many states are tried to be made into a table, which takes no cache.
const MAX_STATES: usize = 500;
/// Most bytes that the cache of one thread takes for a pattern.
const MAX_CACHE: usize = 2 << 20;

/// A compiled pattern, which has to match the whole value.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    text: Arc<str>,
}

impl Pattern {
    /// Compiles a pattern.
    pub(crate) fn new(text: &str) -> Result<Self, PatternError> {
        let hir = parse::parse(text)?;
        let config = Config::new()
            .nfa_size_limit(Some(MAX_PROGRAM))
            .onepass_size_limit(Some(256 << 10))
            .dfa_size_limit(Some(64 << 10))
            .dfa_state_limit(Some(MAX_STATES))
            .hybrid_cache_capacity(MAX_CACHE);
        let regex = Regex::builder().configure(config).build_from_hir(&hir).map_err(|_| PatternError {
            column: 1,
            message: "the pattern is too large: its repetitions and classes multiply".to_owned(),
        })?;
        Ok(Self { regex, text: text.into() })
    }

    /// The size of a pattern that is too large.
    pub(crate) const MAX_SIZE: usize = MAX_PROGRAM;

    /// How many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        self.regex.memory_usage()
    }

    /// The pattern as written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Texts that match, unless they would be long.
    pub(crate) fn samples(&self) -> impl Iterator<Item = String> {
        let pattern = parse::parse(&self.text).ok();
        [0, 1, 4, 16].into_iter().filter_map(move |times| sample::sample(pattern.as_ref()?, times))
    }

    /// Whether the whole value matches.
    pub(crate) fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(Pattern::new(pattern).unwrap().matches(value), expected, "{pattern} on {value}");
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
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!(pattern.samples().take(2).collect::<Vec<_>>(), expected);
            assert!(pattern.samples().all(|text| pattern.matches(&text)));
        }
        assert_eq!(Pattern::new("(a{1000}){1000}").map_or(0, |pattern| pattern.samples().count()), 0);
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
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn what_is_too_large() {
        for pattern in ["((a{1000}){1000}){1000}", r"(\c{5000}){5000}", "a{99999999999999999999}"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::new(".{1,2000}").is_ok());
        assert!(Pattern::new(&"(".repeat(100_000)).is_err());
    }
}
