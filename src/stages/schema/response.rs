//! Validates a route's responses, by status and then by media type.
//!
//! A response is held back until it has been read whole, so this is for messages, not for streams: what is not checked
//! (`text/event-stream`, downloads) must be named in the contract. Neither the caller nor the upstream chooses an exemption: a
//! part of a response (206) is refused where only the whole is described, and no part is asked for. Violations are not sent to
//! the caller, who cannot fix them, but written to the audit record.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::SizeHint;
use mediatype::MediaType;

use super::content::{Content, Contents};
use super::encoding::Encoding;
use super::media_type;
use super::offload::offload;
use super::xml::Called;
use super::xml::parts::Parts;
use crate::body::{no_memory, overloaded};
use crate::budget::MemoryBudget;
use crate::refusal::{Reason, Refusal, Stage, Violation};
use crate::stages::mask::{self, Failed, Hidden, Mask, Rewriter};

/// So many bytes, times the paths that are looked for, are masked on the worker in one go.
const AT_ONCE: usize = 256 << 10;

/// The statuses that a schema applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Statuses {
    /// This one.
    One(u16),
    /// All of a class: `2XX`.
    Class(u16),
    /// All statuses without a schema of their own.
    Default,
}

/// What a route requires of its responses.
#[derive(Debug)]
pub(crate) struct Requirement {
    /// Most specific first.
    statuses: Vec<(Statuses, Contents)>,
    /// What happens to a response with a status that is not among them; `None` if it passes.
    undescribed: Option<Undescribed>,
    /// The statuses from here on pass if they are not described.
    passing_from: u16,
    /// Most bytes, before and after decoding.
    pub(crate) max_size: u64,
    /// What some callers do not see.
    mask: Option<Mask>,
}

/// What happens to a response with an undescribed status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undescribed {
    Refused,
    Reported,
}

/// What a response must look like.
#[derive(Debug)]
pub(crate) enum Expected<'a> {
    Contents(&'a Contents),
    /// Its status is not described, so nothing may come with it.
    Nothing,
}

impl Statuses {
    /// `200`, `2XX` (or `2xx`), `default`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("default") {
            return Some(Self::Default);
        }
        let class = text.get(..1)?.parse().ok().filter(|class| (1..=5).contains(class))?;
        match text.get(1..)? {
            rest if rest.eq_ignore_ascii_case("xx") => Some(Self::Class(class)),
            rest if rest.len() == 2 && rest.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().map(Self::One)
            }
            _ => None,
        }
    }

    fn contain(self, status: StatusCode) -> bool {
        match self {
            Self::One(one) => one == status.as_u16(),
            Self::Class(class) => class == status.as_u16() / 100,
            Self::Default => true,
        }
    }
}

impl Requirement {
    /// `max_size` in bytes.
    pub(crate) fn new(mut statuses: Vec<(Statuses, Contents)>, max_size: u64) -> Self {
        statuses.sort_by_key(|(statuses, _)| *statuses);
        Self { statuses, undescribed: None, passing_from: 400, max_size, mask: None }
    }

    /// Handles responses whose status is not described and is below `passing_from`: errors pass, because descriptions rarely
    /// list them all.
    pub(crate) fn handling_undescribed(self, undescribed: Option<Undescribed>, passing_from: u16) -> Self {
        Self { undescribed, passing_from, ..self }
    }

    /// Also hides what a mask says.
    pub(crate) fn masked_by(self, mask: Mask) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// What some callers do not see.
    pub(crate) fn mask(&self) -> Option<&Mask> {
        self.mask.as_ref()
    }

    /// Whether it says what responses of any status are, and not only what is hidden of them.
    pub(crate) fn has_contract(&self) -> bool {
        !self.statuses.is_empty()
    }

    /// Whether any response is checked, or has to be read to hide something.
    pub(crate) fn is_checked(&self) -> bool {
        self.mask.is_some() || self.statuses.iter().any(|(_, contents)| contents.is_checked())
    }

    /// Whether parts of responses may be asked for (RFC 9110 §14.2): they are described, and nothing is checked.
    pub(crate) fn takes_ranges(&self) -> bool {
        self.described(StatusCode::PARTIAL_CONTENT).is_some() && !self.is_checked()
    }

    fn described(&self, status: StatusCode) -> Option<&Contents> {
        let described = self.statuses.iter().find(|(statuses, _)| statuses.contain(status));
        described.map(|(_, contents)| contents)
    }

