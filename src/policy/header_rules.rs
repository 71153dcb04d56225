//! The header fields of callers that a policy names: those it drops, and those it reads, keeps or validates.

use std::collections::HashSet;

use super::header_changes::is_spelling_of;

/// Header fields by name.
#[derive(Debug, Default)]
pub(crate) struct HeaderRules {
    /// Names that are dropped, in lower case.
    dropped: Box<[Box<str>]>,
    /// Beginnings of names that are dropped, in lower case.
    dropped_prefixes: Box<[Box<str>]>,
    /// Names that the policy itself has: of API keys, validated parameters, kept fields.
    named: HashSet<Box<str>>,
    /// Names that only claims may have, with hyphens for `_` and `.`.
    claimed: Box<[Box<str>]>,
    /// Names that an API sets or removes, with hyphens for `_` and `.`.
    changed: HashSet<Box<str>>,
}

impl HeaderRules {
    /// Compiles patterns in lower case, each a name or its beginning with `*` after it, and the names that the policy has.
    pub(crate) fn new(patterns: &[String], named: HashSet<Box<str>>) -> Self {
        let (prefixes, names): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| pattern.ends_with('*'));
        let boxed = |texts: Vec<&String>| texts.iter().map(|text| text.trim_end_matches('*').into()).collect();
        Self {
            dropped: boxed(names),
            dropped_prefixes: boxed(prefixes),
            named,
            claimed: Box::default(),
            changed: HashSet::new(),
        }
    }

    /// The same, with the names that APIs set or remove.
    pub(crate) fn changing(self, changed: HashSet<Box<str>>) -> Self {
        Self { changed, ..self }
    }

    /// The same, with the names that only claims may have, with hyphens for `_` and `.`.
    pub(crate) fn claiming(self, claimed: Vec<Box<str>>) -> Self {
        Self { claimed: claimed.into(), ..self }
    }

    /// Whether only claims of tokens may be in fields with this lower-case name, or with one that servers read as the same.
    pub(crate) fn claims(&self, name: &str) -> bool {
        self.claimed.iter().any(|claimed| is_spelling_of(name, claimed))
    }

    /// Whether fields with this lower-case name are dropped, unless an API keeps them.
    pub(crate) fn drops(&self, name: &str) -> bool {
        self.dropped.iter().any(|dropped| **dropped == *name)
            || self.dropped_prefixes.iter().any(|prefix| name.starts_with(&**prefix))
    }

    /// Whether there is any rule.
    pub(crate) fn has_any(&self) -> bool {
        !(self.dropped.is_empty()
            && self.dropped_prefixes.is_empty()
            && self.named.is_empty()
            && self.claimed.is_empty()
            && self.changed.is_empty())
    }

    /// Whether a trailer with this lower-case name is dropped: one that a server merges into the head must not take the place of
    /// a field that an API sets, or that the policy reads or drops.
    pub(crate) fn drops_trailer(&self, name: &str) -> bool {
        self.drops(name) || self.names(name) || self.changed.contains(name) || self.claims(name)
    }

    /// Whether the policy itself has this name, in lower case.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.named.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_beginnings_of_names_are_dropped() {
        let rules = HeaderRules::new(&["x-internal-*".to_owned(), "x-debug".to_owned()], HashSet::new());
        for (name, dropped) in
            [("x-internal-", true), ("x-internal-role", true), ("x-debug", true), ("x-debugger", false), ("x", false)]
        {
            assert_eq!(rules.drops(name), dropped, "{name}");
        }
        assert!(rules.has_any() && !HeaderRules::default().has_any());
    }
}
