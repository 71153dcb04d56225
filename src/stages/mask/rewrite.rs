//! Edits a JSON text in one pass: what is hidden is replaced, everything else is copied.
//!
//! The grammar is RFC 8259's, strictly: a text that a parser may read in another way is refused. Every member with a hidden name
//! is hidden, however often it occurs and however its name is escaped.

use std::borrow::Cow;

use bytes::Bytes;

use super::replacement::Replacement;
use super::rules::{Hidden, Step};
use crate::budget::{MemoryBudget, Reservation, Steps};

/// Deepest nesting of objects and arrays.
const MAX_DEPTH: usize = 64;
/// What parsers may skip before a text (RFC 8259 §8.1).
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How often the place of a rule may be compared with a member or an element, for one text: a few tenths of a second. It is enough
/// for thirty rules and a million members.
const STEPS: Steps = Steps::new(30_000_000);

/// Why nothing can be hidden in a text, so that none of it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It is not JSON, or nests deeper than is looked at. Where: its byte.
    Unreadable(usize),
    /// It has more members and elements than so many rules can be looked for in.
    TooMuchWork,
    /// There is no memory for what would be sent now.
    NoMemory,
}

use Failed::Unreadable;

/// How far a rule has come: its position, and that of its next step.
type State = (usize, usize);

/// Returns the text with what is hidden replaced. All that it keeps is taken from `memory`.
pub(crate) fn rewrite(hidden: &Hidden, text: &[u8], memory: &MemoryBudget) -> Result<Bytes, Failed> {
    rewrite_within(STEPS, hidden, text, memory)
}

fn rewrite_within(steps: Steps, hidden: &Hidden, text: &[u8], memory: &MemoryBudget) -> Result<Bytes, Failed> {
    if let Err(error) = str::from_utf8(text) {
        return Err(Unreadable(error.valid_up_to()));
    }
    let at = if text.starts_with(MARK) { MARK.len() } else { 0 };
    let mut pass = Pass { hidden, text, at, out: Vec::new(), reserved: memory.reserve(), copied: 0, steps };
    pass.make_room(text.len())?;
    let all: Vec<State> = (0..hidden.0.len()).map(|rule| (rule, 0)).collect();
    pass.blanks();
    pass.value(&all, MAX_DEPTH)?;
    pass.blanks();
    if pass.at < text.len() {
        return Err(pass.unreadable());
    }
    pass.copy_to(text.len())?;
    Ok(pass.reserved.attach(pass.out))
}

