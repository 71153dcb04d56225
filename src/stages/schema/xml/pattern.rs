//! Decides whether a pattern of a schema (XSD 1.0 part 2, appendix F) can be matched in linear time by backtracking, which
//! is how libxml2 matches.
//!
//! libxml2 has no limit: `[a-z]+[a-z0-9]+[a-z]+!` keeps it busy for hours with 10 KB of `a`. So this counts the steps of
//! backtracking for the worst text. It treats all characters outside ASCII as equal, and looks ahead by one character only,
//! so it may reject a pattern that is linear, but never accepts one that is not.

/// Most positions in a pattern, with repetitions expanded.
const MAX_POSITIONS: usize = 1000;
/// Most pairs of positions that can follow each other.
const MAX_PAIRS: usize = 20_000;
/// Deepest nesting of groups.
const MAX_DEPTH: usize = 32;
/// Length of the text that steps are counted for. Steps may grow linearly with the length, but not quadratically.
const TEXT_LENGTH: usize = 512;
/// Most steps for each character of a text.
const MAX_STEPS: f64 = 64.0;

/// Returns whether a pattern can be matched in linear time; false also for one that cannot be parsed.
pub(super) fn is_linear(pattern: &str) -> bool {
    let mut parser = Parser { rest: pattern.chars().collect::<Vec<_>>().into_iter().peekable(), depth: 0 };
    let Some(parsed) = parser.alternatives() else { return false };
    if parser.rest.next().is_some() {
        return false;
    }
    let mut positions = Positions::default();
    let Some(whole) = positions.add(&parsed) else { return false };
    let (half, full) = positions.steps(&whole.first);
    full <= 3.0 * half && full <= MAX_STEPS * TEXT_LENGTH as f64
}

/// A set of characters: a bit for each ASCII character, and whether others may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set {
    ascii: u128,
    others: bool,
}

impl Set {
    const NONE: Self = Self { ascii: 0, others: false };
    const ALL: Self = Self { ascii: u128::MAX, others: true };

    fn ascii(holds: impl Fn(char) -> bool) -> Self {
        let bits = (0..128_u8).filter(|byte| holds(char::from(*byte))).fold(0, |bits, byte| bits | 1 << byte);
        Self { ascii: bits, others: false }
    }

    fn range(from: char, to: char) -> Self {
        Self { others: !to.is_ascii(), ..Self::ascii(|c| (from..=to).contains(&c)) }
    }

    fn and_others(self) -> Self {
        Self { others: true, ..self }
    }

    /// All characters that are not in it. Characters outside ASCII may always be.
    fn complement(self) -> Self {
        Self { ascii: !self.ascii, others: true }
    }

    fn union(self, other: Self) -> Self {
        Self { ascii: self.ascii | other.ascii, others: self.others || other.others }
    }

    /// The set of an escape such as `\d`.
    fn escaped(letter: char) -> Option<Self> {
        let name = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
        Some(match letter {
            's' => Self::ascii(|c| matches!(c, ' ' | '\t' | '\n' | '\r')),
            'd' => Self::ascii(|c| c.is_ascii_digit()).and_others(),
            'i' => Self::ascii(name).and_others(),
            'c' => Self::ascii(|c| name(c) || c.is_ascii_digit() || matches!(c, '.' | '-')).and_others(),
            'w' => Self::ascii(|c| c.is_ascii_alphanumeric() || "$+<=>^`|~".contains(c)).and_others(),
            'S' | 'D' | 'I' | 'C' | 'W' => Self::escaped(letter.to_ascii_lowercase())?.complement(),
            'n' => Self::range('\n', '\n'),
            'r' => Self::range('\r', '\r'),
            't' => Self::range('\t', '\t'),
            _ if "\\|.-^?*+{}()[]$".contains(letter) => Self::range(letter, letter),
            _ => return None,
        })
    }

    /// The set of a category such as `\p{Lu}`; an unknown category may contain every character.
    fn category(name: &str) -> Self {
        match name {
            "L" => Self::ascii(|c| c.is_ascii_alphabetic()).and_others(),
            "Lu" => Self::ascii(|c| c.is_ascii_uppercase()).and_others(),
            "Ll" => Self::ascii(|c| c.is_ascii_lowercase()).and_others(),
            "N" | "Nd" => Self::ascii(|c| c.is_ascii_digit()).and_others(),
            _ => Self::ALL,
        }
    }
}

