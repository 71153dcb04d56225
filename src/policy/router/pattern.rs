//! A route's method and path template, as written in `METHOD /path`.

use std::sync::Arc;

use http::Method;

use crate::stages::schema::segment::{Extent, PathPlace, SegmentPattern};

/// The methods that routes can have.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A method and a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) method: Method,
    pub(super) segments: Vec<Segment>,
    names: Vec<PathName>,
}

/// One segment of a template, without its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// This text.
    Text(Box<str>),
    /// Names with text beside them.
    Mixed(Arc<SegmentPattern>),
    /// `{name}`: any text.
    Name,
    /// `{name...}`: any text, and all segments after it.
    Rest,
}

/// A name in a path template, and the part of the path it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathName {
    pub(crate) name: Box<str>,
    pub(crate) place: PathPlace,
}

impl Pattern {
    /// Reads `METHOD /path`; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((method, path)) = text.split_once(' ') else {
            return Err("a route is written `METHOD /path`, such as `GET /orders/{id}`".to_owned());
        };
        if !METHODS.contains(&method) {
            let upper = method.to_ascii_uppercase();
            return Err(match METHODS.contains(&upper.as_str()) {
                true => format!("methods are written in capitals: `{upper} {path}`"),
                false => format!("the method is one of {}", METHODS.join(", ")),
            });
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let Some(rest) = path.strip_prefix('/') else {
            return Err("the path begins with `/`".to_owned());
        };
        let mut pattern = Self { method, segments: Vec::new(), names: Vec::new() };
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            let parsed = pattern.segment(segment, segments.peek().is_none())?;
            pattern.segments.push(parsed);
        }
        Ok(pattern)
    }

    /// A pattern without names, for requests that have no route.
    pub(super) fn unnamed(method: Method, segments: Vec<Segment>) -> Self {
        Self { method, segments, names: Vec::new() }
    }

    /// The names in its path.
    pub(crate) fn names(&self) -> &[PathName] {
        &self.names
    }

    /// Equal for patterns that match the same requests.
    pub(crate) fn requests(&self) -> (&Method, &[Segment]) {
        (&self.method, &self.segments)
    }

    fn segment(&mut self, segment: &str, last: bool) -> Result<Segment, String> {
        if segment.is_empty() && !last {
            return Err("the path has an empty segment (`//`)".to_owned());
        }
        if segment == "." || segment == ".." {
            return Err("the path has a dot segment".to_owned());
        }
        let (texts, names) = split(segment)?;
        texts.iter().try_for_each(|text| literal(text))?;
        if let [text] = texts.as_slice()
            && names.is_empty()
        {
            return Ok(Segment::Text((*text).into()));
        }
        let whole = matches!(texts.as_slice(), ["", ""]);
        let pattern = Arc::new(SegmentPattern::new(texts.into_iter().map(Box::from).collect()));
        let mut parsed = if whole { Segment::Name } else { Segment::Mixed(Arc::clone(&pattern)) };
        for (position, inner) in names.into_iter().enumerate() {
            let (name, extent) = match (inner.strip_suffix("..."), whole) {
                (Some(name), true) if last => (name, Extent::Rest),
                (Some(_), true) => {
                    return Err("`{name...}` matches the rest of the path, so it must be the last segment".to_owned());
                }
                (Some(_), false) => {
                    return Err("`{name...}` must be a whole segment, without text beside it".to_owned());
                }
                (None, true) => (inner, Extent::Whole),
                (None, false) => (inner, Extent::Part(Arc::clone(&pattern), position)),
            };
            if extent == Extent::Rest {
                parsed = Segment::Rest;
            }
            self.name(name, inner, extent)?;
        }
        Ok(parsed)
    }

    fn name(&mut self, name: &str, written: &str, extent: Extent) -> Result<(), String> {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(named) {
            return Err(format!("`{{{written}}}` is not a name of letters, digits, `_` and `-`"));
        }
        if self.names.iter().any(|known| *known.name == *name) {
            return Err(format!("`{{{name}}}` occurs twice in the path"));
        }
        self.names.push(PathName { name: name.into(), place: PathPlace { segment: self.segments.len(), extent } });
        Ok(())
    }
}

/// The texts and the names of a segment; there is one text more than names.
fn split(segment: &str) -> Result<(Vec<&str>, Vec<&str>), String> {
    let (mut texts, mut names) = (Vec::new(), Vec::new());
    let mut rest = segment;
    while let Some((text, inner)) = rest.split_once('{') {
        let (name, after) = inner.split_once('}').ok_or("`{` is never closed")?;
        if !names.is_empty() && text.is_empty() {
            return Err("two names without text between them cannot be told apart".to_owned());
        }
        texts.push(text);
        names.push(name);
        rest = after;
    }
    texts.push(rest);
    if texts.iter().chain(&names).any(|text| text.contains(['{', '}'])) {
        return Err("`}` has no `{` before it".to_owned());
    }
    Ok((texts, names))
}

/// Checks that text of a segment is written as in a normalised path (RFC 3986 §6.2.2).
fn literal(text: &str) -> Result<(), String> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match (bytes.next(), bytes.next()) {
                (Some(b'0'..=b'9' | b'A'..=b'F'), Some(b'0'..=b'9' | b'A'..=b'F')) => {}
                _ => return Err("`%` is followed by two hexadecimal digits, in capitals".to_owned()),
            },
            b'?' | b'#' => return Err("a route is matched by its path only; remove the query or fragment".to_owned()),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {}
            _ if b"-._~!$&'()*+,;=:@".contains(&byte) => {}
            _ => return Err("characters that RFC 3986 does not allow in a path must be percent-encoded".to_owned()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_strictly() {
        for (text, good) in [
            ("GET /", true),
            ("GET /a/{id}/b", true),
            ("GET /a/{rest...}", true),
            ("GET /caf%C3%A9", true),
            ("GET /a/", true),
            ("GET /a/{id}.json", true),
            ("GET /a/{id}:cancel", true),
            ("GET /a/v{major}.{minor}-{patch}", true),
            ("get /a", false),
            ("FETCH /a", false),
            ("CONNECT /a", false),
            ("GET", false),
            ("GET a", false),
            ("GET  /a", false),
            ("GET /a//b", false),
            ("GET /a/../b", false),
            ("GET /a/{}", false),
            ("GET /a/{id}/{id}", false),
            ("GET /a/{id}-{id}", false),
            ("GET /a/{x}{y}", false),
            ("GET /a/{x", false),
            ("GET /a/x}", false),
            ("GET /a/{x}}", false),
            ("GET /a/{{x}}", false),
            ("GET /a/{rest...}/b", false),
            ("GET /a/{rest...}.json", false),
            ("GET /a/{x}?b=c", false),
            ("GET /a?b=c", false),
            ("GET /a b", false),
            ("GET /é", false),
            ("GET /%zz", false),
            ("GET /%c3%a9", false),
        ] {
            assert_eq!(Pattern::parse(text).is_ok(), good, "{text}: {:?}", Pattern::parse(text));
        }
    }
}
