//! What a sink reads of a record.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

/// What a sink reads of a record; absent texts are empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Facts<'a> {
    #[serde(rename = "@timestamp", borrow)]
    pub(super) timestamp: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) event: Event<'a>,
    #[serde(borrow)]
    pub(super) http: Http<'a>,
    #[serde(borrow)]
    pub(super) url: Url<'a>,
    #[serde(borrow)]
    pub(super) client: Client<'a>,
    #[serde(borrow)]
    pub(super) user: Identified<'a>,
    #[serde(borrow)]
    pub(super) trace: Identified<'a>,
    #[serde(borrow)]
    pub(super) span: Identified<'a>,
    #[serde(borrow)]
    pub(super) bartizan: Own<'a>,
}

/// Members of `event`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) action: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) outcome: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) reason: Cow<'a, str>,
    #[serde(rename = "type")]
    types: Vec<String>,
}

/// Members of `http`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Http<'a> {
    #[serde(borrow)]
    pub(super) request: HttpRequest<'a>,
    pub(super) response: HttpResponse,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HttpRequest<'a> {
    #[serde(borrow)]
    pub(super) method: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HttpResponse {
    pub(super) status_code: Option<u16>,
}

/// Members of `url`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Url<'a> {
    #[serde(borrow)]
    pub(super) path: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) domain: Cow<'a, str>,
}

/// Members of `client`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Client<'a> {
    #[serde(borrow)]
    pub(super) ip: Cow<'a, str>,
}

/// What has an `id`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Identified<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
}

/// Members of `bartizan`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Own<'a> {
    #[serde(borrow)]
    pub(super) consumer: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) api: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) route: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) stage: Cow<'a, str>,
}

/// How much a record matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// A request that was admitted, a change, a checkpoint.
    Info,
    /// Somebody should look at it: `event.kind` is `alert`.
    Alert,
    /// A request that was refused.
    Denied,
    /// A request that failed.
    Error,
}

impl<'a> Facts<'a> {
    /// Reads a line. What is no record has no facts.
    pub(super) fn of(line: &'a [u8]) -> Self {
        serde_json::from_slice(line).unwrap_or_default()
    }

    pub(super) fn severity(&self) -> Severity {
        let is = |name: &str| self.event.types.iter().any(|kind| kind == name);
        match () {
            () if self.event.kind == "alert" => Severity::Alert,
            () if is("error") => Severity::Error,
            () if is("denied") => Severity::Denied,
            () => Severity::Info,
        }
    }

    /// When it happened.
    pub(super) fn at(&self) -> Option<Timestamp> {
        self.timestamp.parse().ok()
    }
}
