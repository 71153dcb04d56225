//! Compares the files that policies name: schemas, descriptions, keys and certificates.

use std::collections::BTreeMap;
use std::path::Path;

use super::change::{Change, Subject};
use super::order::Verdict;
use super::side::Side;
use crate::secrets::inputs::{Input, InputKind};

/// Adds the files whose content is not the same. A file that only one policy names shows in the setting that names it, unless
/// another file names it, too.
pub(super) fn compare(old: &Side, new: &Side, changes: &mut Vec<Change>) {
    let (before, after) = (files(old), files(new));
    for (name, input) in &after {
        let what = match before.get(name) {
            Some(known) if known.digest == input.digest => continue,
            Some(_) => "changed",
            None if new.written.mentions(name) => continue,
            None => "added",
        };
        changes.push(change(name, input, what));
    }
    let is_gone = |name: &str| !after.contains_key(name) && !old.written.mentions(name);
    for (name, input) in before.iter().filter(|(name, _)| is_gone(name)) {
        changes.push(change(name, input, "removed"));
    }
}

fn change(name: &str, input: &Input, what: &'static str) -> Change {
    Change {
        verdict: Verdict::Unjudged,
        subject: Subject::default(),
        setting: format!("file {name}"),
        place: input.uses.first().map(|one| one.place.to_string()),
        what,
        old: None,
        new: None,
    }
}

/// The files that a policy was compiled from, by their names relative to it. What variables and secret files hold is compared where
/// they are used.
fn files(side: &Side) -> BTreeMap<String, &Input> {
    let all =
        side.compiled.inputs.iter().filter(|input| matches!(input.kind, InputKind::File | InputKind::Certificates));
    let named = all.filter_map(|input| {
        let path: &Path = input.path.as_deref()?;
        Some((path.strip_prefix(&side.folder).unwrap_or(path).display().to_string(), input))
    });
    named.collect()
}
