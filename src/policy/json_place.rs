//! Finds the place of a JSON pointer (RFC 6901) in a JSON text.
//!
//! The text has been parsed before, so it is mostly JSON; where it is not, no place is found. Places are needed only
//! when a problem is reported, so no index is kept for them.

use std::ops::Range;

/// Byte ranges of the key and the value that a pointer names; for a list or map, only its first byte.
pub(super) fn find(text: &str, pointer: &str) -> Option<(Range<usize>, Range<usize>)> {
    let mut scan = Scan { bytes: text.as_bytes(), at: text.len() - text.trim_start_matches('\u{feff}').len() };
    scan.blanks();
    let mut key = scan.at..scan.at;
    for step in pointer.split('/').skip(1) {
        key = scan.enter(&step.replace("~1", "/").replace("~0", "~"))?;
    }
    let start = scan.at;
    let end = match scan.byte()? {
        b'{' | b'[' => start + 1,
        _ => {
            scan.value()?;
            scan.at
        }
    };
    Some((if key.is_empty() { start..end } else { key }, start..end))
}

struct Scan<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.byte().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Skips this byte and the white space around it.
    fn pass(&mut self, wanted: u8) -> Option<()> {
        self.blanks();
        (self.byte()? == wanted).then(|| self.at += 1)?;
        self.blanks();
        Some(())
    }

    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        (self.byte()? == b'"').then(|| self.at += 1)?;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let found = memchr::memchr2(b'"', b'\\', rest)?;
            self.at += found;
            match self.byte()? {
                b'"' => break,
                _ => self.at += 2,
            }
        }
        self.at += 1;
        Some(start..self.at)
    }

    /// Skips a whole value, however deep.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.byte()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    let start = self.at;
                    while self.byte().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
                        self.at += 1;
                    }
                    // YAML may begin with a brace like JSON, and continue differently.
                    (self.at > start).then_some(())?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Moves to the value of a key, or to the item at a position. Returns the place of its key.
    fn enter(&mut self, step: &str) -> Option<Range<usize>> {
        match self.byte()? {
            b'{' => {
                self.pass(b'{')?;
                loop {
                    let key = self.string()?;
                    self.pass(b':')?;
                    let text = self.bytes.get(key.clone())?;
                    if serde_json::from_slice::<String>(text).is_ok_and(|text| text == step) {
                        return Some(key);
                    }
                    self.value()?;
                    self.pass(b',')?;
                }
            }
            b'[' => {
                self.pass(b'[')?;
                for _ in 0..step.parse::<usize>().ok()? {
                    self.value()?;
                    self.pass(b',')?;
                }
                Some(self.at..self.at)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_to_keys_and_values() {
        let text = "\u{feff} { \"a\" : [ 1, -2.5e3 , {\"b/c\": \"x\\\"}\"}, [[]], true ],\n\"\\u0064~\": {\"e\":null}, \"f\": [ ] }";
        for (pointer, key, value) in [
            ("", "{", "{"),
            ("/a", "\"a\"", "["),
            ("/a/0", "1", "1"),
            ("/a/1", "-2.5e3", "-2.5e3"),
            ("/a/2/b~1c", "\"b/c\"", "\"x\\\"}\""),
            ("/a/3/0", "[", "["),
            ("/a/4", "true", "true"),
            ("/d~0/e", "\"e\"", "null"),
            ("/f", "\"f\"", "["),
        ] {
            let found = find(text, pointer).map(|(key, value)| (&text[key], &text[value]));
            assert_eq!(found, Some((key, value)), "{pointer}");
        }
        for pointer in ["/b", "/a/5", "/a/x", "/a/0/0", "/f/0", "/d~0/e/f"] {
            assert_eq!(find(text, pointer), None, "{pointer}");
        }
        for text in ["", "{", "{\"a", "{\"a\":", "[", "{\"a\": [}"] {
            let _ = find(text, "/a/0");
        }
        // YAML in braces is accepted, and is not JSON.
        for text in [
            "{\"a\": [_], \"b\": 1}",
            "{\"a\": {\u{e9}: 1}, \"b\": 1}",
            "{\"a\": ['x'], \"b\": 1}",
            "{\"a\": [&x 1], \"b\": 1}",
        ] {
            assert_eq!(find(text, "/b"), None, "{text}");
        }
    }
}
