//! Upstream servers that are called over HTTP/2.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use h2::Reason;
use http::HeaderValue;
use http_body_util::Empty;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::proxy::Reloaded;
use crate::support::wire::{Body, Connection, Framing};
use crate::support::*;

/// An API before this server over HTTP/2 without TLS.
fn before(upstream: &Http2Upstream) -> Policy {
    proxy().server(&upstream.url()).upstream("protocol: h2c").open("GET /x").open("POST /x")
}

/// Answers that all is well, once the request has come whole.
async fn answers(mut call: Http2Call) {
    let (body, _) = call.all().await;
    let text = format!("{} {} {}", call.parts.method, call.parts.uri, body.len());
    call.answer(200, text);
}

/// Which connection the request came on.
async fn tells_connection(mut call: Http2Call) {
    call.answer(200, call.connection.to_string());
}

#[test]
fn a_request_is_one_of_http2_there() {
    let upstream = http2_upstream().start(answers);
    let proxy = proxy()
        .server(&format!("{}/base", upstream.url()))
        .upstream("protocol: h2c")
        .open("GET /x")
        .open("POST /x")
        .start();
    let mut client = client(&proxy);
    let said = client.get("/x?a=%2F&b").header("te", "trailers").header("cookie", "a=1").send().is(200).text();
    assert_eq!(said, format!("GET http://{}/base/x?a=%2F&b 0", upstream.address));
    assert_eq!(client.post("/x", "12345").send().is(200).text(), format!("POST http://{}/base/x 5", upstream.address));
    client.post("/x", "").send().is(200);
    let seen = upstream.seen();
    let header = |number: usize, name: &str| seen[number].headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!([header(0, "te"), header(1, "te")], [Some("trailers"), None]);
    assert_eq!([header(0, "cookie"), header(0, "x-forwarded-for")], [Some("a=1"), Some("127.0.0.1")]);
    assert_eq!([0, 1, 2].map(|number| header(number, "content-length")), [None, Some("5"), Some("0")]);
    for request in &seen {
        assert!(
            ["host", "connection", "keep-alive", "upgrade"].iter().all(|name| !request.headers.contains_key(*name))
        );
    }
    assert_eq!(upstream.connections(), 1);
    proxy.done();
}

#[test]
fn a_response_is_the_same_as_over_http11() {
    let upstream = http2_upstream().start(async |mut call: Http2Call| match call.header("x-do") {
        Some("204") => call.alone(204, &[("etag", "1")]),
        Some("head") => call.alone(200, &[("content-length", "7")]),
        Some("length") => {
            let mut body =
                call.head(200, &[("content-length", "4"), ("set-cookie", "a"), ("set-cookie", "b"), ("server", "s")]);
            body.send_data(Bytes::from_static(b"fo"), false).unwrap();
            body.send_data(Bytes::from_static(b"ur"), true).unwrap();
        }
        Some("interim") => {
            call.interim(103, &[("link", "</a.css>")]);
            call.answer(200, "hi");
        }
        Some("600") => call.alone(600, &[]),
        Some("large") => call.alone(200, &[("x-large", &"x".repeat(100_000))]),
        Some("lengths") => call.alone(200, &[("content-length", "0"), ("content-length", "0")]),
        Some("short") => call.head(200, &[("content-length", "4")]).send_data(Bytes::from_static(b"fo"), true).unwrap(),
        Some("location") => call.alone(302, &[("location", "/elsewhere")]),
        _ => call.reset(Reason::INTERNAL_ERROR),
    });
    let proxy = before(&upstream).open("HEAD /x").start();
    let mut client = client(&proxy);
    let mut asks = |what: &str| client.get("/x").header("x-do", what).send();
    assert_eq!(asks("204").is(204).header("etag"), Some("1"));
    let length = asks("length").is(200);
    assert_eq!((length.text().as_str(), length.header("content-length")), ("four", Some("4")));
    assert_eq!((length.head.all("set-cookie"), length.header("server")), (vec!["a", "b"], None));
    assert_eq!(asks("location").is(302).header("location"), Some("/elsewhere"));
    for what in ["600", "large", "lengths", "nothing"] {
        asks(what).refused(502, "invalid_upstream_response");
    }
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\nx-do: interim\r\n\r\n", 1);
    let early = client.head();
    assert_eq!((early.word(1), early.all("link")), ("103", vec!["</a.css>"]));
    assert_eq!(client.answer().is(200).text(), "hi");
    let head = client.request("HEAD", "/x").header("x-do", "head").send().is(200);
    assert_eq!(head.header("content-length"), Some("7"));
    let mut other = crate::support::client(&proxy);
    other.raw("GET /x HTTP/1.1\r\nhost: a\r\nx-do: short\r\n\r\n", 1);
    let refused = other.answer();
    assert_eq!(refused.status, 502, "{refused:?}");
    proxy.done();
}

