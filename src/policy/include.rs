//! `include`: files that define roles, plans, consumers and APIs of the same policy.
//!
//! They become a part of one tree, so that everything that reads it knows nothing of them, and every problem has its place in the
//! file where it is.

use std::collections::HashMap;
use std::sync::Arc;

use super::diagnostic::Problems;
use super::source::{SourceText, Sources, quote};
use super::tree::{Kind, NodeId, Tree};
use super::yaml;
use crate::secrets;

/// The names of each section, and where they are.
type Names = HashMap<String, HashMap<String, NodeId>>;

/// What other files may define.
const SECTIONS: [&str; 4] = ["roles", "plans", "consumers", "apis"];

/// Adds what the files of `include` define to the tree.
pub(super) fn add(tree: &mut Tree, sources: &mut Sources, problems: &mut Problems) {
    let mut names = Names::new();
    if let Some(kept) = sources.take_kept() {
        for text in kept {
            merge(tree, &text, &mut names, problems);
        }
        return;
    }
    for (id, pattern) in patterns(tree) {
        if secrets::has_reference(&pattern) {
            problems.error(tree.place(id), "`include` takes no references").help("write the path of the file");
            tree.void(id);
            continue;
        }
        let texts = match sources.include(&pattern) {
            Ok(texts) => texts,
            Err(error) => {
                problems.error(tree.place(id), error.to_string()).help = error.help().map(str::to_owned);
                continue;
            }
        };
        for text in texts {
            merge(tree, &text, &mut names, problems);
        }
    }
}

