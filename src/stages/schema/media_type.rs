//! The media type of a message (RFC 9110 §8.3), and the media ranges that a route accepts.

use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use mediatype::names::{APPLICATION, CHARSET, JSON};
use mediatype::{MediaType, ReadParams};

/// Most messages that are validated have this type, and comparing is faster than parsing.
const JSON_AS_WRITTEN: &str = "application/json";

/// Returns the media type of a message; `None` if there is none, several, or one that does not parse.
pub(super) fn of(headers: &HeaderMap) -> Option<MediaType<'_>> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    if value == JSON_AS_WRITTEN {
        return Some(MediaType::new(APPLICATION, JSON));
    }
    MediaType::parse(value.to_str().ok()?.trim()).ok()
}

/// Whether the text of a body is UTF-8: always so for JSON (RFC 8259 §8.1), and the only accepted encoding for others.
pub(super) fn is_utf8(media: &MediaType<'_>) -> bool {
    let is_charset = |name: &str| name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("charset"));
    // `charset*` (RFC 2231) is the charset for some servers.
    media.params().filter(|(name, _)| is_charset(name.as_str())).all(|(name, value)| {
        let charset = value.unquoted_str();
        // `utf8` is no registered name, but means nothing else (WHATWG Encoding §4.2).
        name == CHARSET && ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name))
    })
}

/// Whether servers that decode a query as the message's Content-Type says read other text than UTF-8 in it.
pub(super) fn recodes(headers: &HeaderMap, query: &str) -> bool {
    let mut charsets = headers.get_all(CONTENT_TYPE).iter().filter(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        memchr::memmem::find(&value, b"charset").is_some()
    });
    // Without escapes, a query is ASCII in all of them.
    if !query.contains('%') || charsets.next().is_none() {
        return false;
    }
    let Some(media) = of(headers) else { return true };
    let beyond = query.split('%').skip(1).any(|escape| !escape.starts_with(|digit: char| digit.is_digit(8)));
    let extends = |name: &str| ["iso-8859-", "windows-125"].iter().any(|start| name.starts_with(start));
    let mut named = media.params().filter(|(name, _)| *name == CHARSET);
    !is_utf8(&media) && (beyond || !named.all(|(_, value)| extends(&value.unquoted_str().to_ascii_lowercase())))
}

/// A range of media types: `application/json`, `application/*+json`, `image/*`, `*/*`, `application/vnd.a+json; v=2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaRange {
    /// Lower case, or `*`.
    kind: Box<str>,
    subtype: Subtype,
    /// What tells it apart from others of its type; names in lower case, in alphabetical order.
    parameters: Box<[Parameter]>,
    /// Whether a message must name these parameters. Otherwise it must only not contradict them.
    named: bool,
    /// Only the JSON among these types.
    json: bool,
}

