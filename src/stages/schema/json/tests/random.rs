//! A generator of numbers that are the same on each run (xorshift), and what tests with random data need beside it.

use std::io::Write;

pub(in crate::stages::schema) struct Random(pub(in crate::stages::schema) u64);

impl Random {
    pub(in crate::stages::schema) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(in crate::stages::schema) fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }
}

/// A number from the environment.
pub(in crate::stages::schema) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Prints a line, which the test runner does not hold back although the test passes: the seed is how to run it again.
pub(in crate::stages::schema) fn print(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}
