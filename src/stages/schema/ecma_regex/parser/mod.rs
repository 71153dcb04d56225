//! Parses patterns: the grammar of ECMA-262 §22.2.1 with the flag `u`, and what Annex B adds to it where the meaning is the
//! same in every dialect (`\-`, `\_`, a lone `]` or `{`). What other dialects write and ECMA-262 means otherwise is an error.

mod escape;

use super::problem::PatternProblem;
use super::set::Set;
use super::tree::{Look, Node, Position, Repeat};

/// Deepest nesting of groups.
const MAX_DEPTH: usize = 128;

/// A parsed pattern.
pub(super) struct Parsed {
    pub(super) root: Node,
    pub(super) groups: usize,
}

pub(super) fn parse(pattern: &str) -> Result<Parsed, PatternProblem> {
    let text: Vec<char> = pattern.chars().collect();
    let groups = Groups::of(&text);
    let mut parser = Parser { text: &text, at: 0, depth: 0, captured: 0, flags: Flags::default(), groups: &groups };
    let root = parser.disjunction()?;
    if parser.peek().is_some() {
        return Err(parser.problem("there is no group that this `)` closes; write `\\)` for the character"));
    }
    if let Some(name) = groups.twice() {
        return Err(PatternProblem::at(0, format!("the group `{name}` is defined twice")));
    }
    Ok(Parsed { root, groups: groups.names.len() })
}

/// The capturing groups of a pattern, in order: references may come before them.
struct Groups {
    names: Vec<Option<String>>,
}

impl Groups {
    fn of(text: &[char]) -> Self {
        let mut names = Vec::new();
        let (mut at, mut in_class) = (0, false);
        while let Some(c) = text.get(at) {
            match c {
                '\\' => at += 1,
                '[' => in_class = true,
                ']' => in_class = false,
                '(' if !in_class => match text.get(at + 1..).unwrap_or_default() {
                    ['?', '<', '=' | '!', ..] => {}
                    ['?', '<', name @ ..] => names.push(Some(name.iter().take_while(|c| **c != '>').collect())),
                    ['?', ..] => {}
                    _ => names.push(None),
                },
                _ => {}
            }
            at += 1;
        }
        Self { names }
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known.as_deref() == Some(name)).map(|at| at + 1)
    }

    fn twice(&self) -> Option<&str> {
        let mut names: Vec<&str> = self.names.iter().flatten().map(String::as_str).collect();
        names.sort_unstable();
        names.windows(2).find_map(|two| two.first().filter(|name| two.last() == Some(name)).copied())
    }
}

/// The flags that `(?i:…)` sets for a part of a pattern.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    multiline: bool,
    dot_all: bool,
}

struct Parser<'p> {
    text: &'p [char],
    at: usize,
    depth: usize,
    /// Capturing groups that have begun.
    captured: usize,
    flags: Flags,
    groups: &'p Groups,
}

