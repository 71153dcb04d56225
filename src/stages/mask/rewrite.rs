//! Edits a JSON text as it comes: what is hidden is replaced, everything else is copied.
//!
//! The grammar is RFC 8259's, strictly: a text that a parser may read in another way is refused. Every member with a hidden name
//! is hidden, however often it occurs and however its name is escaped. Of what has come, only that is kept whose fate depends on what
//! follows: the comma and the name before a value, and a value of which the end is shown.

use std::borrow::Cow;

use bytes::Bytes;

use super::frame::{Fate, Frame, Hiding};
use super::kept::Kept;
use super::next::{Next, StringRole};
use super::number::Number;
use super::places::Places;
use super::replacement::Replacement;
use super::rules::Hidden;
use super::utf8::Utf8;
use crate::budget::{Exhausted, MemoryBudget, Reservation, Steps};

/// Deepest nesting of objects and arrays.
const MAX_DEPTH: usize = 64;
/// What parsers may skip before a text (RFC 8259 §8.1).
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How often the place of a rule may be looked at, for one text: a few tenths of a second. It is enough
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

impl From<Exhausted> for Failed {
    fn from(_: Exhausted) -> Self {
        Self::NoMemory
    }
}

/// Returns the text with what is hidden replaced. All that it keeps is taken from `memory`.
pub(crate) fn rewrite(hidden: Hidden, text: &[u8], memory: &MemoryBudget) -> Result<Bytes, Failed> {
    let mut rewriter = Rewriter::new(hidden, memory);
    rewriter.push(text)?;
    rewriter.finish()?;
    Ok(rewriter.take())
}

/// Edits one text, whose pieces come one after the other. After an error, nothing more may be sent.
#[derive(Debug)]
pub(crate) struct Rewriter {
    hidden: Hidden,
    next: Next,
    /// The objects and arrays that are open.
    frames: Vec<Frame>,
    places: Places,
    /// The value that is hidden.
    hiding: Option<Hiding>,
    fate: Fate,
    out: Kept,
    /// Bytes that go out if the value after them does.
    held: Kept,
    /// Where the name begins in them.
    name: usize,
    /// A hidden value of which something is shown.
    value: Kept,
    /// What is kept is taken from it.
    memory: MemoryBudget,
    /// What of it the places take.
    reserved: Reservation,
    /// What is to be sent is taken from it.
    sent: MemoryBudget,
    steps: Steps,
    utf8: Utf8,
    /// Bytes before the current piece.
    before: usize,
}

impl Rewriter {
    /// For a text that is held until all of it was read: what is kept and what is to be sent is taken from `memory`.
    pub(crate) fn new(hidden: Hidden, memory: &MemoryBudget) -> Self {
        Self::with(hidden, memory, memory.clone())
    }

    /// For a text that goes on as it comes, so that of what is to be sent there is never more than of any other body.
    pub(crate) fn streaming(hidden: Hidden, memory: &MemoryBudget) -> Self {
        Self::with(hidden, memory, MemoryBudget::new(u64::MAX))
    }

    fn with(hidden: Hidden, memory: &MemoryBudget, sent: MemoryBudget) -> Self {
        Self {
            hidden,
            next: Next::Value { is_first: false },
            frames: Vec::new(),
            places: Places::default(),
            hiding: None,
            fate: Fate::Copied,
            out: Kept::new(&sent),
            held: Kept::new(memory),
            name: 0,
            value: Kept::new(memory),
            memory: memory.clone(),
            reserved: memory.reserve(),
            sent,
            steps: STEPS,
            utf8: Utf8::default(),
            before: 0,
        }
    }

