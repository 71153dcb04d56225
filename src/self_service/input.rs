//! The bodies of requests that change something: JSON, from the page's own origin if a browser sends them.

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::service::refuse;
use crate::body::Body;
use crate::exchange::Request;
use crate::exchange::origin;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::strict_json;

/// Where a browser's request comes from (Fetch Metadata).
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Reads the body of a change, which its route has bounded in size and time. An empty one is an empty object.
///
/// # Errors
/// A page of another origin sends it, or it is not the JSON that is expected.
pub(super) async fn read<T: DeserializeOwned>(request: &Request<'_>, body: Body) -> Result<T, Refusal> {
    check_origin(request)?;
    let body = body.collect().await.map_err(|_| malformed("the body ended early"))?.to_bytes();
    if body.is_empty() {
        return parse(b"{}");
    }
    if !is_json(request.headers) {
        let detail = "send the body as `Content-Type: application/json`";
        return Err(refuse(Stage::Schema, Reason::UnsupportedMediaType, detail));
    }
    parse(&body)
}

/// A browser may send the certificate or the cookie of its user with the requests of any page. Pages of other origins change nothing.
fn check_origin(request: &Request<'_>) -> Result<(), Refusal> {
    let own = (request.scheme, request.authority);
    let mut origins = request.headers.get_all(http::header::ORIGIN).iter();
    let is_own = origins.all(|origin| origin.to_str().is_ok_and(|origin| origin::is_own(origin, own)));
    let mut sites = request.headers.get_all(SITE).iter();
    if is_own && sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none")) {
        return Ok(());
    }
    Err(refuse(Stage::Request, Reason::CorsRefused, "pages of other origins may not change anything here"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media), None) = (types.next(), types.next()) else { return false };
    let essence = media.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    strict_json::parse(body).and_then(serde_json::from_value).map_err(|error| {
        // What serde says may quote the body, which may have a code in it.
        let detail = "the body is not the JSON object that is expected here; see the documentation";
        let reason = if error.is_data() { Reason::SchemaViolation } else { Reason::MalformedBody };
        refuse(Stage::Schema, reason, detail).cause(format!("line {}, column {}", error.line(), error.column()))
    })
}

fn malformed(detail: &'static str) -> Refusal {
    refuse(Stage::Schema, Reason::MalformedBody, detail)
}