/// A parsed pattern.
#[derive(Debug)]
enum Pattern {
    One(Set),
    Sequence(Vec<Pattern>),
    Either(Vec<Pattern>),
    /// A repetition: least and most.
    Repeat(Box<Pattern>, usize, Option<usize>),
}

struct Parser {
    rest: std::iter::Peekable<std::vec::IntoIter<char>>,
    depth: usize,
}

impl Parser {
    fn alternatives(&mut self) -> Option<Pattern> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut branches = vec![self.sequence()?];
        while self.rest.next_if_eq(&'|').is_some() {
            branches.push(self.sequence()?);
        }
        self.depth -= 1;
        Some(Pattern::Either(branches))
    }

    fn sequence(&mut self) -> Option<Pattern> {
        let mut parts = Vec::new();
        while let Some(next) = self.rest.next_if(|next| !matches!(next, '|' | ')')) {
            let atom = match next {
                '(' => {
                    let group = self.alternatives()?;
                    self.rest.next_if_eq(&')')?;
                    group
                }
                '[' => Pattern::One(self.class()?),
                '\\' => Pattern::One(self.escape()?.0),
                '.' => Pattern::One(Set::ascii(|c| c != '\n' && c != '\r').and_others()),
                '?' | '*' | '+' | '{' | '}' | ']' => return None,
                other => Pattern::One(Set::range(other, other)),
            };
            parts.push(self.repetition(atom)?);
        }
        Some(Pattern::Sequence(parts))
    }

    fn repetition(&mut self, atom: Pattern) -> Option<Pattern> {
        let (least, most) = match self.rest.peek() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('{') => {
                self.rest.next();
                let least = self.number()?;
                let most = match self.rest.next_if_eq(&',') {
                    None => Some(least),
                    Some(_) if self.rest.peek() == Some(&'}') => None,
                    Some(_) => Some(self.number()?),
                };
                (least, most)
            }
            _ => return Some(atom),
        };
        // The `}`, or the quantifier itself.
        self.rest.next().filter(|last| "?*+}".contains(*last))?;
        Some(Pattern::Repeat(Box::new(atom), least, most))
    }

    fn number(&mut self) -> Option<usize> {
        let mut number: Option<usize> = None;
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit).and_then(|digit| digit.to_digit(10)) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit as usize)?);
        }
        number
    }

    /// Parses an escape after its `\`: the set, and the character if it is a single one.
    fn escape(&mut self) -> Option<(Set, Option<char>)> {
        let letter = self.rest.next()?;
        if !matches!(letter, 'p' | 'P') {
            let one = match letter {
                'n' => Some('\n'),
                'r' => Some('\r'),
                't' => Some('\t'),
                letter => Some(letter).filter(|letter| !letter.is_ascii_alphabetic()),
            };
            return Some((Set::escaped(letter)?, one));
        }
        self.rest.next_if_eq(&'{')?;
        let mut name = String::new();
        while let Some(next) = self.rest.next_if(|next| *next != '}') {
            name.push(next);
        }
        self.rest.next_if_eq(&'}')?;
        let set = Set::category(&name);
        // The complement of an unknown category is also unknown.
        Some((if letter == 'P' && set != Set::ALL { set.complement() } else { set }, None))
    }

    /// Parses a character class after its `[`.
    fn class(&mut self) -> Option<Set> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let negative = self.rest.next_if_eq(&'^').is_some();
        let mut set = Set::NONE;
        let mut excluded = None;
        loop {
            let next = self.rest.next()?;
            let (part, one) = match next {
                ']' => break,
                '-' if self.rest.peek() == Some(&'[') => {
                    self.rest.next();
                    excluded = Some(self.class()?);
                    self.rest.next_if_eq(&']')?;
                    break;
                }
                '[' => return None,
                '\\' => self.escape()?,
                other => (Set::range(other, other), Some(other)),
            };
            set = set.union(part);
            // A range, unless the `-` is the last or begins a subtraction.
            if let Some(from) = one.filter(|_| self.rest.peek() == Some(&'-')) {
                let mut ahead = self.rest.clone();
                ahead.next();
                if !matches!(ahead.peek(), Some(']' | '[')) {
                    self.rest.next();
                    let to = match self.rest.next()? {
                        '\\' => self.escape()?.1?,
                        to => to,
                    };
                    set = set.union(Set::range(from, to));
                }
            }
        }
        self.depth -= 1;
        let set = if negative { set.complement() } else { set };
        let ascii = set.ascii & !excluded.map_or(0, |excluded| excluded.ascii);
        Some(Set { ascii, ..set })
    }
}

