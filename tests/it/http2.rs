//! HTTP/2 towards clients, by hyper's own client: cleartext by preface.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::*;

/// Runs a story on a connection of its own.
pub fn over_http2<B, S>(proxy: &proxy::Proxy, story: impl FnOnce(SendRequest<B>) -> S)
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

/// F22: as over HTTP/1.1, no part of an answer that is judged is asked for, nor a coding that cannot be decoded.
#[test]
fn an_answer_that_is_judged_is_asked_for_whole() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).file("any.json", "{}");
    let proxy = policy.route("GET /x", "public: true, response: { json: any.json }").start();
    proxy.owes(1);
    over_http2(&proxy, async |mut sender| {
        let request = Request::get("http://a.example/x").header("range", "bytes=0-1");
        let request = request.header("accept-encoding", "dcb, br").body(whole("")).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    });
    let seen = upstream.only();
    assert_eq!((seen.header("range"), seen.header("accept-encoding")), (None, Some("br")));
    proxy.done();
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

/// The limit on header fields is that of HTTP/1, where all cookies are one field (RFC 9113 §8.2.3).
#[test]
fn cookies_that_came_apart_count_as_one_field() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x");
    let proxy = policy.with("limits: { headers: 20, header_size: 2KiB }").start();
    proxy.owes(2);
    over_http2(&proxy, async |mut sender| {
        for (count, status) in [(18, 200), (19, 431)] {
            let cookies = (0..60).map(|number| ("cookie".to_owned(), format!("c{number}=1")));
            let others = (0..count).map(|number| (format!("x-{number}"), "y".to_owned()));
            let request = Request::get("http://a.example/x");
            let request = cookies.chain(others).fold(request, |request, (name, value)| request.header(name, value));
            let answer = sender.send_request(request.body(whole("")).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{count}");
        }
    });
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

/// The next interim response.
async fn interim(response: &mut h2::client::ResponseFuture) -> http::Response<()> {
    std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap()
}

/// Runs a story with a client that is told of interim responses.
fn over_h2(proxy: &proxy::Proxy, story: impl AsyncFnOnce(h2::client::SendRequest<Bytes>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = TcpStream::connect(proxy.address()).await.unwrap();
        let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        story(sender.ready().await.unwrap()).await;
    });
}

/// F36: RFC 9110 §15.2. Browsers take early hints over HTTP/2 alone.
#[test]
fn interim_answers_reach_each_stream_before_the_final_one() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let upstream = upstream()
        .does(move |call| {
            let target = call.head.word(1).to_owned();
            call.send(format!(
                "HTTP/1.1 103 Early Hints\r\nlink: <{target}.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n"
            ))?;
            // The proxy must not wait for more before it passes it on.
            released.lock().unwrap().recv().unwrap();
            call.send("HTTP/1.1 199 Almost\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /{path}").start();
    proxy.owes(2);
    over_h2(&proxy, async |mut sender| {
        let mut get = |path| {
            let request = Request::get(format!("http://a.example{path}")).body(()).unwrap();
            sender.send_request(request, true).unwrap().0
        };
        for path in ["/a", "/b"] {
            let mut response = get(path);
            let early = interim(&mut response).await;
            assert_eq!((early.status().as_u16(), early.headers().len()), (103, 1));
            assert_eq!(early.headers()["link"], format!("<{path}.css>"));
            release.send(()).unwrap();
            assert_eq!(interim(&mut response).await.status().as_u16(), 199);
            assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        }
    });
    proxy.done();
}

/// RFC 9110 §10.1.1
#[test]
fn a_client_that_waits_is_told_to_send_its_body() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    proxy.owes(2);
    over_h2(&proxy, async |mut sender| {
        let post = |path| {
            let request = Request::post(format!("http://a.example{path}")).header("expect", "100-continue");
            request.body(()).unwrap()
        };
        let (mut response, mut body) = sender.send_request(post("/x"), false).unwrap();
        assert_eq!(interim(&mut response).await.status(), StatusCode::CONTINUE);
        body.send_data(Bytes::from_static(b"hi"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        // Nobody reads the body of a request that is refused.
        let (mut response, _body) = sender.send_request(post("/nothing"), false).unwrap();
        let none = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert!(none.is_none(), "{none:?}");
        assert_eq!(response.await.unwrap().status(), StatusCode::NOT_FOUND);
    });
    assert_eq!(upstream.only().body, b"hi");
    proxy.done();
}

/// Reads the status and the code of a refusal.
async fn refusal(answer: http::Response<hyper::body::Incoming>) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    (status, problem["code"].as_str().unwrap().to_owned())
}

/// S12: the limits on headers are the same as for HTTP/1, and so is the answer.
#[test]
fn headers_over_the_limits_are_431() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x");
    let proxy = policy.with("limits: { headers: 20, header_size: 2KiB }").start();
    proxy.owes(4);
    over_http2(&proxy, async |mut sender| {
        // `:authority` counts as the Host that it is.
        for (fields, size, refused) in [(19, 1, false), (20, 1, true), (1, 1900, false), (1, 2100, true)] {
            let mut request = Request::get("http://a.example/x");
            for number in 0..fields {
                request = request.header(format!("x-{number}"), "y".repeat(size));
            }
            sender.ready().await.unwrap();
            let answer = sender.send_request(request.body(whole("")).unwrap()).await.unwrap();
            if refused {
                assert_eq!(refusal(answer).await, (431, "malformed_request".to_owned()), "{fields} {size}");
            } else {
                assert_eq!(answer.status(), 200, "{fields} {size}");
            }
        }
    });
    proxy.done();
}