/// Byte by byte, also what is no text.
#[test]
fn trailers_go_through_both_ways() {
    let upstream = http2_upstream().start(async |mut call: Http2Call| {
        let (_, trailers) = call.all().await;
        let mut body = call.head(200, &[("trailer", "x-sum")]);
        body.send_data(Bytes::from_static(b"hi"), false).unwrap();
        let mut answer = trailers.unwrap_or_default();
        answer.insert("x-raw", HeaderValue::from_bytes(b"a\xc3\xa9 ,;=\xff").unwrap());
        body.send_trailers(answer).unwrap();
    });
    let proxy = before(&upstream).start();
    let mut client = client(&proxy);
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nte: trailers\r\nconnection: te\r\n\r\n";
    client.raw(format!("{head}2\r\nho\r\n0\r\nx-sum: 7\r\n\r\n"), 1);
    let answer = client.answer().is(200);
    assert_eq!(answer.text(), "hi");
    assert_eq!(answer.trailers[0], ("x-sum".to_owned(), "7".to_owned()));
    assert_eq!(answer.trailers[1].0, "x-raw");
    proxy.done();
}

#[test]
fn requests_share_a_connection_as_far_as_the_server_allows() {
    for (streams, most) in [(None, 2), (Some(5), 20)] {
        let builder = http2_upstream();
        let builder = streams.into_iter().fold(builder, http2_upstream::Http2Builder::streams);
        let running = Arc::new((AtomicUsize::new(0), tokio::sync::Notify::new()));
        let upstream = builder.start({
            let running = Arc::clone(&running);
            async move |mut call: Http2Call| {
                // All are answered once all have come.
                let (count, all) = &*running;
                let come = all.notified();
                if count.fetch_add(1, Ordering::SeqCst) + 1 == 20 {
                    all.notify_waiters();
                } else {
                    come.await;
                }
                call.answer(200, "hi");
            }
        });
        let proxy = before(&upstream).start();
        let mut clients: Vec<_> = (0..20).map(|_| client(&proxy)).collect();
        for client in &mut clients {
            client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
        }
        clients.iter_mut().for_each(|client| drop(client.answer().is(200)));
        // One for each worker, if that is enough.
        let opened = upstream.connections();
        assert!(
            opened <= most && streams.is_none_or(|streams| opened * streams as usize >= 20),
            "{opened} {streams:?}"
        );
        proxy.done();
    }
}

/// RFC 9113 §6.8: what a server says it has not handled goes again, whatever its method.
#[test]
fn a_request_that_meets_a_goaway_goes_again() {
    let upstream = http2_upstream().goes_away().start(answers);
    let proxy = before(&upstream).start();
    let mut client = client(&proxy);
    assert!(client.post("/x", "12345").send().is(200).text().ends_with(" 5"));
    // As did the body that was streaming.
    assert_eq!((upstream.connections(), upstream.seen().len()), (2, 1));
    proxy.done();
    let upstream = http2_upstream().goes_away().start(answers);
    let proxy = before(&upstream).start();
    let mut client = crate::support::client(&proxy);
    client.raw("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", 1);
    eventually("the server goes away", || (upstream.connections() == 2).then_some(()));
    client.raw("2\r\nde\r\n0\r\n\r\n", 0);
    assert!(client.answer().is(200).text().ends_with(" 5"));
    proxy.done();
}

