//! Matches texts by an automaton, within a budget.
//!
//! Small automata are a table of all their states. Of others, states are made as texts lead to them, each of which may stand for
//! as many places in the pattern as there are: `.*[0-9].{0,1000}` has more of them than can ever be made. That is what work is
//! taken for, so that a pattern never makes a small body slow.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson::{self, NFA, State, WhichCaptures};
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;

use super::making::Making;
use crate::budget::{Exhausted, Steps};
use crate::xsd::names::FastMap;

/// Most bytes of a program.
const MAX_PROGRAM: usize = 8 << 20;
/// Bytes of a program that are made in a step.
const COMPILED: u64 = 4;
/// Automata of up to this many states are tried to be made into a table, which takes no cache.
const MAX_STATES: usize = 500;
/// Most bytes of a table.
const MAX_TABLE: usize = 64 << 10;
/// Most bytes that it takes to make one.
const MAX_MAKING: usize = 1 << 20;
/// Choices of a program that are followed in a step, for each transition of its table.
const FOLLOWED: u64 = 16;
/// About the most bytes that states take which are made for texts, until all of them are made anew: more than two of any take.
const MAX_CACHE: usize = 3 << 20;
/// Most bytes of states that wait for the next text, of all patterns together. Past that, those of half of them are forgotten.
const MAX_KEPT: usize = 64 << 20;

/// Bytes that are matched in a step by a table, and otherwise.
const TABLE_BYTES: usize = 32;
const LAZY_BYTES: usize = 8;
/// Steps to make a state that stands for few places.
const STATE: u64 = 6;
/// Bytes of a state that take a further step: the more places it stands for, the more there are.
const STATE_BYTES: usize = 3;
/// Bytes that any state takes, beside where it leads to.
const LEAST_STATE: usize = 100;
/// States of which so many are one step, to make room for those that a text makes.
const STATES: usize = 8;

/// Bytes of states that wait for the next text.
static KEPT: AtomicUsize = AtomicUsize::new(0);
/// Where they wait; first those of the pattern whose turn it is to be forgotten.
static ALL: Mutex<VecDeque<Weak<Waiting>>> = Mutex::new(VecDeque::new());

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
    /// `None` if it is too large, or takes more than may be taken.
    pub(super) fn new(pattern: &Hir, making: &mut Making<'_>) -> Option<Self> {
        let config = thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(MAX_PROGRAM));
        let Ok(program) = thompson::Compiler::new().configure(config).build_from_hir(pattern) else {
            // How large it would have become is not known.
            let _ = making.steps.take(MAX_PROGRAM as u64 / COMPILED);
            return None;
        };
        making.steps.take(program.memory_usage() as u64 / COMPILED).ok()?;
        let made = match table(&program, making.tables) {
            Some(table) => Self::Table(table),
            None => Self::Lazy(Lazy::new(program, Anchored::Yes)?),
        };
        making.room.take(made.size()).ok()?;
        Some(made)
    }

    /// How many bytes it takes, without what is made for texts.
    fn size(&self) -> usize {
        match self {
            Self::Table(table) => table.memory_usage(),
            Self::Lazy(lazy) => lazy.size(),
        }
    }

    /// Whether the whole text matches.
    pub(super) fn matches(&self, text: &str, steps: &mut Steps) -> Result<bool, Exhausted> {
        match self {
            Self::Table(table) => {
                steps.take(1 + (text.len() / TABLE_BYTES) as u64)?;
                let input = Input::new(text).anchored(Anchored::Yes).earliest(true);
                // It gives up at no byte, because no pattern has a word boundary of Unicode.
                Ok(matches!(table.try_search_fwd(&input), Ok(Some(_))))
            }
            Self::Lazy(lazy) => lazy.matches(text, steps),
        }
    }
}

/// A small program as a table; `None` if it would be large, or take more steps than there are.
fn table(program: &NFA, steps: &mut Steps) -> Option<dense::DFA<Vec<u32>>> {
    if program.states().len() > MAX_STATES {
        return None;
    }
    let choices = |state: &State| match state {
        State::Union { alternates } => alternates.len() as u64,
        State::BinaryUnion { .. } => 2,
        _ => 0,
    };
    // It takes as long to find out that it is too large as to make the largest.
    let choices: u64 = program.states().iter().map(choices).sum();
    let cost = |bytes: usize| (bytes / size_of::<u32>()) as u64 * (1 + choices / FOLLOWED);
    let most = cost(MAX_TABLE);
    let mut left = *steps;
    left.take(most).ok()?;
    let made = dense_table(program);
    steps.take(made.as_ref().map_or(most, |table| cost(table.memory_usage()).min(most))).ok()?;
    made
}

fn dense_table(program: &NFA) -> Option<dense::DFA<Vec<u32>>> {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .accelerate(false)
        .dfa_size_limit(Some(MAX_TABLE))
        .determinize_size_limit(Some(MAX_MAKING));
    dense::Builder::new().configure(config).build_from_nfa(program).ok()
}

/// An automaton of which states are made as they are needed.
pub(crate) struct Lazy {
    dfa: DFA,
    /// Where matches begin: with the text, or anywhere.
    anchored: Anchored,
    waiting: Arc<Waiting>,
}

/// States that were made for earlier texts.
struct States {
    cache: Cache,
    /// The sizes of those that stand for many places: what it costs to leave one, or to find out that it exists.
    large: FastMap<LazyStateID, usize>,
    /// The size of a state that is not noted.
    others: usize,
}

impl States {
    fn size(&self) -> usize {
        let entry = size_of::<(LazyStateID, usize)>().saturating_mul(2);
        self.cache.memory_usage().saturating_add(self.large.capacity().saturating_mul(entry))
    }

