//! The requests of an operation that has no route, read leniently: what cannot be told apart is closed as well.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use super::pattern::{Pattern, Segment};
use crate::stages::schema::segment::SegmentPattern;

/// The requests of a closed operation.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub(super) pattern: Pattern,
    /// If present, only requests with such a query.
    pub(super) query: Option<QueryCondition>,
}

/// The query that a path template contains: names, each with the value that it must have.
#[derive(Debug, Clone)]
pub(super) struct QueryCondition(Vec<(String, Option<String>)>);

impl Closed {
    /// Reads the template of a description: `/path/{name}`, with whatever else it contains. `None` if no request can have
    /// this path, because the proxy refuses it.
    pub(crate) fn parse(method: Method, template: &str) -> Option<Self> {
        // `{?name}` (RFC 6570 §3.2.8) is a query that may be absent.
        let end = template.find("{?").unwrap_or(template.len());
        let template = template.get(..end).unwrap_or_default().split('#').next().unwrap_or_default();
        let (path, query) = template.split_once('?').map_or((template, None), |(path, query)| (path, Some(query)));
        let mut segments = Vec::new();
        let mut written = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
        while let Some(segment) = written.next() {
            let last = written.peek().is_none();
            if (segment.is_empty() && !last) || segment == "." || segment == ".." {
                return None;
            }
            segments.push(lenient(segment));
            if segments.last() == Some(&Segment::Rest) {
                break;
            }
        }
        let query = query.map(QueryCondition::parse).filter(|query| !query.0.is_empty());
        Some(Self { pattern: Pattern::unnamed(method, segments), query })
    }

    /// The requests of a route.
    pub(crate) fn of(pattern: &Pattern) -> Self {
        Self { pattern: Pattern::unnamed(pattern.method.clone(), pattern.segments.clone()), query: None }
    }

    /// Equal to [`Pattern::requests`] of a route whose requests cannot be told apart from these.
    pub(crate) fn requests(&self) -> Option<(&Method, &[Segment])> {
        self.query.is_none().then(|| self.pattern.requests())
    }
}

/// Reads a segment. Names that touch are one name; a name that may contain slashes takes the rest of the path.
fn lenient(segment: &str) -> Segment {
    let mut texts = vec![String::new()];
    let mut rest = segment;
    while let Some((text, inner)) = rest.split_once('{') {
        let Some((name, after)) = inner.split_once('}') else { return Segment::Name };
        // `{+path}` and `{path*}` (RFC 6570 §3.2), `{path...}`, `{path:.*}`.
        if name.starts_with(['+', '/', '*']) || name.ends_with(['*', '.']) || name.contains(':') {
            return Segment::Rest;
        }
        if let Some(last) = texts.last_mut() {
            last.push_str(&normal(text));
        }
        let touches = texts.len() > 1 && text.is_empty() && texts.last().is_some_and(String::is_empty);
        if !touches {
            texts.push(String::new());
        }
        rest = after;
    }
    if let Some(last) = texts.last_mut() {
        last.push_str(&normal(rest));
    }
    match texts.as_slice() {
        [text] => Segment::Text(text.as_str().into()),
        [first, last] if first.is_empty() && last.is_empty() => Segment::Name,
        _ => Segment::Mixed(SegmentPattern::new(texts.into_iter().map(Into::into).collect()).into()),
    }
}

/// Text of a template as it is in a normalised path (RFC 3986 §6.2.2).
pub(crate) fn normal(text: &str) -> String {
    const UNRESERVED: &[u8] = b"-._~";
    const PLAIN: &[u8] = b"!$&'()*+,;=:@";
    let mut normal = String::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter().copied();
    let mut push = |octet: u8, encode: bool| match encode {
        true => normal.push_str(&format!("%{octet:02X}")),
        false => normal.push(char::from(octet)),
    };
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let mut ahead = bytes.clone();
            match (ahead.next().and_then(digit), ahead.next().and_then(digit)) {
                (Some(high), Some(low)) => {
                    let octet = high << 4 | low;
                    push(octet, !(octet.is_ascii_alphanumeric() || UNRESERVED.contains(&octet)));
                    bytes = ahead;
                }
                _ => push(byte, true),
            }
        } else {
            push(byte, !(byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) || PLAIN.contains(&byte)));
        }
    }
    normal
}

impl QueryCondition {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = (!value.is_empty() && !value.contains('{')).then(|| plain(value).unwrap_or_default());
            (plain(name).unwrap_or_default(), value)
        });
        Self(pairs.collect())
    }

    /// Whether an upstream may read all of these names and values in a query. Upstreams differ in separators, case, and in
    /// which of several values they take.
    fn contains(&self, query: &str) -> bool {
        let mut given = Vec::new();
        for pair in query.split(['&', ';']) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (plain(name), plain(value));
            given.push((name.map(|name| name.split('[').next().unwrap_or_default().to_owned()), value));
        }
        self.0.iter().all(|(name, value)| {
            let names = given.iter().filter(|(given, _)| given.as_ref().is_none_or(|given| given == name));
            let same = |given: &Option<String>| match (value, given) {
                (Some(value), Some(given)) => value == given,
                _ => true,
            };
            names.map(|(_, given)| given).any(same)
        })
    }

    pub(super) fn is_met(&self, query: Option<&str>) -> bool {
        query.is_some_and(|query| self.contains(query))
    }
}

/// Decoded, without blanks around it, in lower case; `None` if it cannot be decoded.
fn plain(text: &str) -> Option<String> {
    let text: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let decoded = percent_decode_str(&text).decode_utf8().ok()?;
    Some(decoded.trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_close_what_they_may_match() {
        let text = |text: &str| Segment::Text(text.into());
        let mixed = |texts: &[&str]| {
            Segment::Mixed(SegmentPattern::new(texts.iter().map(|text| Box::from(*text)).collect()).into())
        };
        for (template, segments, query) in [
            ("/a/{b}", Some(vec![text("a"), Segment::Name]), false),
            ("a", Some(vec![text("a")]), false),
            ("/a/{b}{c}", Some(vec![text("a"), Segment::Name]), false),
            ("/a/{b}{c}.x", Some(vec![text("a"), mixed(&["", ".x"])]), false),
            ("/a/v{b}-{c}", Some(vec![text("a"), mixed(&["v", "-", ""])]), false),
            ("/a/{b", Some(vec![text("a"), Segment::Name]), false),
            ("/a/{b*}/c", Some(vec![text("a"), Segment::Rest]), false),
            ("/a%7e%3a%zz b", Some(vec![text("a~%3A%25zz%20b")]), false),
            ("/a#b", Some(vec![text("a")]), false),
            ("/a?b=c#d", Some(vec![text("a")]), true),
            ("/a{?b,c}", Some(vec![text("a")]), false),
            ("/a?", Some(vec![text("a")]), false),
            ("/a//b", None, false),
            ("/a/../b", None, false),
        ] {
            let closed = Closed::parse(Method::GET, template);
            assert_eq!(closed.as_ref().map(|closed| closed.pattern.segments.clone()), segments, "{template}");
            assert_eq!(closed.is_some_and(|closed| closed.query.is_some()), query, "{template}");
        }
    }
}
