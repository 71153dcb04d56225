//! The internal subset of a DTD: its entities, and the text with them put in. Nothing outside the document is ever read.
//!
//! Entities are expanded before the text is parsed, with a bound on what comes out, so that all that follows sees a document
//! without entities of its own. Places in the expanded text are translated back.

use std::collections::{HashMap, HashSet};

use super::malformed::Malformed;
use super::markup::name_end;
use super::references::resolve;
use super::tokens::{Accepts, Token, Tokens};
use crate::xsd::chars::is_space;

/// Bytes that a document with its entities expanded may have beyond twice its own.
const MORE: usize = 1 << 20;
/// Most entities within each other.
const MAX_NESTING: usize = 64;
/// Most bytes of the name of an entity.
const MAX_NAME: usize = 1024;
/// Most references that are expanded.
const MAX_REFERENCES: usize = 1_000_000;

/// Most bytes of a document with its entities expanded: what is checked is not much larger than what is written.
fn most(text: &str) -> usize {
    text.len().saturating_mul(2).saturating_add(MORE)
}

/// What a DTD declares.
#[derive(Debug, Default)]
pub(crate) struct Dtd {
    /// Replacement texts by name; `None` for entities that are not in the document.
    entities: HashMap<String, Option<String>>,
    parameters: HashMap<String, String>,
    /// Bytes that replacement texts may still take.
    left: usize,
    /// Names of unparsed entities.
    pub(crate) unparsed: HashSet<Box<str>>,
}

/// A document with its entities expanded.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "bodies have no DTD, but documents of the W3C's suite do"))]
    pub(crate) dtd: Dtd,
    /// Offsets in the text, and what they were in the document; between them both grow alike, or the document's not at all.
    places: Vec<(usize, usize)>,
}

impl Expanded {
    /// The offset in the document of an offset in the expanded text.
    pub(crate) fn original(&self, offset: usize) -> usize {
        let after = self.places.partition_point(|(expanded, _)| *expanded <= offset);
        let Some((expanded, original)) = after.checked_sub(1).and_then(|index| self.places.get(index)) else {
            return offset;
        };
        let limit = self.places.get(after).map_or(usize::MAX, |(_, original)| *original);
        original.saturating_add(offset.saturating_sub(*expanded)).min(limit)
    }
}

/// Expands the entities of a document; `None` if it has no DTD.
pub(crate) fn expand(text: &str) -> Result<Option<Expanded>, Malformed> {
    if memchr::memmem::find(text.as_bytes(), b"<!DOCTYPE").is_none() {
        return Ok(None);
    }
    let mut tokens = Tokens::new(text, Accepts::SCHEMA);
    loop {
        let start = tokens.offset();
        match tokens.next()? {
            Token::Skipped | Token::Instruction => {}
            Token::Text(text) if text.is_blank() => {}
            Token::Doctype(content) => {
                let mut dtd = Dtd { left: most(text), ..Dtd::default() };
                let inner = start.saturating_add(9);
                dtd.read(content).map_err(|message| Malformed::new(inner, message))?;
                return Expander::new(text, &dtd)
                    .run(tokens.offset())
                    .map(|(text, places)| Some(Expanded { text, dtd, places }));
            }
            _ => return Ok(None),
        }
    }
}

