//! Patterns without look-around and backreferences: `regex-automata` matches them, in linear time.

use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Input, meta};
use regex_syntax::hir::{Class, Hir, Look, Repetition};

use super::tree::{Node, Position};

/// Largest automaton, in bytes.
const MAX_SIZE: usize = 10 << 20;
/// Largest deterministic automaton, in bytes, that the lazy one of the crate does not have to build again and again.
const MAX_DETERMINISTIC: usize = 1 << 20;
/// Memory in bytes that it may take to find that out.
const MAX_DETERMINIZATION: usize = 4 << 20;
/// Largest deterministic automaton, in bytes, that is kept: as small as what the crate would build for the pattern.
const MAX_KEPT: usize = 32 << 10;
/// States of any other automaton that cost a step for each 32 bytes of a text: all of them may be visited for each byte.
const STATES_PER_STEP: u64 = 16;

/// An automaton.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    engine: Engine,
    /// Steps for each 32 bytes of a text.
    pub(super) cost: u64,
}

#[derive(Debug, Clone)]
enum Engine {
    Deterministic(Arc<dense::DFA<Vec<u32>>>),
    Other(meta::Regex),
}

impl Linear {
    /// Returns `None` if the pattern has parts that need another engine, or if the automaton is too large.
    pub(super) fn new(root: &Node) -> Option<Self> {
        let hir = translated(root)?;
        let config = thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(MAX_SIZE));
        let automaton = thompson::Compiler::new().configure(config).build_from_hir(&hir).ok()?;
        let deterministic = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .accelerate(false)
            .dfa_size_limit(Some(MAX_DETERMINISTIC))
            .determinize_size_limit(Some(MAX_DETERMINIZATION));
        let cost = match dense::Builder::new().configure(deterministic).build_from_nfa(&automaton) {
            Ok(small) if small.memory_usage() <= MAX_KEPT => {
                return Some(Self { engine: Engine::Deterministic(Arc::new(small)), cost: 1 });
            }
            Ok(_) => 1,
            Err(_) => 1 + automaton.states().len() as u64 / STATES_PER_STEP,
        };
        let config = meta::Config::new().which_captures(WhichCaptures::Implicit).nfa_size_limit(Some(2 * MAX_SIZE));
        let regex = meta::Builder::new().configure(config).build_from_hir(&hir).ok()?;
        Some(Self { engine: Engine::Other(regex), cost })
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match &self.engine {
            // It fails at bytes where it has been set to give up, and there are none.
            Engine::Deterministic(automaton) => {
                automaton.try_search_fwd(&Input::new(text).earliest(true)).is_ok_and(|end| end.is_some())
            }
            Engine::Other(regex) => regex.is_match(text),
        }
    }
}

fn translated(node: &Node) -> Option<Hir> {
    Some(match node {
        Node::One(set) => Hir::class(Class::Unicode(set.characters.clone())),
        Node::At(position) => Hir::look(match position {
            Position::Start => Look::Start,
            Position::End => Look::End,
            Position::WordBoundary => Look::WordAscii,
            // The crate looks at bytes, and would find `\B` within a character.
            Position::NotWordBoundary | Position::LineStart | Position::LineEnd => return None,
        }),
        Node::Sequence(nodes) => Hir::concat(nodes.iter().map(translated).collect::<Option<_>>()?),
        Node::Either(nodes) => Hir::alternation(nodes.iter().map(translated).collect::<Option<_>>()?),
        Node::Repeat(repeat) => Hir::repetition(Repetition {
            min: repeat.least,
            max: repeat.most,
            greedy: true,
            sub: Box::new(translated(&repeat.node)?),
        }),
        Node::Capture(_, node) => translated(node)?,
        Node::Look(_) | Node::Backreference { .. } => return None,
    })
}