#[test]
fn a_stream_that_is_refused_goes_again_or_elsewhere() {
    let refused = Arc::new(AtomicUsize::new(0));
    let first = |refused: &Arc<AtomicUsize>, times: usize| {
        let refused = Arc::clone(refused);
        http2_upstream().start(async move |mut call: Http2Call| {
            if refused.fetch_add(1, Ordering::SeqCst) < times {
                return call.reset(Reason::REFUSED_STREAM);
            }
            call.answer(200, "hi");
        })
    };
    let upstream = first(&refused, 1);
    let proxy = before(&upstream).start();
    client(&proxy).post("/x", "{}").send().is(200);
    proxy.done();
    // One that refuses all is not asked for ever.
    let upstream = first(&refused, usize::MAX);
    let proxy = before(&upstream).start();
    client(&proxy).post("/x", "{}").send().refused(502, "upstream_unreachable");
    assert!(refused.load(Ordering::SeqCst) < 10, "{refused:?}");
    proxy.done();
}

#[test]
fn a_server_that_leaves_finishes_what_it_has_begun() {
    let (release, released) = tokio::sync::mpsc::unbounded_channel::<()>();
    let released = Arc::new(tokio::sync::Mutex::new(released));
    let upstream = http2_upstream().start(async move |mut call: Http2Call| {
        if call.header("x-leave").is_some() {
            let mut body = call.head(200, &[]);
            body.send_data(Bytes::from_static(b"begun, "), false).unwrap();
            call.leave();
            released.lock().await.recv().await;
            body.send_data(Bytes::from_static(b"ended"), true).unwrap();
            return;
        }
        tells_connection(call).await;
    });
    let proxy = before(&upstream).with("timeouts: { drain: 5s }").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\nx-leave: 1\r\n\r\n", 1);
    let head = client.head();
    let mut other = crate::support::client(&proxy);
    // Both workers have had a connection; neither uses the one that ends.
    eventually("the other connection is used", || {
        let said = other.get("/x").send().is(200).text();
        (said != "0").then_some(())
    });
    release.send(()).unwrap();
    let rest = Body::of(&head, Framing::UntilClose).rest(client.connection()).unwrap();
    assert_eq!(rest, b"begun, ended");
    proxy.stop();
}

/// As over HTTP/1.1, what may have been handled goes again only if that is harmless.
#[test]
fn a_connection_that_breaks_is_replaced() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let upstream = http2_upstream().start(async move |call: Http2Call| {
        match (call.header("x-break"), seen.fetch_add(1, Ordering::SeqCst)) {
            (Some(_), 1) => {
                call.breaks();
                std::future::pending::<()>().await;
            }
            _ => tells_connection(call).await,
        }
    });
    for (method, status) in [("GET", 200), ("POST", 502)] {
        calls.store(0, Ordering::SeqCst);
        let proxy = before(&upstream).start();
        let mut client = client(&proxy);
        client.get("/x").send().is(200);
        // The connection has been used: it may have been closed meanwhile.
        client.request(method, "/x").header("x-break", "1").body("").send().is(status);
        client.get("/x").send().is(200);
        proxy.done();
    }
}

#[test]
fn a_response_that_breaks_off_is_no_whole_one() {
    let upstream = http2_upstream().start(async |mut call: Http2Call| {
        let mut body = call.head(200, &[]);
        body.send_data(Bytes::from_static(b"a part"), false).unwrap();
        let (_, trailers) = call.all().await;
        assert!(trailers.is_none());
        body.send_reset(Reason::INTERNAL_ERROR);
    });
    let proxy = before(&upstream).start();
    let mut client = client(&proxy);
    client.raw("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 1);
    let head = client.head();
    client.more("0\r\n\r\n");
    assert!(Body::of(&head, Framing::UntilClose).rest(client.connection()).is_err());
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.reason"), "invalid_upstream_response");
    let cause = said(&records[0], "bartizan.cause").as_str().unwrap();
    assert!(cause.contains("the server reset the stream"), "{cause}");
}

#[test]
fn a_reload_keeps_connections() {
    let upstream = http2_upstream().start(tells_connection);
    let mut proxy = before(&upstream).start();
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), Reloaded::Loaded);
    client.get("/x").send().is(200);
    // With other settings for further ones, too.
    assert_eq!(proxy.reload_to(|policy| policy.upstream("connections: { most: 5 }")), Reloaded::Loaded);
    assert_eq!(client.get("/x").send().is(200).text(), "0");
    assert_eq!(upstream.connections(), 1);
    proxy.done();
}