impl Dtd {
    fn read(&mut self, content: &str) -> Result<(), &'static str> {
        const WRONG: &str = "the DOCTYPE is not well-formed";
        let content = content.strip_prefix(is_space).ok_or(WRONG)?.trim_start_matches(is_space);
        if name_end(content) == 0 {
            return Err(WRONG);
        }
        let Some(start) = content.find('[') else { return Ok(()) };
        let end = content.rfind(']').ok_or(WRONG)?;
        let mut rest = content.get(start.saturating_add(1)..end).ok_or(WRONG)?;
        loop {
            rest = rest.trim_start_matches(is_space);
            rest = match rest.as_bytes() {
                [] => return Ok(()),
                // What a parameter entity declares is not read.
                [b'%', ..] => rest.split_once(';').ok_or(WRONG)?.1,
                [b'<', b'!', b'-', b'-', ..] => rest.split_once("-->").ok_or(WRONG)?.1,
                [b'<', b'?', ..] => rest.split_once("?>").ok_or(WRONG)?.1,
                [b'<', b'!', ..] => self.declaration(rest).ok_or(WRONG)?,
                _ => return Err(WRONG),
            };
        }
    }

    /// Reads one declaration, and returns what comes after it.
    fn declaration<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        if let Some(entity) = text.strip_prefix("<!ENTITY") {
            return self.entity(entity);
        }
        if !["<!ELEMENT", "<!ATTLIST", "<!NOTATION"].iter().any(|start| text.starts_with(start)) {
            return None;
        }
        let (mut at, bytes) = (0, text.as_bytes());
        loop {
            match bytes.get(at)? {
                b'>' => return text.get(at.saturating_add(1)..),
                quote @ (b'"' | b'\'') => {
                    at = at.saturating_add(1);
                    at = at.saturating_add(memchr::memchr(*quote, bytes.get(at..)?)?).saturating_add(1);
                }
                _ => at = at.saturating_add(1),
            }
        }
    }

    /// `name "value">`, `% name "value">`, `name SYSTEM "…" NDATA n>`
    fn entity<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let text = text.strip_prefix(is_space)?.trim_start_matches(is_space);
        let (parameter, text) = match text.strip_prefix('%') {
            Some(rest) => (true, rest.strip_prefix(is_space)?.trim_start_matches(is_space)),
            None => (false, text),
        };
        let (name, rest) = text.split_at_checked(name_end(text)).filter(|(name, _)| !name.is_empty())?;
        let rest = rest.strip_prefix(is_space)?.trim_start_matches(is_space);
        let literal = |text: &'t str| {
            let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            text.get(1..)?.split_once(quote)
        };
        if let Some((value, rest)) = literal(rest) {
            let value = self.replacement(value)?;
            // The first declaration counts (XML 1.0 §4.2).
            if parameter {
                self.parameters.entry(name.to_owned()).or_insert(value);
            } else {
                self.entities.entry(name.to_owned()).or_insert(Some(value));
            }
            return rest.trim_start_matches(is_space).strip_prefix('>');
        }
        let mut rest = match rest.strip_prefix("SYSTEM") {
            Some(rest) => rest,
            None => literal(rest.strip_prefix("PUBLIC")?.trim_start_matches(is_space))?.1,
        };
        rest = literal(rest.trim_start_matches(is_space))?.1.trim_start_matches(is_space);
        if let Some(notation) = rest.strip_prefix("NDATA") {
            rest = notation.trim_start_matches(is_space);
            rest = rest.get(name_end(rest)..)?.trim_start_matches(is_space);
            self.unparsed.insert(name.into());
        } else if !parameter {
            self.entities.entry(name.to_owned()).or_insert(None);
        }
        rest.strip_prefix('>')
    }

    /// The replacement text of an entity's literal: characters and parameter entities are put in (XML 1.0 §4.5).
    fn replacement(&mut self, literal: &str) -> Option<String> {
        let mut text = String::new();
        let mut rest = literal;
        while let Some(at) = rest.find(['&', '%']) {
            let (before, after) = rest.split_at_checked(at)?;
            text.push_str(before);
            let (reference, tail) = after.get(1..)?.split_once(';')?;
            if after.starts_with('%') {
                text.push_str(self.parameters.get(reference).map_or("", |value| value));
            } else if reference.starts_with('#') {
                text.push(resolve(reference, 0).ok()?);
            } else {
                text.extend(["&", reference, ";"]);
            }
            if text.len() > self.left {
                return None;
            }
            rest = tail;
        }
        text.push_str(rest);
        self.left = self.left.checked_sub(text.len())?;
        Some(text)
    }
}

/// Puts entities into a text.
struct Expander<'a> {
    dtd: &'a Dtd,
    document: &'a str,
    out: String,
    places: Vec<(usize, usize)>,
    references: usize,
    /// Of the reference in the document that is being expanded.
    offset: usize,
}

/// A text that is being copied, and how far.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
    at: usize,
    /// Where the reference to it is.
    begun: Markup,
}

/// Where in the markup a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Markup {
    tag: bool,
    /// The quote of the value that it is within, and how many entities it is in.
    quote: Option<(u8, usize)>,
}

impl Markup {
    /// Whether a text in so many entities is in a value that begins outside of the innermost.
    fn in_value_of_outer(self, depth: usize) -> bool {
        self.quote.is_some_and(|(_, open)| open < depth)
    }

