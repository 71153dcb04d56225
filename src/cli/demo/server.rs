//! The HTTP server of the sample API and the issuer.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

/// Largest request body of the API and the issuer, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Serves HTTP/1.1 on a socket forever. Must run on a local runtime.
pub(super) async fn listen<F>(
    socket: TcpListener,
    answer: impl Fn(Request<Incoming>) -> F + Clone + 'static,
) -> io::Result<()>
where
    F: Future<Output = Response<Full<Bytes>>> + 'static,
{
    let socket = tokio::net::TcpListener::from_std(socket)?;
    loop {
        let (stream, _) = socket.accept().await?;
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        tokio::task::spawn_local(async move {
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the sample API or the issuer ended early");
            }
        });
    }
}

/// A JSON answer.
pub(super) fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}