#[test]
fn past_the_most_connections_requests_wait_for_their_turn() {
    let upstream = http2_upstream().streams(2).start(answers);
    let policy = before(&upstream).upstream("connections: { most: 1 }").upstream("connect_timeout: 1h");
    let proxy = proxy().text(&policy.yaml().replace("workers: 2", "workers: 1")).start();
    thread::scope(|scope| {
        let all = [0; 12].map(|_| scope.spawn(|| client(&proxy).post("/x", "12345").send().is(200).text()));
        all.into_iter().for_each(|one| assert!(one.join().unwrap().ends_with(" 5")));
    });
    assert_eq!(upstream.connections(), 1);
    proxy.done();
}

#[test]
fn over_tls_both_sides_agree_on_http2() {
    let authority = authority();
    let certified = authority.certifies(&["127.0.0.1"]);
    let http2 = http2_upstream().tls(&certified).start(answers);
    let http1 = upstream().tls(&certified).start();
    for (url, works) in [(http2.url(), true), (http1.url(), false)] {
        let policy = proxy().server(&url).upstream("protocol: h2").upstream("tls: { ca: ca.pem }");
        let proxy = policy.file("ca.pem", authority.pem()).open("GET /x").start();
        let answer = client(&proxy).get("/x").send();
        if works {
            assert_eq!(answer.is(200).text(), format!("GET {url}/x 0"));
        } else {
            answer.refused(502, "upstream_unreachable");
        }
        let records = proxy.done();
        assert_eq!(
            said(&records[0], "bartizan.cause").as_str().is_some_and(|cause| cause.contains("did not choose HTTP/2")),
            !works
        );
    }
}

#[test]
fn a_server_of_http11_is_not_reachable_over_http2() {
    let upstream = upstream().start();
    let policy = proxy().server(&upstream.url()).upstream("protocol: h2c").open("GET /x");
    let proxy = policy.start();
    client(&proxy).get("/x").send().refused(502, "upstream_unreachable");
    let records = proxy.done();
    let cause = said(&records[0], "bartizan.cause").as_str().unwrap();
    assert!(cause.contains("protocol: http1"), "{cause}");
}

/// A connection that is dead, though nobody has said so, takes no further request.
#[test]
fn a_server_that_does_not_answer_is_asked_on_another_connection() {
    let upstream = http2_upstream().start(async |call: Http2Call| match call.connection {
        0 => std::future::pending().await,
        _ => tells_connection(call).await,
    });
    let proxy = before(&upstream).upstream("response_timeout: 200ms").start();
    let mut client = client(&proxy);
    client.get("/x").send().refused(504, "upstream_timeout");
    assert_eq!(client.get("/x").send().is(200).text(), "1");
    eventually("the first one is closed", || (upstream.lost() > 0).then_some(()));
    proxy.done();
}

/// Bodies of many frames and windows go through both ways as they are.
#[test]
fn a_client_that_waits_for_little_blames_no_server() {
    let upstream = http2_upstream().start(async |mut call: Http2Call| match call.header("x-silent") {
        Some(_) => std::future::pending().await,
        None => call.answer(200, "ok"),
    });
    let proxy = before(&upstream).upstream("eject: { after: 1, for: 1h, most: 100% }").start();
    proxy.owes(6);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        let mut call = async |fields: &[(&str, &str)]| {
            let mut request = http::Request::post("http://a/x").header("content-type", "application/grpc");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
        };
        assert_eq!(call(&[]).await, None);
        for timeout in ["1m", "0n"] {
            assert_eq!(call(&[("x-silent", "1"), ("grpc-timeout", timeout)]).await.as_deref(), Some("4"));
            // It was not ejected, nor was its connection given up.
            assert_eq!(call(&[]).await, None);
        }
        // Others are not refused with 200, which caches keep.
        let request = http::Request::get("http://a/nothing").header("content-type", "application/grpc");
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 404);
    });
    assert_eq!(upstream.connections(), 1);
    drop(runtime);
    proxy.done();
}

