//! Patterns that no automaton can match: backreferences, and repetitions that are too large to be written out.
//!
//! Matches by trying one way after the other, as ECMA-262 §22.2.2 defines it. That can take exponential time, so each step
//! is drawn from a budget. Neither the text nor the pattern nests calls: what is left to try is a list.

use super::set::Set;
use super::tree::{Node, Position};
use crate::budget::{Exhausted, Steps};

/// A program for one pattern.
#[derive(Debug, Clone)]
pub(super) struct Backtracking {
    program: Vec<Instruction>,
    registers: usize,
}

/// Steps for one instruction. What it leaves to be tried takes memory until then.
const STEP: u64 = 2;
/// The value of a register that is not set.
const UNSET: usize = usize::MAX;

#[derive(Debug, Clone)]
enum Instruction {
    One {
        set: Set,
        backward: bool,
    },
    At(Position),
    /// Goes on to the next instruction, and to another one if that fails.
    Try(usize),
    Jump(usize),
    /// Sets a register to the position.
    Mark(usize),
    /// Sets registers to a value.
    Set {
        first: usize,
        count: usize,
        value: usize,
    },
    /// Decides whether a repetition goes on, with the next instruction, or ends.
    Repeat(Repetition),
    /// Ends a round of the repetition that is at this place.
    Again {
        at: usize,
        repetition: Repetition,
    },
    /// Tries what follows, up to [`Self::Looked`].
    Look {
        negated: bool,
        register: usize,
        after: usize,
    },
    Looked {
        negated: bool,
        register: usize,
    },
    Same {
        group: usize,
        ignore_case: bool,
        backward: bool,
    },
    Match,
}

#[derive(Debug, Clone, Copy)]
struct Repetition {
    least: usize,
    most: Option<usize>,
    greedy: bool,
    /// The number of rounds; the next register has the position where the current one began.
    register: usize,
    after: usize,
}

impl Backtracking {
    pub(super) fn new(root: &Node, groups: usize) -> Self {
        let mut compiler = Compiler { program: Vec::new(), registers: 2 * groups };
        compiler.add(root, false);
        compiler.program.push(Instruction::Match);
        Self { program: compiler.program, registers: compiler.registers }
    }

