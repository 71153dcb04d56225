//! What libxml2 complains of, in words for the people who send bodies.
//!
//! Its messages hold the values that came. A sentence here is chosen by the code of the error, and takes from the
//! message only what follows a phrase of libxml2's own, the last in the message: that part comes from the schema.

use super::Position;
use super::libxml2::LibraryError;

/// Longest words of one violation, in bytes.
const MAX_DETAIL: usize = 300;
/// The namespace of XSD in messages.
const XSD: &str = "{http://www.w3.org/2001/XMLSchema}";

/// What is said, and what it takes from the message.
enum Words {
    /// These, whatever the message is.
    These(&'static str),
    /// These, then what comes after the last of the phrase in the message, if it is there.
    After(&'static str, &'static str),
    /// What was expected in the place of this element, or after the last one.
    Content,
    /// About a key.
    Key,
}

/// By code: `xmlParserErrors` from 1818.
fn words(code: i32) -> Words {
    use Words::{After, Content, Key, These};
    match code {
        1824..=1826 => After("the value is not of ", " is not a valid value of "),
        1827 => These("attributes are not allowed on this element, which has a simple type"),
        1828 | 1842 => These("elements are not allowed in this one, which has a simple type"),
        1830..=1832 => After("the value has a length of ", "has a length of "),
        1833 => After("the value is below the least allowed, ", " is less than the minimum value allowed "),
        1834 => After("the value is above the most allowed, ", " is greater than the maximum value allowed "),
        1835 => After("the value must be greater than ", " must be greater than "),
        1836 => After("the value must be less than ", " must be less than "),
        1837 => After("the value has more digits than ", " has more digits than are allowed "),
        1838 => {
            After("the value has more digits after the point than ", " has more fractional digits than are allowed ")
        }
        1839 => After("the value does not match the pattern ", " is not accepted by the pattern "),
        1840 => After("the value is none of ", " is not an element of the set "),
        1829 | 1823 => These("the value breaks a rule of its type"),
        1841 => These("this element must be empty"),
        1843 => These("text is not allowed between the elements here"),
        1845 => These("the schema has no element of this name and namespace to begin with"),
        1846 => These("the schema declares this element abstract: one that may stand for it is needed"),
        1847 => These("`xsi:nil` is not allowed here: the element is not nillable"),
        1848 => These("the element says that it is nil, and so must be empty"),
        1849 => These("the element cannot be nil, because its value is fixed"),
        1850 => These("`xsi:type` names no type of the schema"),
        1851 => These("`xsi:type` is not a type that may stand here"),
        1852 => These(
            "the type that `xsi:type` names may not stand here: it is blocked, or not derived from the one declared",
        ),
        1853..=1858 | 1864 | 1874 => {
            After("the value is not the fixed one, ", " does not match the fixed value constraint ")
        }
        1866 | 1867 => These("this attribute is not allowed here"),
        1868 => After("the attribute ", "The attribute "),
        1869 | 1870 => These("an element can have one attribute of the type `xs:ID` only"),
        1844 | 1871 => Content,
        1876 => These("the type of this element is abstract: `xsi:type` must name one derived from it"),
        1877 => Key,
        1878 => {
            These("the schema has no element or attribute of this name and namespace, and only such are allowed here")
        }
        _ => These("this breaks the schema"),
    }
}

/// A violation, about an element or attribute of this local name.
pub(super) fn of_violation(error: &LibraryError, found: &str) -> String {
    let message = error.message.as_str();
    match words(error.code) {
        Words::These(words) => words.to_owned(),
        Words::After(words, phrase) => match message.rsplit_once(phrase) {
            Some((_, tail)) => [words, plain(tail).trim_start_matches('(')].concat(),
            None => "the value is not allowed here".to_owned(),
        },
        Words::Content => content(message, found),
        Words::Key => key(message),
    }
}

/// Local name of the attribute that a error is about; it stands before the message proper, and comes from the body.
pub(super) fn attribute(error: &LibraryError) -> Option<&str> {
    let (_, rest) = error.message.split_once("', attribute '")?;
    let (name, _) = rest.split_once("': ")?;
    let local = name.rsplit_once('}').map_or(name, |(_, local)| local);
    (!local.contains(['/', ' ', '\''])).then_some(local)
}

/// `This element is not expected. Expected is one of ( {urn:x}a, {urn:x}b ).`
fn content(message: &str, found: &str) -> String {
    let missing = message.contains("Missing child element(s).");
    let expected = message.rsplit_once(" Expected is ").map(|(_, tail)| tail.trim_start_matches("one of "));
    let names: Vec<&str> = expected
        .map(|tail| tail.trim_start_matches("( ").trim_end_matches('.').trim_end_matches(" )").split(", ").collect())
        .unwrap_or_default();
    let local = |name: &'_ str| name.rsplit_once('}').map_or(name, |(_, local)| local).to_owned();
    // An element of the right name in the wrong namespace is the mistake that is hardest to see.
    let elsewhere = names.iter().find(|name| !missing && local(name) == found);
    if let Some(name) = elsewhere {
        return match name.strip_prefix('{').and_then(|name| name.rsplit_once('}')) {
            Some((namespace, _)) => format!("this element is expected in the namespace `{namespace}`"),
            None => "this element is expected in no namespace".to_owned(),
        };
    }
    let list: Vec<String> = names
        .iter()
        .map(|name| match name.strip_prefix("##other") {
            Some(_) => "an element of another namespace".to_owned(),
            None if local(name) == "*" => "any element".to_owned(),
            None => format!("`{}`", local(name)),
        })
        .collect();
    match (missing, list.is_empty()) {
        (true, true) => "elements are missing in this one".to_owned(),
        (true, false) => format!("elements are missing in this one; next could be {}", list.join(", ")),
        (false, true) => "this element is not expected here".to_owned(),
        (false, false) => format!("this element is not expected here; expected: {}", list.join(", ")),
    }
}