#[test]
fn large_bodies_go_through_both_ways() {
    let upstream = http2_upstream().start(async |mut call: Http2Call| {
        let mut body = call.head(200, &[]);
        while let Some(mut piece) = call.piece().await {
            while !piece.is_empty() {
                body.reserve_capacity(piece.len());
                let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
                body.send_data(piece.split_to(room.min(piece.len())), false).unwrap();
            }
        }
        body.send_data(Bytes::new(), true).unwrap();
    });
    let proxy = before(&upstream).start();
    let sent: Vec<u8> = (0..5_000_000_u32).flat_map(|number| number.to_be_bytes()).step_by(5).collect();
    let tcp = TcpStream::connect(proxy.address()).unwrap();
    proxy.owes(1);
    let head = format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", sent.len());
    let (mut writes, bytes) = (tcp.try_clone().unwrap(), [head.as_bytes(), &sent].concat());
    // The response comes while the request is sent.
    let writer = std::thread::spawn(move || writes.write_all(&bytes).unwrap());
    let mut connection = Connection::plain(&tcp);
    let head = connection.head().unwrap().unwrap();
    let received = Body::of(&head, Framing::UntilClose).rest(&mut connection).unwrap();
    writer.join().unwrap();
    assert!(received == sent, "{} of {}", received.len(), sent.len());
    proxy.done();
}

/// S2: a server that takes nothing of a body gains no time by that.
#[test]
fn a_server_that_takes_nothing_of_a_body_is_given_up() {
    let upstream = http2_upstream().start(async |_call: Http2Call| std::future::pending().await);
    let proxy = before(&upstream).upstream("response_timeout: 200ms").start();
    let mut client = client(&proxy);
    client.raw(format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n{}", "x".repeat(300_000)), 1);
    client.answer().refused(504, "upstream_timeout");
    proxy.done();
}

/// A client that cancels request after request does not spoil the connection of the others: the server would end it.
#[test]
fn a_connection_with_many_cancelled_requests_is_replaced() {
    let upstream = http2_upstream().start(async |call: Http2Call| match call.header("x-never") {
        Some(_) => std::future::pending().await,
        None => tells_connection(call).await,
    });
    let proxy = before(&upstream).start();
    let mut cancelling = client(&proxy);
    let mut lasting = 0;
    while upstream.connections() < 4 {
        let before = upstream.seen().len();
        cancelling.raw("GET /x HTTP/1.1\r\nhost: a\r\nx-never: 1\r\n\r\n", 1);
        eventually("it is there", || (upstream.seen().len() > before).then_some(()));
        cancelling.leaves();
        lasting += 1;
        assert!(lasting < 100, "{}", upstream.connections());
    }
    client(&proxy).get("/x").send().is(200);
    proxy.done();
}

/// Clients that take nothing of their responses do not hold up the others of the connection.
#[test]
fn slow_readers_do_not_hold_up_others() {
    let upstream = http2_upstream().start(async |mut call: Http2Call| {
        if call.header("x-large").is_none() {
            return call.answer(200, call.connection.to_string());
        }
        let mut body = call.head(200, &[]);
        loop {
            body.reserve_capacity(16 * 1024);
            match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
                Some(Ok(room)) => body.send_data(vec![0; room].into(), false).unwrap(),
                _ => return,
            }
        }
    });
    let proxy = before(&upstream).start();
    let mut slow: Vec<_> = (0..40).map(|_| client(&proxy)).collect();
    for client in &mut slow {
        client.raw("GET /x HTTP/1.1\r\nhost: a\r\nx-large: 1\r\n\r\n", 1);
        client.head();
    }
    let mut quick: Vec<_> = (0..4).map(|_| client(&proxy)).collect();
    for client in &mut quick {
        for _ in 0..10 {
            client.get("/x").send().is(200);
        }
    }
    assert!(upstream.connections() <= 2, "{}", upstream.connections());
    slow.iter_mut().for_each(crate::support::client::Client::leaves);
    proxy.done();
}

