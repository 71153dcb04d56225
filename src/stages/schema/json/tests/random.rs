//! A generator of numbers that are the same on each run (xorshift).

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
