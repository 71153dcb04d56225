//! Patterns with look-around, matched in time linear in the text.
//!
//! Whether a look-around holds at a position depends on nothing else, so it is decided for all positions first: a
//! look-behind in one pass from the start of the text, a look-ahead in one pass of the reversed pattern from its end. Inner
//! ones come before outer ones, and the pattern itself is last. No pass goes back.

use super::set::Set;
use super::tree::{Node, Position};
use crate::budget::{Exhausted, Steps};

/// Most states of all passes together.
const MAX_STATES: usize = 20_000;
/// States that are visited for one step.
const STATES_PER_STEP: u64 = 8;

/// The passes of a pattern.
#[derive(Debug, Clone)]
pub(super) struct LookAround {
    /// Inner look-arounds before outer ones; the pattern itself is the last.
    passes: Vec<Pass>,
}

/// An automaton that goes over a text once.
#[derive(Debug, Clone)]
struct Pass {
    states: Vec<State>,
    start: usize,
    backward: bool,
}

#[derive(Debug, Clone)]
enum State {
    One(Set, usize),
    At(Position, usize),
    /// Whether the look-around that this pass decided holds.
    Look {
        pass: usize,
        negated: bool,
        next: usize,
    },
    Split(usize, usize),
    Match,
}

impl LookAround {
    /// Returns `None` if the pattern has backreferences, or is too large.
    pub(super) fn new(root: &Node) -> Option<Self> {
        let mut compiler = Compiler { passes: Vec::new(), states: 0 };
        compiler.pass(root, false)?;
        Some(Self { passes: compiler.passes })
    }

    pub(super) fn is_match(&self, text: &str, steps: &mut Steps) -> Result<bool, Exhausted> {
        steps.take(text.len() as u64 / STATES_PER_STEP)?;
        let characters: Vec<char> = text.chars().collect();
        // Each pass takes a step for every position, so steps bound the memory too.
        let mut held: Vec<Vec<bool>> = Vec::with_capacity(self.passes.len());
        let Some((last, looks)) = self.passes.split_last() else { return Ok(false) };
        for pass in looks {
            let mut holds = vec![false; characters.len() + 1];
            pass.run(&characters, &held, steps, |at| {
                if let Some(slot) = holds.get_mut(at) {
                    *slot = true;
                }
                false
            })?;
            held.push(holds);
        }
        let mut found = false;
        last.run(&characters, &held, steps, |_| {
            found = true;
            true
        })?;
        Ok(found)
    }
}

struct Compiler {
    passes: Vec<Pass>,
    states: usize,
}

impl Compiler {
    /// Compiles a pass and those that it depends on; returns its index.
    fn pass(&mut self, node: &Node, backward: bool) -> Option<usize> {
        let mut states = vec![State::Match];
        self.states += 1;
        let start = self.add(&mut states, node, 0, backward)?;
        self.passes.push(Pass { states, start, backward });
        Some(self.passes.len() - 1)
    }

    fn push(&mut self, states: &mut Vec<State>, state: State) -> Option<usize> {
        self.states += 1;
        states.push(state);
        (self.states <= MAX_STATES).then(|| states.len() - 1)
    }

