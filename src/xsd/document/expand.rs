//! A document with its entities and the defaults of its DTD put in.
//!
//! That is done before the text is parsed, with a bound on what comes out, so that all that follows sees a document without
//! entities of its own. Places in the expanded text are translated back.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use super::dtd::Dtd;
use super::entities::{Reference, Work, reference};
use super::malformed::Malformed;
use super::markup::is_standalone;
use super::references::resolve;
use super::tokens::{Accepts, RawAttribute, Token, Tokens};

/// A document with its entities expanded.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "bodies have no DTD, but documents of the W3C's suite do"))]
    pub(crate) dtd: Dtd,
    places: Vec<Place>,
}

/// Where a part of an expanded text begins, and where that is in the document.
#[derive(Debug, Clone, Copy)]
struct Place {
    expanded: usize,
    original: usize,
    /// Whether all of the part is of an entity, and so at the place of the reference.
    fixed: bool,
}

impl Expanded {
    /// The offset in the document of an offset in the expanded text.
    pub(crate) fn original(&self, offset: usize) -> usize {
        let after = self.places.partition_point(|place| place.expanded <= offset);
        let Some(place) = after.checked_sub(1).and_then(|index| self.places.get(index)) else {
            return offset;
        };
        if place.fixed {
            return place.original;
        }
        // The part may be longer than it is in the document, by the defaults of a tag.
        let limit = self.places.get(after).map_or(usize::MAX, |place| place.original);
        place.original.saturating_add(offset.saturating_sub(place.expanded)).min(limit)
    }
}

/// Expands the entities of a document, whose line ends are line feeds; `None` if it has no DTD.
pub(crate) fn expand(text: &str, work: &mut Work) -> Result<Option<Expanded>, Malformed> {
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
                work.allow(text);
                let dtd = Dtd::read(content, start.saturating_add(9), is_standalone(text), work)?;
                let expander = Expander { dtd: &dtd, work, out: String::new(), places: Vec::new() };
                let (text, places) = expander.run(text, tokens.offset())?;
                return Ok(Some(Expanded { text, dtd, places }));
            }
            _ => return Ok(None),
        }
    }
}

/// Puts entities and defaults into a text.
struct Expander<'a> {
    dtd: &'a Dtd,
    work: &'a mut Work,
    out: String,
    places: Vec<Place>,
}

/// A text that is being copied.
struct Source<'a> {
    text: &'a str,
    tokens: Tokens<'a>,
    /// Where it begins for the tokens: an entity not at the beginning of a document, where there could be an XML declaration.
    base: usize,
    /// How many elements are open that begin in it.
    depth: usize,
}

impl<'a> Source<'a> {
    fn new(text: &'a str, base: usize) -> Self {
        Self { text, tokens: Tokens::part(text, base, true, Accepts::SCHEMA), base, depth: 0 }
    }

    fn at(&self) -> usize {
        self.tokens.offset().saturating_sub(self.base)
    }

    /// The entity that is referred to next, unless it is one of XML's own, and where the reference ends.
    fn entity(&self) -> Result<Option<(&'a str, usize)>, &'static str> {
        let rest = self.text.get(self.at()..).unwrap_or("");
        if !rest.starts_with('&') {
            return Ok(None);
        }
        Ok(match reference(rest)? {
            (Reference::Entity(name), length) if resolve(name, 0).is_err() => {
                Some((name, self.tokens.offset().saturating_add(length)))
            }
            _ => None,
        })
    }
}

impl<'a> Expander<'a> {
    fn run(mut self, document: &'a str, start: usize) -> Result<(String, Vec<Place>), Malformed> {
        self.out.push_str(document.get(..start).unwrap_or(""));
        let mut open = vec![Source::new(document, 0)];
        let mut place = start;
        if let Some(source) = open.first_mut() {
            source.tokens.back_to(start);
        }
        while !open.is_empty() {
            if let [source] = &*open {
                place = source.at();
            }
            self.step(&mut open).map_err(|message| Malformed::new(place, message))?;
        }
        Ok((self.out, self.places))
    }

