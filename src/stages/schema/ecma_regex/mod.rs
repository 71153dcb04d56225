//! Patterns of JSON Schema: regular expressions of ECMA-262 with the flag `u` (JSON Schema 2020-12 core §6.4), found
//! anywhere in a text.
//!
//! No pattern takes more than linear time, but for one with backreferences: [`linear`] has the plain ones, [`look_around`]
//! those that look ahead or behind, and [`backtrack`] the rest. What a text can make expensive draws each step from a budget.

mod backtrack;
mod linear;
mod look_around;
mod parser;
mod problem;
mod set;
#[cfg(test)]
mod tests;
mod tree;

use self::backtrack::Backtracking;
pub(crate) use self::linear::BYTES;
use self::linear::Linear;
use self::look_around::LookAround;
pub(crate) use self::problem::PatternProblem;
use crate::budget::{Exhausted, Steps};

/// Longest pattern, in characters.
const MAX_LENGTH: usize = 64 << 10;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    engine: Engine,
}

#[derive(Debug, Clone)]
enum Engine {
    Linear(Linear),
    LookAround(Box<LookAround>),
    Backtracking(Box<Backtracking>),
}

impl Pattern {
    /// Compiles a pattern.
    pub(crate) fn new(pattern: &str) -> Result<Self, PatternProblem> {
        if pattern.len() > MAX_LENGTH {
            return Err(PatternProblem::at(MAX_LENGTH, format!("patterns have at most {MAX_LENGTH} bytes")));
        }
        let parsed = parser::parse(pattern)?;
        let linear = || Linear::new(&parsed.root).map(Engine::Linear);
        let look_around = || LookAround::new(&parsed.root).map(|found| Engine::LookAround(Box::new(found)));
        let engine = linear()
            .or_else(look_around)
            .unwrap_or_else(|| Engine::Backtracking(Box::new(Backtracking::new(&parsed.root, parsed.groups))));
        Ok(Self { engine })
    }

    /// Whether a text is a pattern.
    pub(crate) fn is_valid(text: &str) -> bool {
        text.len() <= MAX_LENGTH && parser::parse(text).is_ok()
    }

    /// Whether it takes one step for each [`BYTES`] of any text.
    pub(crate) fn is_cheap(&self) -> bool {
        self.matches_cheaply("").is_some()
    }

    /// Whether it is found in a text, if it [is cheap](Self::is_cheap).
    pub(crate) fn matches_cheaply(&self, text: &str) -> Option<bool> {
        match &self.engine {
            Engine::Linear(linear) => linear.is_match(text),
            Engine::LookAround(_) | Engine::Backtracking(_) => None,
        }
    }

    /// Whether it is found in a text.
    pub(crate) fn matches(&self, text: &str, steps: &mut Steps) -> Result<bool, Exhausted> {
        match &self.engine {
            Engine::Linear(linear) => linear.matches(text, steps),
            Engine::LookAround(look_around) => look_around.is_match(text, steps),
            Engine::Backtracking(backtracking) => backtracking.is_match(text, steps),
        }
    }
}