struct Pass<'t> {
    hidden: &'t Hidden,
    text: &'t [u8],
    at: usize,
    out: Vec<u8>,
    /// What `out` takes.
    reserved: Reservation,
    steps: Steps,
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
    fn unreadable(&self) -> Failed {
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

    fn expect(&mut self, byte: u8) -> Result<(), Failed> {
        if self.peek() != Some(byte) {
            return Err(self.unreadable());
        }
        self.at += 1;
        Ok(())
    }

    fn copy_to(&mut self, end: usize) -> Result<(), Failed> {
        let copied = self.text.get(self.copied..end).unwrap_or_default();
        self.make_room(copied.len())?;
        self.out.extend_from_slice(copied);
        self.copied = end;
        Ok(())
    }

    /// Makes room for so many more bytes, which are taken from the budget first.
    fn make_room(&mut self, more: usize) -> Result<(), Failed> {
        let needed = self.out.len().saturating_add(more);
        if needed > self.out.capacity() {
            // Doubled, so that few bytes at a time are not copied again and again.
            let capacity = needed.max(self.out.capacity().saturating_mul(2));
            self.reserved.grow_to(capacity).map_err(|_| Failed::NoMemory)?;
            self.out.reserve_exact(capacity - self.out.len());
        }
        Ok(())
    }

    /// Reads a value, in which these rules go on.
    fn value(&mut self, states: &[State], depth: usize) -> Result<(), Failed> {
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

    fn object(&mut self, states: &[State], depth: usize) -> Result<(), Failed> {
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
            self.take(&states)?;
            let inner = if states.is_empty() { Vec::new() } else { self.of_member(&states, name)? };
            self.child(&inner, (begun, self.at), &mut siblings, depth)?;
            if self.ends(b'}', &mut siblings)? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, states: &[State], depth: usize) -> Result<(), Failed> {
        self.at += 1;
        let mut siblings = Siblings { end: self.at, any: false };
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            self.take(states)?;
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
    ) -> Result<(), Failed> {
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
            self.copy_to(if siblings.any { siblings.end } else { begun })?;
        } else {
            self.copy_to(value)?;
            self.make_room(replacement.most_bytes(hidden))?;
            replacement.write(hidden, &mut self.out).map_err(|_| Unreadable(value))?;
            siblings.any = true;
            siblings.end = self.at;
        }
        self.copied = self.at;
        Ok(())
    }

    /// Reads a comma, or the end of an object or array: then returns true.
    fn ends(&mut self, end: u8, siblings: &mut Siblings) -> Result<bool, Failed> {
        self.blanks();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(true);
        }
        let comma = self.at;
        self.expect(b',')?;
        if !siblings.any {
            // All before it were left out.
            self.copy_to(comma)?;
            self.copied = self.at;
        }
        self.blanks();
        Ok(false)
    }

    /// Takes the steps for one member or element, in which these rules are looked for.
    fn take(&mut self, states: &[State]) -> Result<(), Failed> {
        self.steps.take(states.len() as u64).map_err(|_| Failed::TooMuchWork)
    }

    fn steps_of(&self, rule: usize) -> &[Step] {
        self.hidden.0.get(rule).map(|rule| &*rule.steps).unwrap_or_default()
    }

    /// In an object, `*` may also be nothing: it stands in place of a list of such objects.
    fn skipping(&self, states: &[State]) -> Vec<State> {
        let mut all = Vec::with_capacity(states.len());
        for (rule, step) in states.iter().copied() {
            let steps = self.steps_of(rule);
            let skipped = steps.iter().skip(step).take_while(|step| **step == Step::Any).count();
            let last = (step + skipped).min(steps.len().saturating_sub(1)).max(step);
            all.extend((step..=last).map(|step| (rule, step)));
        }
        each_once(all)
    }

    /// The rules that go on in the member with the name at this place.
    fn of_member(&self, states: &[State], (begun, end): (usize, usize)) -> Result<Vec<State>, Failed> {
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

    /// The rules that go on in the element at this position: a list is passed through, and a rule may also ask for its elements.
    fn of_element(&self, states: &[State], index: usize) -> Vec<State> {
        let mut inner = Vec::with_capacity(states.len());
        for (rule, step) in states.iter().copied() {
            let asks = match self.steps_of(rule).get(step) {
                // `*` may be the member of a map in the list as well.
                Some(Step::Any) => true,
                Some(Step::Name(_, wanted)) => *wanted == Some(index),
                None => continue,
            };
            inner.push((rule, step));
            inner.extend(asks.then_some((rule, step + 1)));
        }
        each_once(inner)
    }

    fn string(&mut self) -> Result<(), Failed> {
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

    fn escape(&mut self) -> Result<(), Failed> {
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

    fn number(&mut self) -> Result<(), Failed> {
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

    fn digits(&mut self) -> Result<(), Failed> {
        let begun = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == begun { Err(self.unreadable()) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Failed> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.unreadable());
        }
        self.at += word.len();
        Ok(())
    }
}

/// Places that are reached in several ways count once: there are never more than all rules have steps.
fn each_once(mut states: Vec<State>) -> Vec<State> {
    states.sort_unstable();
    states.dedup();
    states
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
        let masked = rewrite(&hidden(rules), text.as_bytes(), &MemoryBudget::new(u64::MAX)).ok();
        masked.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
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
            // Maps in a list.
            (&[("/*/x", "null")], r#"[{"a":{"x":1}},{"x":2}]"#, r#"[{"a":{"x":null}},{"x":null}]"#),
            (&[("/*/*/x", "null")], r#"[{"a":[{"b":{"x":1}}]},{"x":2}]"#, r#"[{"a":[{"b":{"x":null}}]},{"x":null}]"#),
            (STREET, r#"{"addresses":[{"home":{"street":"a"}}]}"#, r#"{"addresses":[{"home":{"street":null}}]}"#),
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
        let memory = MemoryBudget::new(u64::MAX);
        assert_eq!(rewrite(&hidden(&[("/a", "null")]), b"\"\xff\"", &memory), Err(Unreadable(1)));
        assert!(masked(&[("/a", "null")], &deep(64)).is_some());
    }

    /// A text cannot make this take long: each place of each rule is looked at once in each member.
    #[test]
    fn work_is_bounded() {
        let (memory, text) = (MemoryBudget::new(u64::MAX), format!("[{}1]", "1,".repeat(999)));
        let deep = hidden(&[("/*/*/*/a", "remove"), ("/b", "remove")]);
        for (steps, expected) in [(2000, Ok(text.len())), (1999, Err(Failed::TooMuchWork))] {
            let masked = rewrite_within(Steps::new(steps), &deep, text.as_bytes(), &memory);
            assert_eq!(masked.map(|masked| masked.len()), expected);
        }
        // The places are as many as the steps of the rules, however deep.
        let nested = "[".repeat(60) + "1" + &"]".repeat(60);
        assert!(rewrite_within(Steps::new(60 * 5), &deep, nested.as_bytes(), &memory).is_ok());
    }

    #[test]
    fn all_that_is_kept_is_taken_from_the_budget() {
        let text = format!("[{}1]", "1,".repeat(999));
        let stars = hidden(&[("/*", "***")]);
        for limit in [1000, 5000] {
            let memory = MemoryBudget::new(limit);
            assert_eq!(rewrite(&stars, text.as_bytes(), &memory), Err(Failed::NoMemory), "{limit}");
            assert_eq!(memory.in_use(), 0);
        }
        let memory = MemoryBudget::new(20_000);
        let masked = rewrite(&stars, text.as_bytes(), &memory).unwrap();
        assert!(memory.in_use() >= masked.len() as u64);
        for (otherwise, value) in [
            ("***", "1"),
            ("null", "1"),
            ("keep_last 9", "-1"),
            ("keep_last 9", r#""\u0001\n\"\\""#),
            ("keep_last 9", "1e9"),
        ] {
            let (mut out, replacement) = (Vec::new(), Replacement::read(otherwise).unwrap());
            replacement.write(value.as_bytes(), &mut out).unwrap();
            assert!(out.len() <= replacement.most_bytes(value.as_bytes()), "{otherwise} {value}");
        }
    }

    /// A value in which every object may have secrets where the paths of the proptest lead.
    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = Just(serde_json::Value::from("harmless"));
        leaf.prop_recursive(5, 40, 4, |inner| {
            let name = prop::sample::select(vec!["a", "b", "iban", "0", "1"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec((name, inner), 0..4).prop_map(|members| {
                    serde_json::Value::Object(
                        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                    )
                }),
            ]
        })
    }

    /// Puts secrets at the end of a path, wherever a description of that path, with any lists on the way, may have meant it: this
    /// does not follow how the pass works, but tries all readings of the path.
    fn plant(value: &mut serde_json::Value, path: &[&str]) {
        let Some((step, rest)) = path.split_first() else {
            *value = "SECRET".into();
            return;
        };
        match value {
            serde_json::Value::Array(elements) => {
                for element in elements {
                    if *step == "*" {
                        plant(element, rest);
                    }
                    if !matches!(element, serde_json::Value::String(_)) {
                        plant(element, path);
                    }
                }
            }
            serde_json::Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    if *step == "*" || *step == name.as_str() {
                        plant(member, rest);
                    }
                }
                if *step == "*" && !rest.is_empty() {
                    plant(value, rest);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn no_secret_passes(
            mut value in any_value(),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "iban"]), 1..4),
            otherwise in prop::sample::select(vec!["remove", "null", "***"]),
        ) {
            plant(&mut value, &path);
            let pointer = format!("/{}", path.join("/"));
            let masked = masked(&[(&pointer, otherwise)], &value.to_string()).unwrap();
            prop_assert!(!masked.contains("SECRET"), "{} {} {}", pointer, value, masked);
        }

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