/// The name and the value of a parameter.
type Parameter = (Box<str>, Box<str>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subtype {
    Any,
    /// All with this suffix (RFC 6839), lower case.
    Suffix(Box<str>),
    Exactly(Box<str>),
}

impl MediaRange {
    /// Parses a range. A charset is no part of it: text is UTF-8 anyway. Nor is a boundary, which differs for every message.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let essence = essence.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        let token = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        let subtype = match subtype {
            "*" => Subtype::Any,
            _ => match subtype.strip_prefix("*+") {
                Some(suffix) if token(suffix) => Subtype::Suffix(suffix.into()),
                None if token(subtype) => Subtype::Exactly(subtype.into()),
                _ => return None,
            },
        };
        let good = token(kind) || (kind == "*" && subtype == Subtype::Any);
        let parameters = parse_parameters(parameters)?;
        good.then(|| Self { kind: kind.into(), subtype, parameters, named: false, json: false })
    }

    /// Whether all types in it are JSON.
    pub(crate) fn is_json(&self) -> bool {
        match &self.subtype {
            Subtype::Any => self.json,
            Subtype::Suffix(suffix) => &**suffix == "json",
            Subtype::Exactly(subtype) => {
                subtype.ends_with("+json") || (&**subtype == "json" && ["application", "text"].contains(&&*self.kind))
            }
        }
    }

    /// Whether it has many subtypes: `image/*`, `*/*`.
    pub(crate) fn is_wide(&self) -> bool {
        self.subtype == Subtype::Any
    }

    /// Whether it is this type alone, in lower case, whatever its parameters.
    pub(crate) fn is(&self, essence: &str) -> bool {
        let Subtype::Exactly(subtype) = &self.subtype else { return false };
        essence.split_once('/').is_some_and(|(kind, other)| *kind == *self.kind && *other == **subtype)
    }

    /// The JSON among these types.
    pub(crate) fn json(self) -> Self {
        Self { json: true, ..self }
    }

    /// Whether both differ in nothing but parameters.
    fn is_same_type(&self, other: &Self) -> bool {
        self.kind == other.kind && self.subtype == other.subtype
    }

    /// Requires the parameters that distinguish a range from others of the same type.
    pub(super) fn tell_apart<'r>(ranges: impl Iterator<Item = &'r mut Self>) {
        let mut ranges: Vec<&mut Self> = ranges.collect();
        let named: Vec<bool> = ranges
            .iter()
            .map(|range| ranges.iter().any(|other| range.is_same_type(other) && range.parameters != other.parameters))
            .collect();
        for (range, named) in ranges.iter_mut().zip(named) {
            range.named = named;
        }
    }

    /// Whether a media type is one of these.
    pub(super) fn contains(&self, media: &MediaType<'_>) -> bool {
        self.has_type(media) && self.has_parameters(media)
    }

    /// Whether a media type is one of these, whatever its parameters.
    pub(super) fn has_type(&self, media: &MediaType<'_>) -> bool {
        let kind = &*self.kind == "*" || media.ty.as_str().eq_ignore_ascii_case(&self.kind);
        kind && self.has_subtype(media) && (!self.json || is_json(media))
    }

    fn has_subtype(&self, media: &MediaType<'_>) -> bool {
        match &self.subtype {
            Subtype::Any => true,
            Subtype::Suffix(suffix) => {
                // A suffix is what follows a name: `application/+json` has none.
                !media.subty.as_str().is_empty()
                    && media.suffix.is_some_and(|given| given.as_str().eq_ignore_ascii_case(suffix))
            }
            Subtype::Exactly(wanted) => match media.suffix {
                None => media.subty.as_str().eq_ignore_ascii_case(wanted),
                Some(suffix) => wanted.rsplit_once('+').is_some_and(|(name, ending)| {
                    media.subty.as_str().eq_ignore_ascii_case(name) && suffix.as_str().eq_ignore_ascii_case(ending)
                }),
            },
        }
    }

    /// A parameter that occurs twice has no value that everybody agrees on.
    fn has_parameters(&self, media: &MediaType<'_>) -> bool {
        self.parameters.iter().all(|(name, wanted)| {
            let mut given = media.params().filter(|(other, _)| other.as_str().eq_ignore_ascii_case(name));
            match (given.next(), given.next()) {
                (None, _) => !self.named,
                (Some((_, value)), None) => *value.unquoted_str() == **wanted,
                _ => false,
            }
        })
    }

    /// The narrower range has the greater number.
    pub(super) fn narrowness(&self) -> impl Ord + use<> {
        let types = match (&*self.kind, &self.subtype) {
            (_, Subtype::Exactly(_)) => 3,
            (_, Subtype::Suffix(_)) => 2,
            ("*", Subtype::Any) => 0,
            (_, Subtype::Any) => 1,
        };
        (types, self.parameters.len(), self.json)
    }
}

/// Parses `a=b; c="d"`, without what is no part of a range.
fn parse_parameters(text: &str) -> Option<Box<[Parameter]>> {
    let trimmed = text.trim().trim_end_matches(';');
    if trimmed.is_empty() {
        return Some(Box::default());
    }
    // The grammar of a media type; which one does not matter.
    let compact: Vec<&str> = trimmed.split(';').map(str::trim).collect();
    let media = format!("a/b;{}", compact.join(";"));
    let media = MediaType::parse(&media).ok()?;
    let mut parameters: Vec<Parameter> = Vec::new();
    for (name, value) in media.params() {
        let name = name.as_str().to_ascii_lowercase();
        if !["charset", "boundary"].contains(&name.as_str()) {
            parameters.push((name.into(), value.unquoted_str().into()));
        }
    }
    parameters.sort();
    Some(parameters.into())
}

/// Whether a message is JSON: by its own media type, or by the suffix (RFC 6839 §3.1).
pub(super) fn is_json(media: &MediaType<'_>) -> bool {
    let is = |text: &str, name: &str| text.eq_ignore_ascii_case(name);
    match media.suffix {
        Some(suffix) => is(suffix.as_str(), "json"),
        None => {
            is(media.subty.as_str(), "json") && (is(media.ty.as_str(), "application") || is(media.ty.as_str(), "text"))
        }
    }
}

