//! Edits a JSON text in one pass: what is hidden is replaced, everything else is copied.
//!
//! The grammar is RFC 8259's, strictly: a text that a parser may read in another way is refused. Every member with a hidden name
//! is hidden, however often it occurs and however its name is escaped.

use std::borrow::Cow;

use super::replacement::Replacement;
use super::rules::{Hidden, Step};

/// Deepest nesting of objects and arrays.
const MAX_DEPTH: usize = 64;
/// What parsers may skip before a text (RFC 8259 §8.1).
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A text is not JSON, or nests deeper than is looked at. Where: its byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) usize);

/// How far a rule has come: its position, and that of its next step.
type State = (usize, usize);

/// Returns the text with what is hidden replaced.
pub(crate) fn rewrite(hidden: &Hidden, text: &[u8]) -> Result<Vec<u8>, Unreadable> {
    if let Err(error) = str::from_utf8(text) {
        return Err(Unreadable(error.valid_up_to()));
    }
    let at = if text.starts_with(MARK) { MARK.len() } else { 0 };
    let mut pass = Pass { hidden, text, at, out: Vec::with_capacity(text.len()), copied: 0 };
    let all: Vec<State> = (0..hidden.0.len()).map(|rule| (rule, 0)).collect();
    pass.blanks();
    pass.value(&all, MAX_DEPTH)?;
    pass.blanks();
    if pass.at < text.len() {
        return Err(pass.unreadable());
    }
    pass.copy_to(text.len());
    Ok(pass.out)
}

struct Pass<'t> {
    hidden: &'t Hidden,
    text: &'t [u8],
    at: usize,
    out: Vec<u8>,
    /// What is before it in the text has been copied, or left out.
    copied: usize,
}

/// The members or elements of one object or array, while it is read.
struct Siblings {
    /// Where the last one that stays has ended, or the first may begin.
    end: usize,
    /// Whether one has stayed.
    any: bool,
}

