//! Translates errors of libxml2 into messages for the clients that send bodies.
//!
//! libxml2's messages quote values of the body. The messages here are chosen by error code. They take from libxml2's message
//! only the text after the last occurrence of a fixed phrase, which comes from the schema.

use super::libxml2::LibraryError;
use super::problem::Position;

/// Longest detail of one violation, in bytes.
const MAX_DETAIL: usize = 300;
/// The namespace of XSD, as libxml2 writes it.
const XSD: &str = "{http://www.w3.org/2001/XMLSchema}";

/// How a message is made.
enum Template {
    /// A fixed text.
    Fixed(&'static str),
    /// This text, then what follows the last occurrence of the phrase in libxml2's message.
    WithRest(&'static str, &'static str),
    /// What was expected instead of this element, or after the last one.
    Content,
    /// About `xs:key`, `xs:keyref` or `xs:unique`.
    Key,
}

/// Returns the template for an error code (`xmlParserErrors`, from 1818).
fn template(code: i32) -> Template {
    use Template::{Content, Fixed, Key, WithRest};
    match code {
        1824..=1826 => WithRest("the value is not of ", " is not a valid value of "),
        1827 => Fixed("attributes are not allowed on this element, which has a simple type"),
        1828 | 1842 => Fixed("elements are not allowed in this one, which has a simple type"),
        1830..=1832 => WithRest("the value has a length of ", "has a length of "),
        1833 => WithRest("the value is less than the minimum, ", " is less than the minimum value allowed "),
        1834 => WithRest("the value is greater than the maximum, ", " is greater than the maximum value allowed "),
        1835 => WithRest("the value must be greater than ", " must be greater than "),
        1836 => WithRest("the value must be less than ", " must be less than "),
        1837 => WithRest("the value has more digits than ", " has more digits than are allowed "),
        1838 => {
            WithRest("the value has more digits after the point than ", " has more fractional digits than are allowed ")
        }
        1839 => WithRest("the value does not match the pattern ", " is not accepted by the pattern "),
        1840 => WithRest("the value is none of ", " is not an element of the set "),
        1829 | 1823 => Fixed("the value violates a constraint of its type"),
        1841 => Fixed("this element must be empty"),
        1843 => Fixed("text is not allowed between the elements here"),
        1845 => Fixed("the schema has no root element with this name and namespace"),
        1846 => Fixed("the schema declares this element abstract; use one of its substitution group"),
        1847 => Fixed("`xsi:nil` is not allowed here: the element is not nillable"),
        1848 => Fixed("the element is nil, so it must be empty"),
        1849 => Fixed("the element cannot be nil, because its value is fixed"),
        1850 => Fixed("`xsi:type` does not name a type of the schema"),
        1851 => Fixed("the type that `xsi:type` names is not allowed here"),
        1852 => Fixed(
            "the type that `xsi:type` names is not allowed here: it is blocked, or not derived from the declared type",
        ),
        1853..=1858 | 1864 | 1874 => {
            WithRest("the value is not the fixed value, ", " does not match the fixed value constraint ")
        }
        1866 | 1867 => Fixed("this attribute is not allowed here"),
        1868 => WithRest("the attribute ", "The attribute "),
        1869 | 1870 => Fixed("an element can have only one attribute of type `xs:ID`"),
        1844 | 1871 => Content,
        1876 => Fixed("the type of this element is abstract; name a derived type with `xsi:type`"),
        1877 => Key,
        1878 => Fixed(
            "the schema has no element or attribute with this name and namespace, and only declared ones are allowed here",
        ),
        _ => Fixed("this violates the schema"),
    }
}

/// Describes a violation at an element or attribute with this local name.
pub(super) fn of_violation(error: &LibraryError, found: &str) -> String {
    let message = error.message.as_str();
    match template(error.code) {
        Template::Fixed(words) => words.to_owned(),
        Template::WithRest(words, phrase) => match message.rsplit_once(phrase) {
            Some((_, tail)) => [words, plain(tail).trim_start_matches('(')].concat(),
            None => "the value is not allowed here".to_owned(),
        },
        Template::Content => content(message, found),
        Template::Key => key(message),
    }
}

/// Returns the local name of the attribute that an error is about. libxml2 writes it before the message; it comes from the
/// body.
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
    // The right name in the wrong namespace is the mistake that is hardest to find.
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
        (true, false) => format!("elements are missing in this one; the next can be {}", list.join(", ")),
        (false, true) => "this element is not expected here".to_owned(),
        (false, false) => format!("this element is not expected here; expected: {}", list.join(", ")),
    }
}

/// Describes a violation of `xs:key`, `xs:keyref` or `xs:unique`. libxml2's message ends with the name of the constraint.
fn key(message: &str) -> String {
    let name = message.trim_end_matches(['.', '\'']).rsplit_once('\'').map_or("", |(_, name)| name);
    let name = name.rsplit_once('}').map_or(name, |(_, local)| local);
    let starts = |words: &str| message.contains(words);
    if starts("No match found for key-sequence ") {
        format!("this refers to a key that does not exist (`{name}`)")
    } else if starts("Duplicate key-sequence ") {
        format!("the value occurs twice, and must be unique (`{name}`)")
    } else {
        "a value that is part of a key is missing or occurs twice".to_owned()
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
        38 => "the value of an attribute contains `<`; write `&lt;`",
        62 => "text contains `]]>`; write `]]&gt;`",
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
