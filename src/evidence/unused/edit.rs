//! Takes entries out of the text of a policy, and writes the change as a unified diff.
//!
//! What is not touched stays as it is written, comments included. Whether the result says what is meant is for the caller to check:
//! an alias may stand for more than one place.

use std::collections::BTreeSet;
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

/// The text with these edits; `None` if one of them leads nowhere.
pub(super) fn apply(text: &str, tree: &Tree, edits: &[Edit]) -> Option<String> {
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    for edit in edits {
        changes.extend(changes_of(text, tree, edit)?);
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

fn changes_of(text: &str, tree: &Tree, edit: &Edit) -> Option<Vec<(Range<usize>, String)>> {
    let at = edit.path.iter().fold(tree.at(), |at: At<'_>, key| at.key(key));
    let (_, id) = at.node()?;
    let span = at.place().span();
    let children: Vec<(NodeId, Range<usize>)> = match tree.kind(id) {
        Kind::Sequence(items) => items.iter().map(|item| (*item, tree.place(*item).span())).collect(),
        Kind::Mapping(entries) => {
            let whole =
                |(key, value): &(NodeId, NodeId)| (*key, tree.place(*key).span().start..tree.place(*value).span().end);
            entries.iter().map(whole).collect()
        }
        Kind::Scalar(_) => return None,
    };
    // Entries of included files come last, and are not in this text.
    let children: Vec<Range<usize>> =
        children.into_iter().take_while(|(id, _)| !tree.is_included(*id)).map(|(_, range)| range).collect();
    if tree.is_included(id) || edit.drop.iter().any(|position| *position >= children.len()) {
        return None;
    }
    let kept = children.iter().enumerate().filter(|(position, _)| !edit.drop.contains(position));
    let kept: Vec<&str> = kept.filter_map(|(_, child)| text.get(child.clone())).collect();
    let (open, close, room) = match text.get(span.start..)?.chars().next()? {
        '[' => ("[", "]", ""),
        '{' => ("{", "}", " "),
        _ if kept.is_empty() => return None,
        _ => {
            let dropped = children.iter().enumerate().filter(|(position, _)| edit.drop.contains(position));
            return Some(dropped.map(|(_, child)| (lines(text, child), String::new())).collect());
        }
    };
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
