//! Sets of field names with fast lookup: the length and two letters rule out nearly every other name, and leave few to
//! compare with.

/// Names and prefixes of names, all in lower case; prefixes have at least three letters.
pub(crate) struct Names {
    exact: &'static [&'static str],
    prefixes: &'static [&'static str],
    /// The lengths that names in the set may have, one bit each, indexed by the first and the third letter.
    lengths: [u64; LETTERS],
    /// Which names of `exact` have these letters, one bit each.
    candidates: [u64; LETTERS],
}

/// How many pairs of letters are distinguished.
const LETTERS: usize = 64;
/// Longer names count as this long.
const LONGEST: usize = 63;

impl Names {
    /// Creates the set of all names that are in `exact` or begin with one of `prefixes`.
    pub(crate) const fn new(exact: &'static [&'static str], prefixes: &'static [&'static str]) -> Self {
        assert!(exact.len() <= u64::BITS as usize, "each name has one bit in `candidates`");
        let (mut lengths, mut candidates) = ([0; LETTERS], [0; LETTERS]);
        let mut at = 0;
        while at < exact.len() {
            lengths[letter(exact[at])] |= 1 << length(exact[at]);
            candidates[letter(exact[at])] |= 1 << at;
            at += 1;
        }
        at = 0;
        while at < prefixes.len() {
            lengths[letter(prefixes[at])] |= u64::MAX << length(prefixes[at]);
            at += 1;
        }
        Self { exact, prefixes, lengths, candidates }
    }

    /// Whether this lower-case name is in the set.
    pub(crate) fn has(&self, name: &str) -> bool {
        is_possible(&self.lengths, name)
            && (self.has_exactly(name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix)))
    }

    fn has_exactly(&self, name: &str) -> bool {
        let mut candidates = self.candidates.get(letter(name)).copied().unwrap_or_default();
        while candidates != 0 {
            if self.exact.get(candidates.trailing_zeros() as usize).is_some_and(|exact| *exact == name) {
                return true;
            }
            // Clears the lowest bit.
            candidates &= candidates - 1;
        }
        false
    }
}

/// Several sets, with one lookup that rules out nearly every name that is in none of them.
pub(crate) struct AnyOf {
    lengths: [u64; LETTERS],
}

impl AnyOf {
    pub(crate) const fn new(sets: &[&Names]) -> Self {
        let mut lengths = [0; LETTERS];
        let mut set = 0;
        while set < sets.len() {
            let mut slot = 0;
            while slot < LETTERS {
                lengths[slot] |= sets[set].lengths[slot];
                slot += 1;
            }
            set += 1;
        }
        Self { lengths }
    }

    /// Whether this lower-case name may be in one of the sets.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        is_possible(&self.lengths, name)
    }
}

fn is_possible(lengths: &[u64; LETTERS], name: &str) -> bool {
    lengths.get(letter(name)).is_some_and(|lengths| lengths >> length(name) & 1 == 1)
}

const fn letter(name: &str) -> usize {
    match name.as_bytes() {
        // Most names begin with `x-`.
        [first, _, third, ..] => (*first as usize + 5 * *third as usize) % LETTERS,
        [first, ..] => *first as usize % LETTERS,
        [] => 0,
    }
}

const fn length(name: &str) -> usize {
    if name.len() < LONGEST { name.len() } else { LONGEST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes_of_names() {
        const LONG: &str = "x-a-name-that-is-longer-than-all-the-lengths-that-are-distinguished-by-one-bit";
        let names = Names::new(&["te", "host", "hist", LONG], &["x-forwarded-", "client-cert"]);
        for (name, has) in [
            ("te", true),
            ("host", true),
            ("hist", true),
            (LONG, true),
            ("x-forwarded-", true),
            ("x-forwarded-for", true),
            ("client-cert", true),
            ("client-cert-chain", true),
            ("", false),
            ("t", false),
            ("tea", false),
            ("hosts", false),
            ("hopt", false),
            ("x-forwarded", false),
            ("x-forward-for-long", false),
            (&LONG[..LONG.len() - 1], false),
        ] {
            assert_eq!(names.has(name), has, "{name}");
        }
    }
}