/// What `include` lists. Anything else is reported when the policy is decoded.
fn patterns(tree: &Tree) -> Vec<(NodeId, String)> {
    let text = |id: NodeId| match tree.kind(id) {
        Kind::Scalar(scalar) if !scalar.is_null() => Some((id, scalar.written().to_owned())),
        _ => None,
    };
    let Some((_, value)) = tree.entry(tree.root(), "include") else { return Vec::new() };
    match tree.kind(value) {
        Kind::Sequence(items) => items.iter().copied().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

/// Adds what one file defines.
fn merge(tree: &mut Tree, text: &Arc<SourceText>, names: &mut Names, problems: &mut Problems) {
    let Some(root) = yaml::parse_included(tree, text, problems) else { return };
    let Kind::Mapping(sections) = tree.kind(root).clone() else {
        problems
            .error(tree.place(root), "an included file is a map")
            .help("write `roles:`, `plans:`, `consumers:` or `apis:`");
        return;
    };
    for (key, value) in sections {
        if tree.is_void(key) {
            continue;
        }
        let name = tree.key_text(key).to_owned();
        if !SECTIONS.contains(&&*name) {
            let message = format!("an included file cannot have {}", quote(&name));
            problems
                .error(tree.place(key), message)
                .help("it defines roles, plans, consumers and apis; everything else is in the policy file");
            continue;
        }
        match tree.entry(tree.root(), &name) {
            None => tree.adopt(tree.root(), &[(key, value)]),
            Some((_, into)) => {
                let known = names.entry(name).or_insert_with(|| known(tree, into));
                add_entries(tree, (value, into), known, problems);
            }
        }
    }
}

/// The keys of a map.
fn known(tree: &Tree, map: NodeId) -> HashMap<String, NodeId> {
    match tree.kind(map) {
        Kind::Mapping(entries) => entries.iter().map(|(key, _)| (tree.key_text(*key).to_owned(), *key)).collect(),
        _ => HashMap::new(),
    }
}

/// Adds the entries of one map to another, whose keys are `known`.
fn add_entries(
    tree: &mut Tree,
    (from, into): (NodeId, NodeId),
    known: &mut HashMap<String, NodeId>,
    problems: &mut Problems,
) {
    let Kind::Mapping(more) = tree.kind(from).clone() else {
        problems.error(tree.place(from), "this is a map of names").help("write `NAME: …` below it");
        return;
    };
    let mut added = Vec::with_capacity(more.len());
    for (key, value) in more {
        let name = tree.key_text(key);
        match known.get(name) {
            Some(first) if !tree.is_void(key) => {
                let message = format!("{} is defined twice; the first is at {}", quote(name), tree.place(*first));
                problems.error(tree.place(key), message).help("remove one of the two, or merge them");
                tree.damage(Some(into));
            }
            Some(_) => {}
            None => {
                known.insert(name.to_owned(), key);
                added.push((key, value));
            }
        }
    }
    tree.adopt(into, &added);
}

#[cfg(test)]
mod tests {
    use std::env::VarError;
    use std::path::Path;

    use crate::policy::load::{self, Opened};

    fn opened(files: &[(&str, &str)]) -> (tempfile::TempDir, Opened) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let opened = load::open(&folder.path().join("policy.yaml"), Box::new(|_| Err(VarError::NotPresent)));
        (folder, opened.unwrap_or_else(|problems| panic!("{}", problems.text(false))))
    }

    /// Every problem, `FILE:LINE:COLUMN MESSAGE`, with names relative to the folder.
    fn problems(folder: &Path, opened: &mut Opened) -> Vec<String> {
        drop(load::decoded(&mut opened.tree, &mut opened.problems));
        let root = format!("{}/", folder.display());
        let line = |problem: &crate::policy::diagnostic::Problem| {
            let place = problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{place} {}", problem.message).replace(&root, "")
        };
        opened.problems.iter().map(line).collect()
    }

    const POLICY: &str = "version: 1\ninclude: [teams/*.yaml, plans.yaml]\nconsumers:\n  own: { plan: gold }\n";

    #[test]
    fn what_files_define_is_as_if_it_were_in_the_policy() {
        let (folder, mut opened) = opened(&[
            ("policy.yaml", POLICY),
            ("teams/b.yaml", "consumers:\n  b: { plan: gold }\nroles: { clerk: [orders:read] }\n"),
            ("teams/a.yaml", "consumers: { a: { plan: gold, keys: [{ id: \"${env:NONE}\" }] } }\n"),
            ("teams/note.txt", "not: yaml: at: all"),
            ("plans.yaml", "plans:\n  gold: { rate: 5/s }\n"),
        ]);
        assert_eq!(
            problems(folder.path(), &mut opened),
            ["teams/a.yaml:1:45 the environment variable `NONE` is not set"]
        );
        let document = load::decoded(&mut opened.tree, &mut opened.problems);
        assert_eq!(document.consumers.keys().collect::<Vec<_>>(), ["a", "b", "own"]);
        assert_eq!((document.plans.len(), document.roles["clerk"].len()), (1, 1));
        let root = opened.tree.at();
        let place = |name: &str| root.key("consumers").key(name).key("plan").place().to_string();
        assert!(place("b").ends_with("teams/b.yaml:2:14"), "{}", place("b"));
        assert!(place("own").ends_with("policy.yaml:4:16"));
    }

    #[test]
    fn every_mistake_has_its_place_in_its_file() {
        let (folder, mut opened) = opened(&[
            (
                "policy.yaml",
                "version: 1\ninclude: [a.yaml, none.yaml, 'no/*.yaml', b.yaml, c.yaml, d.yaml, '${env:X}']\nconsumers: { one: {} }\n",
            ),
            ("a.yaml", "consumers: { one: {}, two: { plann: x } }\nlisten: []\nplans: [1]\nroles: { r: 5 }\n"),
            ("b.yaml", "consumers: { two: {} }\n"),
            ("c.yaml", "- 1\n"),
            ("d.yaml", "roles: [\n"),
        ]);
        let found = problems(folder.path(), &mut opened);
        let expected = [
            "a.yaml:1:14 `one` is defined twice; the first is at policy.yaml:3:14",
            "a.yaml:2:1 an included file cannot have `listen`",
            "policy.yaml:2:19 there is no file `none.yaml`",
            "policy.yaml:2:30 no file is found by `no/*.yaml`",
            "b.yaml:1:14 `two` is defined twice; the first is at a.yaml:1:23",
            "c.yaml:1:1 an included file is a map",
            "d.yaml:",
            "policy.yaml:2:67 `include` takes no references",
            "a.yaml:1:30 unknown key `plann` in `two`",
            "a.yaml:3:8 expected a map, found a list",
            "a.yaml:4:13 expected a list, found `5`",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for expected in expected {
            assert!(found.iter().any(|found| found.starts_with(expected)), "{expected}: {found:#?}");
        }
    }

    #[test]
    fn a_file_is_read_once_and_never_the_policy_itself() {
        let (folder, mut opened) = opened(&[
            ("policy.yaml", "version: 1\ninclude: ['*.yaml', a.yaml]\n"),
            ("a.yaml", "plans: { a: { rate: 1/s } }\n"),
        ]);
        assert!(problems(folder.path(), &mut opened).is_empty());
    }

    #[test]
    fn however_the_policy_and_its_folder_are_named_each_file_is_read_once() {
        let (folder, _) = opened(&[
            ("policy.yaml", "version: 1\ninclude: ['*.yaml', a.yaml, ./a.yaml, .//a.yaml]\n"),
            ("a.yaml", "plans: { a: { rate: 1/s } }\n"),
            (".hidden.yaml", "listen: []"),
        ]);
        std::os::unix::fs::symlink(folder.path().join("a.yaml"), folder.path().join("b.yaml")).unwrap();
        for name in ["policy.yaml", "./policy.yaml", ".//policy.yaml"] {
            let path = std::path::PathBuf::from(format!("{}/{name}", folder.path().display()));
            let mut opened = load::open(&path, Box::new(|_| Err(VarError::NotPresent))).unwrap();
            assert_eq!(problems(folder.path(), &mut opened), [""; 0], "{name}");
        }
    }

    #[test]
    fn names_that_cannot_be_shown_and_patterns_without_end_are_errors() {
        use std::os::unix::ffi::OsStrExt;
        for (pattern, name, said) in [
            ("teams/*.yaml", &b"\xff.yaml"[..], "no file is found by `teams/*.yaml`"),
            ("teams/*.yaml", b"\x1b[2J.yaml", "finds a file whose name is not plain UTF-8 text"),
            ("**/*.yaml", b"a.yaml", "is no pattern for paths"),
        ] {
            let (folder, _) = opened(&[("policy.yaml", "version: 1\n"), ("teams/note.txt", "")]);
            std::fs::write(folder.path().join("teams").join(std::ffi::OsStr::from_bytes(name)), "roles: {}").unwrap();
            let policy = folder.path().join("policy.yaml");
            std::fs::write(&policy, format!("version: 1\ninclude: ['{pattern}']\n")).unwrap();
            let mut opened = load::open(&policy, Box::new(|_| Err(VarError::NotPresent))).unwrap();
            let found = problems(folder.path(), &mut opened);
            assert!(found.len() == 1 && found[0].contains(said), "{pattern} {found:?}");
        }
    }

    /// Each within its own bound.
    #[test]
    fn values_of_all_files_are_bounded_together() {
        let bomb = |name: usize| {
            let nine = ["*a"; 9].join(",");
            let levels: String = (1..5).fold(String::new(), |all, level| {
                let items = nine.replace("*a", &format!("*a{}", level - 1));
                format!("{all}  r{level}: &a{level} [{items}]\n")
            });
            format!("roles:\n  r{name}0: &a0 [x,x,x,x]\n{}", levels.replace("  r", &format!("  r{name}")))
        };
        let texts: Vec<_> = (0..200).map(|name| (format!("{name}.yaml"), bomb(name))).collect();
        let mut files: Vec<_> = texts.iter().map(|(name, text)| (&**name, &**text)).collect();
        files.push(("policy.yaml", "version: 1\ninclude: ['[0-9]*.yaml']\n"));
        let (_folder, opened) = opened(&files);
        assert!(opened.problems.iter().any(|problem| problem.message.contains("has more than")));
    }

    #[test]
    fn what_was_read_before_is_the_same_policy() {
        let (folder, opened) =
            opened(&[("policy.yaml", "version: 1\ninclude: ['t*/*.yaml']\n"), ("teams/a.yaml", "roles: {}\n")]);
        let before = (opened.sources.fingerprint(), opened.sources.digest(), opened.sources.inputs().len());
        std::fs::remove_dir_all(folder.path().join("teams")).unwrap();
        let texts = opened.sources.texts();
        let again = load::open_text(&folder.path().join("policy.yaml"), texts, Box::new(|_| Err(VarError::NotPresent)));
        let again = again.unwrap().sources;
        assert_eq!((again.fingerprint(), again.digest(), again.inputs().len()), before);
    }
}
