//! HTTP/2 towards clients, by hyper's own client: cleartext by preface.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::*;

/// Runs a story on a connection of its own.
fn over_http2<B, S>(proxy: &proxy::Proxy, story: impl FnOnce(SendRequest<B>) -> S)
where
    B: Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
    S: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = TcpStream::connect(proxy.address()).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        story(sender).await;
    });
}

fn whole(text: &'static str) -> Full<Bytes> {
    Full::new(Bytes::from_static(text.as_bytes()))
}

#[test]
fn many_streams_of_one_connection_are_answered_and_recorded() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    proxy.owes(101);
    over_http2(&proxy, async |mut sender| {
        let mut answers = Vec::new();
        for _ in 0..100 {
            sender.ready().await.unwrap();
            let request = Request::post("http://a.example/x").body(whole("hi")).unwrap();
            answers.push(sender.send_request(request));
        }
        for answer in answers {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            client::check_names(answer.headers().keys().map(http::HeaderName::as_str));
            let echo: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
            assert_eq!(echo["body"], "hi");
        }
        let request = Request::post("http://a.example/nothing").body(whole("hi")).unwrap();
        let refused = sender.send_request(request).await.unwrap();
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
    });
    let records = proxy.done();
    assert!(records.iter().all(|record| said(record, "http.version") == "2"));
    assert!(records.iter().all(|record| said(record, "url.domain") == "a.example"));
}

#[test]
fn cookies_that_came_apart_go_on_as_one() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    proxy.owes(1);
    over_http2(&proxy, async |mut sender| {
        let request = Request::get("http://a.example/x").header("cookie", "a=1").header("cookie", "b=2");
        sender.send_request(request.body(whole("")).unwrap()).await.unwrap();
    });
    assert_eq!(upstream.only().header("cookie"), Some("a=1; b=2"));
    proxy.done();
}

#[test]
fn trailers_go_through_both_ways() {
    let upstream = upstream()
        .does(|call| {
            call.body()?;
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-upstream\r\n\r\n";
            call.send(format!("{head}2\r\nhi\r\n0\r\nx-upstream: done\r\n\r\n"))
        })
        .start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    proxy.owes(1);
    over_http2(&proxy, async |mut sender| {
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("7"))]);
        // Mapped, a body has no length, and so no Content-Length, which would rule trailers out towards HTTP/1.1.
        let body = whole("ho").with_trailers(std::future::ready(Some(Ok(trailers)))).map_frame(|frame| frame);
        let request = Request::post("http://a.example/x").header("trailer", "x-sum").header("te", "trailers");
        let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-upstream"], "done");
    });
    assert_eq!(upstream.only().trailers, [("x-sum".to_owned(), "7".to_owned())]);
    proxy.done();
}