    pub(super) fn is_match(&self, text: &str, steps: &mut Steps) -> Result<bool, Exhausted> {
        steps.take(text.len() as u64 / 8)?;
        let text: Vec<char> = text.chars().collect();
        for start in 0..=text.len() {
            steps.take(1 + self.registers as u64 / 8)?;
            let registers = vec![UNSET; self.registers];
            let run = Run { program: &self.program, text: &text, at: start, registers, waiting: Vec::new() };
            if run.matches(steps)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Compiler {
    program: Vec<Instruction>,
    registers: usize,
}

impl Compiler {
    fn add(&mut self, node: &Node, backward: bool) {
        match node {
            Node::One(set) => self.program.push(Instruction::One { set: set.clone(), backward }),
            Node::At(position) => self.program.push(Instruction::At(*position)),
            Node::Sequence(nodes) if backward => nodes.iter().rev().for_each(|node| self.add(node, backward)),
            Node::Sequence(nodes) => nodes.iter().for_each(|node| self.add(node, backward)),
            Node::Either(nodes) => self.either(nodes, backward),
            Node::Repeat(repeat) => self.repeat(repeat, backward),
            Node::Capture(group, node) => {
                let (start, end) = registers_of(*group);
                self.program.push(Instruction::Mark(if backward { end } else { start }));
                self.add(node, backward);
                self.program.push(Instruction::Mark(if backward { start } else { end }));
            }
            Node::Look(look) => {
                let (register, at) = (self.register(), self.program.len());
                self.program.push(Instruction::Match);
                self.add(&look.node, look.behind);
                self.program.push(Instruction::Looked { negated: look.negated, register });
                let after = self.program.len();
                self.patch(at, Instruction::Look { negated: look.negated, register, after });
            }
            Node::Backreference { group, ignore_case } => {
                self.program.push(Instruction::Same { group: *group, ignore_case: *ignore_case, backward });
            }
        }
    }

    fn either(&mut self, nodes: &[Node], backward: bool) {
        let mut ends = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let at = self.program.len();
            if index + 1 == nodes.len() {
                self.add(node, backward);
                break;
            }
            self.program.push(Instruction::Match);
            self.add(node, backward);
            ends.push(self.program.len());
            self.program.push(Instruction::Match);
            self.patch(at, Instruction::Try(self.program.len()));
        }
        for end in ends {
            self.patch(end, Instruction::Jump(self.program.len()));
        }
    }

    fn repeat(&mut self, repeat: &super::tree::Repeat, backward: bool) {
        let register = self.register();
        let _start_of_round = self.register();
        self.program.push(Instruction::Set { first: register, count: 1, value: 0 });
        let at = self.program.len();
        self.program.push(Instruction::Match);
        self.program.push(Instruction::Mark(register + 1));
        // Each round forgets what the groups in it captured before.
        if let Some((first, last)) = groups_in(&repeat.node) {
            let (first, last) = (registers_of(first).0, registers_of(last).1);
            self.program.push(Instruction::Set { first, count: last + 1 - first, value: UNSET });
        }
        self.add(&repeat.node, backward);
        let again = self.program.len();
        self.program.push(Instruction::Match);
        let repetition = Repetition {
            least: repeat.least as usize,
            most: repeat.most.map(|most| most as usize),
            greedy: repeat.greedy,
            register,
            after: self.program.len(),
        };
        self.patch(at, Instruction::Repeat(repetition));
        self.patch(again, Instruction::Again { at, repetition });
    }

    fn register(&mut self) -> usize {
        self.registers += 1;
        self.registers - 1
    }

    fn patch(&mut self, at: usize, instruction: Instruction) {
        if let Some(slot) = self.program.get_mut(at) {
            *slot = instruction;
        }
    }
}

/// The registers with the start and the end of a group.
fn registers_of(group: usize) -> (usize, usize) {
    let start = 2 * group.saturating_sub(1);
    (start, start + 1)
}

/// The first and the last capturing group in a node. They are numbered in order, so those between are in it too.
fn groups_in(node: &Node) -> Option<(usize, usize)> {
    let wider = |one: Option<(usize, usize)>, other: Option<(usize, usize)>| match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    };
    match node {
        Node::One(_) | Node::At(_) | Node::Backreference { .. } => None,
        Node::Sequence(nodes) | Node::Either(nodes) => nodes.iter().map(groups_in).fold(None, wider),
        Node::Repeat(repeat) => groups_in(&repeat.node),
        Node::Look(look) => groups_in(&look.node),
        Node::Capture(group, node) => wider(Some((*group, *group)), groups_in(node)),
    }
}

/// What is done when a way fails, the last first.
enum Waiting {
    Resume {
        program: usize,
        at: usize,
    },
    Restore {
        register: usize,
        value: usize,
    },
    /// The begin of a look-around. If nothing in a negated one matches, this is what follows.
    Look {
        negated: bool,
        after: usize,
        at: usize,
    },
}

struct Run<'p> {
    program: &'p [Instruction],
    text: &'p [char],
    at: usize,
    registers: Vec<usize>,
    waiting: Vec<Waiting>,
}