    /// Returns what a response with this status and headers must look like; `None` if it is not checked.
    pub(crate) fn of(&self, status: StatusCode, headers: &HeaderMap) -> Option<Expected<'_>> {
        match self.described(status) {
            None => self.undescribed(status).is_some().then_some(Expected::Nothing),
            Some(contents) => (!contents.pass(headers)).then_some(Expected::Contents(contents)),
        }
    }

    /// Whether a response with this status may come without a body, whatever its body would have to be: only `default`
    /// covers it, which describes what else there may be, and is no promise that each of them has a body.
    pub(crate) fn accepts_nothing(&self, status: StatusCode) -> bool {
        let described = self.statuses.iter().find(|(statuses, _)| statuses.contain(status));
        described.is_some_and(|(statuses, _)| *statuses == Statuses::Default)
    }

    /// Judges a response while it comes, if that can be; see [`super::content::Content::in_parts`].
    pub(crate) fn in_parts<'s>(
        &self,
        contents: &'s Contents,
        headers: &'s HeaderMap,
        size: &SizeHint,
        memory: &'s MemoryBudget,
        called: Option<&Arc<Called>>,
    ) -> Option<Box<Parts<'s>>> {
        let (content, media) = contents.of(headers)?;
        content.in_parts(&media, headers, size, memory, called)
    }

    /// Checks a response that was read whole. The reason of a refusal is [`Reason::InvalidUpstreamResponse`], or
    /// [`Reason::Overloaded`] if the response could not be checked. `called` is what the request was for, if that is known.
    pub(crate) async fn check(
        &self,
        contents: &Contents,
        headers: &HeaderMap,
        body: Bytes,
        memory: &MemoryBudget,
        mut called: Option<Arc<Called>>,
    ) -> Result<(), Refusal> {
        let (content, media, encoding) = expected(contents, headers)?;
        let checked = match encoding.decode(body, self.max_size, memory).await {
            Ok(decoded) => content.check(&media, headers, &decoded, memory, &mut called).await,
            Err(refusal) => Err(refusal),
        };
        checked.map_err(|refusal| {
            if refusal.reason() == Reason::Overloaded {
                let cause = refusal.logged().unwrap_or_default().to_owned();
                return overloaded(Stage::Response, "the response cannot be checked now; try again later").cause(cause);
            }
            // This text is written for callers who send a body; here it only goes to the log.
            let invalid = invalid(refusal.detail().to_owned(), refusal.violations().to_vec());
            if refusal.is_only_reported() { invalid.only_reported() } else { invalid }
        })
    }

    /// Returns a response that was read whole without what is hidden. What cannot be read is refused, as in [`Self::check`].
    pub(crate) async fn hide(
        &self,
        hidden: Hidden,
        headers: &HeaderMap,
        body: Bytes,
        memory: &MemoryBudget,
    ) -> Result<Bytes, Refusal> {
        let decoded = maskable(headers)?.decode(body, self.max_size, memory).await;
        let decoded = decoded.map_err(|refusal| match refusal.reason() {
            Reason::Overloaded => no_memory(Stage::Response),
            _ => unreadable(refusal.detail().to_owned()),
        })?;
        let work = decoded.len().saturating_mul(hidden.paths().count());
        let masked = if work <= AT_ONCE {
            mask::rewrite(hidden, &decoded, memory)
        } else {
            let memory = memory.clone();
            // Boxed: rare, and it would be a part of every request's future.
            Box::pin(offload(move || Ok(mask::rewrite(hidden, &decoded, &memory)))).await?
        };
        masked.map_err(failed)
    }

    /// Whether something may be hidden in a response while it comes: its bytes are those of a JSON text. Otherwise it has to be read
    /// whole.
    pub(crate) fn hides_in_parts(&self, headers: &HeaderMap) -> bool {
        matches!(maskable(headers), Ok(Encoding::Identity))
    }

    /// Why nothing can be hidden in a body with these headers, if that is so.
    pub(crate) fn unmaskable(&self, headers: &HeaderMap) -> Option<Refusal> {
        maskable(headers).err()
    }

    /// Why a body with these headers cannot be good, if that is so.
    pub(crate) fn unexpected(&self, contents: &Contents, headers: &HeaderMap) -> Option<Refusal> {
        expected(contents, headers).err()
    }

    /// Begins to hide what is hidden in such a response.
    pub(crate) fn masking(&self, hidden: Hidden, memory: &MemoryBudget) -> Masking {
        let slice = (AT_ONCE / hidden.paths().count().max(1)).max(1024);
        let rewriter = Rewriter::streaming(hidden, memory);
        Masking { rewriter, come: Bytes::new(), slice, left: self.max_size, max_size: self.max_size }
    }

    /// Refuses a response that is larger than `max_size`.
    pub(crate) fn too_large(&self) -> Refusal {
        too_large(self.max_size)
    }

    /// Refuses a response with an undescribed status; `None` if it passes.
    pub(crate) fn undescribed(&self, status: StatusCode) -> Option<Refusal> {
        let detail = "the contract does not have its status";
        let refusal = || invalid(detail, vec![rule("undescribed", detail.to_owned())]);
        // A part, or a difference (RFC 3229), was not asked for.
        let partial = matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::IM_USED);
        match self.undescribed.filter(|_| status.as_u16() < self.passing_from) {
            Some(Undescribed::Reported) => Some(refusal().only_reported()),
            Some(Undescribed::Refused) => Some(refusal()),
            None => (partial && self.is_checked()).then(refusal),
        }
    }
}

