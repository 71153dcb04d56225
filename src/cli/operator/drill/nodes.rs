//! Sends requests to nodes as a caller does, and watches whether they accept a credential.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::task::JoinSet;

use super::places::Carrier;
use crate::cli::operator::trust::roots;
use crate::telemetry::chain;
use crate::url::{Form, HttpUrl};

/// Timeout of a whole request to a node.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between retries; long, since failed attempts count against this address (`auth.failed_attempts`).
const RETRY: Duration = Duration::from_millis(500);
/// Pause between requests that check whether the credential is refused.
const PAUSE: Duration = Duration::from_millis(1);
/// Number of further requests after the first refusal, each on a new connection, which another worker may accept.
const RECHECKS: usize = 20;
/// Longest `Retry-After` that is obeyed, in seconds.
const LONGEST_WAIT: u64 = 60;
/// Maximum number of bytes to read of a response body.
const MAX_BODY: usize = 64 * 1024;
/// How long to read a body that is not a refusal, which is read only to reuse the connection.
const BODY_TIMEOUT: Duration = Duration::from_millis(100);

/// Scheme, host and port of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node(pub(super) String);

impl FromStr for Node {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = HttpUrl::parse(text, Form::SERVER).map_err(|error| error.to_string())?;
        let scheme = if url.is_https() { "https" } else { "http" };
        Ok(Self(format!("{scheme}://{}", url.authority())))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Behaviour of a node after the revocation.
pub(super) struct Watched {
    pub(super) node: Node,
    pub(super) refused_after: Option<Duration>,
    pub(super) stayed: bool,
    /// The last unexpected result.
    pub(super) seen: Option<String>,
}

/// Runs a task for every node concurrently. Returns the results in the order of the nodes.
pub(super) async fn each<T, F>(nodes: &[Node], task: impl Fn(Node) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (position, node) in nodes.iter().enumerate() {
        let task = task(node.clone());
        tasks.spawn(async move { (position, task.await) });
    }
    let mut results = Vec::new();
    while let Some(done) = tasks.join_next().await {
        results.extend(done.ok());
    }
    results.sort_by_key(|(position, _)| *position);
    results.into_iter().map(|(_, result)| result).collect()
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// HTTP clients for the nodes.
pub(super) struct Clients {
    /// Reuses connections.
    kept: HttpClient,
    /// Opens a new connection for each request.
    fresh: HttpClient,
}

impl Clients {
    pub(super) fn new(nodes: &[Node], ca: Option<&Path>) -> Result<Self, String> {
        let https = nodes.iter().any(|node| node.0.starts_with("https:"));
        let roots = roots(ca)?;
        if https && roots.is_empty() {
            return Err(
                "https nodes cannot be verified: the system has no certificate authorities; give --ca".to_owned()
            );
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let builder = || Client::builder(TokioExecutor::new());
        let fresh = builder().pool_max_idle_per_host(0).build(connector.clone());
        Ok(Self { kept: builder().build(connector), fresh })
    }
}

/// Sends the same request with the same credential to nodes.
pub(super) struct Prober {
    pub(super) clients: Clients,
    pub(super) method: Method,
    /// With the credential, if that is in the query.
    pub(super) path: String,
    pub(super) carrier: Carrier,
}

/// Response of a node.
pub(super) struct NodeResponse {
    status: StatusCode,
    /// `code` of a problem document (RFC 9457).
    code: Option<String>,
    /// `Retry-After`, in seconds.
    wait: Option<u64>,
}

impl NodeResponse {
    pub(super) fn is_accepted(&self) -> bool {
        let refused = matches!(self.status.as_u16(), 401 | 403 | 429 | 503);
        // Without a route, no credential is checked.
        !refused && self.advice().is_none()
    }

    /// Returns what to change if the node has no such route, or cannot read the request: another try changes nothing.
    fn advice(&self) -> Option<&'static str> {
        match self.code.as_deref()? {
            "no_route" | "method_not_allowed" => Some("use --path and --method of a route that the credential may use"),
            "malformed_request" => {
                Some("look where the API takes credentials, and use one of the options for that place")
            }
            _ => None,
        }
    }

    fn is_revoked(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED && self.code.as_deref() == Some("revoked")
    }

    /// Returns whether the credential is accepted, even if the drill has used up the limits of its consumer.
    pub(super) fn is_known(&self) -> bool {
        self.is_accepted() || matches!(self.code.as_deref(), Some("rate_limited" | "quota_exceeded"))
    }
}

impl fmt::Display for NodeResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the response is {}", self.status)?;
        self.code.iter().try_for_each(|code| write!(f, ", {}", code.escape_debug()))
    }
}