type Parse<T> = Result<T, PatternProblem>;

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn eat(&mut self, expected: &str) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = expected.chars().enumerate().all(|(at, c)| rest.get(at) == Some(&c));
        if found {
            self.at += expected.chars().count();
        }
        found
    }

    fn problem(&self, message: impl Into<String>) -> PatternProblem {
        PatternProblem::at(self.at, message.into())
    }

    fn disjunction(&mut self) -> Parse<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.problem(format!("groups nest more than {MAX_DEPTH} deep")));
        }
        let mut branches = vec![self.alternative()?];
        while self.eat("|") {
            branches.push(self.alternative()?);
        }
        self.depth -= 1;
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Either(branches) })
    }

    fn alternative(&mut self) -> Parse<Node> {
        let mut terms: Vec<Node> = Vec::new();
        while let Some(next) = self.peek().filter(|next| !matches!(next, '|' | ')')) {
            let (atom, repeatable) = self.term(next)?;
            // Patterns that were written for UTF-16 name the two halves of a character.
            let pairs = match (terms.last(), &atom) {
                (Some(Node::One(lead)), Node::One(trail)) if !self.at_quantifier() => lead.paired_with(trail),
                _ => None,
            };
            let atom = match pairs {
                Some(pairs) => {
                    terms.pop();
                    Node::One(pairs)
                }
                None => atom,
            };
            terms.push(self.quantified(atom, repeatable)?);
        }
        Ok(if terms.len() == 1 { terms.remove(0) } else { Node::Sequence(terms) })
    }

    /// Parses an assertion or an atom, and says whether it may be repeated.
    fn term(&mut self, next: char) -> Parse<(Node, bool)> {
        self.at += 1;
        Ok(match next {
            '^' => (self.position(Position::Start, Position::LineStart), false),
            '$' => (self.position(Position::End, Position::LineEnd), false),
            '.' if self.flags.dot_all => (Node::One(Set::all()), true),
            '.' => (Node::One(Set::dot()), true),
            '(' => self.group()?,
            '[' => (Node::One(self.class()?), true),
            '\\' => self.escape()?,
            '*' | '+' | '?' => {
                self.at -= 1;
                return Err(self.problem(format!("`{next}` repeats nothing; write `\\{next}` for the character")));
            }
            '{' => {
                self.at -= 1;
                if self.braces()?.is_some() {
                    return Err(self.problem("a quantifier repeats nothing; write `\\{` for the character"));
                }
                self.at += 1;
                (Node::One(Set::of(next)), true)
            }
            other => (Node::One(self.cased(Set::of(other))), true),
        })
    }

    fn position(&self, text: Position, line: Position) -> Node {
        Node::At(if self.flags.multiline { line } else { text })
    }

    fn cased(&self, set: Set) -> Set {
        if self.flags.ignore_case { set.ignoring_case() } else { set }
    }

    fn at_quantifier(&self) -> bool {
        matches!(self.peek(), Some('*' | '+' | '?' | '{'))
    }

    fn quantified(&mut self, node: Node, repeatable: bool) -> Parse<Node> {
        let start = self.at;
        let (least, most) = match self.peek() {
            Some('{') => match self.braces()? {
                Some(bounds) => bounds,
                None => return Ok(node),
            },
            _ if self.eat("*") => (0, None),
            _ if self.eat("+") => (1, None),
            _ if self.eat("?") => (0, Some(1)),
            _ => return Ok(node),
        };
        if !repeatable {
            return Err(PatternProblem::at(
                start,
                "a position such as `^` or a look-around cannot be repeated".to_owned(),
            ));
        }
        let greedy = !self.eat("?");
        if let Some(next @ ('*' | '+' | '?')) = self.peek() {
            let message = format!("`{next}` repeats a quantifier; ECMA-262 has no possessive quantifiers");
            return Err(self.problem(message));
        }
        Ok(Node::Repeat(Box::new(Repeat { node, least, most, greedy })))
    }

    /// Parses `{n}`, `{n,}` or `{n,m}`; `None` if the brace is only a character.
    fn braces(&mut self) -> Parse<Option<(u32, Option<u32>)>> {
        let start = self.at;
        let bounds = self.bounds();
        match bounds {
            None => self.at = start,
            Some((least, Some(most))) if most < least => {
                let message = format!("the bounds of `{{{least},{most}}}` are the wrong way round");
                return Err(PatternProblem::at(start, message));
            }
            _ => {}
        }
        Ok(bounds)
    }

    fn bounds(&mut self) -> Option<(u32, Option<u32>)> {
        self.eat("{").then_some(())?;
        let least = self.number()?;
        let most = match self.eat(",") {
            false => Some(least),
            true if self.peek() == Some('}') => None,
            true => Some(self.number()?),
        };
        self.eat("}").then_some((least, most))
    }

    /// A decimal number; one that is too large is the largest.
    fn number(&mut self) -> Option<u32> {
        let mut number: Option<u32> = None;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            self.at += 1;
        }
        number
    }

    /// Parses a group after its `(`.
    fn group(&mut self) -> Parse<(Node, bool)> {
        let outside = self.flags;
        let looks = [("?=", false, false), ("?!", false, true), ("?<=", true, false), ("?<!", true, true)];
        let look = looks.into_iter().find(|(text, ..)| self.eat(text));
        let node = if let Some((_, behind, negated)) = look {
            let node = self.disjunction()?;
            Node::Look(Box::new(Look { node, behind, negated }))
        } else if self.eat("?<") {
            self.name()?;
            self.capture()?
        } else if self.eat("?") {
            self.flags()?;
            self.disjunction()?
        } else {
            self.capture()?
        };
        self.flags = outside;
        if !self.eat(")") {
            return Err(self.problem("a group is not closed; write `\\(` for the character"));
        }
        Ok((node, look.is_none()))
    }

    fn capture(&mut self) -> Parse<Node> {
        self.captured += 1;
        let number = self.captured;
        Ok(Node::Capture(number, Box::new(self.disjunction()?)))
    }

    /// Parses the name of a group after its `<`.
    fn name(&mut self) -> Parse<String> {
        let start = self.at;
        let mut name = String::new();
        while let Some(next) = self.next().filter(|next| *next != '>') {
            name.push(next);
        }
        let begins = |c: char| c.is_alphabetic() || matches!(c, '_' | '$');
        let known = name.starts_with(begins) && name.chars().all(|c| begins(c) || c.is_numeric());
        let closed = self.text.get(self.at.wrapping_sub(1)) == Some(&'>');
        if !known || !closed {
            return Err(PatternProblem::at(start, "the name of a group is letters, digits, `_` and `$`".to_owned()));
        }
        Ok(name)
    }

    /// Parses flags after `(?`, up to their `:`.
    fn flags(&mut self) -> Parse<()> {
        let (mut on, mut seen) = (true, String::new());
        loop {
            let next = self.next();
            match next {
                Some(':') => return Ok(()),
                Some('-') if on => on = false,
                Some(flag @ ('i' | 'm' | 's')) if !seen.contains(flag) => {
                    seen.push(flag);
                    match flag {
                        'i' => self.flags.ignore_case = on,
                        'm' => self.flags.multiline = on,
                        _ => self.flags.dot_all = on,
                    }
                }
                _ => {
                    self.at -= usize::from(next.is_some());
                    return Err(self.problem(match next {
                        Some(')') => "flags hold for a group: write `(?i:…)` around the part that they are for",
                        Some('P') => "a named group is written `(?<name>…)`",
                        Some('>') => "ECMA-262 has no atomic groups",
                        Some('#') => "ECMA-262 has no comments",
                        _ => "`(?` begins `(?:…)`, `(?<name>…)`, `(?i:…)`, `(?=…)`, `(?!…)`, `(?<=…)` or `(?<!…)`",
                    }));
                }
            }
        }
    }
}