/// The positions of a pattern, and which can follow which (Glushkov's construction).
#[derive(Default)]
struct Positions {
    sets: Vec<Set>,
    follow: Vec<Vec<usize>>,
}

/// A part of a pattern: the positions that it can begin and end with.
#[derive(Clone, Default)]
struct Part {
    empty: bool,
    first: Vec<usize>,
    last: Vec<usize>,
}

impl Positions {
    /// Adds a pattern; `None` if it is too large.
    fn add(&mut self, pattern: &Pattern) -> Option<Part> {
        match pattern {
            Pattern::One(set) => {
                let position = self.sets.len();
                self.sets.push(*set);
                self.follow.push(Vec::new());
                (position < MAX_POSITIONS).then(|| Part { empty: false, first: vec![position], last: vec![position] })
            }
            Pattern::Sequence(parts) => {
                let mut whole = Part { empty: true, ..Part::default() };
                for part in parts {
                    let part = self.add(part)?;
                    whole = self.join(whole, part)?;
                }
                Some(whole)
            }
            Pattern::Either(branches) => {
                let mut whole = Part::default();
                for branch in branches {
                    let branch = self.add(branch)?;
                    whole.empty |= branch.empty;
                    whole.first.extend(branch.first);
                    whole.last.extend(branch.last);
                }
                Some(whole)
            }
            Pattern::Repeat(pattern, least, most) => {
                // What may come after the least: a loop, or nested optional parts.
                let mut tail = Part { empty: true, ..Part::default() };
                match most {
                    None => {
                        tail = self.add(pattern)?;
                        self.link(&tail.last.clone(), &tail.first)?;
                        tail.empty = true;
                    }
                    Some(most) => {
                        for _ in *least..*most {
                            let part = self.add(pattern)?;
                            tail = self.join(part, tail)?;
                            tail.empty = true;
                        }
                    }
                }
                // One or more: the loop itself.
                if most.is_none() && *least == 1 {
                    tail.empty = self.is_empty(pattern);
                    return Some(tail);
                }
                let mut whole = Part { empty: true, ..Part::default() };
                for _ in 0..*least {
                    let part = self.add(pattern)?;
                    whole = self.join(whole, part)?;
                }
                self.join(whole, tail)
            }
        }
    }

    fn is_empty(&self, pattern: &Pattern) -> bool {
        match pattern {
            Pattern::One(_) => false,
            Pattern::Sequence(parts) => parts.iter().all(|part| self.is_empty(part)),
            Pattern::Either(branches) => branches.iter().any(|branch| self.is_empty(branch)),
            Pattern::Repeat(pattern, least, _) => *least == 0 || self.is_empty(pattern),
        }
    }

    fn join(&mut self, mut before: Part, after: Part) -> Option<Part> {
        self.link(&before.last, &after.first)?;
        if before.empty {
            before.first.extend(&after.first);
        }
        if after.empty {
            before.last.extend(after.last);
        } else {
            before.last = after.last;
        }
        before.empty &= after.empty;
        (before.first.len() <= MAX_POSITIONS && before.last.len() <= MAX_POSITIONS).then_some(before)
    }

    fn link(&mut self, before: &[usize], after: &[usize]) -> Option<()> {
        for position in before {
            let follow = self.follow.get_mut(*position)?;
            follow.extend(after);
            follow.sort_unstable();
            follow.dedup();
        }
        (self.follow.iter().map(Vec::len).sum::<usize>() <= MAX_PAIRS).then_some(())
    }

