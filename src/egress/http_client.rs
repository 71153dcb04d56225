//! HTTP requests of the process itself, bounded in size and time; redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;

use super::answer::Answer;
use super::dial::Dialer;
use super::settings::{Egress, Trust};
use super::veil::Veil;
use crate::telemetry::chain;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Most bytes of the body of a response that is no success.
const MAX_COMPLAINT: usize = 16 * 1024;
/// What requests say of us.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("bartizan/", env!("CARGO_PKG_VERSION")));

/// An HTTP/1.1 client for one peer.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Inner,
    timeout: Duration,
    /// Most bytes of the body of a response.
    limit: usize,
}

/// Why a request has no response.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    /// For operators.
    pub(crate) why: String,
    /// There is one, which says that the request succeeded, but its body could not be read.
    pub(crate) is_success: bool,
    /// There is one, but its body is larger than the limit.
    pub(crate) is_too_large: bool,
}

impl From<String> for NoAnswer {
    fn from(why: String) -> Self {
        Self { why, is_success: false, is_too_large: false }
    }
}

#[derive(Clone)]
enum Inner {
    Http(Client<Dialer, Full<Bytes>>),
    Https(Client<HttpsConnector<Dialer>, Full<Bytes>>),
}

impl HttpClient {
    /// A client that trusts these authorities if its peer is https. `timeout` is for a whole exchange, `limit` for the body
    /// of a response, in bytes.
    pub(crate) fn new(egress: &Egress, trust: Option<&Trust>, timeout: Duration, limit: usize) -> Self {
        let (dialer, executor) = (Dialer::new(egress), TokioExecutor::new());
        let mut builder = Client::builder(executor);
        builder.pool_idle_timeout(IDLE).pool_timer(hyper_util::rt::TokioTimer::new());
        let client = match trust {
            None => Inner::Http(builder.build(dialer)),
            Some(trust) => Inner::Https(builder.build(HttpsConnector::from((dialer, Arc::clone(&trust.config))))),
        };
        Self { client, timeout, limit }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// There is no response, or one that is too large or too slow.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        self.exchange(request).await.map_err(|error| error.why)
    }

    /// As [`send`](Self::send).
    ///
    /// # Errors
    /// The same, told apart.
    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        self.exchange_within(request, self.limit).await
    }

    /// As [`exchange`](Self::exchange), with another limit for the body of this response.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn exchange_within(
        &self,
        mut request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Answer, NoAnswer> {
        request.headers_mut().insert(USER_AGENT, AGENT);
        let veil = Veil::of(&request);
        let exchange = async {
            let response = self.request(request).await.map_err(|error| NoAnswer::from(chain(&error)))?;
            let mut answer = read(response, limit).await?;
            if !answer.status.is_success() {
                answer.body = veil.over(answer.body);
            }
            Ok(answer)
        };
        let late = |_| NoAnswer::from(format!("no complete response within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, exchange).await.map_err(late)?
    }

    async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        match &self.client {
            Inner::Http(client) => client.request(request).await,
            Inner::Https(client) => client.request(request).await,
        }
    }
}

/// Reads a response, whose body may have `limit` bytes.
async fn read(response: Response<Incoming>, limit: usize) -> Result<Answer, NoAnswer> {
    let (head, mut body) = response.into_parts();
    let body = if head.status.is_success() {
        let read = Limited::new(body, limit).collect().await;
        let error = |error: Box<dyn std::error::Error + Send + Sync>| NoAnswer {
            why: format!("the body of the response: {error}"),
            is_success: true,
            is_too_large: error.is::<LengthLimitError>(),
        };
        read.map_err(error)?.to_bytes()
    } else {
        // What a complaint says is shown, but nothing depends on it.
        let mut complaint = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            let left = MAX_COMPLAINT.min(limit).saturating_sub(complaint.len());
            let data = frame.data_ref().map(|data| data.get(..left).unwrap_or(data)).unwrap_or_default();
            complaint.extend_from_slice(data);
            if complaint.len() >= MAX_COMPLAINT.min(limit) {
                break;
            }
        }
        complaint.into()
    };
    Ok(Answer { status: head.status, headers: head.headers, body })
}