    /// Reads the next piece of the text.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Failed> {
        self.utf8.push(piece).map_err(|at| Unreadable(self.before + at))?;
        self.out.make_room(piece.len())?;
        if let (0, Some((first, rest))) = (self.before, MARK.split_first())
            && piece.first() == Some(first)
        {
            self.next = Next::Mark(rest);
        }
        let at = usize::from(matches!(self.next, Next::Mark(_)) && self.before == 0);
        Pass { own: self, piece, at, settled: 0 }.run()?;
        self.before += piece.len();
        Ok(())
    }

    /// Ends the text.
    pub(crate) fn finish(&mut self) -> Result<(), Failed> {
        // Of all values, only a number has no end of its own.
        let is_number = matches!(self.next, Next::Number(number) if number.may_end()) && self.frames.is_empty();
        if is_number {
            Pass { own: self, piece: &[], at: 0, settled: 0 }.end_value()?;
        }
        if matches!(self.next, Next::End) && self.utf8.is_complete() { Ok(()) } else { Err(Unreadable(self.before)) }
    }

    /// Takes what may be sent now, in blocks of this size: what is sent of each piece would tell how much is hidden in it.
    pub(crate) fn take_blocks(&mut self, size: usize) -> Result<Bytes, Failed> {
        Ok(self.out.take_blocks(size, &self.sent)?)
    }

    /// Takes what may be sent.
    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::replace(&mut self.out, Kept::new(&self.sent)).into_bytes()
    }
}

/// The reading of one piece.
struct Pass<'p> {
    own: &'p mut Rewriter,
    piece: &'p [u8],
    at: usize,
    /// The bytes before it have met their fate.
    settled: usize,
}

