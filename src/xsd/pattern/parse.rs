//! Reads the syntax of patterns (XSD 1.0 Part 2, appendix F), without recursion.

use std::iter::Peekable;
use std::str::Chars;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition};

use super::class;
use super::error::PatternError;
use crate::budget::Steps;

/// Most groups within each other: what compiles the program recurses on them.
const MAX_NESTING: usize = 128;
/// Most classes subtracted from each other.
const MAX_SUBTRACTIONS: usize = 64;
/// Most characters of a pattern.
const MAX_LENGTH: usize = 1 << 20;
/// Most ranges of characters, of all its classes.
const MAX_RANGES: usize = 1 << 18;
/// Steps for a pattern, a character, a class with a name, and a range of it.
const PATTERN: u64 = 1000;
const CHARACTER: u64 = 4;
const NAMED: u64 = 1000;
const RANGE: u64 = 4;

/// Returns the program of a pattern that has to match the whole value.
pub(super) fn parse(text: &str, steps: &mut Steps) -> Result<Hir, PatternError> {
    if text.len() > MAX_LENGTH {
        return Err(PatternError { column: 1, message: "the pattern is longer than 1 MiB".to_owned() });
    }
    let cost = PATTERN.saturating_add(CHARACTER.saturating_mul(text.len() as u64));
    steps.take(cost).map_err(|_| PatternError::too_large())?;
    let mut parser = Parser { rest: text.chars().peekable(), column: 0, ranges: 0, steps };
    let body = parser.expression()?;
    Ok(Hir::concat(vec![Hir::look(Look::Start), body, Hir::look(Look::End)]))
}

/// An alternation that is being read: finished branches, and the pieces of the last one.
#[derive(Default)]
struct Group {
    branches: Vec<Hir>,
    pieces: Vec<Hir>,
}

impl Group {
    fn end_branch(&mut self) {
        self.branches.push(Hir::concat(std::mem::take(&mut self.pieces)));
    }

    fn finish(mut self) -> Hir {
        self.end_branch();
        Hir::alternation(self.branches)
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    column: usize,
    /// How many ranges its classes have so far.
    ranges: usize,
    steps: &'a mut Steps,
}

impl Parser<'_> {
    /// Counts a class with a name, which has many ranges.
    fn count(&mut self, class: ClassUnicode) -> Result<ClassUnicode, PatternError> {
        let more = class.ranges().len();
        self.ranges = self.ranges.saturating_add(more);
        let cost = NAMED.saturating_add(RANGE.saturating_mul(more as u64));
        if self.ranges > MAX_RANGES || self.steps.take(cost).is_err() {
            return Err(PatternError::too_large());
        }
        Ok(class)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, PatternError> {
        Err(PatternError { column: self.column.max(1), message: message.into() })
    }

    fn next(&mut self) -> Option<char> {
        self.column += 1;
        self.rest.next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.rest.peek() == Some(&c);
        if found {
            self.next();
        }
        found
    }

    fn expression(&mut self) -> Result<Hir, PatternError> {
        let mut open: Vec<Group> = Vec::new();
        let mut group = Group::default();
        while let Some(c) = self.next() {
            let atom = match c {
                '(' => {
                    if open.len() >= MAX_NESTING {
                        return self.fail(format!("groups are nested deeper than {MAX_NESTING}"));
                    }
                    open.push(std::mem::take(&mut group));
                    continue;
                }
                ')' => {
                    let Some(outer) = open.pop() else { return self.fail("a `)` closes no group; write `\\)`") };
                    std::mem::replace(&mut group, outer).finish()
                }
                '|' => {
                    group.end_branch();
                    continue;
                }
                '[' => Hir::class(Class::Unicode(self.class()?)),
                '\\' => match self.escape()? {
                    Escape::One(c) => literal(c),
                    Escape::Many(class) => Hir::class(Class::Unicode(class)),
                },
                '.' => Hir::class(Class::Unicode(class::wildcard())),
                '?' | '*' | '+' | '{' => return self.fail(format!("the `{c}` repeats nothing; write `\\{c}`")),
                ']' | '}' => return self.fail(format!("a `{c}` begins nothing; write `\\{c}`")),
                c => literal(c),
            };
            let piece = self.quantified(atom)?;
            group.pieces.push(piece);
        }
        if open.is_empty() { Ok(group.finish()) } else { self.fail("a `(` is not closed") }
    }

    fn quantified(&mut self, atom: Hir) -> Result<Hir, PatternError> {
        let (min, max) = match self.rest.peek() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('{') => {
                self.next();
                let bounds = self.bounds()?;
                return Ok(repeat(atom, bounds));
            }
            _ => return Ok(atom),
        };
        self.next();
        Ok(repeat(atom, (min, max)))
    }

