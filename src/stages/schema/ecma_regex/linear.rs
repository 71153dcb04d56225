//! Patterns without look-around and backreferences: `regex-automata` matches them, in linear time.

use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Anchored, Input, meta};
use regex_syntax::hir::{Class, Hir, Look, Repetition};

use super::tree::{Node, Position};
use crate::budget::{Exhausted, Steps};
use crate::xsd::pattern::engine::Lazy;

/// Bytes of a text that a simple pattern passes in a step.
pub(crate) const BYTES: u64 = 32;
/// Largest automaton, in bytes.
const MAX_SIZE: usize = 10 << 20;
/// Largest deterministic automaton, in bytes, that the lazy one of the crate does not have to build again and again.
const MAX_DETERMINISTIC: usize = 1 << 20;
/// Memory in bytes that it may take to find that out.
const MAX_DETERMINIZATION: usize = 4 << 20;
/// Largest deterministic automaton, in bytes, that is kept: it needs no scratch memory to match, but more than the lazy one.
const MAX_KEPT: usize = 32 << 10;

/// An automaton.
#[derive(Debug, Clone)]
pub(super) enum Linear {
    Deterministic(Arc<dense::DFA<Vec<u32>>>),
    /// One that is deterministic and small enough to be made only as far as texts lead.
    Small(meta::Regex),
    /// One that may be of any size: what is made of it takes steps.
    Large(Arc<Lazy>),
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
        let deterministic = dense::Builder::new().configure(deterministic).build_from_nfa(&automaton);
        match deterministic {
            Ok(automaton) if automaton.memory_usage() <= MAX_KEPT => Some(Self::Deterministic(Arc::new(automaton))),
            Ok(_) => {
                let config =
                    meta::Config::new().which_captures(WhichCaptures::Implicit).nfa_size_limit(Some(2 * MAX_SIZE));
                meta::Builder::new().configure(config).build_from_hir(&hir).ok().map(Self::Small)
            }
            Err(_) => Lazy::new(automaton, Anchored::No).map(Arc::new).map(Self::Large),
        }
    }

    /// Whether it is found in a text, if it takes the same for each byte of any text.
    pub(super) fn is_match(&self, text: &str) -> Option<bool> {
        match self {
            // It gives up at no byte, because none of these patterns has a word boundary of Unicode.
            Self::Deterministic(automaton) => {
                Some(matches!(automaton.try_search_fwd(&Input::new(text).earliest(true)), Ok(Some(_))))
            }
            Self::Small(regex) => Some(regex.is_match(text)),
            Self::Large(_) => None,
        }
    }

    /// Whether it is found in a text.
    pub(super) fn matches(&self, text: &str, steps: &mut Steps) -> Result<bool, Exhausted> {
        steps.take(1 + text.len() as u64 / BYTES)?;
        match self {
            Self::Large(automaton) => automaton.matches(text, steps),
            small => Ok(small.is_match(text).unwrap_or(false)),
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