impl Pass<'_> {
    fn unreadable(&self) -> Unreadable {
        Unreadable(self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.peek() != Some(byte) {
            return Err(self.unreadable());
        }
        self.at += 1;
        Ok(())
    }

    fn copy_to(&mut self, end: usize) {
        self.out.extend_from_slice(self.text.get(self.copied..end).unwrap_or_default());
        self.copied = end;
    }

    /// Reads a value, in which these rules go on.
    fn value(&mut self, states: &[State], depth: usize) -> Result<(), Unreadable> {
        match self.peek() {
            Some(b'{') => self.object(states, depth.checked_sub(1).ok_or(self.unreadable())?),
            Some(b'[') => self.array(states, depth.checked_sub(1).ok_or(self.unreadable())?),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(self.unreadable()),
        }
    }

    fn object(&mut self, states: &[State], depth: usize) -> Result<(), Unreadable> {
        let states = self.skipping(states);
        self.at += 1;
        let mut siblings = Siblings { end: self.at, any: false };
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let begun = self.at;
            self.string()?;
            let name = (begun, self.at);
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            let inner = if states.is_empty() { Vec::new() } else { self.of_member(&states, name)? };
            self.child(&inner, (begun, self.at), &mut siblings, depth)?;
            if self.ends(b'}', &mut siblings)? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, states: &[State], depth: usize) -> Result<(), Unreadable> {
        self.at += 1;
        let mut siblings = Siblings { end: self.at, any: false };
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            let inner = if states.is_empty() { Vec::new() } else { self.of_element(states, index) };
            self.child(&inner, (self.at, self.at), &mut siblings, depth)?;
            if self.ends(b']', &mut siblings)? {
                break;
            }
        }
        Ok(())
    }

    /// Reads the value of a member or an element, which begins, with its name, at `begun` and itself at `value`.
    fn child(
        &mut self,
        states: &[State],
        (begun, value): (usize, usize),
        siblings: &mut Siblings,
        depth: usize,
    ) -> Result<(), Unreadable> {
        let ended =
            states.iter().filter_map(|(rule, step)| self.hidden.0.get(*rule).filter(|rule| rule.steps.len() == *step));
        // Where several rules end, the one that shows least.
        let Some(replacement) = ended.map(|rule| rule.replacement).min() else {
            self.value(states, depth)?;
            siblings.any = true;
            siblings.end = self.at;
            return Ok(());
        };
        self.value(&[], depth)?;
        let hidden = self.text.get(value..self.at).unwrap_or_default();
        if replacement == Replacement::Remove {
            // With the comma before it, if there is one.
            self.copy_to(if siblings.any { siblings.end } else { begun });
        } else {
            self.copy_to(value);
            replacement.write(hidden, &mut self.out).map_err(|_| Unreadable(value))?;
            siblings.any = true;
            siblings.end = self.at;
        }
        self.copied = self.at;
        Ok(())
    }

    /// Reads a comma, or the end of an object or array: then returns true.
    fn ends(&mut self, end: u8, siblings: &mut Siblings) -> Result<bool, Unreadable> {
        self.blanks();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(true);
        }
        let comma = self.at;
        self.expect(b',')?;
        if !siblings.any {
            // All before it were left out.
            self.copy_to(comma);
            self.copied = self.at;
        }
        self.blanks();
        Ok(false)
    }

    /// In an object, `*` may also be nothing: it stands in place of a list of such objects.
    fn skipping(&self, states: &[State]) -> Vec<State> {
        let mut all = states.to_vec();
        let mut next = 0;
        while let Some((rule, step)) = all.get(next).copied() {
            next += 1;
            let steps = self.hidden.0.get(rule).map(|rule| &*rule.steps).unwrap_or_default();
            let skipped = (rule, step + 1);
            if steps.get(step) == Some(&Step::Any) && step + 1 < steps.len() && !all.contains(&skipped) {
                all.push(skipped);
            }
        }
        all
    }

    /// The rules that go on in the member with the name at this place.
    fn of_member(&self, states: &[State], (begun, end): (usize, usize)) -> Result<Vec<State>, Unreadable> {
        let name = self.text.get(begun..end).unwrap_or_default();
        let plain = name.get(1..name.len().saturating_sub(1)).unwrap_or_default();
        let name: Cow<'_, [u8]> = match memchr::memchr(b'\\', plain) {
            None => Cow::Borrowed(plain),
            Some(_) => Cow::Owned(serde_json::from_slice::<String>(name).map_err(|_| Unreadable(begun))?.into_bytes()),
        };
        let goes_on = |(rule, step): &State| match self.hidden.0.get(*rule)?.steps.get(*step)? {
            Step::Any => Some((*rule, step + 1)),
            Step::Name(wanted, _) => (wanted.as_bytes() == &*name).then_some((*rule, step + 1)),
        };
        Ok(states.iter().filter_map(goes_on).collect())
    }

    /// The rules that go on in the element at this position: a list is passed through, if a rule does not ask for its elements.
    fn of_element(&self, states: &[State], index: usize) -> Vec<State> {
        let mut inner = Vec::with_capacity(states.len());
        for (rule, step) in states {
            match self.hidden.0.get(*rule).and_then(|rule| rule.steps.get(*step)) {
                Some(Step::Any) => inner.push((*rule, step + 1)),
                Some(Step::Name(_, wanted)) => {
                    inner.push((*rule, *step));
                    inner.extend((*wanted == Some(index)).then_some((*rule, step + 1)));
                }
                None => {}
            }
        }
        inner
    }

    fn string(&mut self) -> Result<(), Unreadable> {
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                Some(_) | None => return Err(self.unreadable()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Unreadable> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.unreadable());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.unreadable()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.unreadable()),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Unreadable> {
        let begun = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == begun { Err(self.unreadable()) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Unreadable> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.unreadable());
        }
        self.at += word.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rules::{Mask, Rule};
    use super::*;

    fn hidden(rules: &[(&str, &str)]) -> Hidden {
        let rule = |(path, otherwise): &(&str, &str)| {
            Rule::new(path, Vec::new(), Replacement::read(otherwise).unwrap()).unwrap()
        };
        Mask::new(rules.iter().map(rule).collect()).hidden(|_| false).unwrap()
    }

    fn masked(rules: &[(&str, &str)], text: &str) -> Option<String> {
        rewrite(&hidden(rules), text.as_bytes()).ok().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_is_hidden_is_hidden_however_it_is_written() {
        const IBAN: &[(&str, &str)] = &[("/iban", "remove")];
        const STREET: &[(&str, &str)] = &[("/addresses/*/street", "null")];
        for (rules, text, expected) in [
            (IBAN, r#"{"iban":1}"#, "{}"),
            (IBAN, r#"{ "iban" : "x" , "a" : 1.0 }"#, r#"{   "a" : 1.0 }"#),
            (IBAN, r#"{"a":1, "iban":{"x":[1,{"iban":2}]}, "b":2}"#, r#"{"a":1, "b":2}"#),
            (IBAN, r#"{"a":1,"iban":2}"#, r#"{"a":1}"#),
            (IBAN, r#"{"iban":1,"iban":2,"a":3,"iban":4,"iban":5}"#, r#"{"a":3}"#),
            (IBAN, r#"{"\u0069ban":1,"ib\u0061n":2,"IBAN":3}"#, r#"{"IBAN":3}"#),
            (IBAN, r#"[{"iban":1},{"a":{"iban":2}}]"#, r#"[{},{"a":{"iban":2}}]"#),
            (IBAN, r#"[[{"iban":1}]]"#, "[[{}]]"),
            (IBAN, "\u{feff}{\"iban\":1}", "\u{feff}{}"),
            (IBAN, "{\"a\":12345678901234567890.123e+99}", "{\"a\":12345678901234567890.123e+99}"),
            (IBAN, "\"iban\"", "\"iban\""),
            (
                STREET,
                r#"{"addresses":[{"street":"a","city":"b"},{"street":[1]}]}"#,
                r#"{"addresses":[{"street":null,"city":"b"},{"street":null}]}"#,
            ),
            // One address in place of a list, and lists of lists.
            (STREET, r#"{"addresses":{"street":"a"}}"#, r#"{"addresses":{"street":null}}"#),
            (STREET, r#"{"addresses":{"home":{"street":"a"}}}"#, r#"{"addresses":{"home":{"street":null}}}"#),
            (
                STREET,
                r#"{"addresses":[[{"street":"a"}],[[{"street":"b"}]]]}"#,
                r#"{"addresses":[[{"street":null}],[[{"street":null}]]]}"#,
            ),
            (STREET, r#"{"street":"a"}"#, r#"{"street":"a"}"#),
            (&[("/tags/*", "remove")], r#"{"tags":[1, 2 ,3],"a":{}}"#, r#"{"tags":[  ],"a":{}}"#),
            (&[("/tags/1", "***")], r#"{"tags":[1, 2 ,3]}"#, r#"{"tags":[1, "***" ,3]}"#),
            (&[("/tags/0", "remove")], r#"{"tags":[1, 2 ,3]}"#, r#"{"tags":[ 2 ,3]}"#),
            (&[("/a~1b/~0", "null")], r#"{"a/b":{"~":1}}"#, r#"{"a/b":{"~":null}}"#),
            (&[("/a", "keep_last 2"), ("/a", "null")], r#"{"a":"secret"}"#, r#"{"a":null}"#),
            (&[("/a/b", "null"), ("/a", "remove")], r#"{"a":{"b":1}}"#, "{}"),
            (&[("/*/x", "null")], r#"{"a":{"x":1},"x":2}"#, r#"{"a":{"x":null},"x":null}"#),
        ] {
            assert_eq!(masked(rules, text).as_deref(), Some(expected), "{rules:?} {text}");
        }
    }

    #[test]
    fn what_is_not_json_is_not_readable() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{,}",
            "[,]",
            "{\"a\"}",
            "{'a':1}",
            "{a:1}",
            "01",
            "1.",
            "-",
            "+1",
            ".5",
            "1e",
            "NaN",
            "tru",
            "nul",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"a",
            "1 2",
            "{} {}",
            "{\"a\":1}\n{\"a\":1}",
            "// a\n1",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "{\"\\ud800\":1}",
            "\u{feff}\u{feff}1",
            &deep(65),
        ] {
            assert_eq!(masked(&[("/iban", "remove")], text), None, "{text}");
        }
        assert!(rewrite(&hidden(&[("/a", "null")]), b"\"\xff\"").is_err());
        assert!(masked(&[("/a", "null")], &deep(64)).is_some());
    }

    proptest! {
        /// What is accepted is JSON, stays it, and is unchanged where nothing is hidden.
        #[test]
        fn any_text_stays_json(text in r#"[\[\]{}:,"\\ua01.eE+\-tn \n]{0,40}"#) {
            let rules: &[(&str, &str)] = &[("/a/*", "remove"), ("/\u{1}", "null")];
            if let Some(masked) = masked(rules, &text) {
                let before: Result<serde_json::Value, _> = serde_json::from_str(&text);
                // Numbers beyond binary64 are JSON for us.
                if before.is_ok() {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{} {}", text, masked);
                }
                if !text.contains('a') && !text.contains('u') {
                    prop_assert_eq!(masked, text);
                }
            } else {
                let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
                prop_assert!(parsed.is_err(), "{}", text);
            }
        }
    }
}