impl Run<'_> {
    fn matches(mut self, steps: &mut Steps) -> Result<bool, Exhausted> {
        let mut next = Some(0);
        while let Some(at) = next {
            steps.take(STEP)?;
            let Some(instruction) = self.program.get(at) else { return Ok(false) };
            if matches!(instruction, Instruction::Match) {
                return Ok(true);
            }
            next = self.step(at, instruction, steps)?.or_else(|| self.back());
        }
        Ok(false)
    }

    /// Returns the next instruction; `None` if this way fails.
    fn step(&mut self, at: usize, instruction: &Instruction, steps: &mut Steps) -> Result<Option<usize>, Exhausted> {
        Ok(match instruction {
            Instruction::One { set, backward } => self.take(*backward).filter(|c| set.contains(*c)).map(|_| at + 1),
            Instruction::At(position) => {
                let before = self.at.checked_sub(1).and_then(|before| self.text.get(before)).copied();
                position.holds(before, self.text.get(self.at).copied()).then_some(at + 1)
            }
            Instruction::Try(other) => {
                self.waiting.push(Waiting::Resume { program: *other, at: self.at });
                Some(at + 1)
            }
            Instruction::Jump(to) => Some(*to),
            Instruction::Mark(register) => {
                self.set(*register, self.at);
                Some(at + 1)
            }
            Instruction::Set { first, count, value } => {
                steps.take(*count as u64 * STEP)?;
                (*first..first + count).for_each(|register| self.set(register, *value));
                Some(at + 1)
            }
            Instruction::Repeat(repetition) => Some(self.repeat(at, repetition)),
            Instruction::Again { at, repetition } => self.again(repetition).then_some(*at),
            Instruction::Look { negated, register, after } => {
                self.set(*register, self.waiting.len() + 1);
                self.waiting.push(Waiting::Look { negated: *negated, after: *after, at: self.at });
                Some(at + 1)
            }
            Instruction::Looked { negated, register } => {
                let begin = self.register(*register);
                steps.take(self.waiting.len().saturating_sub(begin) as u64)?;
                self.looked(*negated, begin).then_some(at + 1)
            }
            Instruction::Same { group, ignore_case, backward } => {
                let (start, end) = registers_of(*group);
                let captured = self.text.get(self.register(start)..self.register(end)).unwrap_or_default();
                steps.take(captured.len() as u64 / 4)?;
                self.same(captured, *ignore_case, *backward).then_some(at + 1)
            }
            Instruction::Match => None,
        })
    }

    fn register(&self, register: usize) -> usize {
        self.registers.get(register).copied().unwrap_or(UNSET)
    }

    fn set(&mut self, register: usize, value: usize) {
        if let Some(slot) = self.registers.get_mut(register) {
            let value = std::mem::replace(slot, value);
            self.waiting.push(Waiting::Restore { register, value });
        }
    }

    /// Passes one character.
    fn take(&mut self, backward: bool) -> Option<char> {
        let (at, after) = if backward {
            let before = self.at.checked_sub(1)?;
            (before, before)
        } else {
            (self.at, self.at + 1)
        };
        let taken = self.text.get(at).copied()?;
        self.at = after;
        Some(taken)
    }

    fn repeat(&mut self, at: usize, repetition: &Repetition) -> usize {
        let rounds = self.register(repetition.register);
        if rounds < repetition.least {
            return at + 1;
        }
        if repetition.most.is_some_and(|most| rounds >= most) {
            return repetition.after;
        }
        let (now, later) = if repetition.greedy { (at + 1, repetition.after) } else { (repetition.after, at + 1) };
        self.waiting.push(Waiting::Resume { program: later, at: self.at });
        now
    }

    /// Counts a round. One that takes no character counts for all that must be, and fails where none must be.
    fn again(&mut self, repetition: &Repetition) -> bool {
        let rounds = self.register(repetition.register);
        let empty = self.register(repetition.register + 1) == self.at;
        if empty && rounds >= repetition.least {
            return false;
        }
        self.set(repetition.register, if empty { repetition.least } else { rounds + 1 });
        true
    }

    /// Ends a look-around that matched and whose begin is at this place of the list. Of what it did, only what it
    /// captured stays, and that only until the way fails: at once, if it is negated.
    fn looked(&mut self, negated: bool, begin: usize) -> bool {
        let mut done = self.waiting.split_off(begin.min(self.waiting.len()));
        if let Some(Waiting::Look { at, .. }) = done.first() {
            self.at = *at;
        }
        done.retain(|waiting| matches!(waiting, Waiting::Restore { .. }));
        self.waiting.append(&mut done);
        !negated
    }

    /// Whether the text goes on with what was captured, and passes it.
    fn same(&mut self, captured: &[char], ignore_case: bool, backward: bool) -> bool {
        let length = captured.len();
        let from = if backward { self.at.checked_sub(length) } else { Some(self.at) };
        let Some((from, found)) = from.and_then(|from| Some((from, self.text.get(from..from + length)?))) else {
            return false;
        };
        let equal = |(one, other): (&char, &char)| {
            one == other || (ignore_case && Set::of(*one).ignoring_case().contains(*other))
        };
        let same = captured.iter().zip(found).all(equal);
        self.at = if backward { from } else { from + length };
        same
    }

    /// Goes back to what is left to try.
    fn back(&mut self) -> Option<usize> {
        while let Some(waiting) = self.waiting.pop() {
            match waiting {
                Waiting::Resume { program, at } => {
                    self.at = at;
                    return Some(program);
                }
                Waiting::Restore { register, value } => {
                    if let Some(slot) = self.registers.get_mut(register) {
                        *slot = value;
                    }
                }
                Waiting::Look { negated: true, after, at } => {
                    self.at = at;
                    return Some(after);
                }
                Waiting::Look { negated: false, .. } => {}
            }
        }
        None
    }
}
