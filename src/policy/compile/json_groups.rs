//! Which JSON Schema files are compiled together: those that refer to each other, however far.
//!
//! What is not in a group can neither refer to it nor be referred to, so each group can be compiled alone, and its files need
//! not be held in memory after that.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a document is called, and what it refers to.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// The URIs of its resources.
    pub(super) identifiers: Vec<String>,
    /// The URIs that it refers to; with a document, if one was found there.
    pub(super) references: Vec<(String, Option<usize>)>,
    /// Whether it is a meta-schema that is built in: it takes part in every group that refers to it, and joins none.
    pub(super) built_in: bool,
}

/// The groups, each in the order of its documents, which are positions in the list. Every file is in one group.
pub(super) fn groups(all: &[Linked]) -> Vec<Vec<usize>> {
    let names = Names::new(all);
    let mut sets = Sets((0..all.len()).collect());
    let is_file = |document: &usize| all.get(*document).is_some_and(|linked| !linked.built_in);
    for (document, linked) in all.iter().enumerate().filter(|(_, linked)| !linked.built_in) {
        // Where several files have one name, the compiler decides which is meant.
        let namesakes = linked.identifiers.iter().filter_map(|name| names.files.get(name.as_str()).copied());
        for other in namesakes.chain(names.targets(linked).filter(is_file)) {
            sets.join(document, other);
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for document in (0..all.len()).filter(is_file) {
        members.entry(sets.first(document)).or_default().push(document);
    }
    let whole = |own: &Vec<usize>| {
        let mut group: BTreeSet<usize> = own.iter().copied().collect();
        let mut left = own.clone();
        while let Some(linked) = left.pop().and_then(|document| all.get(document)) {
            for target in names.targets(linked) {
                // A meta-schema may lead to files, where the catalog says so.
                let others = members.get(&sets.found(target)).filter(|_| is_file(&target));
                let others = others.cloned().unwrap_or_else(|| vec![target]);
                left.extend(others.into_iter().filter(|other| group.insert(*other)));
            }
        }
        group.into_iter().collect()
    };
    members.values().map(whole).collect()
}

/// The first file, and the built-in document, of each name.
struct Names<'a> {
    files: HashMap<&'a str, usize>,
    built_in: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn new(all: &'a [Linked]) -> Self {
        let mut names = Self { files: HashMap::new(), built_in: HashMap::new() };
        for (document, linked) in all.iter().enumerate() {
            let known = if linked.built_in { &mut names.built_in } else { &mut names.files };
            for name in &linked.identifiers {
                known.entry(name).or_insert(document);
            }
        }
        names
    }

    /// The documents that one refers to: of several files with one name, the first.
    fn targets<'s>(&'s self, linked: &'s Linked) -> impl Iterator<Item = usize> + use<'s, 'a> {
        linked.references.iter().flat_map(|(uri, located)| {
            [self.files.get(uri.as_str()).copied(), self.built_in.get(uri.as_str()).copied(), *located]
                .into_iter()
                .flatten()
        })
    }
}

/// Disjoint sets of positions: each leads to one before it, or to itself.
struct Sets(Vec<usize>);

impl Sets {
    /// The first member of the set.
    fn found(&self, mut member: usize) -> usize {
        while let Some(before) = self.0.get(member).filter(|before| **before != member) {
            member = *before;
        }
        member
    }

    /// The same, and makes the way there short.
    fn first(&mut self, member: usize) -> usize {
        let first = self.found(member);
        let mut next = member;
        while let Some(before) = self.0.get_mut(next).filter(|before| **before != first) {
            next = std::mem::replace(before, first);
        }
        first
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        if let Some(later) = self.0.get_mut(one.max(other)) {
            *later = one.min(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F26: what does not refer to each other need not be in memory at once.
    #[test]
    fn files_are_compiled_with_what_they_lead_to_and_with_nothing_else() {
        let file = |name: &str, references: &[(&str, Option<usize>)]| Linked {
            identifiers: vec![name.to_owned()],
            references: references.iter().map(|(uri, to)| ((*uri).to_owned(), *to)).collect(),
            built_in: false,
        };
        let built_in =
            |name: &str, references: &[(&str, Option<usize>)]| Linked { built_in: true, ..file(name, references) };
        for (all, expected) in [
            (vec![file("a", &[]), file("b", &[])], vec![vec![0], vec![1]]),
            // By place, and by name.
            (vec![file("a", &[("b", Some(2))]), file("x", &[]), file("b", &[])], vec![vec![0, 2], vec![1]]),
            (vec![file("a", &[("b", None)]), file("x", &[]), file("b", &[])], vec![vec![0, 2], vec![1]]),
            (vec![file("a", &[("c", None)]), file("b", &[("c", None)]), file("c", &[])], vec![vec![0, 1, 2]]),
            (vec![file("a", &[("b", None)]), file("b", &[("a", None)])], vec![vec![0, 1]]),
            // Two files of one name, of which the compiler takes one or neither.
            (vec![file("a", &[("b", Some(2))]), file("b", &[]), file("b", &[])], vec![vec![0, 1, 2]]),
            // A meta-schema does not join those that refer to it.
            (
                vec![file("a", &[("m", Some(2))]), file("b", &[("m", Some(2))]), built_in("m", &[])],
                vec![vec![0, 2], vec![1, 2]],
            ),
            (
                vec![
                    file("a", &[("m", Some(1))]),
                    built_in("m", &[("v", Some(3))]),
                    file("b", &[]),
                    built_in("v", &[]),
                ],
                vec![vec![0, 1, 3], vec![2]],
            ),
            (
                vec![file("a", &[("m", Some(1))]), built_in("m", &[("b", Some(2))]), file("b", &[])],
                vec![vec![0, 1, 2], vec![2]],
            ),
            (vec![file("a", &[("nowhere", None)])], vec![vec![0]]),
        ] {
            assert_eq!(groups(&all), expected, "{all:?}");
        }
    }

    #[test]
    fn a_long_chain_of_files_is_one_group_at_once() {
        let count = 10_000;
        let one = |number: usize| Linked {
            identifiers: vec![number.to_string()],
            references: vec![((number + 1).to_string(), None)],
            built_in: false,
        };
        let all: Vec<Linked> = (0..count).rev().map(one).collect();
        assert_eq!(groups(&all), [(0..count).collect::<Vec<_>>()]);
    }
}