impl Pass<'_> {
    fn unreadable(&self) -> Failed {
        Unreadable(self.own.before + self.at)
    }

    fn run(&mut self) -> Result<(), Failed> {
        while let Some(byte) = self.piece.get(self.at).copied() {
            match (self.own.next, byte) {
                (Next::Text(role), _) => self.text(role)?,
                (Next::Escape(role), _) => self.escape(role, byte)?,
                (Next::Hex(role, left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    self.step(if left == 1 { Next::Text(role) } else { Next::Hex(role, left - 1) });
                }
                (Next::Number(number), _) => match number.then(byte) {
                    Some(number) => self.step(Next::Number(number)),
                    None if number.may_end() => self.end_value()?,
                    None => return Err(self.unreadable()),
                },
                (Next::Word(word) | Next::Mark(word), _) => self.word(word, byte)?,
                (_, b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                (Next::Value { is_first: true } | Next::After, b']') => self.close(false)?,
                (Next::Name { is_first: true } | Next::After, b'}') => self.close(true)?,
                (Next::Value { .. }, _) => self.begin_value(byte)?,
                (Next::Name { .. }, b'"') => self.begin_name()?,
                (Next::Colon, b':') => self.step(Next::Value { is_first: false }),
                (Next::After, b',') => self.comma()?,
                _ => return Err(self.unreadable()),
            }
        }
        self.settle()
    }

    /// Goes on behind the current byte.
    fn step(&mut self, next: Next) {
        self.at += 1;
        self.own.next = next;
    }

    /// Lets the bytes that were read since then meet their fate.
    fn settle(&mut self) -> Result<(), Failed> {
        let read = self.piece.get(self.settled..self.at).unwrap_or_default();
        self.settled = self.at;
        match self.own.fate {
            Fate::Copied => self.own.out.extend(read)?,
            Fate::Held => self.own.held.extend(read)?,
            Fate::Kept => self.own.value.extend(read)?,
            Fate::Dropped => {}
        }
        Ok(())
    }

    /// From here on, bytes have this fate.
    fn turn(&mut self, fate: Fate) -> Result<(), Failed> {
        self.settle()?;
        self.own.fate = fate;
        Ok(())
    }

    /// Lets go out what is held.
    fn release(&mut self) -> Result<(), Failed> {
        if self.own.fate == Fate::Held {
            if !self.own.held.bytes.is_empty() {
                self.settle()?;
                self.own.out.extend(&self.own.held.bytes)?;
                self.own.held.clear(&self.own.memory);
            }
            self.own.fate = Fate::Copied;
        }
        Ok(())
    }

    /// The object or array that is open, if something in it may be hidden.
    fn watched(&mut self) -> Option<&mut Frame> {
        match self.own.hiding {
            None => self.own.frames.last_mut().filter(|frame| !frame.places.is_empty()),
            Some(_) => None,
        }
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), Failed> {
        let begin = self.begin_places()?;
        match self.own.places.replacement(&self.own.hidden, begin, byte) {
            None => {
                self.release()?;
                if let Some(frame) = self.watched() {
                    frame.keeps_any = true;
                }
            }
            // A text is no JSON without a value.
            Some(Replacement::Remove) if self.own.frames.is_empty() => self.hide(Replacement::Null)?,
            Some(replacement) => self.hide(replacement.of(byte))?,
        }
        self.step(match byte {
            b'{' => Next::Name { is_first: true },
            b'[' => Next::Value { is_first: true },
            b'"' => Next::Text(StringRole::Value),
            b't' => Next::Word(b"rue"),
            b'f' => Next::Word(b"alse"),
            b'n' => Next::Word(b"ull"),
            _ => Next::Number(Number::begun(byte).ok_or(self.unreadable())?),
        });
        if matches!(byte, b'{' | b'[') {
            if self.own.frames.len() == MAX_DEPTH {
                return Err(Unreadable(self.own.before + self.at - 1));
            }
            let is_object = byte == b'{';
            match self.own.hiding {
                Some(_) => self.own.places.truncate(begin),
                None if is_object => self.own.places.skip_in_object(&self.own.hidden, begin),
                None => {}
            }
            let places = begin..self.own.places.end();
            // Those of the value itself were counted where they were looked for.
            take(&mut self.own.steps, places.len())?;
            self.own.places.reserve(&mut self.own.reserved)?;
            self.own.frames.push(Frame { is_object, places, keeps_any: false, index: 0 });
        } else {
            self.own.places.truncate(begin);
        }
        Ok(())
    }

    /// Adds how far the rules have come in the value that begins. Returns where that begins.
    fn begin_places(&mut self) -> Result<usize, Failed> {
        let own = &mut *self.own;
        let end = own.places.end();
        let Some(frame) = own.frames.last_mut() else {
            own.places.begin_text(&own.hidden);
            return Ok(end);
        };
        if frame.is_object {
            // The name has added them.
            return Ok(if own.hiding.is_some() { end } else { frame.places.end });
        }
        let index = frame.index;
        frame.index += 1;
        if own.hiding.is_none() {
            take(&mut own.steps, frame.places.len())?;
            own.places.begin_element(&own.hidden, frame.places.clone(), index);
        }
        Ok(end)
    }

    /// Hides the value that begins.
    fn hide(&mut self, replacement: Replacement) -> Result<(), Failed> {
        if replacement == Replacement::Remove {
            // With its name, and the comma before it.
            if self.own.fate == Fate::Held {
                self.own.held.clear(&self.own.memory);
                self.settled = self.at;
            }
        } else {
            self.release()?;
        }
        self.turn(if replacement.shows_some() { Fate::Kept } else { Fate::Dropped })?;
        self.own.hiding = Some(Hiding { depth: self.own.frames.len(), replacement });
        Ok(())
    }

    /// The value has ended before the current byte.
    fn end_value(&mut self) -> Result<(), Failed> {
        if let Some(Hiding { depth, replacement }) = self.own.hiding
            && depth == self.own.frames.len()
        {
            self.own.hiding = None;
            self.replace(replacement)?;
        }
        self.own.next = if self.own.frames.is_empty() { Next::End } else { Next::After };
        if self.watched().is_some_and(|frame| frame.keeps_any) {
            self.turn(Fate::Held)?;
        }
        Ok(())
    }

    /// Writes what stands in place of the hidden value that has ended.
    fn replace(&mut self, replacement: Replacement) -> Result<(), Failed> {
        let end = self.own.before + self.at;
        if !self.own.value.bytes.is_empty() {
            self.settle()?;
        }
        let own = &mut *self.own;
        let value = match &*own.value.bytes {
            [] => self.piece.get(self.settled..self.at).unwrap_or_default(),
            value => value,
        };
        if replacement != Replacement::Remove {
            own.out.make_room(replacement.most_bytes(value))?;
            replacement.write(value, &mut own.out.bytes).map_err(|_| Unreadable(end))?;
        }
        own.value.clear(&own.memory);
        own.fate = Fate::Copied;
        self.settled = self.at;
        if replacement != Replacement::Remove
            && let Some(frame) = self.watched()
        {
            frame.keeps_any = true;
        }
        Ok(())
    }

    fn comma(&mut self) -> Result<(), Failed> {
        let all_left_out = self.watched().is_some_and(|frame| !frame.keeps_any);
        if all_left_out {
            self.settle()?;
        }
        let is_object = self.own.frames.last().is_some_and(|frame| frame.is_object);
        self.step(if is_object { Next::Name { is_first: false } } else { Next::Value { is_first: false } });
        if all_left_out {
            self.settled = self.at;
        }
        Ok(())
    }

    /// Ends the object or array.
    fn close(&mut self, is_object: bool) -> Result<(), Failed> {
        if self.own.frames.last().is_none_or(|frame| frame.is_object != is_object) {
            return Err(self.unreadable());
        }
        if self.own.hiding.is_none() {
            self.release()?;
        }
        if let Some(frame) = self.own.frames.pop() {
            self.own.places.truncate(frame.places.start);
        }
        self.at += 1;
        self.end_value()
    }

    fn begin_name(&mut self) -> Result<(), Failed> {
        if self.watched().is_some() {
            if self.own.fate != Fate::Held {
                self.turn(Fate::Held)?;
            }
            self.own.name = self.own.held.bytes.len() + self.at - self.settled;
        }
        self.step(Next::Text(StringRole::Name));
        Ok(())
    }

    /// The name has ended before the current byte.
    fn end_name(&mut self) -> Result<(), Failed> {
        self.own.next = Next::Colon;
        if self.watched().is_none() {
            return Ok(());
        }
        let end = self.own.before + self.at;
        let in_piece = self.own.name.checked_sub(self.own.held.bytes.len());
        if in_piece.is_none() {
            self.settle()?;
        }
        let own = &mut *self.own;
        let name = match in_piece {
            Some(begun) => self.piece.get(self.settled + begun..self.at),
            None => own.held.bytes.get(own.name..),
        };
        let name = name.unwrap_or_default();
        let plain = name.get(1..name.len().saturating_sub(1)).unwrap_or_default();
        let name: Cow<'_, [u8]> = match memchr::memchr(b'\\', plain) {
            None => Cow::Borrowed(plain),
            Some(_) => Cow::Owned(serde_json::from_slice::<String>(name).map_err(|_| Unreadable(end))?.into_bytes()),
        };
        let object = own.frames.last().map(|frame| frame.places.clone()).unwrap_or_default();
        take(&mut own.steps, object.len())?;
        own.places.begin_member(&own.hidden, object, &name);
        Ok(())
    }

    fn text(&mut self, role: StringRole) -> Result<(), Failed> {
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        let text = rest.get(..end).unwrap_or_default();
        // Comparing all of them is faster than stopping at the first.
        if text.iter().fold(false, |found, byte| found | (*byte < 0x20)) {
            let good = text.iter().take_while(|byte| **byte >= 0x20).count();
            return Err(Unreadable(self.own.before + self.at + good));
        }
        self.at += end;
        match self.piece.get(self.at) {
            None => Ok(()),
            Some(b'\\') => {
                self.step(Next::Escape(role));
                Ok(())
            }
            Some(_) => {
                self.at += 1;
                if role == StringRole::Name { self.end_name() } else { self.end_value() }
            }
        }
    }

    fn escape(&mut self, role: StringRole, byte: u8) -> Result<(), Failed> {
        self.step(match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Next::Text(role),
            b'u' => Next::Hex(role, 4),
            _ => return Err(self.unreadable()),
        });
        Ok(())
    }

    fn word(&mut self, word: &'static [u8], byte: u8) -> Result<(), Failed> {
        let Some((_, rest)) = word.split_first().filter(|(first, _)| **first == byte) else {
            return Err(self.unreadable());
        };
        let is_mark = matches!(self.own.next, Next::Mark(_));
        self.step(if is_mark { Next::Mark(rest) } else { Next::Word(rest) });
        match (rest, is_mark) {
            ([], true) => self.own.next = Next::Value { is_first: false },
            ([], false) => self.end_value()?,
            _ => {}
        }
        Ok(())
    }
}

