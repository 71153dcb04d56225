//! Takes entries out of the text of a policy, and writes the change as a unified diff.
//!
//! What is not touched stays as it is written, comments included. What an alias stands for is left alone: its text is in another
//! place, which is of others, too. Whether the result allows nobody more is for the caller to check.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use crate::policy::At;
use crate::policy::tree::{Kind, NodeId, Tree};

/// Lines around a change.
const CONTEXT: usize = 3;

/// Entries that are taken out of one list or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    /// The keys that lead to it.
    pub(super) path: Vec<String>,
    /// Positions of its items, or of its entries in the order of the file.
    pub(super) drop: BTreeSet<usize>,
}

/// The text with these edits; `None` if one of them leads nowhere, or to what an alias stands for.
pub(super) fn apply(text: &str, tree: &Tree, edits: &[Edit]) -> Option<String> {
    let shared = tree.shared();
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    for edit in edits {
        changes.extend(changes_of(text, (tree, &shared), edit)?);
    }
    changes.sort_by_key(|(range, _)| range.start);
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (range, replacement) in changes {
        result.push_str(text.get(done..range.start)?);
        result.push_str(&replacement);
        done = range.end;
    }
    result.push_str(text.get(done..)?);
    Some(result)
}

fn changes_of(
    text: &str,
    (tree, shared): (&Tree, &HashSet<Range<usize>>),
    edit: &Edit,
) -> Option<Vec<(Range<usize>, String)>> {
    let at = edit.path.iter().fold(tree.at(), |at: At<'_>, key| at.key(key));
    let (_, id) = at.node()?;
    let span = at.place().span();
    // `None` is a child whose text is not here alone.
    let own = |id: NodeId| Some(tree.place(id).span()).filter(|span| !shared.contains(span));
    let children: Vec<(NodeId, Option<Range<usize>>)> = match tree.kind(id) {
        Kind::Sequence(items) => items.iter().map(|item| (*item, own(*item))).collect(),
        Kind::Mapping(entries) => {
            let whole = |(key, value): &(NodeId, NodeId)| {
                (*key, own(*key).zip(own(*value)).map(|(key, value)| key.start..value.end))
            };
            entries.iter().map(whole).collect()
        }
        Kind::Scalar(_) => return None,
    };
    // Entries of included files come last, and are not in this text.
    let children: Vec<Option<Range<usize>>> =
        children.into_iter().take_while(|(id, _)| !tree.is_included(*id)).map(|(_, range)| range).collect();
    if tree.is_included(id) || shared.contains(&span) || edit.drop.iter().any(|position| *position >= children.len()) {
        return None;
    }
    let (dropped, kept): (Vec<_>, Vec<_>) =
        children.iter().enumerate().partition(|(position, _)| edit.drop.contains(position));
    let dropped: Vec<&Range<usize>> = dropped.into_iter().map(|(_, child)| child.as_ref()).collect::<Option<_>>()?;
    let (open, close, room) = match text.get(span.start..)?.chars().next()? {
        '[' => ("[", "]", ""),
        '{' => ("{", "}", " "),
        _ if kept.is_empty() => return None,
        _ => return Some(dropped.into_iter().map(|child| (lines(text, child), String::new())).collect()),
    };
    let kept: Vec<&str> = kept.into_iter().map(|(_, child)| text.get(child.clone()?)).collect::<Option<_>>()?;
    let inside = kept.join(", ");
    let room = if inside.is_empty() { "" } else { room };
    Some(vec![(span, format!("{open}{room}{inside}{room}{close}"))])
}

/// The whole lines of a range.
fn lines(text: &str, range: &Range<usize>) -> Range<usize> {
    let start = text.get(..range.start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let end = text.get(range.end..).and_then(|after| after.find('\n')).map_or(text.len(), |rest| range.end + rest + 1);
    start..end
}

/// A change of a text as a unified diff, which `patch` and `git apply -p0` take. Empty if there is none.
pub(super) fn unified(name: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let mut hunks = String::new();
    let blocks = blocks(&old, &new);
    let mut blocks = blocks.iter().peekable();
    while let Some(first) = blocks.next() {
        let mut group = vec![first];
        while let Some(next) =
            blocks.next_if(|next| group.last().is_some_and(|last| next.0.start <= last.0.end + 2 * CONTEXT))
        {
            group.push(next);
        }
        hunks.push_str(&hunk(&old, &new, &group));
    }
    if hunks.is_empty() { hunks } else { format!("--- {name}\n+++ {name}\n{hunks}") }
}

/// Lines of the old text, and those of the new one in their place.
type Block = (Range<usize>, Range<usize>);

/// The lines that differ. Edits only take away or shorten, so the next line that both have ends a block.
fn blocks(old: &[&str], new: &[&str]) -> Vec<Block> {
    let (mut from, mut to) = (0, 0);
    let mut blocks = Vec::new();
    while from < old.len() || to < new.len() {
        if from < old.len() && to < new.len() && old.get(from) == new.get(to) {
            (from, to) = (from + 1, to + 1);
            continue;
        }
        let (start, begun) = (from, to);
        // A line that was shortened is in the place of one; all that was taken away has no line.
        loop {
            let rest = new.get(to..).unwrap_or_default();
            let ahead = old.get(from..).unwrap_or_default();
            let meets = ahead.iter().position(|line| rest.first() == Some(line));
            match meets {
                Some(skipped) => {
                    from += skipped;
                    break;
                }
                None if to < new.len() => to += 1,
                None => {
                    from = old.len();
                    break;
                }
            }
        }
        blocks.push((start..from, begun..to));
    }
    blocks
}

fn hunk(old: &[&str], new: &[&str], group: &[&Block]) -> String {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return String::new() };
    let before = first.0.start.min(CONTEXT);
    let after = (old.len() - last.0.end).min(CONTEXT);
    let (from, to) = (first.0.start - before..last.0.end + after, first.1.start - before..last.1.end + after);
    // A side without lines is said to be after line 0.
    let at = |range: &Range<usize>| range.start + usize::from(!range.is_empty());
    let mut text = format!("@@ -{},{} +{},{} @@\n", at(&from), from.len(), at(&to), to.len());
    let mut add = |mark: char, lines: &[&str]| {
        for line in lines {
            text.push(mark);
            text.push_str(line);
            if !line.ends_with('\n') {
                text.push_str("\n\\ No newline at end of file\n");
            }
        }
    };
    let mut done = from.start;
    for (gone, came) in group {
        add(' ', old.get(done..gone.start).unwrap_or_default());
        add('-', old.get(gone.clone()).unwrap_or_default());
        add('+', new.get(came.clone()).unwrap_or_default());
        done = gone.end;
    }
    add(' ', old.get(done..from.end).unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::diagnostic::Problems;
    use crate::policy::source::SourceText;
    use crate::policy::yaml;

    #[test]
    fn what_an_alias_stands_for_is_left_alone() {
        for (text, path, position, expected) in [
            ("a: [x, y]\n", &["a"][..], 1, Some("a: [x]\n")),
            ("a: &one [x, y]\nb: *one\n", &["a"], 1, None),
            ("a: &one [x, y]\nb: *one\n", &["b"], 1, None),
            ("n: &one { k: [x, y] }\na: *one\n", &["a", "k"], 0, None),
            ("n: &one { k: [x, y] }\na: *one\n", &["n", "k"], 0, None),
            ("n: &one x\na: [*one, y]\n", &["a"], 0, None),
            ("n: &one x\na: [*one, y]\n", &["a"], 1, None),
            ("n: &one x\na:\n- *one\n- y\n", &["a"], 0, None),
            ("n: &one x\na:\n- *one\n- y\n", &["a"], 1, Some("n: &one x\na:\n- *one\n")),
            ("n: &one x\na: { k: *one, l: y }\n", &["a"], 1, None),
            ("n: &one x\na:\n  k: *one\n  l: y\n", &["a"], 0, None),
            ("n: &one x\na: [{ k: *one }, y]\n", &["a"], 1, Some("n: &one x\na: [{ k: *one }]\n")),
        ] {
            let source = Arc::new(SourceText::new("p".to_owned(), text.to_owned(), 0));
            let tree = yaml::parse(&source, &mut Problems::new()).unwrap();
            let path = path.iter().map(|key| (*key).to_owned()).collect();
            let edit = Edit { path, drop: BTreeSet::from([position]) };
            assert_eq!(apply(text, &tree, &[edit]).as_deref(), expected, "{text}");
        }
    }
}
