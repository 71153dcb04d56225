//! Which file imports which: every path in the code is resolved to the file that it names.
//!
//! An item that a `mod.rs` re-exports with `pub use` counts as an import of that `mod.rs`. So files in a folder import
//! from each other directly, and not through their parent, which imports them. `mod x;` by itself imports nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::source::{Source, blank, identifier, item_end, keyword};

/// The modules that each module imports.
pub type Imports<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

pub fn imports(sources: &[Source]) -> Imports<'_> {
    let modules: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    let of = |source| imports_of(source, &modules);
    sources.iter().map(|source| (source.module.as_str(), of(source))).collect()
}

fn imports_of<'a>(source: &Source, modules: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let mut code = source.code.clone();
    // `pub(in crate::policy)` is a visibility.
    while let Some(start) = code.find("pub(in ") {
        let end = start + code[start..].find(')').unwrap() + 1;
        blank(&mut code, start..end);
    }
    let inline = inline_modules(&source.code);
    let mut paths = Vec::new();
    // `impl Trait + use<'a>` is a bound, not an import; it has no space.
    let uses: Vec<usize> = keyword(&code, "use").collect();
    for start in uses {
        let end = item_end(&code, start);
        let tree: String = code[start + 3..end - 1].split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", &tree, &mut |path| paths.push((start, path)));
        blank(&mut code, start..end);
    }
    paths.extend(paths_of(&code));
    let mut found = BTreeSet::new();
    for (at, path) in paths {
        let within = inline.iter().filter(|(_, range)| range.contains(&at)).map(|(name, _)| *name);
        let own = if source.module == "lib" { None } else { Some(source.module.as_str()) };
        let place: Vec<&str> = own.into_iter().flat_map(|own| own.split("::")).chain(within).collect();
        found.extend(resolve(&place, &path, modules).filter(|module| *module != source.module));
    }
    found
}

/// The modules that have a body: `mod name { … }`.
fn inline_modules(code: &str) -> Vec<(&str, Range<usize>)> {
    keyword(code, "mod")
        .map(|start| (identifier(code[start + 3..].trim_start()), start..item_end(code, start)))
        .filter(|(_, range)| code[..range.end].ends_with('}'))
        .collect()
}

/// The paths of a `use` tree: `a::{self, b::c}` is `a` and `a::b::c`.
fn expand(before: &str, tree: &str, found: &mut impl FnMut(String)) {
    let tree = tree.trim();
    let Some((prefix, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        let path = if path == "self" && !before.is_empty() { "" } else { path };
        return found(format!("{before}{path}").trim_end_matches("::").to_owned());
    };
    let list = list.strip_suffix('}').unwrap();
    let (mut depth, mut start) = (0, 0);
    for (index, byte) in list.bytes().chain([b',']).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                let item = &list[start..index];
                if !item.trim().is_empty() {
                    expand(&format!("{before}{prefix}"), item, found);
                }
                start = index + 1;
            }
            _ => {}
        }
    }
}

/// The paths of two segments or more outside `use`, and where they start.
fn paths_of(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut next = 0;
    while next < code.len() {
        let start = next;
        let mut path = identifier(&code[start..]).to_owned();
        next += path.len().max(1);
        if path.is_empty() {
            continue;
        }
        while let Some(rest) = code[next..].strip_prefix("::") {
            let segment = identifier(rest);
            next += 2 + segment.len();
            if segment.is_empty() {
                break;
            }
            path = format!("{path}::{segment}");
        }
        if path.contains("::") && !code[..start].ends_with("::") {
            found.push((start, path));
        }
    }
    found
}

/// The file that a path names, from the module `place`: the longest part of the path that is a file.
fn resolve<'a>(place: &[&str], path: &str, modules: &BTreeSet<&'a str>) -> Option<&'a str> {
    let file = |module: &[&str]| match module {
        [] => modules.get("lib").copied(),
        _ => modules.get(module.join("::").as_str()).copied(),
    };
    let mut segments = path.split("::").map(str::trim).peekable();
    let mut module = match segments.peek().copied()? {
        "crate" => Vec::new(),
        // Any other first segment is another crate, a type, or a module below this one.
        first => {
            let child = [place, &[first]].concat();
            if !matches!(first, "self" | "super") && file(&child).is_none() {
                return None;
            }
            place.to_vec()
        }
    };
    segments.next_if(|first| matches!(*first, "crate" | "self"));
    while segments.next_if_eq(&"super").is_some() {
        module.pop()?;
    }
    for segment in segments {
        module.push(segment);
        if file(&module).is_none() {
            module.pop();
            break;
        }
    }
    // An inline module belongs to its file.
    while file(&module).is_none() {
        module.pop()?;
    }
    file(&module)
}

/// The sets of files that import each other, directly or through others.
pub fn circles<'a>(imports: &Imports<'a>) -> BTreeSet<BTreeSet<&'a str>> {
    let reached: Imports<'a> = imports.keys().map(|module| (*module, reach(module, imports))).collect();
    let in_circle = reached.iter().filter(|(module, reached)| reached.contains(*module));
    in_circle
        .map(|(module, others)| others.iter().copied().filter(|other| reached[other].contains(module)).collect())
        .collect()
}

/// The modules that one imports, directly or through others.
fn reach<'a>(module: &'a str, imports: &Imports<'a>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![module];
    while let Some(next) = waiting.pop() {
        waiting.extend(imports[next].iter().filter(|import| reached.insert(**import)).copied());
    }
    reached
}
