//! The layers of the source: a file imports only from its own layer or lower ones, and no files import each other.
//! Files and functions are short.

mod imports;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use self::imports::{circles, imports};
use self::source::{Source, functions, sources};

/// From top to bottom; parts on one line may use each other where that makes no circle.
const LAYERS: &[&[&str]] = &[
    &["main", "lib"],
    &["cli"],
    &["daemon", "evidence"],
    &["admin", "rehearsal", "proxy", "self_service", "token_service"],
    &["chain"],
    &["runtime"],
    &["policy"],
    &["stages"],
    &["state", "audit", "traces", "secrets", "body"],
    &[
        "exchange",
        "refusal",
        "grpc",
        "telemetry",
        "budget",
        "xsd",
        "url",
        "egress",
        "otlp",
        "error_text",
        "all_bytes",
        "html_text",
        "in_box",
        "open_file",
    ],
];
const LONGEST: usize = 500;

fn layer(part: &str) -> usize {
    LAYERS.iter().position(|parts| parts.contains(&part)).unwrap_or_else(|| panic!("`{part}` is in no layer"))
}

#[test]
fn imports_go_down() {
    let part = |module: &str| module.split("::").next().unwrap().to_owned();
    let sources = sources();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, imports) in imports(&sources) {
        let own = part(module);
        for import in imports {
            assert!(layer(&part(import)) >= layer(&own), "{module} imports {import}, which is above it");
            if part(import) != own {
                uses.entry(own.clone()).or_default().insert(part(import));
            }
        }
    }
    for (part, used) in &uses {
        for other in used {
            let back = uses.get(other).is_some_and(|back| back.contains(part));
            assert!(!back, "{part} and {other} import each other");
        }
    }
}

#[test]
fn no_files_import_each_other() {
    let sources = sources();
    let imports = imports(&sources);
    let circles = circles(&imports);
    let described = circles.iter().map(|circle| {
        let within = |module: &&str| imports[module].intersection(circle).copied().collect::<Vec<_>>().join(", ");
        circle.iter().map(|module| format!("  {module} imports {}\n", within(module))).collect::<String>()
    });
    let described: Vec<String> = described.collect();
    assert!(described.is_empty(), "files import each other:\n{}", described.join("\n"));
}

#[test]
fn a_circle_through_a_parent_is_found() {
    let file = |module: &str, text: &str| Source::new(module.into(), module.to_owned(), text);
    let sources = [
        file(
            "a",
            "mod b; mod c;\n// use self::c::X;\nuse self::b::{B, d::{self}};\nconst S: &str = \"crate::a::c::X\";",
        ),
        file("a::b", "use super::c;\npub(in crate::a) fn f() -> super::Y { c::g() }"),
        file("a::b::d", "fn f<'a>() { r#\"\"super::B\"#; }\n#[cfg(test)]\nmod tests { use super::super::B; }"),
        file("a::c", "fn g() {}\n#[cfg(test)] use super::b::B;\n"),
    ];
    let imports = imports(&sources);
    assert_eq!(imports["a"], BTreeSet::from(["a::b", "a::b::d"]));
    assert_eq!(imports["a::b"], BTreeSet::from(["a", "a::c"]));
    assert_eq!(imports["a::b::d"], BTreeSet::new());
    assert_eq!(circles(&imports), BTreeSet::from([BTreeSet::from(["a", "a::b"])]));
}

#[test]
fn strings_comments_and_tests_do_not_count() {
    let text = "fn f<'a>(x: [u8; 2]) -> char {\n    /* } /* } */ */ let _ = r#\"}\"\"#; // }\n    '}'\n}\n\
                trait T {\n    fn g();\n}\n#[cfg(test)]\nfn h() {}\nconst C: &str = \"\\\"fn i() {\";";
    let source = Source::new("a".into(), "a".to_owned(), text);
    let found = functions(&source.code).into_iter();
    let found: Vec<_> = found.map(|(name, range)| (name, source.line(range.start), source.line(range.end))).collect();
    assert_eq!(found, [("f", 1, 4)]);
}

/// Functions that may be longer: module, name, and why.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("admin::operations", "run", "one `match` that dispatches every operation"),
    ("policy::yaml_error", "words", "one `match` with the message for every kind of error"),
];
const LONGEST_FUNCTION: usize = 60;

#[test]
fn functions_are_short() {
    let mut unused: BTreeSet<_> = LONG_FUNCTIONS.iter().map(|(module, name, _)| (*module, *name)).collect();
    let mut long = Vec::new();
    let sources = sources();
    for source in &sources {
        for (name, range) in functions(&source.code) {
            let (first, last) = (source.line(range.start), source.line(range.end));
            let lines = last - first + 1;
            if lines > LONGEST_FUNCTION && !unused.remove(&(source.module.as_str(), name)) {
                long.push(format!("{}:{first}: {name} has {lines} lines\n", source.path.display()));
            }
        }
    }
    assert!(long.is_empty(), "functions are longer than {LONGEST_FUNCTION} lines:\n{}", long.concat());
    assert!(unused.is_empty(), "these are short, or gone, and need no exception: {unused:?}");
}

/// What lets a rehearsal replace keys, clocks and stores, and the modules that may name it.
const STAND_INS: &[(&str, &[&str])] = &[
    ("StandIns", &["policy::compile", "rehearsal"]),
    ("rehearsed(", &["policy::compile", "rehearsal"]),
    (".redigested(", &["policy::compile"]),
    (".with_stand_in(", &["policy::compile"]),
    (".dated(", &["rehearsal"]),
    (".as_of(", &["rehearsal"]),
    ("ledger.forget(", &["rehearsal"]),
    ("crate::rehearsal", &["rehearsal", "cli::persona", "cli::explain", "cli::test"]),
];

#[test]
fn what_is_served_has_no_stand_ins() {
    let files = sources();
    for (word, allowed) in STAND_INS {
        let mut found = false;
        for Source { path, module, text, .. } in &files {
            let may = allowed.iter().any(|part| module == part || module.starts_with(&format!("{part}::")));
            let says = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(may || !says, "{} says `{word}`", path.display());
            found |= says;
        }
        assert!(found, "`{word}` is nowhere any more: this test must follow its name");
    }
}

#[test]
fn files_are_short() {
    let mut lengths: Vec<usize> = Vec::new();
    for Source { path, text, .. } in sources() {
        let length = text.lines().count();
        assert!(length <= LONGEST, "{} has {length} lines before its tests", path.display());
        lengths.push(length);
    }
    lengths.sort_unstable();
    assert!(lengths[lengths.len() / 2] < 160, "the median is {}", lengths[lengths.len() / 2]);
}

#[test]
fn nothing_is_unsafe() {
    let manifest = include_str!("../../../Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"forbid\""), "the compiler forbids it");
    for Source { path, text, .. } in sources() {
        let mut code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        assert!(!code.any(|line| line.contains("unsafe ") || line.contains("unsafe_code")), "{}", path.display());
    }
}
