//! What collectors answer: `ExportLogsServiceResponse` and `ExportTraceServiceResponse`, which have the same form.

use std::fmt;

use http::header::CONTENT_TYPE;
use prost::Message;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::egress::{Answer, shown};

/// Media type of requests and responses.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";
/// Media type of responses of some collectors, whatever they are sent.
const JSON: &str = "application/json";

/// The response of a success.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExportResponse {
    /// Absent: everything was taken.
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<ExportPartialSuccess>,
}

/// What a collector did not take: `ExportLogsPartialSuccess` or `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExportPartialSuccess {
    /// How many records or spans it rejected; 0: none, and the message is a warning.
    #[prost(int64, tag = "1")]
    pub(crate) rejected: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
}

/// The same in JSON.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonResponse {
    partial_success: Option<JsonPartialSuccess>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonPartialSuccess {
    #[serde(alias = "rejectedSpans")]
    rejected_log_records: Count,
    error_message: String,
}

/// A number, or its text, as JSON of Protobuf has it; zero for anything else, of which nothing is kept.
#[derive(Default)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or its text")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Count, E> {
        Ok(Count(number))
    }

    fn visit_str<E: Error>(self, digits: &str) -> Result<Count, E> {
        Ok(Count(digits.parse().unwrap_or_default()))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Count, E> {
        Ok(Count(0))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Count, E> {
        Ok(Count(0))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Count, E> {
        Ok(Count(0))
    }

    fn visit_unit<E: Error>(self) -> Result<Count, E> {
        Ok(Count(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(0))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(0))
    }
}

/// What a collector did not take.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PartialSuccess {
    /// How many records or spans it rejected, as it says.
    pub(crate) rejected: u64,
    /// Why, or a warning: on one line and shortened.
    pub(crate) message: String,
}

impl ExportResponse {
    /// Reads the response of a success: in Protobuf or JSON, or empty.
    ///
    /// # Errors
    /// It is none of a collector. The text is for operators.
    pub(crate) fn read(answer: &Answer) -> Result<PartialSuccess, String> {
        let media_type = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is = |name: &str| media_type.split(';').next().is_some_and(|own| own.trim().eq_ignore_ascii_case(name));
        let body = answer.body.trim_ascii();
        let read = match () {
            () if answer.body.is_empty() => Some(PartialSuccess::default()),
            () if is(PROTOBUF) => Self::decode(&*answer.body).ok().map(|response| {
                let partial = response.partial_success.unwrap_or_default();
                PartialSuccess::new(u64::try_from(partial.rejected).unwrap_or_default(), &partial.error_message)
            }),
            () if is(JSON) && body.starts_with(b"{") => {
                serde_json::from_slice(body).ok().map(|response: JsonResponse| {
                    let JsonPartialSuccess { rejected_log_records, error_message } =
                        response.partial_success.unwrap_or_default();
                    PartialSuccess::new(rejected_log_records.0, &error_message)
                })
            }
            () => None,
        };
        read.ok_or_else(|| format!("this is no response of an OTLP collector: `{}`", shown(media_type)))
    }
}

impl PartialSuccess {
    fn new(rejected: u64, message: &str) -> Self {
        Self { rejected, message: shown(message) }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;

    #[test]
    fn a_success_is_protobuf_or_json_or_empty() {
        let proto = |rejected, message: &str| {
            let partial = ExportPartialSuccess { rejected, error_message: message.to_owned() };
            ExportResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        let json = |text: &str| text.as_bytes().to_vec();
        for (media_type, body, expected) in [
            (PROTOBUF, vec![], Some((0, ""))),
            ("text/html", vec![], Some((0, ""))),
            (PROTOBUF, json("\n"), None),
            (JSON, json("\n{}"), Some((0, ""))),
            ("Application/X-Protobuf; a=b", proto(3, "too\nold"), Some((3, "too old"))),
            (PROTOBUF, proto(-3, ""), Some((0, ""))),
            (PROTOBUF, json("\u{1}"), None),
            ("application/x-protobufs", proto(3, ""), None),
            (JSON, json("{}"), Some((0, ""))),
            ("application/json; charset=utf-8", json("{\"partialSuccess\":{}}"), Some((0, ""))),
            (
                JSON,
                json("{\"partialSuccess\":{\"rejectedLogRecords\":\"2\",\"errorMessage\":\"old\"}}"),
                Some((2, "old")),
            ),
            (JSON, json("{\"partialSuccess\":{\"rejectedSpans\":4}}"), Some((4, ""))),
            (JSON, json("{\"partialSuccess\":{\"rejectedSpans\":[0,[4],{\"a\":4}]}}"), Some((0, ""))),
            (JSON, json("{\"partialSuccess\":{\"rejectedSpans\":-4}}"), Some((0, ""))),
            (JSON, json("[]"), None),
            (JSON, json("<html>"), None),
            ("text/html", json("{}"), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(media_type).unwrap());
            let read = ExportResponse::read(&Answer { status: StatusCode::OK, headers, body: body.into() });
            let expected = expected.map(|(rejected, message)| PartialSuccess::new(rejected, message));
            let wrong = format!("this is no response of an OTLP collector: `{media_type}`");
            assert_eq!(read, expected.ok_or(wrong), "{media_type}");
        }
    }
}