/// Messages about `xs:key`, `xs:keyref` and `xs:unique`, of which the name of the constraint stands at the end.
fn key(message: &str) -> String {
    let name = message.trim_end_matches(['.', '\'']).rsplit_once('\'').map_or("", |(_, name)| name);
    let name = name.rsplit_once('}').map_or(name, |(_, local)| local);
    let starts = |words: &str| message.contains(words);
    if starts("No match found for key-sequence ") {
        format!("this refers to nothing: no key has its value (`{name}`)")
    } else if starts("Duplicate key-sequence ") {
        format!("the value occurs twice, and must be unique (`{name}`)")
    } else {
        "a value that is part of a key is missing, or occurs twice".to_owned()
    }
}

/// Quotes of libxml2's, and names with their namespaces, as we write them.
fn plain(text: &str) -> String {
    let text = text.replace(XSD, "xs:").replace('\'', "`");
    text.trim_end_matches(['.', ')']).to_owned()
}

/// What is wrong with a schema: the operator's own text, so it is reported in full.
pub(super) fn of_schema(error: &LibraryError) -> String {
    cut(error.message.replace(XSD, "xs:").replace('\'', "`"), MAX_DETAIL * 2)
}

/// Why a body that the guard let through is not well formed.
pub(super) fn of_malformed(error: &LibraryError) -> &'static str {
    match error.code {
        9 => "a character is not allowed in XML",
        38 => "`<` stands in the value of an attribute",
        62 => "`]]>` stands in text",
        65 => "a space is missing",
        68 => "a name is not one of XML",
        _ => "it is not well formed",
    }
}

/// Words with a place before them.
pub(super) fn at(place: Position, words: &str) -> String {
    cut(format!("line {}, column {}: {words}", place.line, place.column), MAX_DETAIL)
}

/// At most this many bytes of a text.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}