    /// Takes the next part of a text, and returns how long it is: a comment and its kind as a whole, or one byte.
    fn step(&mut self, rest: &str, depth: usize) -> usize {
        // What begins it is no part of what ends it: `<!-->` goes on.
        let until = |begins: &str, end: &[u8]| {
            let found = rest.as_bytes().get(begins.len()..).and_then(|rest| memchr::memmem::find(rest, end));
            found.map_or(rest.len(), |at| at.saturating_add(begins.len()))
        };
        match rest.as_bytes() {
            [b'<', b'!', b'-', b'-', ..] if !self.tag => return until("<!--", b"-->"),
            [b'<', b'!', b'[', ..] if !self.tag => return until("<![", b"]]>"),
            [b'<', b'?', ..] if !self.tag => return until("<?", b"?>"),
            [byte, ..] => match (*byte, self.quote) {
                (b'<', None) => self.tag = true,
                (b'>', None) => self.tag = false,
                (b'"' | b'\'', None) if self.tag => self.quote = Some((*byte, depth)),
                (byte, Some(open)) if open == (byte, depth) => self.quote = None,
                _ => {}
            },
            [] => {}
        }
        1
    }
}

impl<'a> Expander<'a> {
    fn new(document: &'a str, dtd: &'a Dtd) -> Self {
        Self { dtd, document, out: String::new(), places: Vec::new(), references: 0, offset: 0 }
    }

    fn fail<T>(&self, message: &'static str) -> Result<T, Malformed> {
        Err(Malformed::new(self.offset, message))
    }