/// Takes the steps for one member or element, in which these rules are looked for.
fn take(steps: &mut Steps, rules: usize) -> Result<(), Failed> {
    steps.take(rules as u64).map_err(|_| Failed::TooMuchWork)
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
        let masked = rewrite(hidden(rules), text.as_bytes(), &MemoryBudget::new(u64::MAX)).ok();
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
            // A single value in place of a list.
            (&[("/tags/*", "remove")], r#"{"tags":"x","a":1}"#, r#"{"a":1}"#),
            (&[("/tags/*/*", "***")], r#"{"tags":["x",[1,2]]}"#, r#"{"tags":["***",["***","***"]]}"#),
            (&[("/tags/*", "***")], r#"{"tags":null,"a":"x"}"#, r#"{"tags":null,"a":"x"}"#),
            (&[("/tags/0", "***")], r#"{"tags":true}"#, r#"{"tags":"***"}"#),
            (&[("/tags/0", "***")], r#"{"tags":{"x":1}}"#, r#"{"tags":"***"}"#),
            (&[("/tags/1", "***")], r#"{"tags":"x"}"#, r#"{"tags":"x"}"#),
            (&[("/tags/*/0", "***")], r#"{"tags":[["a","b"],"c"]}"#, r#"{"tags":[["***","b"],"***"]}"#),
            (&[("/a/0", "***")], r#"[{"a":"x"},{"a":["y","z"]}]"#, r#"[{"a":"***"},{"a":["***","z"]}]"#),
            (&[("/*/0/b", "null")], r#"[[{"b":1},{"b":2}],{"b":3}]"#, r#"[[{"b":null},{"b":2}],{"b":null}]"#),
            (&[("/a/0/b", "null")], r#"{"a":{"b":"x","c":1}}"#, r#"{"a":{"b":null,"c":1}}"#),
            (&[("/a/0/b", "null")], r#"{"a":[{"b":"x"},{"b":"y"}]}"#, r#"{"a":[{"b":null},{"b":"y"}]}"#),
            (&[("/*", "remove")], r#""x""#, "null"),
            (&[("/*", "keep_last 2")], "12345", r#""***45""#),
            (&[("/0/b", "remove")], r#"{"b":1}"#, "{}"),
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
        assert_eq!(rewrite(hidden(&[("/a", "null")]), b"\"\xff\"", &memory), Err(Unreadable(1)));
        assert!(masked(&[("/a", "null")], &deep(64)).is_some());
    }

    /// A text cannot make this take long: each place of each rule is looked at once in each member, and once as an object or array begins.
    #[test]
    fn work_is_bounded() {
        let (memory, text) = (MemoryBudget::new(u64::MAX), format!("[{}1]", "1,".repeat(999)));
        let deep = hidden(&[("/*/*/*/a", "remove"), ("/b", "remove")]);
        let within = |steps, text: &str| {
            let mut rewriter = Rewriter { steps: Steps::new(steps), ..Rewriter::new(deep.clone(), &memory) };
            rewriter.push(text.as_bytes()).map(|()| rewriter.take())
        };
        for (steps, expected) in [(2002, Ok(text.len())), (2001, Err(Failed::TooMuchWork))] {
            let masked = within(steps, &text);
            assert_eq!(masked.map(|masked| masked.len()), expected);
        }
        // The places are as many as the steps of the rules, however deep.
        let nested = "[".repeat(60) + "1" + &"]".repeat(60);
        assert!(within(60 * 10, &nested).is_ok());
    }

    #[test]
    fn all_that_is_kept_is_taken_from_the_budget() {
        let text = format!("[{}1]", "1,".repeat(999));
        let stars = hidden(&[("/*", "***")]);
        for limit in [1000, 5000] {
            let memory = MemoryBudget::new(limit);
            assert_eq!(rewrite(stars.clone(), text.as_bytes(), &memory), Err(Failed::NoMemory), "{limit}");
            assert_eq!(memory.in_use(), 0);
        }
        let memory = MemoryBudget::new(20_000);
        let masked = rewrite(stars.clone(), text.as_bytes(), &memory).unwrap();
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
    /// does not follow how the pass works, but tries all readings of the path. A value stands in place of a list of one only where
    /// none was passed through, in which it has others beside it.
    fn plant(value: &mut serde_json::Value, path: &[&str], has_passed: bool) {
        let Some((step, rest)) = path.split_first() else {
            *value = "SECRET".into();
            return;
        };
        let is_only = *step == "*" || (*step == "0" && !has_passed);
        match value {
            serde_json::Value::Array(elements) => {
                for (position, element) in elements.iter_mut().enumerate() {
                    if *step == "*" || *step == position.to_string() {
                        plant(element, rest, has_passed);
                    }
                    plant(element, path, true);
                }
            }
            serde_json::Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    if *step == "*" || *step == name.as_str() {
                        plant(member, rest, false);
                    }
                }
                if is_only && rest.iter().any(|step| *step != "0") {
                    plant(value, rest, has_passed);
                }
            }
            _ if is_only => plant(value, rest, has_passed),
            _ => {}
        }
    }

    /// The same whole, and in pieces of this size.
    fn in_pieces(rules: &[(&str, &str)], text: &[u8], size: usize) -> [Result<Vec<u8>, Failed>; 2] {
        let memory = MemoryBudget::new(u64::MAX);
        let mut rewriter = Rewriter::new(hidden(rules), &memory);
        let mut out = Vec::new();
        let mut pushed = text.chunks(size).map(|piece| {
            rewriter.push(piece)?;
            out.extend(rewriter.take());
            Ok(())
        });
        let pushed = pushed.try_for_each(|pushed| pushed);
        let pieces = pushed.and_then(|()| rewriter.finish()).map(|()| out);
        [rewrite(hidden(rules), text, &memory).map(Vec::from), pieces]
    }

    #[test]
    fn of_what_has_come_little_is_kept() {
        let memory = MemoryBudget::new(u64::MAX);
        let mut rewriter = Rewriter::new(hidden(&[("/*/iban", "remove"), ("/*/card", "keep_last 4")]), &memory);
        rewriter.push(b"[").unwrap();
        for number in 0..10_000 {
            let row = format!(r#"{{"iban":"DE0212030000{number}","name":"{number}","card":"4111{number:012}"}},"#);
            rewriter.push(row.as_bytes()).unwrap();
            let sent = rewriter.take();
            assert!(String::from_utf8_lossy(&sent).contains(&format!(r#"{{"name":"{number}","card":"***{number:04}"#)));
            drop(sent);
            assert!(memory.in_use() < 1024, "{}", memory.in_use());
        }
        rewriter.push(b"1]").unwrap();
        rewriter.finish().unwrap();
    }

    proptest! {
        #[test]
        fn pieces_are_masked_as_the_whole(
            value in any_value(),
            blanks in prop::sample::select(vec!["", " ", "\n\t"]),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            otherwise in prop::sample::select(vec!["remove", "null", "***", "keep_last 3"]),
            size in 1_usize..20,
        ) {
            let text = value.to_string().replace(',', &format!("{blanks},{blanks}")).replace(':', &format!(":{blanks}"));
            let mut text = text.replace("iban", "ib\\u0061n").replace("harmless", "h\u{e4}rmless \u{1f600}").into_bytes();
            if let Some((at, byte)) = damage {
                let at = at.index(text.len());
                text[at] = byte;
            }
            let rules = [("/a/*", otherwise), ("/iban", "null"), ("/b/1", "remove"), ("/*/b", otherwise)];
            let [whole, pieces] = in_pieces(&rules, &text, size);
            match &whole {
                Ok(_) => prop_assert_eq!(pieces, whole),
                // Which of two faults comes first depends on the pieces.
                Err(_) => prop_assert!(pieces.is_err()),
            }
        }

        #[test]
        fn no_secret_passes(
            mut value in any_value(),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "0", "iban"]), 1..4),
            otherwise in prop::sample::select(vec!["remove", "null", "***"]),
        ) {
            plant(&mut value, &path, false);
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
