//! The media type of a message (RFC 9110 §8.3), and the media ranges that a route accepts.

use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use mediatype::names::CHARSET;
use mediatype::{MediaType, ReadParams};

/// Returns the media type of a message; `None` if there is none, several, or one that does not parse.
pub(super) fn of(headers: &HeaderMap) -> Option<MediaType<'_>> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    MediaType::parse(value.to_str().ok()?.trim()).ok()
}

/// Whether the text of a body is UTF-8: always so for JSON (RFC 8259 §8.1), and the only accepted encoding for others.
pub(super) fn is_utf8(media: &MediaType<'_>) -> bool {
    media.params().filter(|(name, _)| *name == CHARSET).all(|(_, value)| {
        let charset = value.unquoted_str();
        // `utf8` is no registered name, but means nothing else (WHATWG Encoding §4.2).
        ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name))
    })
}

/// A range of media types: `application/json`, `application/*+json`, `image/*`, `*/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaRange {
    /// Lower case, or `*`.
    kind: Box<str>,
    subtype: Subtype,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subtype {
    Any,
    /// All with this suffix (RFC 6839), lower case.
    Suffix(Box<str>),
    Exactly(Box<str>),
}

impl MediaRange {
    /// Parses a range. Parameters are ignored: none of the supported types differ by one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
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
        good.then(|| Self { kind: kind.into(), subtype })
    }

    /// Whether a media type is one of these.
    pub(super) fn contains(&self, media: &MediaType<'_>) -> bool {
        let kind = &*self.kind == "*" || media.ty.as_str().eq_ignore_ascii_case(&self.kind);
        kind && match &self.subtype {
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

    /// The narrower range has the greater number.
    pub(super) fn narrowness(&self) -> u8 {
        match (&*self.kind, &self.subtype) {
            (_, Subtype::Exactly(_)) => 3,
            (_, Subtype::Suffix(_)) => 2,
            ("*", Subtype::Any) => 0,
            (_, Subtype::Any) => 1,
        }
    }
}

impl fmt::Display for MediaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subtype {
            Subtype::Any => write!(f, "{}/*", self.kind),
            Subtype::Suffix(suffix) => write!(f, "{}/*+{suffix}", self.kind),
            Subtype::Exactly(subtype) => write!(f, "{}/{subtype}", self.kind),
        }
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

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "json", "application/", "/json", "*/json", "application/*+", "a b/c", "a/b c", "*/*+json"] {
            assert_eq!(MediaRange::parse(text), None, "{text}");
        }
        assert_eq!(MediaRange::parse("Application/JSON; a=b").unwrap().to_string(), "application/json");
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
        let mut twice = one("application/json");
        twice.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(of(&twice).is_none() && of(&HeaderMap::new()).is_none());
    }
}