    fn run(mut self, start: usize) -> Result<(String, Vec<(usize, usize)>), Malformed> {
        self.out.push_str(self.document.get(..start).unwrap_or(""));
        let mut open = vec![Source { name: "", text: self.document, at: start, begun: Markup::default() }];
        let mut markup = Markup::default();
        while let Some(depth) = open.len().checked_sub(1) {
            let Some(source) = open.last_mut() else { break };
            let rest = source.text.get(source.at..).unwrap_or("");
            let interesting = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'');
            let at = rest.find(interesting).unwrap_or(rest.len());
            self.copy(rest.get(..at).unwrap_or(""), markup.in_value_of_outer(depth));
            source.at = source.at.saturating_add(at);
            let rest = rest.get(at..).unwrap_or("");
            if depth == 0 {
                self.offset = source.at;
            }
            if self.out.len() > most(self.document) {
                return self.fail("the document with its entities is more than 1 MiB larger than twice the document");
            }
            if let Some(entity) = self.entity(rest) {
                let (name, value) = entity?;
                if markup.tag && markup.quote.is_none() {
                    return self.fail("an entity is referred to within a tag, and not in a value");
                }
                source.at = source.at.saturating_add(name.len()).saturating_add(2);
                if depth == 0 {
                    self.places.push((self.out.len(), self.offset));
                }
                if open.len() > MAX_NESTING || open.iter().any(|source| source.name == name) {
                    return self.fail("an entity refers to itself");
                }
                open.push(Source { name, text: value, at: 0, begun: markup });
                continue;
            }
            if rest.is_empty() {
                if open.pop().is_some_and(|source| depth > 0 && source.begun != markup) {
                    return self.fail("an entity ends within a tag or a value that begins in it");
                }
                if let (1, Some(source)) = (open.len(), open.last()) {
                    self.places.push((self.out.len(), source.at));
                }
                continue;
            }
            let length = markup.step(rest, depth);
            if depth > 0 && length > 1 && length == rest.len() {
                return self.fail("an entity ends within a comment or another part that begins in it");
            }
            self.copy(rest.get(..length).unwrap_or(""), markup.in_value_of_outer(depth));
            source.at = source.at.saturating_add(length.max(1));
        }
        Ok((self.out, self.places))
    }

    /// The entity that a text begins with a reference to, unless it is one of XML's own.
    fn entity(&mut self, text: &'a str) -> Option<Result<(&'a str, &'a str), Malformed>> {
        let text = text.strip_prefix('&')?;
        // Not looked for in all that follows, of which there may be much, as often as there is an `&`.
        let ends = |byte: &u8| matches!(byte, b';' | b'&' | b'<' | b'>' | b'"' | b'\'' | b' ' | b'\t' | b'\r' | b'\n');
        let end = text.as_bytes().iter().take(MAX_NAME).position(ends)?;
        let name = text.get(..end).filter(|_| text.as_bytes().get(end) == Some(&b';'))?;
        if name.starts_with('#') || matches!(name, "lt" | "gt" | "amp" | "apos" | "quot") {
            return None;
        }
        self.references = self.references.saturating_add(1);
        if self.references > MAX_REFERENCES {
            return Some(self.fail("the document has too many references to entities"));
        }
        match self.dtd.entities.get(name) {
            Some(Some(value)) => Some(Ok((name, value))),
            Some(None) => Some(self.fail("an external entity is not read")),
            None => Some(self.fail("an entity is not declared in the document")),
        }
    }

    /// Copies text. Within a value it comes from an entity, so its quotes and line ends do not count as such.
    fn copy(&mut self, text: &str, in_value: bool) {
        if !in_value {
            return self.out.push_str(text);
        }
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&apos;"),
                c => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_put_in() {
        let text = "<!DOCTYPE a [<!ENTITY b \"x<c/>'&d;'\"><!ENTITY d 'y&#38;amp;'><!ENTITY % e 'z'><!ENTITY f '%e;\"'>\
            <!ENTITY g SYSTEM 'h'><!ENTITY i SYSTEM 'h' NDATA j><!-- ' -->]>";
        let expanded = expand(&format!("{text}<a v='&f;&d;'>&b;&lt;<![CDATA[&b;]]></a>")).unwrap().unwrap();
        assert_eq!(&expanded.text[text.len()..], "<a v='z&quot;y&amp;'>x<c/>'y&amp;'&lt;<![CDATA[&b;]]></a>");
        assert!(expanded.dtd.unparsed.contains("i"));
        let at = expanded.text.find("</a>").unwrap();
        assert!(format!("{text}<a v='&f;&d;'>&b;&lt;<![CDATA[&b;]]></a>")[expanded.original(at)..].starts_with("</a>"));
        assert!(expand("<a/>").unwrap().is_none());
    }

    #[test]
    fn values_in_entities_keep_their_quotes() {
        let text = "<!DOCTYPE a [<!ENTITY b \"<c d='1' e='&f;'/>\"><!ENTITY f '\"2&#39;'>]>";
        let expanded = expand(&format!("{text}<a g='&f;'>&b;</a>")).unwrap().unwrap();
        assert_eq!(&expanded.text[text.len()..], "<a g='&quot;2&apos;'><c d='1' e='&quot;2&apos;'/></a>");
    }

    #[test]
    fn what_begins_a_comment_does_not_end_it() {
        let text = "<!DOCTYPE a [<!ENTITY b '--><c/><!--'>]>";
        let expanded = expand(&format!("{text}<a><!--> &b; --></a>")).unwrap().unwrap();
        assert_eq!(&expanded.text[text.len()..], "<a><!--> &b; --></a>");
    }

    #[test]
    fn documents_grow_no_more_than_twofold_and_a_mebibyte() {
        let value = "x".repeat(100_000);
        let with = |references: &str| expand(&format!("<!DOCTYPE a [<!ENTITY b '{value}'>]><a>{references}</a>"));
        assert!(with(&"&b;".repeat(8)).is_ok());
        assert!(with(&"&b;".repeat(20)).is_err());
        let entity = |n: u32| format!("<!ENTITY b{n} '%p;'>");
        let with = |count: u32| {
            let entities: String = (0..count).map(entity).collect();
            expand(&format!("<!DOCTYPE a [<!ENTITY % p '{value}'>{entities}]><a/>"))
        };
        assert!(with(8).is_ok());
        assert!(with(20).is_err());
    }

    #[test]
    fn what_is_refused() {
        let bomb: String = (1..40).map(|n| format!("<!ENTITY e{n} '&e{};&e{};'>", n - 1, n - 1)).collect();
        for text in [
            "<!DOCTYPE a [<!ENTITY b '&b;'>]><a>&b;</a>".to_owned(),
            "<!DOCTYPE a><a>&b;</a>".to_owned(),
            "<!DOCTYPE a [<!ENTITY b SYSTEM 'x'>]><a>&b;</a>".to_owned(),
            "<!DOCTYPE a [<!ENTITY]><a/>".to_owned(),
            // What an entity begins ends in it.
            "<!DOCTYPE a [<!ENTITY b \"<c d='\">]><a>&b;e'/></a>".to_owned(),
            "<!DOCTYPE a [<!ENTITY b '<c'>]><a>&b;/></a>".to_owned(),
            "<!DOCTYPE a [<!ENTITY b '/><c '>]><a d='' &b;/>".to_owned(),
            "<!DOCTYPE a [<!ENTITY b '<!-- '>]><a>&b; --></a>".to_owned(),
            format!("<!DOCTYPE a [<!ENTITY e0 'aaaaaaaaaa'>{bomb}]><a>&e39;</a>"),
        ] {
            assert!(expand(&text).is_err(), "{}", &text[..40]);
        }
    }
}