impl Prober {
    async fn send(&self, client: &HttpClient, node: &Node) -> Result<NodeResponse, String> {
        let request = Request::builder().method(self.method.clone()).uri(format!("{node}{}", self.path));
        let request = self.carrier.add_to(request).body(Full::default()).map_err(|error| error.to_string())?;
        let asked = async {
            let answer = client.request(request).await.map_err(|error| chain(&error))?;
            let (parts, body) = answer.into_parts();
            let mut response = NodeResponse { status: parts.status, code: None, wait: None };
            let timeout = if response.is_accepted() { BODY_TIMEOUT } else { TIMEOUT };
            let body = tokio::time::timeout(timeout, Limited::new(body, MAX_BODY).collect()).await;
            let body = body.ok().and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default();
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            response.code = problem.get("code").and_then(Value::as_str).map(str::to_owned);
            response.wait = parts.headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
            Ok(response)
        };
        tokio::time::timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err(format!("no response within {TIMEOUT:?}")))
    }

    /// Repeats the request until the response is good or `timeout` has passed.
    pub(super) async fn until(
        &self,
        node: &Node,
        timeout: Duration,
        good: fn(&NodeResponse) -> bool,
    ) -> Result<(), String> {
        let (mut end, mut waited) = (Instant::now() + timeout, false);
        loop {
            let (problem, wait) = match self.send(&self.clients.kept, node).await {
                Ok(response) if good(&response) => return Ok(()),
                Ok(response) if response.advice().is_some() => {
                    let help = response.advice().unwrap_or_default();
                    return Err(format!("{node}: {response}; {help}"));
                }
                Ok(response) => (response.to_string(), response.wait.filter(|wait| *wait <= LONGEST_WAIT && !waited)),
                Err(problem) => (problem, None),
            };
            let mut pause = RETRY;
            if let Some(wait) = wait {
                // The drill itself may have used up the failed attempts of this address.
                (pause, waited) = (Duration::from_secs(wait), true);
                end += pause;
            }
            if Instant::now() >= end {
                return Err(format!("{node}: {problem}"));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Repeats the request until the credential is refused as revoked, then checks that it stays refused.
    pub(super) async fn watch(&self, node: Node, revoked: Instant, give_up: Duration) -> Watched {
        let refused_after = loop {
            let problem = match self.send(&self.clients.kept, &node).await {
                Ok(response) if response.is_revoked() => break revoked.elapsed(),
                Ok(response) => response.to_string(),
                Err(problem) => problem,
            };
            let after = revoked.elapsed();
            if after >= give_up {
                let seen = Some(format!("{problem} after {} ms", milliseconds(after)));
                return Watched { node, refused_after: None, stayed: false, seen };
            }
            tokio::time::sleep(PAUSE).await;
        };
        let mut seen = None;
        for _ in 0..RECHECKS {
            seen = match self.send(&self.clients.fresh, &node).await {
                // A refusal for too many failed attempts counts, too.
                Ok(response) if !response.is_accepted() => None,
                Ok(response) => Some(format!("{response} after it was refused")),
                Err(problem) => Some(format!("{problem} after it was refused")),
            };
            if seen.is_some() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Watched { node, refused_after: Some(refused_after), stayed: seen.is_none(), seen }
    }
}

/// Returns milliseconds, rounded to a tenth.
pub(super) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_plain() {
        for (text, node) in [
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("https://[::1]:8443/", Some("https://[::1]:8443")),
            ("https://a.example", Some("https://a.example")),
            ("http://127.0.0.1:90000", None),
            ("http://a.example/x", None),
            ("http://a:b@a.example", None),
            ("http://a.example:90000", None),
            ("http://a.example#x", None),
            ("ftp://a.example", None),
            ("a.example:80", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Node>().ok().map(|node| node.0).as_deref(), node, "{text}");
        }
    }

    /// U15: a wrong path is reported at once, however long a node has to receive a key.
    #[tokio::test]
    async fn a_path_that_no_node_has_is_not_tried_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node: Node = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let answered = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let body = r#"{"code":"no_route"}"#;
            let mut head = [0; 1024];
            tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.unwrap();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
            // Nobody answers a second time.
        });
        let prober = Prober {
            clients: Clients::new(std::slice::from_ref(&node), None).unwrap(),
            method: Method::GET,
            path: "/typo".to_owned(),
            carrier: Carrier::Query("key".to_owned(), "k".into()),
        };
        let problem = prober.until(&node, Duration::from_secs(30), NodeResponse::is_accepted).await.unwrap_err();
        assert!(problem.contains("404") && problem.contains("use --path"), "{problem}");
        answered.await.unwrap();
    }

    #[test]
    fn what_lets_a_credential_through_and_what_does_not() {
        for (status, code, through, revoked, is_known) in [
            (200, None, true, false, true),
            (404, None, true, false, true),
            (404, Some("no_route"), false, false, false),
            (405, Some("method_not_allowed"), false, false, false),
            (400, Some("malformed_request"), false, false, false),
            (400, Some("malformed_body"), true, false, true),
            (422, Some("schema_violation"), true, false, true),
            (401, Some("revoked"), false, true, false),
            (401, Some("invalid_key"), false, false, false),
            (403, Some("revoked"), false, false, false),
            (429, Some("rate_limited"), false, false, true),
            (429, Some("too_many_failures"), false, false, false),
            (503, None, false, false, false),
        ] {
            let response = NodeResponse {
                status: StatusCode::from_u16(status).unwrap(),
                code: code.map(str::to_owned),
                wait: None,
            };
            let found = (response.is_accepted(), response.is_revoked(), response.is_known());
            assert_eq!(found, (through, revoked, is_known), "{response}");
        }
    }
}