    fn size_of(&self, state: LazyStateID) -> usize {
        self.large.get(&state).copied().unwrap_or(self.others)
    }

    /// Notes the size of a state, if it is new: all took this much before, when one of the size `left` led to it.
    fn note(&mut self, state: LazyStateID, before: usize, least: usize, left: usize) -> usize {
        let size = match self.cache.memory_usage().checked_sub(before) {
            Some(0) => return self.size_of(state),
            Some(more) => more.saturating_sub(least),
            // All were forgotten but for the one that was left, which has another number now.
            None => {
                self.large.clear();
                self.others = left;
                self.cache.memory_usage().saturating_sub(left)
            }
        };
        if size > 0 || self.others > 0 {
            self.large.insert(state, size);
        }
        size
    }
}

/// As many of them as there were texts at once.
#[derive(Default)]
struct Waiting(Mutex<Vec<States>>);

impl Waiting {
    fn take(&self) -> Option<States> {
        let states = lock(&self.0).pop()?;
        KEPT.fetch_sub(states.size(), Relaxed);
        Some(states)
    }

    fn put(&self, states: States) {
        let size = states.size();
        if KEPT.fetch_add(size, Relaxed).saturating_add(size) > MAX_KEPT {
            forget_some();
        }
        lock(&self.0).push(states);
    }

    fn forget(&self) {
        while self.take().is_some() {}
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Forgets states of some patterns, each in its turn, so that no pattern keeps others from having any.
fn forget_some() {
    let mut all = lock(&ALL);
    for _ in 0..all.len() {
        if KEPT.load(Relaxed) <= MAX_KEPT / 2 {
            return;
        }
        let Some(first) = all.pop_front() else { return };
        if let Some(waiting) = first.upgrade() {
            waiting.forget();
            all.push_back(first);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lazy({} bytes)", self.size())
    }
}

impl Lazy {
    /// For a program without word boundaries of Unicode; `None` if it cannot be.
    pub(crate) fn new(program: NFA, anchored: Anchored) -> Option<Self> {
        let config = Config::new().cache_capacity(MAX_CACHE).skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(program).ok()?;
        let waiting = Arc::new(Waiting::default());
        let mut all = lock(&ALL);
        // Only before there would be more of them, so that many patterns do not look through all each time.
        if all.len() == all.capacity() {
            all.retain(|other| other.strong_count() > 0);
        }
        all.push_back(Arc::downgrade(&waiting));
        Some(Self { dfa, anchored, waiting })
    }

    fn size(&self) -> usize {
        self.dfa.memory_usage().saturating_add(self.dfa.get_nfa().memory_usage())
    }

    /// Whether a text matches.
    pub(crate) fn matches(&self, text: &str, steps: &mut Steps) -> Result<bool, Exhausted> {
        steps.take(2 + (text.len() / LAZY_BYTES) as u64)?;
        let mut states = match self.waiting.take() {
            Some(states) => states,
            None => self.no_states(steps)?,
        };
        let matches = self.find(text, &mut states, steps);
        self.waiting.put(states);
        matches
    }

    fn no_states(&self, steps: &mut Steps) -> Result<States, Exhausted> {
        steps.take((self.dfa.get_nfa().states().len() / STATES) as u64)?;
        let mut cache = self.dfa.create_cache();
        // Making the first state takes memory that others use again, and which is no part of its size.
        let _ = self.dfa.start_state_forward(&mut cache, &Input::new("").anchored(self.anchored));
        self.dfa.reset_cache(&mut cache);
        Ok(States { cache, large: FastMap::default(), others: 0 })
    }

    fn find(&self, text: &str, states: &mut States, steps: &mut Steps) -> Result<bool, Exhausted> {
        let input = Input::new(text).anchored(self.anchored);
        let before = states.cache.memory_usage();
        let mut state = self.dfa.start_state_forward(&mut states.cache, &input).map_err(|_| Exhausted)?;
        if states.cache.memory_usage() != before {
            // Twice: see `no_states`.
            steps.take((states.note(state, before, self.least(), 0) / STATE_BYTES) as u64 * 2)?;
        }
        for byte in text.bytes() {
            if !state.is_tagged() {
                let next = self.dfa.next_state_untagged(&states.cache, state, byte);
                if !next.is_unknown() {
                    state = next;
                    continue;
                }
            } else if state.is_dead() || state.is_match() {
                return Ok(state.is_match());
            }
            steps.take(STATE)?;
            state = self.next(state, Some(byte), states, steps)?;
        }
        Ok(state.is_match() || self.next(state, None, states, steps)?.is_match())
    }

    /// Goes from a state to the next one, by a byte or the end of the text.
    ///
    /// To find out that there is one already takes as long as to make it: it depends on the one that is left, and on the new one.
    fn next(
        &self,
        state: LazyStateID,
        byte: Option<u8>,
        states: &mut States,
        steps: &mut Steps,
    ) -> Result<LazyStateID, Exhausted> {
        let left = states.size_of(state);
        steps.take((left / STATE_BYTES) as u64)?;
        let before = states.cache.memory_usage();
        let next = match byte {
            Some(byte) => self.dfa.next_state(&mut states.cache, state, byte),
            None => self.dfa.next_eoi_state(&mut states.cache, state),
        };
        // The automaton never gives up: see `new`.
        let next = next.map_err(|_| Exhausted)?;
        let entered = states.note(next, before, self.least(), left);
        steps.take((entered.saturating_sub(left) / STATE_BYTES) as u64)?;
        Ok(next)
    }

    /// Bytes that a state takes which stands for no place.
    fn least(&self) -> usize {
        LEAST_STATE.saturating_add(size_of::<LazyStateID>() << self.dfa.byte_classes().stride2())
    }
}