    /// Adds the states of a node that go on to `next`; returns where they begin.
    fn add(&mut self, states: &mut Vec<State>, node: &Node, next: usize, backward: bool) -> Option<usize> {
        match node {
            Node::One(set) => self.push(states, State::One(set.clone(), next)),
            Node::At(position) => self.push(states, State::At(*position, next)),
            Node::Capture(_, node) => self.add(states, node, next, backward),
            Node::Backreference { .. } => None,
            Node::Sequence(nodes) if backward => {
                nodes.iter().try_fold(next, |next, node| self.add(states, node, next, backward))
            }
            Node::Sequence(nodes) => {
                nodes.iter().rev().try_fold(next, |next, node| self.add(states, node, next, backward))
            }
            Node::Either(nodes) => {
                let (last, others) = nodes.split_last()?;
                let last = self.add(states, last, next, backward)?;
                others.iter().rev().try_fold(last, |other, node| {
                    let one = self.add(states, node, next, backward)?;
                    self.push(states, State::Split(one, other))
                })
            }
            Node::Look(look) => {
                let pass = self.pass(&look.node, !look.behind)?;
                self.push(states, State::Look { pass, negated: look.negated, next })
            }
            Node::Repeat(repeat) => {
                let mut next = next;
                match repeat.most {
                    None => {
                        // The state is filled in when its body is there, which leads back to it.
                        let again = self.push(states, State::Split(next, next))?;
                        let body = self.add(states, &repeat.node, again, backward)?;
                        *states.get_mut(again)? = State::Split(body, next);
                        next = again;
                    }
                    Some(most) => {
                        let end = next;
                        for _ in repeat.least..most {
                            let body = self.add(states, &repeat.node, next, backward)?;
                            next = self.push(states, State::Split(body, end))?;
                        }
                    }
                }
                for _ in 0..repeat.least {
                    // A body without states costs nothing, but its rounds would.
                    let before = next;
                    next = self.add(states, &repeat.node, next, backward)?;
                    if next == before {
                        break;
                    }
                }
                Some(next)
            }
        }
    }
}

impl Pass {
    /// Goes over a text, beginning anew at every position. Calls `matched` with each position where a match ends, until it
    /// returns true.
    fn run(
        &self,
        text: &[char],
        held: &[Vec<bool>],
        steps: &mut Steps,
        mut matched: impl FnMut(usize) -> bool,
    ) -> Result<(), Exhausted> {
        let mut active: Vec<usize> = Vec::new();
        let mut following: Vec<usize> = Vec::new();
        let mut seen = Seen { marks: vec![usize::MAX; self.states.len()], round: 0 };
        for round in 0..=text.len() {
            let at = if self.backward { text.len() - round } else { round };
            seen.round = round;
            active.push(self.start);
            let ends = self.close(&mut active, &mut seen, at, text, held);
            steps.take(1 + active.len() as u64 / STATES_PER_STEP)?;
            if ends && matched(at) {
                return Ok(());
            }
            let next = if self.backward { at.checked_sub(1) } else { Some(at) };
            let Some(character) = next.and_then(|next| text.get(next)) else { break };
            following.clear();
            for state in active.drain(..) {
                if let Some(State::One(set, next)) = self.states.get(state)
                    && set.contains(*character)
                {
                    following.push(*next);
                }
            }
            std::mem::swap(&mut active, &mut following);
        }
        Ok(())
    }

    /// Adds all states that are reached without taking a character, and returns whether one of them is a match.
    fn close(&self, active: &mut Vec<usize>, seen: &mut Seen, at: usize, text: &[char], held: &[Vec<bool>]) -> bool {
        let (before, after) = (at.checked_sub(1).and_then(|at| text.get(at)).copied(), text.get(at).copied());
        let mut matched = false;
        let mut waiting = std::mem::take(active);
        while let Some(index) = waiting.pop() {
            if !seen.first(index) {
                continue;
            }
            active.push(index);
            match self.states.get(index) {
                Some(State::Split(one, other)) => waiting.extend([*one, *other]),
                Some(State::At(position, next)) if position.holds(before, after) => waiting.push(*next),
                Some(State::Look { pass, negated, next }) => {
                    let holds = held.get(*pass).and_then(|held| held.get(at)).copied().unwrap_or(false);
                    if holds != *negated {
                        waiting.push(*next);
                    }
                }
                Some(State::Match) => matched = true,
                _ => {}
            }
        }
        matched
    }
}

/// Which states were reached in this round.
struct Seen {
    marks: Vec<usize>,
    round: usize,
}

impl Seen {
    fn first(&mut self, state: usize) -> bool {
        self.marks.get_mut(state).is_some_and(|mark| std::mem::replace(mark, self.round) != self.round)
    }
}