/// A response of which something is hidden while it comes. After an error, nothing more of it may be sent.
#[derive(Debug)]
pub(crate) struct Masking {
    rewriter: Rewriter,
    /// What has come, and was not looked at yet.
    come: Bytes,
    /// Most bytes that are looked at in one go.
    slice: usize,
    /// Bytes that may still come.
    left: u64,
    max_size: u64,
}

impl Masking {
    /// Bytes are sent in blocks of this many: what is sent of each piece would tell how much is hidden in it.
    const BLOCK: usize = 16 * 1024;

    /// Refuses a response of which it is known that it will be too large: so many bytes have come, and at least so many will.
    pub(crate) fn expects(&self, coming: u64, come: usize) -> Result<(), Refusal> {
        if coming.saturating_add(come as u64) > self.left { Err(too_large(self.max_size)) } else { Ok(()) }
    }

    /// Adds what has come, once nothing is left of what came before.
    pub(crate) fn add(&mut self, data: Bytes) -> Result<(), Refusal> {
        self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| too_large(self.max_size))?;
        self.come = data;
        Ok(())
    }

    /// Whether something has come that was not looked at yet.
    pub(crate) fn has_more(&self) -> bool {
        !self.come.is_empty()
    }

    /// Looks at some of what has come. Returns what may be sent now; it may be nothing.
    pub(crate) fn go_on(&mut self) -> Result<Bytes, Refusal> {
        let slice = self.come.split_to(self.come.len().min(self.slice));
        self.rewriter.push(&slice).map_err(failed)?;
        self.rewriter.take_blocks(Self::BLOCK).map_err(failed)
    }

    /// Ends the response. Returns the rest.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Refusal> {
        self.rewriter.finish().map_err(failed)?;
        Ok(self.rewriter.take())
    }
}

/// How a body with these headers is checked, if it can be.
fn expected<'a>(
    contents: &'a Contents,
    headers: &'a HeaderMap,
) -> Result<(&'a Content, MediaType<'a>, Encoding), Refusal> {
    let (content, media) = contents
        .of(headers)
        .ok_or_else(|| invalid("its Content-Type is none of those that it may have", Vec::new()))?;
    let encoding = Encoding::of(headers).map_err(|refusal| invalid(refusal.detail().to_owned(), Vec::new()))?;
    Ok((content, media, encoding))
}

/// The coding of a body with these headers, if it says that it is JSON that everybody reads alike, in which something can be hidden.
fn maskable(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let media = media_type::of(headers);
    if !media.is_some_and(|media| media_type::is_json(&media) && media_type::is_utf8(&media)) {
        return Err(unreadable("it is not JSON, and the route masks fields of JSON".to_owned()));
    }
    Encoding::of(headers).map_err(|refusal| unreadable(refusal.detail().to_owned()))
}

/// Refuses a response in which nothing could be hidden.
fn failed(failed: Failed) -> Refusal {
    match failed {
        Failed::Unreadable(at) => {
            unreadable(format!("it cannot be read as JSON at byte {at}, so nothing of it can be hidden"))
        }
        Failed::TooMuchWork => {
            unreadable("it has too many members and elements to look for what the route masks".to_owned())
        }
        Failed::NoMemory => no_memory(Stage::Response),
    }
}