    /// Counts the steps of backtracking for the worst text: of half the length, and of the full length.
    fn steps(&self, first: &[usize]) -> (f64, f64) {
        let classes = self.classes();
        let mut steps = vec![1.0_f64; self.sets.len()];
        let after = |steps: &[f64], follow: &[usize]| {
            let steps_by_class = classes.iter().map(|class| {
                let open = follow.iter().filter(|position| class.get(**position).copied().unwrap_or(false));
                open.filter_map(|position| steps.get(*position)).sum::<f64>()
            });
            1.0 + steps_by_class.fold(0.0, f64::max)
        };
        let mut half = 0.0;
        for length in 1..TEXT_LENGTH {
            steps = self.follow.iter().map(|follow| after(&steps, follow)).collect();
            if length == TEXT_LENGTH / 2 {
                half = after(&steps, first);
            }
        }
        (half, after(&steps, first))
    }

    /// For each class of equivalent characters: the positions that accept it.
    fn classes(&self) -> Vec<Vec<bool>> {
        let ascii = (0..128).map(|bit| self.sets.iter().map(|set| set.ascii >> bit & 1 == 1).collect());
        let others = std::iter::once(self.sets.iter().map(|set| set.others).collect());
        let mut classes: Vec<Vec<bool>> = ascii.chain(others).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_a_text_can_make_slow_are_told_from_others() {
        for (pattern, linear) in [
            ("", true),
            ("[A-Z]{2}\\d{3}", true),
            ("o-[0-9]+", true),
            ("\\d{4}-\\d{2}-\\d{2}", true),
            ("[^@ ]+@[^@ ]+", true),
            ("[^@]+@[^\\.]+\\..+", true),
            ("[a-z]+(\\.[a-z]+)*@[a-z]+(\\.[a-z]+)*", true),
            ("(([a-zA-Z0-9\\-]+\\.)+)([a-zA-Z]{2,4}|[0-9]{1,3})", true),
            ("[A-Z]{6,6}[A-Z2-9][A-NP-Z0-9]([A-Z0-9]{3,3}){0,1}", true),
            ("[A-Z]{2,2}[0-9]{2,2}[a-zA-Z0-9]{1,30}", true),
            ("\\+[0-9]{1,3}-[0-9()+\\-]{1,30}", true),
            ("[0-9]{1,15}(\\.[0-9]{1,2})?", true),
            ("[a-z-[aeiou]]+|\\p{Lu}+|\\p{IsGreek}+|\\i\\c*:", true),
            ("(\\w+\\s?)*", true),
            ("(a+)+b", true),
            ("\\c+", true),
            (".*", true),
            (".*b", true),
            ("[a-z]{1,30}[a-z0-9]{1,30}!", true),
            ("(red|green|blue)( (red|green|blue))*", true),
            ("[^a]*a[^a]*", true),
            ("[\\^\\]\\-a-]+\\[", true),
            ("\\P{Lu}*[A-Z]", true),
            // Measured with libxml2: from seconds to hours.
            ("(a|aa)*b", false),
            ("([a-z]+[0-9]*){1,20}!", false),
            ("([a-z]{1,3})*!", false),
            ("[a-z]{1,300}[a-z0-9]{1,300}[a-z]{1,300}!", false),
            ("[a-z]+[a-z0-9]+!", false),
            ("[a-z]+[a-z0-9]+[a-z]+!", false),
            (".*a.*a.*a.*b", false),
            (".+@.+", false),
            ("\\S+@\\S+", false),
            ("(.{0,5}){0,10}!", false),
            ("(\\d+,?)+;|(\\d+ ?)*", true),
            ("([a-z]*)*([a-z]*)*!", false),
            ("\\p{IsGreek}*\\p{IsCyrillic}*", false),
            ("\\W*[$]*!", true),
            ("\\w*[$]*!", false),
            // Neither understood nor let through.
            ("(a", false),
            ("a)", false),
            ("[a", false),
            ("a{2", false),
            ("*", false),
            ("\\q", false),
            ("(a{1000}){1000}", false),
            ("a{99999999999999999999}", false),
        ] {
            assert_eq!(is_linear(pattern), linear, "{pattern}");
        }
        assert!(!is_linear(&"(".repeat(100_000)));
        assert!(!is_linear(&"[a-[".repeat(100_000)));
        assert!(is_linear(&"a".repeat(1000)));
        assert!(!is_linear(&"a".repeat(1001)));
        assert!(!is_linear(&format!("({})*", "a?".repeat(900))));
    }
}
