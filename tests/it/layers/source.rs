//! The files of `src/`, read just far enough to find their imports and functions.

use std::ops::Range;
use std::path::{Path, PathBuf};

const TEST: &str = "#[cfg(test)]";

pub struct Source {
    pub path: PathBuf,
    /// Such as `policy::router`; a `mod.rs` has the path of its folder.
    pub module: String,
    /// The text before its tests.
    pub text: String,
    /// All of the text with spaces in place of comments, literals and whatever is `#[cfg(test)]`. Lines stay the same.
    pub code: String,
}

/// All files but those of tests.
pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = path.strip_prefix(&root).unwrap().with_extension("");
                let module = module.to_str().unwrap().replace('/', "::");
                let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                if module.split("::").all(|part| part != "tests") {
                    found.push(Source::new(path, module, &text));
                }
            }
        }
    }
    found.sort_by(|a, b| a.module.cmp(&b.module));
    found
}

impl Source {
    pub fn new(path: PathBuf, module: String, text: &str) -> Self {
        let before_tests = text.split(&format!("\n{TEST}")).next().unwrap().to_owned();
        Self { path, module, text: before_tests, code: without_tests(without_words(text)) }
    }

    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// Replaces comments, and the content of literals, by spaces. The result is ASCII.
fn without_words(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut code = String::with_capacity(text.len());
    let mut next = 0;
    while next < chars.len() {
        let end = match (at(next), at(next + 1)) {
            ('/', '/') => (next..chars.len()).find(|&index| at(index) == '\n').unwrap_or(chars.len()),
            ('/', '*') => block_comment_end(&chars, next),
            ('"', _) => string_end(&chars, next),
            ('\'', '\\') => (next + 3..chars.len()).find(|&index| at(index) == '\'').unwrap() + 1,
            ('\'', _) if at(next + 2) == '\'' => next + 3,
            _ => next,
        };
        if end == next {
            code.push(if at(next).is_ascii() { at(next) } else { ' ' });
            next += 1;
        } else {
            code.extend(chars[next..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
            next = end;
        }
    }
    code
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut index) = (0, start);
    while index + 1 < chars.len() {
        match (chars[index], chars[index + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') if depth == 1 => return index + 2,
            ('*', '/') => depth -= 1,
            _ => {
                index += 1;
                continue;
            }
        }
        index += 2;
    }
    panic!("a comment has no end")
}

/// The end of a string whose first quote is at `start`.
fn string_end(chars: &[char], start: usize) -> usize {
    let hashes = chars[..start].iter().rev().take_while(|&&c| c == '#').count();
    let is_raw = chars[..start - hashes].ends_with(&['r']);
    let mut index = start + 1;
    while index < chars.len() {
        match chars[index] {
            '\\' if !is_raw => index += 1,
            '"' if !is_raw => return index + 1,
            '"' if chars[index + 1..].iter().take_while(|&&c| c == '#').count() >= hashes => return index + 1 + hashes,
            _ => {}
        }
        index += 1;
    }
    panic!("a string has no end")
}

/// Replaces items under `#[cfg(test)]` by spaces.
fn without_tests(mut code: String) -> String {
    while let Some(start) = code.find(TEST) {
        let end = item_end(&code, start + TEST.len());
        blank(&mut code, start..end);
    }
    code
}

/// Replaces a part of the code by spaces.
pub fn blank(code: &mut String, range: Range<usize>) {
    let spaces = code[range.clone()].replace(|c| c != '\n', " ");
    code.replace_range(range, &spaces);
}

/// The end of the item that begins at `start`: its semicolon or closing brace.
pub fn item_end(code: &str, start: usize) -> usize {
    let is_use = code[start..].trim_start().starts_with("use ");
    let mut depth = 0;
    let mut index = start;
    while index < code.len() {
        match code.as_bytes()[index] {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return index + 1,
            b'{' if !is_use => {
                index = closing_brace(code, index);
                if depth == 0 {
                    return index;
                }
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    panic!("an item has no end")
}

/// The position after the brace that closes the one at `open`.
fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (index, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return index + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    panic!("a brace has no end")
}

/// The positions of a keyword.
pub fn keyword<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |byte: u8| byte == b'_' || byte == b'#' || byte.is_ascii_alphanumeric();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).is_none_or(|before| !is_part(code.as_bytes()[before]));
        before && code.as_bytes().get(at + word.len()).is_some_and(u8::is_ascii_whitespace)
    })
}

/// The identifier at the start of a text, or nothing.
pub fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    &text[..end]
}

/// The functions that have a body: their name, and where they are.
pub fn functions(code: &str) -> Vec<(&str, Range<usize>)> {
    keyword(code, "fn")
        .map(|start| (identifier(code[start + 2..].trim_start()), start..item_end(code, start)))
        .filter(|(_, range)| code[..range.end].ends_with('}'))
        .collect()
}