fn unreadable(cause: String) -> Refusal {
    invalid(cause.clone(), vec![rule("mask", cause)])
}

fn too_large(max_size: u64) -> Refusal {
    let detail = format!("it has more than {max_size} bytes; `response.max_size` of the route allows more");
    invalid(detail.clone(), vec![rule("max_size", detail)])
}

/// Whether a response in this content coding can be checked.
pub(crate) fn is_decoded(coding: &str) -> bool {
    Encoding::named(coding).is_some()
}

/// The violation of a rule that is not in a schema, so that the record names it.
fn rule(name: &str, detail: String) -> Violation {
    Violation { keyword: Some(name.into()), ..Violation::new("", detail) }
}

fn invalid(cause: impl Into<std::borrow::Cow<'static, str>>, violations: Vec<Violation>) -> Refusal {
    let detail = "the service behind gave an answer that is not as agreed";
    Refusal::new(Stage::Response, Reason::InvalidUpstreamResponse, detail).cause(cause).unsaid(violations)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use http::header::CONTENT_TYPE;
    use serde_json::json;

    use super::*;
    use crate::stages::schema::json::JsonSchema;

    #[test]
    fn statuses_are_found_by_what_says_most() {
        for (text, parsed) in [
            ("200", Some(Statuses::One(200))),
            ("2XX", Some(Statuses::Class(2))),
            ("5xx", Some(Statuses::Class(5))),
            ("default", Some(Statuses::Default)),
            ("6XX", None),
            ("20", None),
            ("2000", None),
            ("20x", None),
            ("+20", None),
            ("é00", None),
            ("", None),
        ] {
            assert_eq!(Statuses::parse(text), parsed, "{text}");
        }
        let schema =
            |name: &str| Contents::new(Contents::json(&Arc::new(JsonSchema::new(&json!({"const": name})).unwrap())));
        let requirement = Requirement::new(
            vec![
                (Statuses::Default, schema("default")),
                (Statuses::Class(2), schema("2XX")),
                (Statuses::One(201), schema("201")),
            ],
            100,
        );
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let memory = MemoryBudget::new(1000);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        for (status, name) in [(200, "2XX"), (201, "201"), (404, "default"), (500, "default")] {
            let Some(Expected::Contents(contents)) = requirement.of(StatusCode::from_u16(status).unwrap(), &headers)
            else {
                panic!("{status}")
            };
            for other in ["2XX", "201", "default"] {
                let judged = requirement.check(contents, &headers, Bytes::from(format!("\"{other}\"")), &memory, None);
                assert_eq!(runtime.block_on(judged).is_ok(), other == name, "{status} {other}");
            }
        }
    }

    /// F22: a label that the upstream, or the caller with `Accept`, chooses is no exemption.
    #[test]
    fn what_is_not_checked_is_named_in_the_contract() {
        let json = || Contents::json(&Arc::new(JsonSchema::new(&json!({})).unwrap()));
        let range = |text| (crate::stages::schema::media_type::MediaRange::parse(text).unwrap(), Content::Unchecked);
        let one = |contents| Requirement::new(vec![(Statuses::One(200), Contents::new(contents))], 100);
        let checked = one(json());
        let streaming = one([json(), vec![range("text/event-stream")]].concat());
        let files = Requirement::new(vec![(Statuses::Class(2), Contents::new(vec![range("*/*")]))], 100);
        for (media, of_checked, of_streaming) in [
            ("text/event-stream", true, false),
            ("text/event-stream; a=b", true, false),
            ("multipart/byteranges; boundary=b", true, true),
            ("", true, true),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]);
            assert_eq!(checked.of(StatusCode::OK, &headers).is_some(), of_checked, "{media}");
            assert_eq!(streaming.of(StatusCode::OK, &headers).is_some(), of_streaming, "{media}");
        }
        let none = HeaderMap::new();
        for status in [StatusCode::PARTIAL_CONTENT, StatusCode::IM_USED] {
            assert!(matches!(checked.of(status, &none), Some(Expected::Nothing)), "{status}");
            assert!(checked.undescribed(status).is_some_and(|refusal| !refusal.is_only_reported()));
        }
        assert!(!checked.takes_ranges() && !streaming.takes_ranges() && files.takes_ranges());
        assert!(!one(vec![range("*/*")]).takes_ranges(), "the part is not described");
    }

    /// F35
    #[test]
    fn an_empty_answer_is_judged_only_under_its_own_status() {
        let schema = Contents::new(Contents::json(&Arc::new(JsonSchema::new(&json!(true)).unwrap())));
        let statuses = [Statuses::One(200), Statuses::Class(4), Statuses::Default];
        let all = Requirement::new(statuses.map(|statuses| (statuses, schema.clone())).to_vec(), 100);
        for (status, accepted) in [(200, false), (202, true), (302, true), (401, false), (503, true)] {
            assert_eq!(all.accepts_nothing(StatusCode::from_u16(status).unwrap()), accepted, "{status}");
        }
        let one = Requirement::new(vec![(Statuses::One(200), schema)], 100);
        assert!(!one.accepts_nothing(StatusCode::OK) && !one.accepts_nothing(StatusCode::FOUND));
    }

    /// F5
    #[test]
    fn a_status_that_is_not_described_follows_its_own_rule_and_errors_pass() {
        let described = Contents::new(Contents::json(&Arc::new(JsonSchema::new(&json!({})).unwrap())));
        for (handling, reported) in
            [(None, None), (Some(Undescribed::Refused), Some(false)), (Some(Undescribed::Reported), Some(true))]
        {
            let requirement = Requirement::new(vec![(Statuses::One(200), described.clone())], 100);
            let requirement = requirement.handling_undescribed(handling, 400);
            let of = |status| requirement.of(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
            assert!(matches!(of(200), Some(Expected::Contents(_))));
            for status in [201, 302] {
                assert_eq!(matches!(of(status), Some(Expected::Nothing)), handling.is_some(), "{status} {handling:?}");
            }
            for status in [400, 404, 500] {
                assert!(of(status).is_none(), "{status} {handling:?}");
            }
            assert_eq!(
                requirement.undescribed(StatusCode::CREATED).map(|refusal| refusal.is_only_reported()),
                reported
            );
        }
    }

    #[test]
    fn what_is_wrong_is_for_the_record_alone() {
        let schema = JsonSchema::new(&json!({"properties": {"id": {"type": "integer"}}})).unwrap();
        let contents = Contents::new(Contents::json(&Arc::new(schema)));
        let requirement = Requirement::new(vec![(Statuses::Default, contents.clone())], 100);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let memory = MemoryBudget::new(1000);
        for (media, body, pointers) in [
            ("application/json", r#"{"id": "hunter2"}"#, vec!["/id"]),
            ("application/json", "hunter2", vec![]),
            ("text/html", "hunter2", vec![]),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]);
            let refusal =
                runtime.block_on(requirement.check(&contents, &headers, Bytes::from(body), &memory, None)).unwrap_err();
            assert_eq!(refusal.reason(), Reason::InvalidUpstreamResponse);
            let found: Vec<_> = refusal.violations().iter().map(|violation| &*violation.pointer).collect();
            assert_eq!(found, pointers);
            let (_, _, answer) = refusal.answer(&crate::exchange::RequestId::new(jiff::Timestamp::UNIX_EPOCH));
            assert!(
                !String::from_utf8_lossy(&answer).contains("hunter2")
                    && !String::from_utf8_lossy(&answer).contains("errors")
            );
        }
    }

    #[test]
    fn a_response_that_cannot_be_checked_for_lack_of_memory_is_not_the_fault_of_the_upstream() {
        // S9: both directions share the budget.
        let contents = Contents::new(Contents::json(&Arc::new(JsonSchema::new(&json!(true)).unwrap())));
        let requirement = Requirement::new(vec![(Statuses::Default, contents.clone())], 100);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (http::header::CONTENT_ENCODING, HeaderValue::from_static("br")),
        ]);
        // "hello" as an uncompressed meta-block (RFC 7932 §9.2).
        let body = Bytes::from_static(&[0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03]);
        for (memory, reason, status) in [(4, Reason::Overloaded, 503), (100, Reason::InvalidUpstreamResponse, 502)] {
            let memory = MemoryBudget::new(memory);
            let checked = requirement.check(&contents, &headers, body.clone(), &memory, None);
            let refusal = runtime.block_on(checked).unwrap_err();
            assert_eq!((refusal.reason(), refusal.stage()), (reason, Stage::Response));
            assert_eq!(refusal.reason().status().as_u16(), status);
        }
    }
}