/// S12: trailers are header fields, too.
#[test]
fn trailers_over_the_limit_are_refused_like_in_http1() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").with("limits: { headers: 20 }").start();
    proxy.owes(2);
    over_http2(&proxy, async |mut sender| {
        for (count, status) in [(20, 200), (21, 400)] {
            let trailers = (0..count).map(|number| {
                let name: http::HeaderName = format!("x-{number}").parse().unwrap();
                (name, HeaderValue::from_static("7"))
            });
            let trailers = HeaderMap::from_iter(trailers);
            let body = whole("ho").with_trailers(std::future::ready(Some(Ok(trailers)))).map_frame(|frame| frame);
            let request = Request::post("http://a.example/x").body(body).unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{count}");
        }
    });
    proxy.done();
}

/// S11: as in HTTP/1, the answer is not a stream that ends without a word.
#[test]
fn an_answer_that_breaks_before_a_byte_left_is_502() {
    let upstream = upstream()
        .does(|call| {
            call.close();
            call.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n")
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    proxy.owes(1);
    over_http2(&proxy, async |mut sender| {
        let request = Request::get("http://a.example/x").body(whole("")).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(refusal(answer).await, (502, "invalid_upstream_response".to_owned()));
    });
    let records = proxy.done();
    assert_eq!(said(&records[0], "http.response.status_code"), 502);
}

/// A frame (RFC 9113 §4.1) that ends headers and stream.
fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, 5, 0, 0, 0, stream], payload].concat()
}

