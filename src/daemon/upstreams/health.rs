//! Asks the addresses of servers whether they are healthy: by GET, over a connection of its own each time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::egress::jittered;
use crate::policy::Server;
use crate::policy::upstream::{HTTP_2, HealthCheck, Protocol};
use crate::proxy::stream::Stream;
use crate::runtime::InForce;
use crate::state::endpoint::Endpoint;

/// What requests say of us.
const AGENT: &str = concat!("bartizan/", env!("CARGO_PKG_VERSION"));

/// Most checks at once, of all servers: each has a descriptor of the reserve.
pub(super) const MOST: usize = 32;

/// What so many answers in a row say of an address, if anything.
fn verdict(check: &HealthCheck, is_good: bool, in_a_row: u32) -> Option<bool> {
    let needed = if is_good { check.healthy_after } else { check.unhealthy_after };
    (in_a_row >= needed).then_some(is_good)
}

/// Never returns.
pub(super) async fn keep_asking(in_force: &InForce, server: &Arc<Server>, turns: &Arc<Semaphore>) {
    let Some(check) = &server.health else { return };
    loop {
        let endpoints = in_force.endpoints.current();
        let endpoints =
            endpoints.0.get(server.index).map(|resolved| Arc::clone(&resolved.endpoints)).unwrap_or_default();
        let mut asking = JoinSet::new();
        for endpoint in endpoints.iter() {
            let (server, endpoint, turns) = (Arc::clone(server), Arc::clone(endpoint), Arc::clone(turns));
            asking.spawn_local(async move {
                let _turn = turns.acquire().await;
                let asked = ask(&server, &endpoint).await;
                (endpoint, asked)
            });
        }
        while let Some(done) = asking.join_next().await {
            let Ok((endpoint, asked)) = done else { continue };
            let in_a_row = endpoint.answered(asked.is_ok());
            if let Some(healthy) = verdict(check, asked.is_ok(), in_a_row)
                && endpoint.set_healthy(healthy)
            {
                log(server, &endpoint, asked.err().as_deref());
            }
        }
        tokio::time::sleep(jittered(check.every)).await;
    }
}

fn log(server: &Server, endpoint: &Endpoint, why: Option<&str>) {
    let (server, address) = (&*server.name, &endpoint.address);
    match why {
        None => tracing::info!(server, %address, "the upstream server is healthy"),
        Some(why) => tracing::warn!(server, %address, why, "the upstream server is not healthy"),
    }
}

/// Asks once. The error says why it is not a good answer.
async fn ask(server: &Server, endpoint: &Endpoint) -> Result<(), String> {
    let Some(check) = &server.health else { return Ok(()) };
    let work = async {
        let stream = Stream::connect(&endpoint.address).await.map_err(|error| error.to_string())?;
        match (stream, &server.tls) {
            (Stream::Plain(tcp), Some((name, config))) => {
                let connecting = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp);
                let tls = connecting.await.map_err(|error| format!("no TLS: {error}"))?;
                if server.protocol == Protocol::Http2 && tls.get_ref().1.alpn_protocol() != Some(HTTP_2) {
                    return Err("the server did not choose HTTP/2 in the TLS handshake".to_owned());
                }
                get(tls, server, check).await
            }
            (stream, _) => get(stream, server, check).await,
        }
    };
    tokio::time::timeout(check.timeout, work)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {:?}", check.timeout)))
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    server: &Server,
    check: &HealthCheck,
) -> Result<(), String> {
    let status = match server.protocol {
        Protocol::Http1 => status(stream, server, check).await?,
        Protocol::Http2 => http2_status(stream, server, check).await?,
    };
    if status.is_success() { Ok(()) } else { Err(format!("the status is {status}")) }
}

async fn status(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    server: &Server,
    check: &HealthCheck,
) -> Result<StatusCode, String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get(&*check.path).header(HOST, &server.authority).header(USER_AGENT, AGENT);
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    // Driven beside the request, so that both end with this future.
    tokio::select! {
        response = sender.send_request(request) => Ok(response.map_err(failed)?.status()),
        ended = connection => Err(ended.err().map_or("the connection closed".to_owned(), failed)),
    }
}

async fn http2_status(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    server: &Server,
    check: &HealthCheck,
) -> Result<StatusCode, String> {
    let failed = |error: h2::Error| error.to_string();
    let scheme = if server.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(server.authority.as_bytes()).path_and_query(&*check.path);
    let request = Request::get(uri.build().map_err(|error| error.to_string())?).header(USER_AGENT, AGENT);
    let request = request.body(()).map_err(|error| error.to_string())?;
    let mut builder = h2::client::Builder::new();
    let handshake = builder.enable_push(false).handshake::<_, Bytes>(stream);
    let (mut sender, connection) = handshake.await.map_err(failed)?;
    // A sender that is kept keeps the connection open.
    let (mut response, _) = sender.send_request(request, true).map_err(failed)?;
    let ended = tokio::select! {
        response = &mut response => return Ok(response.map_err(failed)?.status()),
        ended = connection => ended,
    };
    // The response may have come together with the end of the connection.
    match poll_fn(|cx| Poll::Ready(Pin::new(&mut response).poll(cx))).await {
        Poll::Ready(Ok(response)) => Ok(response.status()),
        _ => Err(ended.err().map_or("the connection closed".to_owned(), failed)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_changes_after_so_many_answers_in_a_row() {
        let check = HealthCheck {
            path: "/".into(),
            every: Duration::ZERO,
            timeout: Duration::ZERO,
            healthy_after: 2,
            unhealthy_after: 3,
        };
        let answers =
            [(false, 1), (false, 2), (true, 1), (false, 1), (false, 2), (false, 3), (true, 1), (true, 2), (true, 3)];
        let verdicts = answers.map(|(is_good, in_a_row)| verdict(&check, is_good, in_a_row));
        let expected = [None, None, None, None, None, Some(false), None, Some(true), Some(true)];
        assert_eq!(verdicts, expected);
    }
}
