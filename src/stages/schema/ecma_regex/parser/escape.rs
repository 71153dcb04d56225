//! Escapes, and the classes that are made of them (ECMA-262 §22.2.1).

use super::{Parse, Parser};
use crate::stages::schema::ecma_regex::problem::PatternProblem;
use crate::stages::schema::ecma_regex::set::{self, Set};
use crate::stages::schema::ecma_regex::tree::{Node, Position};

/// Classes of POSIX, which ECMA-262 does not have.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// A member of a class: one code point, which may begin a range, or a set.
enum Member {
    One(u32),
    Many(Set),
}

impl Parser<'_> {
    /// Parses an escape outside a class, after its `\`.
    pub(super) fn escape(&mut self) -> Parse<(Node, bool)> {
        match self.peek() {
            Some('b') => self.at += 1,
            Some('B') => {
                self.at += 1;
                return Ok((Node::At(Position::NotWordBoundary), false));
            }
            Some('k') => {
                self.at += 1;
                return Ok((self.named_reference()?, true));
            }
            Some('1'..='9') => {
                let start = self.at;
                let number = self.number().unwrap_or(0) as usize;
                if number > self.groups.names.len() {
                    let message = format!("`\\{number}` refers to a group that does not exist");
                    return Err(PatternProblem::at(start, message));
                }
                return Ok((self.reference(number), true));
            }
            _ => {
                let member = self.common_escape()?;
                return Ok((Node::One(self.member(member)), true));
            }
        }
        Ok((Node::At(Position::WordBoundary), false))
    }

    fn member(&self, member: Member) -> Set {
        match member {
            Member::One(code) => {
                let mut set = Set::empty();
                set.add(code, code);
                self.cased(set)
            }
            Member::Many(set) => self.cased(set),
        }
    }

    fn reference(&self, group: usize) -> Node {
        Node::Backreference { group, ignore_case: self.flags.ignore_case }
    }

    fn named_reference(&mut self) -> Parse<Node> {
        if !self.eat("<") {
            return Err(self.problem("`\\k` is followed by the name of a group, as in `\\k<name>`"));
        }
        let start = self.at;
        let name = self.name()?;
        let Some(group) = self.groups.number(&name) else {
            return Err(PatternProblem::at(start, format!("there is no group `{name}`")));
        };
        Ok(self.reference(group))
    }

    /// Parses an escape that means the same in a class and outside.
    fn common_escape(&mut self) -> Parse<Member> {
        let start = self.at;
        let Some(next) = self.next() else {
            return Err(self.problem("the pattern ends with `\\`; write `\\\\` for the character"));
        };
        let one = |c: char| Ok(Member::One(c.into()));
        match next {
            'd' => Ok(Member::Many(Set::digits())),
            'D' => Ok(Member::Many(Set::digits().negated())),
            's' => Ok(Member::Many(Set::space())),
            'S' => Ok(Member::Many(Set::space().negated())),
            'w' => Ok(Member::Many(self.cased(Set::word()))),
            'W' => Ok(Member::Many(self.cased(Set::word()).negated())),
            't' => one('\t'),
            'n' => one('\n'),
            'v' => one('\u{b}'),
            'f' => one('\u{c}'),
            'r' => one('\r'),
            '0' if !matches!(self.peek(), Some('0'..='9')) => one('\0'),
            'c' => match self.next() {
                Some(letter) if letter.is_ascii_alphabetic() => Ok(Member::One(u32::from(letter) % 32)),
                _ => Err(PatternProblem::at(start, "`\\c` is followed by a letter".to_owned())),
            },
            'x' => match self.hex(2) {
                Some(code) => Ok(Member::One(code)),
                None => Err(PatternProblem::at(start, "`\\x` takes two hexadecimal digits; see `\\u{…}`".to_owned())),
            },
            'u' => self.code_point(start),
            'p' | 'P' => self.property(start, next == 'P'),
            other if !other.is_alphanumeric() => one(other),
            other => Err(PatternProblem::at(start, unknown(other))),
        }
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.text.get(self.at..self.at + digits)?;
        let number = text.iter().try_fold(0, |number, c| Some(number * 16 + c.to_digit(16)?))?;
        self.at += digits;
        Some(number)
    }

    /// Parses what follows `\u`: four digits, two such escapes that are a surrogate pair, or a number in braces.
    fn code_point(&mut self, start: usize) -> Parse<Member> {
        let wrong = || PatternProblem::at(start, "`\\u` takes four hexadecimal digits, or `\\u{…}`".to_owned());
        if !self.eat("{") {
            let first = self.hex(4).ok_or_else(wrong)?;
            let after = self.at;
            if set::is_lead(first) && self.eat("\\u") {
                if let Some(second) = self.hex(4).filter(|second| set::is_trail(*second)) {
                    return Ok(Member::One(set::pair(first, second)));
                }
                self.at = after;
            }
            return Ok(Member::One(first));
        }
        let (mut number, mut any) = (0_u32, false);
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(16)) {
            number = number.saturating_mul(16).saturating_add(digit);
            any = true;
            self.at += 1;
        }
        if !any || number > 0x10_ffff || !self.eat("}") {
            return Err(wrong());
        }
        Ok(Member::One(number))
    }

    fn property(&mut self, start: usize, negated: bool) -> Parse<Member> {
        let mut name = String::new();
        let closed = self.eat("{") && {
            while let Some(next) = self.next().filter(|next| *next != '}') {
                name.push(next);
            }
            self.text.get(self.at.wrapping_sub(1)) == Some(&'}')
        };
        if !closed {
            let message = "`\\p` takes a property in braces, as in `\\p{Lu}` or `\\p{Script=Greek}`";
            return Err(PatternProblem::at(start, message.to_owned()));
        }
        let Some(set) = Set::property(&name) else {
            let script = Set::property(&format!("Script={name}")).is_some();
            let hint = if script { format!("; write `\\p{{Script={name}}}`") } else { String::new() };
            return Err(PatternProblem::at(start, format!("`{name}` is no property of Unicode{hint}")));
        };
        let set = self.cased(set);
        Ok(Member::Many(if negated { set.negated() } else { set }))
    }

    /// Parses a class after its `[`.
    pub(super) fn class(&mut self) -> Parse<Set> {
        let start = self.at;
        let negated = self.eat("^");
        let mut set = Set::empty();
        loop {
            match self.peek() {
                None => {
                    let message = "a class is not closed; write `\\[` for the character";
                    return Err(PatternProblem::at(start - 1, message.to_owned()));
                }
                Some(']') => break,
                Some(_) => self.class_range(&mut set)?,
            }
        }
        self.at += 1;
        let set = self.cased(set);
        Ok(if negated { set.negated() } else { set })
    }

    fn class_range(&mut self, set: &mut Set) -> Parse<()> {
        let start = self.at;
        let from = self.class_member()?;
        let ranges = self.peek() == Some('-') && self.text.get(self.at + 1).is_some_and(|next| *next != ']');
        let Member::One(from) = from else {
            set.union(&self.member(from));
            return Ok(());
        };
        if !ranges {
            set.add(from, from);
            return Ok(());
        }
        self.at += 1;
        match self.class_member()? {
            Member::One(to) if from <= to => set.add(from, to),
            Member::One(_) => {
                return Err(PatternProblem::at(start, "the range of a class is the wrong way round".to_owned()));
            }
            // `[a-\d]`: no range, so that the hyphen is one (Annex B.1.2).
            Member::Many(to) => {
                set.add(from, from);
                set.add('-'.into(), '-'.into());
                set.union(&to);
            }
        }
        Ok(())
    }

    fn class_member(&mut self) -> Parse<Member> {
        if let Some(name) = POSIX.iter().find(|name| self.eat(&format!("[:{name}:]"))) {
            return Err(self.problem(format!("ECMA-262 has no class `[:{name}:]`; see `\\p{{…}}`")));
        }
        match self.next() {
            Some('\\') => match self.peek() {
                Some('b') => {
                    self.at += 1;
                    Ok(Member::One(8))
                }
                _ => self.common_escape(),
            },
            Some(other) => Ok(Member::One(other.into())),
            None => Err(self.problem("a class is not closed")),
        }
    }
}

/// Why a letter cannot be escaped.
fn unknown(letter: char) -> String {
    let hint = match letter {
        'A' => "; the start of the text is `^`",
        'z' | 'Z' => "; the end of the text is `$`",
        'h' => "; see `[ \\t]`",
        'R' => "; see `\\r?\\n`",
        'Q' | 'E' => "; escape each character by itself",
        'a' => "; see `\\x07`",
        'e' => "; see `\\x1b`",
        'i' | 'c' | 'I' | 'C' | 'X' | 'G' | 'K' | 'N' => "; it is of another dialect",
        _ => "",
    };
    format!("ECMA-262 has no escape `\\{letter}`{hint}")
}
