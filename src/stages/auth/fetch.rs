//! HTTP requests to issuers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::Full;

use crate::egress::{Egress, HttpClient, Trust};

/// Largest response body, in bytes.
const MAX_RESPONSE: usize = 1024 * 1024;

/// An HTTP client for one issuer.
#[derive(Clone)]
pub(super) struct Fetcher {
    client: HttpClient,
}

/// A response with status 200.
pub(super) struct Fetched {
    pub(super) body: Bytes,
    /// Its `max-age` (RFC 9111 §5.2.2.1).
    pub(super) max_age: Option<Duration>,
}

/// Why a fetch failed.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The status is not 200.
    Status(StatusCode),
    /// No response, or one that is too large or too slow.
    Failed(String),
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the status is {status}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl Fetcher {
    /// `timeout` is the timeout of a whole exchange.
    pub(super) fn new(egress: &Egress, trust: &Trust, timeout: Duration) -> Self {
        Self { client: HttpClient::new(egress, Some(trust), timeout, MAX_RESPONSE) }
    }

    /// Gets a document.
    pub(super) async fn get(&self, url: &Uri, accept: &'static str) -> Result<Fetched, FetchError> {
        let request = Request::get(url.clone()).header(ACCEPT, accept).body(Full::default());
        self.exchange(request.map_err(|error| FetchError::Failed(error.to_string()))?).await
    }

    /// Posts a form.
    pub(super) async fn post(
        &self,
        url: &Uri,
        form: String,
        authorization: Option<&HeaderValue>,
    ) -> Result<Fetched, FetchError> {
        let mut request = Request::post(url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::from(form)).map_err(|error| FetchError::Failed(error.to_string()))?;
        self.exchange(request).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Fetched, FetchError> {
        let answer = self.client.send(request).await.map_err(FetchError::Failed)?;
        match answer.status {
            StatusCode::OK => Ok(Fetched { max_age: max_age(&answer.headers), body: answer.body }),
            status => Err(FetchError::Status(status)),
        }
    }
}

/// The `max-age`; zero where the response must not be stored or reused.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    directives.find_map(|directive| match directive.split_once('=') {
        Some((name, seconds)) if name.eq_ignore_ascii_case("max-age") => {
            seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
        }
        None if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") => {
            Some(Duration::ZERO)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_answer_may_be_kept() {
        for (value, seconds) in [
            ("max-age=60", Some(60)),
            ("public, Max-Age=\"5\"", Some(5)),
            ("no-store", Some(0)),
            ("no-cache, max-age=60", Some(0)),
            ("public", None),
            ("max-age=soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
            assert_eq!(max_age(&headers), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
