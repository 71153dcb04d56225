//! Matches texts by an automaton, and says what that costs.
//!
//! Small automata are a table of all their states. Of others, states are made as texts lead to them, each of which may stand for
//! as many places in the pattern as there are: `.*[0-9].{0,1000}` has more of them than can ever be made. That is what work is
//! taken for, so that a pattern never makes a small body slow.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;

use crate::xsd::datatypes::work::Work;

/// Most bytes of a program.
const MAX_PROGRAM: usize = 8 << 20;
/// Automata of up to this many states are tried to be made into a table, which takes no cache.
const MAX_STATES: usize = 500;
/// Most bytes of a table.
const MAX_TABLE: usize = 64 << 10;
/// Most bytes that it takes to make one.
const MAX_MAKING: usize = 1 << 20;
/// Most bytes that the states take which are made for a text.
const MAX_CACHE: usize = 2 << 20;
/// Most bytes that all of these take which wait for the next text, of all patterns together.
const MAX_KEPT: usize = 64 << 20;

/// Bytes that are matched in a step by a table, and otherwise.
const TABLE_BYTES: usize = 32;
const LAZY_BYTES: usize = 8;
/// Steps to make a state that stands for few places, and the bytes of one that stands for many for each further step.
const STATE: usize = 6;
const STATE_BYTES: usize = 3;
/// Bytes that any state takes, beside where it leads to.
const LEAST_STATE: usize = 100;

/// Bytes of states that wait for the next text.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// An automaton that matches the whole of a text.
pub(super) enum Engine {
    Table(dense::DFA<Vec<u32>>),
    Lazy(Lazy),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} bytes)", self.size())
    }
}

impl Engine {
    /// `None` if it is too large.
    pub(super) fn new(pattern: &Hir) -> Option<Self> {
        let config = thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(MAX_PROGRAM));
        let program = thompson::Compiler::new().configure(config).build_from_hir(pattern).ok()?;
        if let Some(table) = table(&program) {
            return Some(Self::Table(table));
        }
        let config = Config::new().cache_capacity(MAX_CACHE).skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(program).ok()?;
        Some(Self::Lazy(Lazy { dfa, waiting: Mutex::default() }))
    }

    /// The size of a pattern that is too large.
    pub(super) const MAX_SIZE: usize = MAX_PROGRAM;

    /// How many bytes it takes, without what is made for texts.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Table(table) => table.memory_usage(),
            Self::Lazy(lazy) => lazy.dfa.memory_usage().saturating_add(lazy.dfa.get_nfa().memory_usage()),
        }
    }

    /// Whether the whole text matches; `false` if there is too little work left to tell.
    pub(super) fn matches(&self, text: &str, work: &Work) -> bool {
        match self {
            Self::Table(table) => {
                let input = Input::new(text).anchored(Anchored::Yes).earliest(true);
                // It gives up at no byte, because no pattern has a word boundary of Unicode.
                work.take(text.len() / TABLE_BYTES) && matches!(table.try_search_fwd(&input), Ok(Some(_)))
            }
            Self::Lazy(lazy) => work.take(text.len() / LAZY_BYTES) && lazy.matches(text, work),
        }
    }
}

fn table(program: &NFA) -> Option<dense::DFA<Vec<u32>>> {
    if program.states().len() > MAX_STATES {
        return None;
    }
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .accelerate(false)
        .dfa_size_limit(Some(MAX_TABLE))
        .determinize_size_limit(Some(MAX_MAKING));
    dense::Builder::new().configure(config).build_from_nfa(program).ok()
}

/// An automaton of which states are made as they are needed.
pub(super) struct Lazy {
    dfa: DFA,
    /// States that were made for earlier texts; as many as there were texts at one time.
    waiting: Mutex<Vec<Cache>>,
}

impl Lazy {
    fn matches(&self, text: &str, work: &Work) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut cache = match waiting {
            Some(cache) => {
                KEPT.fetch_sub(cache.memory_usage(), Relaxed);
                cache
            }
            None => self.dfa.create_cache(),
        };
        let matches = self.find(text, &mut cache, work).unwrap_or(false);
        let size = cache.memory_usage();
        if KEPT.fetch_add(size, Relaxed).saturating_add(size) <= MAX_KEPT {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(cache);
        } else {
            KEPT.fetch_sub(size, Relaxed);
        }
        matches
    }

    /// `None` if there is too little work left.
    fn find(&self, text: &str, cache: &mut Cache, work: &Work) -> Option<bool> {
        let input = Input::new(text).anchored(Anchored::Yes);
        let mut state = self.dfa.start_state_forward(cache, &input).ok()?;
        let least = LEAST_STATE.saturating_add(size_of::<LazyStateID>() << self.dfa.byte_classes().stride2());
        let mut largest = 0;
        for byte in text.bytes() {
            if !state.is_tagged() {
                let next = self.dfa.next_state_untagged(cache, state, byte);
                if !next.is_unknown() {
                    state = next;
                    continue;
                }
            } else if state.is_dead() {
                return Some(false);
            }
            let before = cache.memory_usage();
            state = self.dfa.next_state(cache, state, byte).ok()?;
            // To find out that there is one already takes as long as to make it.
            largest = cache.memory_usage().saturating_sub(before).saturating_sub(least).max(largest);
            if !work.take(STATE.saturating_add(largest / STATE_BYTES)) {
                return None;
            }
        }
        Some(self.dfa.next_eoi_state(cache, state).ok()?.is_match())
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        KEPT.fetch_sub(waiting.iter().map(Cache::memory_usage).sum(), Relaxed);
    }
}