impl fmt::Display for MediaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subtype {
            Subtype::Any => write!(f, "{}/*", self.kind)?,
            Subtype::Suffix(suffix) => write!(f, "{}/*+{suffix}", self.kind)?,
            Subtype::Exactly(subtype) => write!(f, "{}/{subtype}", self.kind)?,
        }
        self.parameters.iter().try_for_each(|(name, value)| write!(f, "; {name}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn ranges_contain_what_they_say() {
        for (range, media, inside) in [
            ("application/json", "application/json", true),
            ("application/json", "Application/JSON; charset=UTF-8", true),
            ("application/json", "application/problem+json", false),
            ("application/*+json", "application/merge-patch+json", true),
            ("application/*+json", "application/json", false),
            ("application/*+json", "application/a+b+json", true),
            ("application/*+json", "text/a+json", false),
            ("application/soap+xml", "application/soap+xml;action=\"a;b\"", true),
            ("application/soap+xml", "application/xml", false),
            ("application/vnd.a+b+json", "application/vnd.a+b+json", true),
            ("text/*", "text/csv", true),
            ("*/*", "image/png", true),
        ] {
            let (range, media) = (MediaRange::parse(range).unwrap(), MediaType::parse(media).unwrap());
            assert_eq!(range.contains(&media), inside, "{range} {media}");
        }
    }

    /// F23
    #[test]
    fn parameters_tell_types_apart_where_there_are_several() {
        let all = ["a/b; v=1", "a/b; V=\"2\"", "a/b", "c/d; v=1; charset=utf-8"];
        let mut ranges = all.map(|text| MediaRange::parse(text).unwrap());
        MediaRange::tell_apart(ranges.iter_mut());
        for (media, inside) in [
            ("a/b", [false, false, true, false]),
            ("a/b;v=1", [true, false, true, false]),
            ("a/b; v=\"1\"; w=2", [true, false, true, false]),
            ("A/B; V=2", [false, true, true, false]),
            ("a/b; v=1; v=2", [false, false, true, false]),
            ("a/b; v=3", [false, false, true, false]),
            // The only one of its type is meant by messages that do not say so.
            ("c/d", [false, false, false, true]),
            ("c/d; v=2", [false, false, false, false]),
        ] {
            let media = MediaType::parse(media).unwrap();
            assert_eq!(ranges.each_ref().map(|range| range.contains(&media)), inside, "{media}");
        }
        assert!(ranges[0].narrowness() > ranges[2].narrowness());
    }

    #[test]
    fn a_range_may_be_of_the_json_in_it_alone() {
        for (range, media, inside) in [
            ("*/*", "application/json", true),
            ("*/*", "model/gltf+json", true),
            ("*/*", "text/json", true),
            ("*/*", "image/json", false),
            ("*/*", "text/plain", false),
            ("application/*", "application/a+json; b=c", true),
            ("application/*", "text/json", false),
        ] {
            let (range, media) = (MediaRange::parse(range).unwrap().json(), MediaType::parse(media).unwrap());
            assert_eq!(range.contains(&media), inside, "{range} {media}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "json", "application/", "/json", "*/json", "application/*+", "a b/c", "a/b c", "*/*+json"] {
            assert_eq!(MediaRange::parse(text), None, "{text}");
        }
        assert_eq!(
            MediaRange::parse("Application/JSON; B=c ;charset=utf-8; a=\"D\";").unwrap().to_string(),
            "application/json; a=D; b=c"
        );
        assert_eq!(MediaRange::parse("application/json; a"), None);
    }

    #[test]
    fn a_message_has_one_media_type_or_none() {
        let one = |value: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
        for (value, utf8) in [
            ("application/json", Some(true)),
            (" application/json ;charset=\"utf-8\"", Some(true)),
            ("application/json;", Some(true)),
            ("application/json; ; charset=utf-8", None),
            // F34
            ("application/json; charset=utf8", Some(true)),
            ("application/json; charset=\"UTF8\"", Some(true)),
            ("application/json; charset=utf-16", Some(false)),
            ("application/json; charset=utf816", Some(false)),
            ("application/json; charset=utf-8; charset=latin1", Some(false)),
            ("application/json; charset", None),
            ("application/json/x", None),
            ("", None),
            ("json", None),
        ] {
            let headers = one(value);
            assert_eq!(of(&headers).map(|media| is_utf8(&media)), utf8, "{value}");
        }
        assert_eq!(of(&one(JSON_AS_WRITTEN)), MediaType::parse(JSON_AS_WRITTEN).ok());
        let mut twice = one("application/json");
        twice.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(of(&twice).is_none() && of(&HeaderMap::new()).is_none());
    }
}