    /// `n}`, `n,}` or `n,m}`.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), PatternError> {
        let min = self.number()?;
        if self.eat('}') {
            return Ok((min, Some(min)));
        }
        if !self.eat(',') {
            return self.fail("a `{` begins no count `{n}`, `{n,}` or `{n,m}`; write `\\{`");
        }
        if self.eat('}') {
            return Ok((min, None));
        }
        let max = self.number()?;
        if !self.eat('}') {
            return self.fail("the count is not closed by `}`");
        }
        if max < min {
            return self.fail("the count's minimum is greater than its maximum");
        }
        Ok((min, Some(max)))
    }

    fn number(&mut self) -> Result<u32, PatternError> {
        let mut number: Option<u32> = None;
        while let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(10)) {
            self.next();
            let Some(more) = number.unwrap_or(0).checked_mul(10).and_then(|number| number.checked_add(digit)) else {
                return self.fail("the count is too large");
            };
            number = Some(more);
        }
        match number {
            Some(number) => Ok(number),
            None => self.fail("a count has no number"),
        }
    }

    fn escape(&mut self) -> Result<Escape, PatternError> {
        let Some(c) = self.next() else { return self.fail("a `\\` ends the pattern; write `\\\\`") };
        let one = match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '\\' | '|' | '.' | '?' | '*' | '+' | '(' | ')' | '{' | '}' | '-' | '[' | ']' | '^' => c,
            'p' | 'P' => {
                let class = self.property()?;
                let class = self.count(class)?;
                return Ok(Escape::Many(if c == 'P' { class::negated(class) } else { class }));
            }
            c => match class::of_escape(c) {
                Some(class) => return Ok(Escape::Many(self.count(class)?)),
                None => return self.fail(format!("`\\{c}` is no escape of XML Schema")),
            },
        };
        Ok(Escape::One(one))
    }

    fn property(&mut self) -> Result<ClassUnicode, PatternError> {
        if !self.eat('{') {
            return self.fail("`\\p` needs a category or a block in braces, such as `\\p{Lu}`");
        }
        let mut name = String::new();
        loop {
            match self.next() {
                Some('}') => break,
                Some(c) if c.is_ascii_alphanumeric() || c == '-' => name.push(c),
                _ => return self.fail("the name in `\\p{…}` is not closed"),
            }
        }
        match class::of_property(&name) {
            Some(class) => Ok(class),
            None => self.fail(format!("Unicode has no category or block `{name}`")),
        }
    }

    /// A class, after its `[`. Classes that are subtracted are read in a loop, and subtracted from the last to the first.
    fn class(&mut self) -> Result<ClassUnicode, PatternError> {
        let mut from: Vec<ClassUnicode> = Vec::new();
        loop {
            let negative = self.eat('^');
            let (mut class, subtraction) = self.class_items()?;
            if negative {
                class.negate();
            }
            from.push(class);
            if !subtraction {
                break;
            }
            if from.len() > MAX_SUBTRACTIONS {
                return self.fail(format!("more than {MAX_SUBTRACTIONS} classes are subtracted"));
            }
        }
        let mut result = from.pop().unwrap_or_else(ClassUnicode::empty);
        while let Some(mut class) = from.pop() {
            if !self.eat(']') {
                return self.fail("a class has to end after what is subtracted from it");
            }
            class.difference(&result);
            result = class;
        }
        Ok(result)
    }

    /// The items of a class, up to its `]`, or up to the `[` of a class that is subtracted.
    fn class_items(&mut self) -> Result<(ClassUnicode, bool), PatternError> {
        let mut ranges: Vec<ClassUnicodeRange> = Vec::new();
        let mut first = true;
        loop {
            let Some(c) = self.next() else { return self.fail("a `[` is not closed") };
            let start = match c {
                ']' if first => return self.fail("a class is empty; write `\\]` for the character"),
                ']' => return Ok((ClassUnicode::new(ranges), false)),
                '[' => return self.fail("a `[` is not allowed in a class; write `\\[`"),
                '-' if self.rest.peek() == Some(&'[') && !first => {
                    self.next();
                    return Ok((ClassUnicode::new(ranges), true));
                }
                '-' if first || self.rest.peek() == Some(&']') => '-',
                '-' if self.subtraction_follows() => '-',
                '-' => return self.fail("a `-` is only allowed first or last in a class; write `\\-`"),
                '\\' => match self.escape()? {
                    Escape::One(c) => c,
                    Escape::Many(more) => {
                        ranges.extend(more.iter());
                        first = false;
                        continue;
                    }
                },
                c => c,
            };
            first = false;
            let end = self.range_end(start)?;
            ranges.push(ClassUnicodeRange::new(start, end));
        }
    }

    /// Whether `-[` comes next.
    fn subtraction_follows(&self) -> bool {
        let mut ahead = self.rest.clone();
        ahead.next() == Some('-') && ahead.next() == Some('[')
    }

    /// The last character of a range that begins with this one, which may be no range.
    fn range_end(&mut self, start: char) -> Result<char, PatternError> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.next(), Some('[' | ']') | None) {
            return Ok(start);
        }
        self.next();
        let end = match self.next() {
            Some('\\') => match self.escape()? {
                Escape::One(c) => c,
                Escape::Many(_) => return self.fail("a range ends with a class"),
            },
            Some('-') | None => return self.fail("a range ends with `-`; write `\\-`"),
            Some(c) => c,
        };
        if end < start { self.fail("a range ends before it begins") } else { Ok(end) }
    }
}

enum Escape {
    One(char),
    Many(ClassUnicode),
}

fn literal(c: char) -> Hir {
    Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes())
}

fn repeat(atom: Hir, (min, max): (u32, Option<u32>)) -> Hir {
    Hir::repetition(Repetition { min, max, greedy: true, sub: Box::new(atom) })
}