/// The same with small messages, which take more than their bytes. Without a budget for them, h2 ends the connection.
#[test]
fn slow_readers_of_small_messages_do_not_end_the_connection() {
    const MESSAGES: usize = 10 * 32 * 1024 / 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let upstream = http2_upstream().start(async move |mut call: Http2Call| {
        if call.header("x-small").is_none() {
            return call.answer(200, call.connection.to_string());
        }
        let mut body = call.head(200, &[]);
        loop {
            body.reserve_capacity(20);
            if body.capacity() < 20 && !matches!(std::future::poll_fn(|cx| body.poll_capacity(cx)).await, Some(Ok(_))) {
                return;
            }
            if body.capacity() >= 20 && body.send_data(Bytes::from_static(&[0; 20]), false).is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let proxy = before(&upstream).start();
    let (address, (leave, left)) = (proxy.address(), std::sync::mpsc::channel::<()>());
    let slow = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut builder = h2::client::Builder::new();
            builder.data_frame_budget(100 << 20);
            let (mut sender, connection) = builder.handshake::<_, Bytes>(tcp).await.unwrap();
            tokio::spawn(connection);
            let mut held = Vec::new();
            for _ in 0..10 {
                let request = http::Request::get("http://a/x").header("x-small", "1").body(()).unwrap();
                held.push(sender.send_request(request, true).unwrap().0.await.unwrap());
            }
            tokio::task::spawn_blocking(move || left.recv()).await.unwrap().unwrap_err();
            drop(held);
        });
    });
    eventually("the windows are full", || (sent.load(Ordering::SeqCst) >= MESSAGES - 100).then_some(()));
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    assert_eq!(upstream.lost(), 0);
    drop(leave);
    slow.join().unwrap();
    proxy.owes(10);
    proxy.done();
}

#[test]
fn health_is_asked_over_http2() {
    let healthy = Arc::new(AtomicUsize::new(200));
    let status = Arc::clone(&healthy);
    let upstream = http2_upstream().start(async move |mut call: Http2Call| match call.parts.uri.path() {
        "/healthz" => call.answer(status.load(Ordering::SeqCst) as u16, ""),
        _ => call.answer(200, ""),
    });
    let policy = before(&upstream).upstream("health: { path: /healthz, every: 1s, unhealthy_after: 1 }");
    let proxy = policy.upstream("none_left: refuse").start();
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    healthy.store(500, Ordering::SeqCst);
    eventually("the server is unhealthy", || (client.get("/x").send().status == 503).then_some(()));
    proxy.stop();
}

#[test]
fn a_protocol_that_does_not_fit_is_an_error() {
    let check = |policy: Policy| {
        let folder = tempfile::TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.arg("check").arg(policy.write(folder.path())).output().unwrap();
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
    };
    for (server, protocol, expected) in [
        ("http://a.example:80", "h2", "`protocol: h2` is HTTP/2 over TLS, but this server is `http`"),
        ("https://a.example", "h2c", "`protocol: h2c` is HTTP/2 without TLS, but this server is `https`"),
        ("http://a.example:80", "http2", "did you mean `http1`?"),
    ] {
        let said = check(proxy().server(server).upstream(&format!("protocol: {protocol}")).open("GET /x"));
        assert!(said.contains(expected), "{said}");
    }
    let policy = proxy().server("http://a.example:80").upstream("protocol: h2c");
    let said = check(policy.route("GET /x", "public: true, upgrade: { websocket: {} }"));
    assert!(said.contains("WebSockets go to servers over HTTP/1.1"), "{said}");
}
