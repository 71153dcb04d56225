//! Object-level authorization (`where`): what a request names must be the caller's own.
//!
//! What is compared is what the upstream reads: of the path, the part of the normal form that is forwarded, with its escapes
//! decoded; of the query and the header, the one value that there is. What servers read in different ways names nothing: a parameter or
//! a header that occurs twice in some spelling, a segment that can be split in two ways. A value that is missing on either side
//! is nobody's.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use crate::exchange::Request;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::Caller;
use crate::stages::schema::segment::{Extent, PathPlace, Split};
use crate::stages::schema::unambiguous;

/// An encoded slash, in normal form.
const ENCODED_SLASH: &str = "%2F";

/// One comparison: a value of the request is among those that the caller has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// As written: `path.tenant`.
    name: Box<str>,
    named: Named,
    owned: Owned,
}

/// Where a request names an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// A name in the path of its route.
    Path(PathPlace),
    /// A parameter of its query.
    Query(Box<str>),
    /// A header.
    Header(HeaderName),
}

/// What a caller has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owned {
    /// The name of its consumer.
    Consumer,
    /// The user that it acts for.
    User,
    /// The values of this attribute.
    Attribute(Box<str>),
}

impl Owned {
    /// Reads what follows `caller.`.
    pub(crate) fn read(name: &str) -> Self {
        match name {
            "consumer" => Self::Consumer,
            "user" => Self::User,
            other => Self::Attribute(other.into()),
        }
    }

    /// Its name, after `caller.`.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Consumer => "consumer",
            Self::User => "user",
            Self::Attribute(name) => name,
        }
    }

    fn has(&self, caller: &Caller, value: &str) -> bool {
        match self {
            Self::Consumer => **caller.consumer() == *value,
            Self::User => caller.user() == Some(value),
            Self::Attribute(name) => caller.attributes().has(name, value),
        }
    }

    /// The values that a caller has.
    fn values(&self, caller: &Caller) -> Vec<String> {
        match self {
            Self::Consumer => vec![caller.consumer().to_string()],
            Self::User => caller.user().map(str::to_owned).into_iter().collect(),
            Self::Attribute(name) => caller.attributes().values(name).map(str::to_owned).collect(),
        }
    }
}

/// Why a request names nothing that could be the caller's. Completes a sentence that begins with the name.
type Unusable = &'static str;

impl Condition {
    /// `name` is as written: `path.tenant`.
    pub(crate) fn new(name: &str, named: Named, owned: Owned) -> Self {
        Self { name: name.into(), named, owned }
    }

    /// Where the request names it.
    pub(crate) fn named(&self) -> &Named {
        &self.named
    }

    /// What it is compared with.
    pub(crate) fn owned(&self) -> &Owned {
        &self.owned
    }

    /// As written: `path.tenant`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// As written: `caller.tenant`.
    pub(crate) fn value(&self) -> String {
        format!("caller.{}", self.owned.name())
    }

    /// The attribute of the caller that it is compared with, unless every caller has it: `tenant`.
    pub(crate) fn attribute(&self) -> Option<&str> {
        match &self.owned {
            Owned::Consumer | Owned::User => None,
            Owned::Attribute(name) => Some(name),
        }
    }

    /// What must be sent, for operators: `caller.tenant (t-17)`.
    pub(crate) fn describe(&self, caller: &Caller) -> String {
        let values = self.owned.values(caller);
        let values = if values.is_empty() { "none".to_owned() } else { values.join(" or ") };
        format!("{} ({values})", self.value())
    }

    /// Whether what a path names is the caller's, as `has` says of a value; `None` if it is not the path that names it. For records,
    /// which have no query and no headers.
    pub(crate) fn is_met_by_path(&self, path: &str, has: impl Fn(&Owned, &str) -> bool) -> Option<bool> {
        match &self.named {
            Named::Path(place) => Some(of_path(place, path).is_ok_and(|value| has(&self.owned, &value))),
            Named::Query(_) | Named::Header(_) => None,
        }
    }

    /// Refuses a request that names what its caller does not have.
    pub(super) fn check(&self, caller: &Caller, request: &Request<'_>) -> Result<(), Refusal> {
        let why = match self.sent(request) {
            Ok(value) if self.owned.has(caller, &value) => return Ok(()),
            Ok(_) => "is not the caller's",
            Err(unusable) => unusable,
        };
        Err(self.refuse(why))
    }