/// S12: what HTTP/2 refuses by itself, before anybody is asked, has reached a listener all the same.
#[test]
fn requests_that_http2_itself_refuses_have_records() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /").start();
    let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    // GET http://a/ (RFC 7541, Appendix A), and then a field name in upper case (RFC 9113 §8.2.1).
    let (good, upper) = (b"\x82\x86\x84\x41\x01a".as_slice(), b"\x82\x86\x84\x41\x01a\x00\x01X\x01y".as_slice());
    for (number, (frames, stays)) in [
        (frame(1, 1, upper), true),
        // Headers on stream 0, and headers that cannot be decoded, are errors of the connection.
        (frame(1, 0, good), false),
        (frame(1, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"), false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = client(&proxy);
        client.raw([start.clone(), frames].concat(), 1);
        let records = proxy.recorded(number + 1);
        let record = &records[number];
        assert_eq!(
            (said(record, "event.reason"), said(record, "http.version")),
            (&json!("malformed_request"), &json!("2"))
        );
        assert_eq!(said(record, "http.response.status_code"), &Value::Null, "nothing was answered");
        if !stays {
            client.connection().runs_dry();
        }
    }
    upstream.saw_nothing();
    proxy.done();
}

/// S2: requests that wait for upstreams, 128 on each connection, cannot take all that the process may open.
#[test]
fn requests_that_would_need_too_many_upstream_connections_are_503() {
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let upstream = upstream()
        .does(move |call| {
            // Until the test drops the other end.
            let _ = may_go.lock().unwrap().recv();
            call.answer(200, &[], "")
        })
        .start();
    // Of 272 files and sockets, 68 are for upstreams: 128 are kept, and 4 for each of 2 workers.
    let proxy = proxy().before(&upstream).open("GET /x").descriptors(272).start();
    proxy.owes(100);
    over_http2(&proxy, async |mut sender| {
        let mut answers = JoinSet::new();
        for _ in 0..100 {
            sender.ready().await.unwrap();
            answers.spawn(sender.send_request(Request::get("http://a.example/x").body(whole("")).unwrap()));
        }
        for _ in 0..32 {
            let answer = answers.join_next().await.unwrap().unwrap().unwrap();
            assert_eq!(refusal(answer).await, (503, "overloaded".to_owned()));
        }
        drop(go);
        for _ in 0..68 {
            assert_eq!(answers.join_next().await.unwrap().unwrap().unwrap().status(), 200);
        }
    });
    assert_eq!(upstream.connections(), 68);
    proxy.done();
}

/// As over HTTP/1: so many at the same time, and a stream that the client resets makes room.
#[test]
fn requests_of_a_consumer_that_are_under_way_are_limited_across_streams() {
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let issuer = issuer();
    let upstream = upstream().does(move |call| {
        if call.head.word(1) == "/slow" {
            // Until the test drops the other end.
            let _ = may_go.lock().unwrap().recv();
        }
        call.answer(200, &[], "")
    });
    let upstream = upstream.start();
    let policy = proxy().before(&upstream).trusts(&issuer).plan("free: { rate: 100000/s, concurrent: 1 }");
    let policy = policy.route("GET /slow", "scopes: [orders:read]").route("GET /x", "scopes: [orders:read]");
    let proxy = policy.start();
    let authorization = format!("Bearer {}", issuer.token().text());
    over_http2(&proxy, async |mut sender| {
        let request = |path: &str| {
            let request = Request::get(format!("http://a.example{path}")).header("authorization", &authorization);
            request.body(whole("")).unwrap()
        };
        sender.ready().await.unwrap();
        let slow = tokio::spawn(sender.send_request(request("/slow")));
        while upstream.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        let second = sender.send_request(request("/x")).await.unwrap();
        assert_eq!(refusal(second).await, (429, "too_many_concurrent".to_owned()));
        slow.abort();
        while sender.send_request(request("/x")).await.unwrap().status() != 200 {}
    });
    drop(go);
    proxy.stop();
}

/// F36: the small print holds over HTTP/2 as over HTTP/1.
#[test]
fn methods_and_targets_mean_the_same_as_in_http1() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x").open("OPTIONS /x").open("GET /x/{name}");
    let proxy = policy.with("limits: { header_size: 2KiB }").start();
    proxy.owes(7);
    over_http2(&proxy, async |mut sender| {
        let long = format!("/x/{}", "y".repeat(3000));
        for (method, path, forwards, status) in [
            ("OPTIONS", "*", None, 204),
            ("OPTIONS", "/x", Some("0"), 204),
            ("OPTIONS", "/x", Some("2"), 200),
            ("TRACE", "/x", None, 405),
            ("GET", "*", None, 400),
            ("GET", "/x/a|b", None, 200),
            ("GET", long.as_str(), None, 414),
        ] {
            let mut parts = http::Uri::from_static("http://a.example/").into_parts();
            parts.path_and_query = Some(path.parse().unwrap());
            let mut request = Request::builder().method(method).uri(http::Uri::from_parts(parts).unwrap());
            request = forwards.into_iter().fold(request, |request, left| request.header("max-forwards", left));
            sender.ready().await.unwrap();
            let answer = sender.send_request(request.body(whole("")).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{method} {path:.10}");
        }
    });
    let seen = upstream.seen();
    assert_eq!(seen.iter().map(|seen| seen.target()).collect::<Vec<_>>(), ["/x", "/x/a%7Cb"]);
    assert_eq!(seen[0].header("max-forwards"), Some("1"));
    proxy.done();
}