    /// Copies the next token of the innermost text, or begins with the entity that it refers to.
    fn step(&mut self, open: &mut Vec<Source<'a>>) -> Result<(), Cow<'static, str>> {
        let nested = open.len() > 1;
        let Some(source) = open.last_mut() else { return Ok(()) };
        let at = source.at();
        if let Some((name, end)) = source.entity()? {
            if !nested && source.depth == 0 {
                return Err("text outside the root element is not allowed".into());
            }
            source.tokens.back_to(end);
            let text = self.dtd.entities.open(name, open.iter().map(|source| source.text), self.work);
            if !nested {
                self.places.push(Place { expanded: self.out.len(), original: at, fixed: true });
            }
            open.push(Source::new(text?, 1));
            return Ok(());
        }
        let token = source.tokens.next().map_err(|malformed| malformed.message)?;
        let written = source.text.get(at..source.at()).unwrap_or("");
        match token {
            Token::Start { name, empty } => {
                source.depth = source.depth.saturating_add(usize::from(!empty));
                let copied = self.tag((name, empty), written, source.tokens.attributes())?;
                if !nested && !copied {
                    self.places.push(Place { expanded: self.out.len(), original: source.at(), fixed: false });
                }
            }
            Token::End(_) if nested && source.depth == 0 => {
                return Err("an entity ends an element that does not begin in it".into());
            }
            Token::End(_) => {
                source.depth = source.depth.saturating_sub(1);
                self.out.push_str(written);
            }
            // Characters of an entity mean themselves, whatever is next to them.
            Token::Text(_) if nested => self.escape(written, &['\r', ']', '>'])?,
            Token::CData(text) if text.contains('\r') => {
                self.escape(text, &['\r', ']', '>', '<', '&'])?;
            }
            Token::Doctype(_) => return Err("a DOCTYPE is only allowed once, and before the root element".into()),
            Token::End_ | Token::Incomplete if nested && source.depth > 0 => {
                return Err("an entity begins an element that does not end in it".into());
            }
            Token::End_ | Token::Incomplete => {
                open.pop();
                if let [source] = &**open {
                    self.places.push(Place { expanded: self.out.len(), original: source.at(), fixed: false });
                }
            }
            _ => self.out.push_str(written),
        }
        Ok(())
    }

    /// Copies a start tag. Returns whether it is as written.
    fn tag(
        &mut self,
        (name, empty): (&str, bool),
        written: &str,
        attributes: &[RawAttribute<'_>],
    ) -> Result<bool, &'static str> {
        let declared = self.dtd.attributes.of(name);
        let refers = |attribute: &RawAttribute<'_>| !attribute.plain && attribute.value.contains(['&', '\r']);
        if declared.is_none() && !attributes.iter().any(refers) {
            self.out.push_str(written);
            return Ok(true);
        }
        self.out.extend(["<", name]);
        for attribute in attributes {
            let mut value = self.dtd.entities.value(attribute.value, self.work)?;
            if let Some(declared) = declared {
                value = declared.normalized(attribute.name, value);
            }
            self.attribute(attribute.name, &value)?;
        }
        if let Some(declared) = declared.filter(|declared| !declared.defaults.is_empty()) {
            let given: HashSet<&str> = attributes.iter().map(|attribute| attribute.name).collect();
            for (name, value) in declared.defaults.iter().filter(|(name, _)| !given.contains(&**name)) {
                self.work.take(name.len().saturating_add(value.len()).saturating_add(4))?;
                self.attribute(name, value)?;
            }
        }
        self.out.push_str(if empty { "/>" } else { ">" });
        Ok(false)
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        self.out.extend([" ", name, "=\""]);
        self.escape(value, &['"', '<', '&', '\t', '\n', '\r'])?;
        self.out.push('"');
        Ok(())
    }

    /// Copies a text, some of whose characters would mean something else than themselves.
    fn escape(&mut self, text: &str, these: &[char]) -> Result<(), &'static str> {
        // Each becomes `&#99;`.
        self.work.take(text.matches(these).count().saturating_mul(4))?;
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| these.contains(c)) {
            let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
            self.out.push_str(before);
            // Nothing fails that is written to a text.
            let _ = write!(self.out, "&#{};", u32::from(c));
            rest = after.get(1..).unwrap_or("");
        }
        self.out.push_str(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::references::{attribute_value, line_ends};
    use super::super::tree::Tree;
    use super::*;
    use crate::xsd::names::Names;
    use crate::xsd::room::Room;

    /// A document as it is read, with its entities and defaults in it: values and text in plain characters.
    fn read(text: &str) -> Result<String, String> {
        let wrong = |malformed: Malformed| malformed.message.into_owned();
        Tree::parse(text, &mut Names::new(), &mut Room::default(), &mut Work::default())
            .map_err(|(malformed, _)| wrong(malformed))?;
        let expanded = expand(&line_ends(text), &mut Work::default()).map_err(wrong)?.map(|expanded| expanded.text);
        let mut tokens = Tokens::new(expanded.as_deref().unwrap_or(text), Accepts::SCHEMA);
        let mut seen = String::new();
        loop {
            match tokens.next().map_err(wrong)? {
                Token::Start { name, empty } => {
                    seen.extend(["<", name]);
                    for attribute in tokens.attributes() {
                        let value = attribute_value(attribute.value, 0).map_err(wrong)?;
                        seen.push_str(&format!(" {}={value:?}", attribute.name));
                    }
                    seen.push_str(if empty { "/>" } else { ">" });
                }
                Token::End(name) => seen.extend(["</", name, ">"]),
                Token::Text(text) => seen.push_str(&text.text()),
                Token::CData(text) => seen.push_str(&line_ends(text)),
                Token::Character(c) => seen.push(c),
                Token::End_ | Token::Incomplete => return Ok(seen),
                Token::Skipped | Token::Instruction | Token::Doctype(_) => {}
            }
        }
    }

    fn with(subset: &str, content: &str) -> Result<String, String> {
        read(&format!("<!DOCTYPE a [{subset}]>{content}"))
    }

    #[test]
    fn what_an_entity_begins_ends_in_it() {
        for (value, content) in [
            ("<c>", "<a>&e;</c></a>"),
            ("</c>", "<a><c>&e;</a>"),
            ("</c><c>", "<a><c>&e;</c></a>"),
            ("<c", "<a>&e;/></a>"),
            ("x<!-- ", "<a>&e; --></a>"),
            ("<![CDATA[", "<a>&e;]]></a>"),
            ("<?p ", "<a>&e;?></a>"),
            ("<c d=\"", "<a>&e;\"/></a>"),
            ("&#38;", "<a>&e;lt;</a>"),
            ("&#38;", "<a b=\"&e;lt;\"/>"),
            ("&#38;#6", "<a>&e;5;</a>"),
            ("<?xml version=\"1.0\"?>", "<a>&e;</a>"),
            ("<!DOCTYPE a>", "<a>&e;</a>"),
        ] {
            assert!(with(&format!("<!ENTITY e '{value}'>"), content).is_err(), "{value}: {content}");
            let through = format!("<!ENTITY f '{value}'><!ENTITY e '&f;'>");
            assert!(with(&through, content).is_err(), "through another: {value}: {content}");
        }
        assert_eq!(with("<!ENTITY e '<c>x<d/></c>&lt;'>", "<a>&e;</a>").unwrap(), "<a><c>x<d/></c><</a>");
        assert_eq!(with("<!ENTITY e ']]'><!ENTITY f '>'>", "<a>&e;>]]&f;&e;&f;</a>").unwrap(), "<a>]]>]]>]]></a>");
    }

    #[test]
    fn white_space_of_an_entity_is_no_end_of_a_line() {
        let subset =
            "<!ENTITY e 'b&#13;&#10;c\r\nd'><!ENTITY f '<c d=\"&#13;&#10;\"/>'><!ENTITY g '<![CDATA[<&#13;]]>'>";
        for (content, seen) in [
            ("<a b='&e;'/>", "<a b=\"b  c d\"/>"),
            ("<a b='x\r\ny&#13;&#10;'/>", "<a b=\"x y\\r\\n\"/>"),
            ("<a>&e;\r\n</a>", "<a>b\r\nc\nd\n</a>"),
            ("<a>&f;</a>", "<a><c d=\"  \"/></a>"),
            ("<a>&g;</a>", "<a><\r</a>"),
        ] {
            assert_eq!(with(subset, content).as_deref(), Ok(seen), "{content:?}");
        }
    }

    #[test]
    fn a_value_has_no_markup_from_entities() {
        for subset in [
            "<!ENTITY e '<'>",
            "<!ENTITY e '&#60;'>",
            "<!ENTITY e '<c/>'>",
            "<!ENTITY f '<c/>'><!ENTITY e '&f;'>",
            "<!ENTITY e SYSTEM 'f'>",
            "<!ENTITY e SYSTEM 'f' NDATA n>",
            "<!ENTITY e '&e;'>",
            "<!ENTITY e '&f;'><!ENTITY f '&e;'>",
            "",
        ] {
            assert!(with(subset, "<a b='&e;'/>").is_err(), "{subset}");
        }
        let subset = "<!ENTITY e \"'&lt;&#38;#60;&#34;\">";
        assert_eq!(with(subset, "<a b='&e;'/>").unwrap(), "<a b=\"'<<\\\"\"/>");
    }

    #[test]
    fn attributes_that_are_not_written_have_their_defaults() {
        for (subset, content, seen) in [
            ("<!ATTLIST a b CDATA 'x'>", "<a/>", "<a b=\"x\"/>"),
            ("<!ATTLIST a b CDATA 'x'>", "<a b='y'/>", "<a b=\"y\"/>"),
            ("<!ATTLIST a b CDATA #FIXED 'x' c (y|z) \"z\">", "<a\n></a>", "<a b=\"x\" c=\"z\"></a>"),
            // The first declaration counts.
            ("<!ATTLIST a b CDATA 'x'><!ATTLIST a b CDATA 'y' c CDATA 'z'>", "<a/>", "<a b=\"x\" c=\"z\"/>"),
            ("<!ATTLIST a b CDATA #IMPLIED b CDATA 'x'>", "<a/>", "<a/>"),
            ("<!ATTLIST a b NMTOKENS ' x  &#9;y '>", "<a/>", "<a b=\"x \\ty\"/>"),
            ("<!ATTLIST a b NMTOKENS #IMPLIED>", "<a b=' x\n y ' c=' '/>", "<a b=\"x y\" c=\" \"/>"),
            ("<!ATTLIST a b (x) #REQUIRED b CDATA #IMPLIED>", "<a b=' x '/>", "<a b=\"x\"/>"),
            ("<!ENTITY e 'x&#13;\"'><!ATTLIST a b CDATA '&e;&lt;&#13;'>", "<a/>", "<a b=\"x \\\"<\\r\"/>"),
            ("<!ENTITY e '<a/>'><!ATTLIST a b CDATA 'x'>", "<c>&e;</c>", "<c><a b=\"x\"/></c>"),
            ("<!ATTLIST a xmlns:p CDATA 'urn:p'>", "<a p:c=''/>", "<a p:c=\"\" xmlns:p=\"urn:p\"/>"),
        ] {
            assert_eq!(with(subset, content).as_deref(), Ok(seen), "{subset}{content}");
        }
        for subset in [
            "<!ATTLIST a b CDATA '&e;'><!ENTITY e 'x'>",
            "<!ENTITY e '<'><!ATTLIST a b CDATA '&e;'>",
            "<!ENTITY e SYSTEM 'x'><!ATTLIST a b CDATA '&e;'>",
            "<!ATTLIST a b CDATA '<'>",
            "<!ATTLIST a b CDATA '&'>",
            "<!ATTLIST a b CDATA>",
            "<!ATTLIST a b 'x'>",
            "<!ATTLIST a b X 'x'>",
            "<!ATTLIST a b CDATA'x'>",
            "<!ATTLIST a b CDATA 'x'c CDATA 'y'>",
            "<!ATTLIST a b () 'x'>",
            "<!ATTLIST a b (x,y) 'x'>",
            "<!ATTLIST a b NOTATION(x) 'x'>",
            "<!ATTLIST a b CDATA #FIXED>",
            "<!ATTLIST a b CDATA #DEFAULT 'x'>",
            "<!ATTLIST>",
        ] {
            assert!(with(subset, "<a/>").is_err(), "{subset}");
        }
    }

    #[test]
    fn parameter_entities_are_read_between_declarations() {
        // The example of XML 1.0, appendix D.
        let tricky = "<!ENTITY % xx '&#37;zz;'><!ENTITY % zz '&#60;!ENTITY e \"x\" >' >%xx;";
        assert_eq!(with(tricky, "<a>&e;</a>").unwrap(), "<a>x</a>");
        let attribute = "<!ENTITY % p '<!ATTLIST a b CDATA \"&#38;#13;&#13;\">'> %p; <!ATTLIST a b CDATA 'y'>";
        assert_eq!(with(attribute, "<a/>").unwrap(), "<a b=\"\\r \"/>");
        for subset in [
            "<!ENTITY % p '<!ENTITY e \"x\"'>%p;>",
            "<!ENTITY % p 'x'>%p;",
            "<!ENTITY % p ']'>%p;",
            "<!ENTITY % p '&#37;p;'>%p;",
            "<!ENTITY % p 'x'><!ENTITY e '%p;'>",
            "<!ENTITY % p '\"x\"'><!ENTITY e %p;>",
            "<!ENTITY % p 'CDATA'><!ATTLIST a b %p; 'x'>",
            "<!ENTITY % p '<![INCLUDE[<!ENTITY e \"x\">]]>'>%p;",
            "<!ENTITY % p 'x'> % p;",
            "<![INCLUDE[<!ENTITY e 'x'>]]>",
        ] {
            assert!(with(subset, "<a/>").is_err(), "{subset}");
        }
    }

    #[test]
    fn nothing_counts_after_a_parameter_entity_that_is_not_read() {
        let subset = "<!ATTLIST a b CDATA 'x'>%p;<!ATTLIST a c CDATA 'y'><!ENTITY e 'z'>";
        for external in ["", "<!ENTITY % p SYSTEM 'x'>"] {
            let doctype = format!("<!DOCTYPE a [{external}{subset}]>");
            assert_eq!(read(&format!("{doctype}<a/>")).unwrap(), "<a b=\"x\"/>");
            assert!(read(&format!("{doctype}<a>&e;</a>")).is_err());
        }
        // A document that stands alone declares what it refers to, and says that nothing else declares otherwise.
        let standalone = |declared: &str| {
            read(&format!("<?xml version='1.0' standalone='yes'?><!DOCTYPE a [{declared}{subset}]><a>&e;</a>"))
        };
        assert_eq!(standalone("<!ENTITY % p SYSTEM 'x'>").unwrap(), "<a b=\"x\" c=\"y\">z</a>");
        assert!(standalone("").unwrap_err().contains("parameter entity that is not declared"));
        // An entity that is only declared in a parameter entity is unknown to who reads the document alone.
        let document = "<!DOCTYPE a [<!ENTITY % p '<!ENTITY e \"x\">'>%p;]><a>&e;</a>";
        assert_eq!(read(document).unwrap(), "<a>x</a>");
        assert!(read(&format!("<?xml version='1.0' standalone='yes'?>{document}")).is_err());
    }

    #[test]
    fn an_entity_may_be_in_what_is_not_read() {
        for (doctype, unread) in [
            (" a [<!ENTITY f 'x'>]", false),
            (" a SYSTEM 'x'", true),
            (" a [<!ENTITY % p SYSTEM 'x'>%p;]", true),
            (" a [%p;<!ENTITY e 'x'>]", true),
        ] {
            let said = read(&format!("<!DOCTYPE{doctype}><a>&e;</a>")).unwrap_err();
            assert!(said.contains("not declared") && said.contains("not read") == unread, "{doctype}: {said}");
        }
    }

    #[test]
    fn a_doctype_is_well_formed() {
        for doctype in [
            " a",
            " a ",
            " a[]",
            " a [ ] ",
            " a SYSTEM 'x['",
            " a SYSTEM \"x'\" [<!ENTITY e 'x'>]",
            " a PUBLIC '-//x' \"y[\"[<!ENTITY e 'x'>]",
            " a [<!ELEMENT a EMPTY><!ELEMENT b ANY ><!ELEMENT c (#PCDATA)><!ELEMENT d ( #PCDATA | a | b )*>]",
            " a [<!ELEMENT a (b)><!ELEMENT b ((c|d+)?,e*)+ ><!ELEMENT c ( a , ( b | c ) )>]",
            " a [<!NOTATION n SYSTEM 'x'><!NOTATION n PUBLIC 'x'><!NOTATION n PUBLIC 'x' 'y' >]",
            " a [<!-- ]> --><?p ]> ?>]",
            " a [<!ENTITY e SYSTEM 'x' NDATA n ><!ENTITY % e PUBLIC 'x' 'y'>]",
        ] {
            assert_eq!(read(&format!("<!DOCTYPE{doctype}><a/>")).as_deref(), Ok("<a/>"), "{doctype}");
        }
        for doctype in [
            "",
            "a",
            " 1",
            " a:b:c",
            " :a",
            " a:",
            " a [<!ELEMENT a:b:c ANY>]",
            " a [<!ELEMENT a (b|c:)>]",
            " a [<!ELEMENT a (#PCDATA|:b)*>]",
            " a [<!ATTLIST a:b:c d CDATA #IMPLIED>]",
            " a [<!ATTLIST b xmlns: CDATA 'urn:x'>]",
            " a [<!ATTLIST b c:1 CDATA #IMPLIED>]",
            " a [%b:c;]",
            " a junk",
            " a junk []",
            " a []junk",
            " a [] []",
            " a SYSTEM",
            " a SYSTEM'x'",
            " a SYSTEM 'x' 'y'",
            " a PUBLIC 'x'",
            " a PUBLIC 'x''y'",
            " a PUBLIC '{' 'y'",
            " a 'x'",
            " a [junk]",
            " a [<!ENTITY e 'x]",
            " a [<!ENTITY e'x'>]",
            " a [<!ENTITY e 'x' junk>]",
            " a [<!ENTITY e:f 'x'>]",
            " a [<!ENTITY e '&'>]",
            " a [<!ENTITY e '&#0;'>]",
            " a [<!ENTITY e '%'>]",
            " a [<!ENTITY %e 'x'>]",
            " a [<!ENTITY % e SYSTEM 'x' NDATA n>]",
            " a [<!ENTITY e SYSTEM 'x'NDATA n>]",
            " a [<!ENTITY e SYSTEM 'x' NDATA>]",
            " a [<!ENTITY e PUBLIC 'x'>]",
            " a [<!ELEMENT a>]",
            " a [<!ELEMENT a junk>]",
            " a [<!ELEMENT a ()>]",
            " a [<!ELEMENT a (b,c|d)>]",
            " a [<!ELEMENT a (b>]",
            " a [<!ELEMENT a (#PCDATA|b)>]",
            " a [<!ELEMENT a (b|#PCDATA)*>]",
            " a [<!ELEMENT a (b *)>]",
            " a [<!NOTATION n>]",
            " a [<!NOTATION n 'x'>]",
            " a [<!NOTATION n SYSTEM 'x' 'y'>]",
            " a [<!-- -- -->]",
            " a [<?xml version='1.0'?>]",
            " a [<?1?>]",
            " a [<!JUNK>]",
        ] {
            assert!(read(&format!("<!DOCTYPE{doctype}><a/>")).is_err(), "{doctype}");
        }
        for text in [
            "<!DOCTYPE a><!DOCTYPE a><a/>",
            "<a/><!DOCTYPE a>",
            "<!DOCTYPE a [<!ENTITY e ''>]>&e;<a/>",
            "<!DOCTYPE a [<!ENTITY e ' '>]><a/>&e;",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        for (text, place, said) in [
            ("<!DOCTYPE a [\n <!ENTITY e '&'>]><a/>", (2, 2), "begins no reference"),
            ("<!DOCTYPE a [\n <!ENTITY e 'x'>\n  <!ELEMENT a junk>]><a/>", (3, 3), "element"),
            ("<!DOCTYPE a [\n <!ENTITY % p '<!JUNK>'>\n %p;]><a/>", (3, 2), "declaration"),
            ("<!DOCTYPE a [<!ENTITY e '<b>'>]>\n<a>\r\n x&e;</b></a>", (3, 3), "does not end"),
            ("<!DOCTYPE a [<!ENTITY e '<b>'>]>\n<a>&f;</a>", (2, 4), "not declared"),
        ] {
            let (malformed, found) =
                Tree::parse(text, &mut Names::new(), &mut Room::default(), &mut Work::default()).unwrap_err();
            assert!(found == place && malformed.message.contains(said), "{text}: {found:?} {}", malformed.message);
        }
    }

    #[test]
    fn what_entities_cost_is_counted() {
        let name = "n".repeat(1000);
        let nested: String = (1..60).map(|n| format!("<!ENTITY e{n} '&e{};'>", n - 1)).collect();
        let empty = format!("<!ENTITY {name} ''><!ENTITY e '{}'>", format!("&{name};").repeat(100));
        let default = format!("<!ATTLIST b c CDATA '{name}'>");
        let parameter = format!("<!ENTITY % e '<!--{name}-->'>");
        for (subset, content, more) in [
            (format!("<!ENTITY e '{name}'>"), "&e;", ""),
            (format!("<!ENTITY e '{}'>", "]".repeat(250)), "&e;", ""),
            (format!("<!ENTITY e0 '{name}'>{nested}"), "&e59;", ""),
            (empty, "&e;", ""),
            (default, "<b/>", ""),
            (parameter, "", "%e;"),
        ] {
            let with = |times: usize| {
                with(&format!("{subset}{}", more.repeat(times)), &format!("<a>{}</a>", content.repeat(times)))
            };
            assert!(with(8).is_ok(), "{content}{more}");
            let said = with(20_000).unwrap_err();
            assert!(said.contains("too much"), "{said}");
        }
    }

    #[test]
    fn entities_are_put_in() {
        let subset = "<!ENTITY b \"x<c/>'&d;'\"><!ENTITY d 'y&#38;amp;'><!ENTITY f 'z\"'><!-- ' -->";
        let content = "<a v='&f;&d;'>&b;&lt;<![CDATA[&b;]]><!-- &b; --></a>";
        assert_eq!(with(subset, content).unwrap(), "<a v=\"z\\\"y&\">x<c/>'y&'<&b;</a>");
        let subset = "<!ENTITY b \"<c d='1' e='&f;'/>\"><!ENTITY f '\"2&#39;'>";
        assert_eq!(with(subset, "<a>&b;</a>").unwrap(), "<a><c d=\"1\" e=\"\\\"2'\"/></a>");
        assert_eq!(with("<!ENTITY b '--><c/><!--'>", "<a><!--> &b; --></a>").unwrap(), "<a></a>");
        assert!(expand("<a/>", &mut Work::default()).unwrap().is_none());
    }

    #[test]
    fn places_in_the_document_are_known() {
        let inner =
            "<!DOCTYPE a [<!ATTLIST f g CDATA 'x'><!ENTITY e '<f/>\n<f/>'><!ENTITY h '&e;y<f/>'>]><a>z&h;<d/></a>";
        let expanded = expand(inner, &mut Work::default()).unwrap().unwrap();
        let content = expanded.text.rfind("<a>").unwrap();
        let found = expanded.text.match_indices("<f").filter(|(at, _)| *at > content);
        let places: Vec<&str> = found.map(|(at, _)| &inner[expanded.original(at)..][..3]).collect();
        assert_eq!(places, ["&h;"; 3]);
        let text = "<!DOCTYPE a [<!ATTLIST a b CDATA 'x'><!ENTITY e 'yyyyyyyyyyyyyyyy'>]><a c='&e;'>&e;<d/><a/></a>";
        let expanded = expand(text, &mut Work::default()).unwrap().unwrap();
        for end in ["<d/>", "<a b=\"x\"/>", "</a>"] {
            let at = expanded.original(expanded.text.rfind(end).unwrap());
            assert!(text[at..].starts_with(&end[..2]), "{end}: {}", &text[at..]);
        }
    }

    #[test]
    fn unparsed_entities_are_known() {
        let text = "<!DOCTYPE a [<!ENTITY e SYSTEM 'x' NDATA n><!ENTITY f SYSTEM 'x'><!ENTITY e 'y'>]><a/>";
        assert_eq!(expand(text, &mut Work::default()).unwrap().unwrap().dtd.unparsed().collect::<Vec<_>>(), ["e"]);
    }
}