    #[cold]
    fn refuse(&self, why: &'static str) -> Refusal {
        let what = match self.named {
            Named::Path(_) => "the path names an object",
            Named::Query(_) => "the query names an object",
            Named::Header(_) => "a header names an object",
        };
        let name = self.name.split_once('.').map_or(&*self.name, |(_, name)| name);
        let detail = format!("{what} that is not yours; send a `{name}` of your own, once");
        let cause = format!("`{}` {why} (`caller.{}`)", self.name, self.owned.name());
        Refusal::new(Stage::Scope, Reason::NotYours, detail).cause(cause)
    }

    fn sent<'r>(&self, request: &Request<'r>) -> Result<Cow<'r, str>, Unusable> {
        match &self.named {
            Named::Path(place) => of_path(place, request.path()),
            Named::Query(name) => unambiguous::query_value(request.query.unwrap_or_default(), name, request.headers),
            Named::Header(name) => of_header(request.headers, name).map(Cow::Borrowed),
        }
    }
}

fn of_path<'p>(place: &PathPlace, path: &'p str) -> Result<Cow<'p, str>, Unusable> {
    let value = place.value(path, Split::Shortest);
    if place.is_part() && value != place.value(path, Split::Longest) {
        return Err("can be read in two ways");
    }
    // In the rest of a path, slashes separate segments, and those that are encoded need not.
    if place.extent == Extent::Rest && value.contains(ENCODED_SLASH) {
        return Err("has an encoded slash");
    }
    percent_decode_str(value).decode_utf8().map_err(|_| "is not UTF-8")
}

fn of_header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, Unusable> {
    let mut fields = headers.iter().filter(|(other, _)| are_one_name(other.as_str(), name.as_str()));
    match (fields.next(), fields.next()) {
        (None, _) => Err("is missing"),
        (Some(_), Some(_)) => Err("occurs twice"),
        (Some((other, _)), None) if other != name => Err("is written in another way"),
        (Some((_, value)), None) => value.to_str().map_err(|_| "is not visible ASCII"),
    }
}

/// Whether two names in lower case are one for CGI, PHP and others, which make one character of `-`, `_` and `.`.
fn are_one_name(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(one, other)| plain(one) == plain(other))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;
    use crate::exchange::SampleRequest;

    #[test]
    fn a_value_that_can_be_read_in_two_ways_is_nobodys() {
        use crate::stages::schema::segment::SegmentPattern;
        let part = |texts: [&str; 3]| {
            let pattern = std::sync::Arc::new(SegmentPattern::new(texts.map(Box::from).to_vec()));
            PathPlace { segment: 1, extent: Extent::Part(pattern, 0) }
        };
        let whole = PathPlace { segment: 1, extent: Extent::Whole };
        let rest = PathPlace { segment: 1, extent: Extent::Rest };
        for (place, path, expected) in [
            (&whole, "/a/acme/b", Some("acme")),
            (&whole, "/a/caf%C3%A9", Some("caf\u{e9}")),
            (&whole, "/a/x%2Fy", Some("x/y")),
            (&rest, "/a/x/y", Some("x/y")),
            (&rest, "/a/x%2Fy", None),
            (&part(["", "-", ""]), "/a/acme-7", Some("acme")),
            (&part(["", "-", ""]), "/a/acme-7-8", None),
        ] {
            assert_eq!(of_path(place, path).ok().as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_caller_owns_its_name_and_nothing_that_is_missing() {
        let caller = Caller::sample("acme", &[]);
        let headers = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let header = |name: &'static str| Named::Header(HeaderName::from_static(name));
        for (named, owned, fields, good) in [
            (header("x-tenant"), Owned::Consumer, &[("x-tenant", "acme")][..], true),
            (header("x-tenant"), Owned::Consumer, &[("x-tenant", "Acme")], false),
            (header("x-tenant"), Owned::Consumer, &[("x-tenant", "acme"), ("x-tenant", "acme")], false),
            (header("x-tenant"), Owned::Consumer, &[("x-tenant", "acme"), ("x_tenant", "other")], false),
            (header("x_tenant"), Owned::Consumer, &[("x-tenant", "acme")], false),
            (header("x-tenant"), Owned::Consumer, &[], false),
            (header("x-tenant"), Owned::User, &[("x-tenant", "")], false),
            (header("x-tenant"), Owned::read("tenant"), &[("x-tenant", "")], false),
            (Named::Query("tenant".into()), Owned::Consumer, &[], true),
        ] {
            let condition = Condition::new("header.x-tenant", named, owned);
            let (sample, headers) = (SampleRequest::new(&Method::GET, "/"), headers(fields));
            let refusal = condition.check(&caller, &sample.with(Some("tenant=acme"), &headers)).err();
            assert_eq!(
                refusal.map(|refusal| refusal.reason()),
                (!good).then_some(Reason::NotYours),
                "{condition:?} {fields:?}"
            );
        }
    }
}
