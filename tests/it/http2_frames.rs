//! HTTP/2 towards clients, frame by frame (RFC 9113): heads in parts, and windows that stay closed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use crate::support::proxy::of_requests;
use crate::support::websocket::{accept, switch};
use crate::support::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// GET http://a/ (RFC 7541, Appendix A).
const GET: &[u8] = b"\x82\x86\x84\x41\x01a";

/// The same with POST.
const POST: &[u8] = b"\x83\x86\x84\x41\x01a";

/// GET http://a/a
const HINTS: &[u8] = b"\x82\x86\x04\x02/a\x41\x01a";

/// POST http://a/a, with JSON.
const JUDGED: &[u8] = b"\x83\x86\x04\x02/a\x41\x01a\x0f\x10\x10application/json";

/// CONNECT for a WebSocket at http://a/ (RFC 8441 §4).
const CONNECT: &[u8] =
    b"\x02\x07CONNECT\x86\x84\x41\x01a\x00\x09:protocol\x09websocket\x00\x15sec-websocket-version\x0213";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A request that is whole, on this stream.
fn request(stream: u8, headers: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, headers)
}

/// An upstream that answers once what is returned beside it is dropped.
fn silent() -> (Upstream, Sender<()>) {
    let (answers, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = upstream().does(move |call| {
        let _ = wait.lock().unwrap().recv();
        call.answer(200, &[], "")
    });
    (upstream.start(), answers)
}

/// A frame that the client received.
struct Received {
    kind: u8,
    flags: u8,
    stream: u8,
    payload: Vec<u8>,
}

/// A client that sends frames as they are.
struct FrameClient(TcpStream);

impl FrameClient {
    /// Opens a connection on which each stream may receive this number of bytes.
    fn new(proxy: &Proxy, window: u32) -> Self {
        Self::over(TcpStream::connect(proxy.address()).unwrap(), window)
    }

    /// The same, with room for very little between the proxy and the client.
    fn narrow(proxy: &Proxy, window: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connecting = async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(1).unwrap();
            socket.connect(proxy.address()).await.unwrap().into_std().unwrap()
        };
        let tcp = runtime.block_on(connecting);
        tcp.set_nonblocking(false).unwrap();
        Self::over(tcp, window)
    }

    fn over(tcp: TcpStream, window: u32) -> Self {
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        let settings = frame(SETTINGS, 0, 0, &[&[0, 4], window.to_be_bytes().as_slice()].concat());
        let mut client = Self(tcp);
        client.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat());
        client
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes, and waits until the proxy has read them.
    fn is_read(&mut self, bytes: impl AsRef<[u8]>) {
        self.send([&frame(PING, 0, 0, &[0; 8]), bytes.as_ref()].concat());
        self.until(PING);
    }

    /// The next frame; `None` when the proxy has closed.
    #[track_caller]
    fn next(&mut self) -> Option<Received> {
        let mut header = [0; 9];
        match self.0.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("neither a frame nor the end of the connection")
            }
            Err(_) => return None,
        }
        let [a, b, c, kind, flags, .., stream] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).unwrap();
        Some(Received { kind, flags, stream, payload })
    }

    /// The next frame of this type.
    #[track_caller]
    fn until(&mut self, kind: u8) -> Received {
        loop {
            let frame = self.next().expect("a frame, and not the end of the connection");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Waits until the proxy has closed.
    #[track_caller]
    fn runs_dry(&mut self) {
        while self.next().is_some() {}
    }
}

/// S12: headers that come in parts are one request with one record, and hide none that HTTP/2 refuses by itself.
#[test]
fn a_request_whose_headers_come_in_parts_has_one_record() {
    let upstream = upstream().answers(200, "ok").start();
    let proxy = proxy().before(&upstream).open("GET /").start();
    proxy.owes(4);
    let mut client = FrameClient::new(&proxy, 255);
    let whole = request(1, GET);
    client.is_read(&whole[..9]);
    client.send(&whole[9..]);
    client.until(HEADERS);
    client.is_read(frame(HEADERS, END_STREAM, 3, &GET[..3]));
    client.send(frame(CONTINUATION, END_HEADERS, 3, &GET[3..]));
    client.until(HEADERS);
    // A field that HTTP/2 does not have (RFC 9113 §8.2.2).
    client.send(request(5, &[GET, b"\x00\x0aconnection\x01y"].concat()));
    client.until(RST_STREAM);
    let records = proxy.recorded(3);
    let reasons: Vec<&Value> = records.iter().map(|record| said(record, "event.reason")).collect();
    assert_eq!(reasons, [&Value::Null, &Value::Null, &json!("malformed_request")]);
    // A head that never ends is a request, too.
    client.is_read(&request(7, GET)[..9]);
    drop(client);
    assert_eq!(said(&proxy.recorded(4)[3], "event.reason"), "malformed_request");
    assert_eq!(upstream.seen().len(), 2);
    proxy.done();
}

/// S19: a head has its time as over HTTP/1, however it drips in, and whatever else the connection does meanwhile.
#[test]
fn a_head_that_does_not_come_whole_in_time_ends_its_connection() {
    let (upstream, answer) = silent();
    let policy = proxy().before(&upstream).open("GET /").upstream("response_timeout: 1h");
    let proxy = policy.with("timeouts: { request_headers: 100ms, idle: 1h, stall: 1h }").start();
    let begun = frame(HEADERS, END_STREAM, 3, &GET[..3]);
    for (number, (others, part)) in
        [(vec![], begun.clone()), (vec![], begun[..10].to_vec()), (request(1, GET), begun)].into_iter().enumerate()
    {
        let mut client = FrameClient::new(&proxy, 65_535);
        proxy.owes(1 + usize::from(!others.is_empty()));
        client.send([others.as_slice(), &part].concat());
        client.runs_dry();
        let records = proxy.recorded(number + 1);
        assert!(records.iter().any(|record| said(record, "event.reason") == "request_timeout"), "{number} {records:?}");
    }
    drop(answer);
    let records = proxy.done();
    let slow = records.iter().filter(|record| said(record, "event.reason") == "request_timeout");
    assert_eq!(slow.count(), 3);
}

/// S19: so have all other fields, though they are no request: HTTP/2 takes nothing else of any stream until they end.
#[test]
fn fields_that_do_not_come_whole_in_time_end_their_connection() {
    let (upstream, answer) = silent();
    let policy = proxy().before(&upstream).open("GET /").open("POST /").upstream("response_timeout: 1h");
    let proxy = policy.with("timeouts: { request_headers: 100ms, idle: 1h, stall: 1h }").start();
    let posts = frame(HEADERS, END_HEADERS, 1, POST);
    let cases = [
        ("trailers", &posts, HEADERS, 1, "request_timeout"),
        ("trailers of a request that has ended", &request(1, GET), HEADERS, 1, "client_stalled"),
        ("a stream of the proxy's", &posts, HEADERS, 2, "request_timeout"),
        ("a promise", &posts, PUSH_PROMISE, 1, "request_timeout"),
    ];
    for (number, (case, asks, kind, stream, reason)) in cases.into_iter().enumerate() {
        for (more, part) in [(0, 9), (1, 11), (2, 12)] {
            let mut client = FrameClient::new(&proxy, 65_535);
            proxy.owes(1);
            let fields = frame(kind, 0, stream, &GET[..3]);
            // A promise is refused as soon as it is known to be one.
            let reason = if kind == PUSH_PROMISE && part == fields.len() { "malformed_request" } else { reason };
            client.send([asks, &fields[..part]].concat());
            client.runs_dry();
            let records = proxy.recorded(number * 3 + more + 1);
            assert_eq!(said(records.last().unwrap(), "event.reason"), reason, "{case} {part}");
        }
    }
    drop(answer);
    proxy.done();
}

/// S2: a response has ended when its last byte was written, not when HTTP/2 has queued it; and its record says so.
#[test]
fn a_response_that_the_client_does_not_take_whole_is_no_success() {
    let upstream = upstream().answers(200, "0123456789").start();
    let policy = proxy().before(&upstream).open("GET /").with("timeouts: { stall: 100ms, idle: 1h }");
    let proxy = policy.start();
    for (number, (window, reason, sent)) in
        [(0, json!("client_stalled"), 0), (1, json!("client_stalled"), 1), (10, Value::Null, 10)]
            .into_iter()
            .enumerate()
    {
        proxy.owes(1);
        let mut client = FrameClient::new(&proxy, window);
        client.send(request(1, GET));
        match window {
            // Nothing is queued, so the stream is reset.
            0 => drop(client.until(RST_STREAM)),
            // A part is, and HTTP/2 keeps it as long as the connection.
            1 => client.runs_dry(),
            _ => assert_eq!(client.until(DATA).payload, b"0123456789"),
        }
        let record = &proxy.recorded(number + 1)[number];
        assert_eq!(said(record, "event.reason"), &reason, "{window}");
        assert_eq!(said(record, "event.outcome"), if reason.is_null() { "success" } else { "failure" }, "{window}");
        assert_eq!(said(record, "http.response.body.bytes").as_u64().unwrap_or(0), sent, "{window}");
    }
    proxy.done();
}

/// S2: what is still queued when the process waits no longer has its record, too.
#[test]
fn a_response_that_the_process_does_not_wait_for_is_recorded() {
    let upstream = upstream().answers(200, "0123456789").start();
    let proxy = proxy().before(&upstream).open("GET /").with("timeouts: { drain: 100ms }").start();
    proxy.owes(1);
    let mut client = FrameClient::new(&proxy, 4);
    client.send(request(1, GET));
    assert_eq!(client.until(DATA).payload, b"0123");
    let records = proxy.done();
    let record = &records[0];
    assert_eq!(said(record, "event.reason"), "client_disconnected");
    assert_eq!(said(record, "http.response.body.bytes"), 4);
}

/// S2: the client that leaves has not received what is still queued for it.
#[test]
fn a_client_that_leaves_before_the_last_piece_is_recorded_as_gone() {
    let upstream = upstream().answers(200, "0123456789").start();
    let proxy = proxy().before(&upstream).open("GET /").start();
    proxy.owes(4);
    let mut records = 0;
    for window in [0, 1] {
        for resets in [true, false] {
            let mut client = FrameClient::new(&proxy, window);
            client.send(request(1, GET));
            client.until(if window == 0 { HEADERS } else { DATA });
            if resets {
                client.is_read(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
            } else {
                drop(client);
            }
            records += 1;
            let record = &proxy.recorded(records)[records - 1];
            assert_eq!(said(record, "event.reason"), "client_disconnected", "{window} {resets}");
        }
    }
    proxy.done();
}

/// S2: a client that still takes its response is not idle, so it does not make room for another.
#[test]
fn a_response_that_is_not_written_yet_keeps_its_connection() {
    let upstream = upstream().answers(200, "0123456789").start();
    let proxy = proxy().before(&upstream).open("GET /").with("limits: { connections: 2 }").start();
    proxy.owes(1);
    let (mut slow, mut idle, mut new) = (FrameClient::new(&proxy, 4), client(&proxy), client(&proxy));
    slow.send(request(1, GET));
    assert_eq!(slow.until(DATA).payload, b"0123");
    idle.get("/").send().is(200);
    new.get("/").send().is(200);
    idle.closes();
    slow.send(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 6]));
    let rest = slow.until(DATA);
    assert_eq!((rest.payload.as_slice(), rest.flags), (b"456789".as_slice(), END_STREAM));
    let records = proxy.done();
    assert!(records.iter().all(|record| said(record, "event.outcome") == "success"));
}

/// S2: answers that a client asks for and does not read stay where they are, as over HTTP/1, whatever its windows say. They go on when
/// it reads.
#[test]
fn answers_that_nobody_reads_are_not_fetched() {
    let (requests, size) = (100_u8, 64_000);
    let upstream = upstream().does(move |call| call.answer(200, &[], "x".repeat(size))).start();
    let policy = proxy().before(&upstream).open("GET /");
    let policy = policy.upstream("connections: { most: 4 }").upstream("connect_timeout: 2s");
    let proxy = proxy().text(&policy.yaml().replace("workers: 2", "workers: 1")).start();
    proxy.owes(usize::from(requests));
    let mut slow = FrameClient::narrow(&proxy, i32::MAX as u32);
    slow.send(frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
    slow.send((0..requests).map(|number| request(number * 2 + 1, GET)).collect::<Vec<_>>().concat());
    // All connections have an answer that waits.
    let mut other = client(&proxy);
    eventually("nothing more is fetched", || (other.get("/").send().status == 503).then_some(()));
    let (mut ended, mut bytes) = (0, 0);
    while ended < requests {
        let frame = slow.next().expect("all answers");
        ended += u8::from(matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0);
        bytes += if frame.kind == DATA { frame.payload.len() } else { 0 };
    }
    assert!(bytes > 5 * size, "those that waited went on: {bytes}");
    other.get("/").send().is(200);
    proxy.done();
}

/// What clients send before anybody reads it is bounded for all requests of a connection together.
#[test]
fn a_client_may_send_only_so_much_that_nobody_reads() {
    let (upstream, answer) = silent();
    let policy = proxy().before(&upstream).open("POST /").upstream("connect_timeout: 1h");
    let policy = policy.upstream("connections: { most: 1 }");
    let proxy = proxy().text(&policy.yaml().replace("workers: 2", "workers: 1")).start();
    let mut client = FrameClient::new(&proxy, 65_535);
    proxy.owes(6);
    // The proxy's settings hold from here on (RFC 9113 §6.5.3). The others wait for the connection that this one has.
    client.send([frame(SETTINGS, ACK, 0, &[]), request(1, POST)].concat());
    eventually("it is called", || (!upstream.seen().is_empty()).then_some(()));
    for stream in [3, 5, 7, 9] {
        client.send(frame(HEADERS, END_HEADERS, stream, POST));
        (0..8).for_each(|_| client.send(frame(DATA, 0, stream, &[0; 16 << 10])));
    }
    client.is_read([]);
    client.send([frame(HEADERS, END_HEADERS, 11, POST), frame(DATA, 0, 11, b"x")].concat());
    let code = u32::from_be_bytes(client.until(GOAWAY).payload[4..8].try_into().unwrap());
    assert_eq!(code, 3, "FLOW_CONTROL_ERROR (RFC 9113 §7)");
    client.runs_dry();
    drop(answer);
    proxy.done();
}

/// What a WebSocket receives for a client that takes nothing stays where it is, but for a little: there may be many on a connection.
#[test]
fn a_websocket_fetches_little_that_its_client_does_not_take() {
    let (sent, wait) = channel::<()>();
    let (sent, size) = (Mutex::new(sent), 400 << 10);
    let upstream = upstream().does(move |call| {
        switch(call, &accept(call.head.header("sec-websocket-key").unwrap()))?;
        call.send(vec![0; size])?;
        sent.lock().unwrap().send(()).unwrap();
        call.body().map(drop)
    });
    let upstream = upstream.start();
    let proxy = proxy().before(&upstream).route("GET /", "public: true, upgrade: { websocket: {} }").start();
    for (number, window) in [0, 1].into_iter().enumerate() {
        proxy.owes(1);
        let mut client = FrameClient::new(&proxy, window);
        client.until(SETTINGS);
        client.send(frame(HEADERS, END_HEADERS, 1, CONNECT));
        client.until(HEADERS);
        wait.recv_timeout(DEADLINE).unwrap();
        // It has had many turns by then.
        (0..50).for_each(|_| client.is_read([]));
        drop(client);
        let records = proxy.recorded(2 * (number + 1));
        let record = of_requests(&records).nth(number).unwrap();
        let fetched = said(record, "http.response.body.bytes").as_u64().unwrap();
        assert!((1..=24 << 10).contains(&fetched), "{window} {fetched}");
    }
    proxy.done();
}

/// S2: a client that never opens the window of its WebSocket holds it no longer than a response.
#[test]
fn a_websocket_that_its_client_does_not_take_ends() {
    let upstream = upstream().does(|call| {
        switch(call, &accept(call.head.header("sec-websocket-key").unwrap()))?;
        call.send(vec![0; 400 << 10])?;
        call.body().map(drop)
    });
    let upstream = upstream.start();
    let policy = proxy().before(&upstream).route("GET /", "public: true, upgrade: { websocket: { idle: 1h } }");
    let proxy = policy.with("timeouts: { stall: 100ms, idle: 1h }").start();
    for (number, window) in [0, 1].into_iter().enumerate() {
        proxy.owes(1);
        let mut client = FrameClient::new(&proxy, window);
        client.until(SETTINGS);
        client.send(frame(HEADERS, END_HEADERS, 1, CONNECT));
        if window == 1 {
            client.until(DATA);
        }
        // What the window had some room for is dropped.
        client.until(RST_STREAM);
        let records = proxy.recorded(2 * (number + 1));
        let record = of_requests(&records).nth(number).unwrap();
        assert_eq!(said(record, "event.reason"), "client_stalled", "{window}");
    }
    upstream.lost(2);
    proxy.done();
}

/// The end of a stream needs no room in its window (RFC 9113 §6.9).
#[test]
fn a_websocket_whose_client_has_taken_all_ends_without_a_reset() {
    let upstream = upstream().does(|call| {
        switch(call, &accept(call.head.header("sec-websocket-key").unwrap()))?;
        call.close();
        Ok(())
    });
    let upstream = upstream.start();
    let proxy = proxy().before(&upstream).route("GET /", "public: true, upgrade: { websocket: {} }").start();
    // The message has nine bytes.
    for window in [5, 9, 10_u32] {
        proxy.owes(1);
        let mut client = FrameClient::new(&proxy, window);
        client.until(SETTINGS);
        client.send(frame(HEADERS, END_HEADERS, 1, CONNECT));
        if window < 9 {
            client.until(DATA);
            client.send(frame(WINDOW_UPDATE, 0, 1, &(9 - window).to_be_bytes()));
        }
        let mut flags = 0;
        while flags & END_STREAM == 0 {
            let frame = client.next().unwrap();
            assert_ne!(frame.kind, RST_STREAM, "{window}");
            flags = if frame.kind == DATA { frame.flags } else { 0 };
        }
    }
    proxy.done();
}

/// However it ends its stream, and whatever the upstream does: what is left of it would hold a connection of the upstream.
#[test]
fn a_websocket_ends_when_its_client_resets_it() {
    for (code, fills) in [(0_u32, false), (8, false), (2, false), (8, true)] {
        let (ended, waits) = channel::<()>();
        let waits = Mutex::new(waits);
        let upstream = upstream().does(move |call| {
            switch(call, &accept(call.head.header("sec-websocket-key").unwrap()))?;
            let _ = waits.lock().unwrap().recv();
            Ok(())
        });
        let upstream = upstream.start();
        let asks = "public: true, upgrade: { websocket: { idle: 1h } }";
        let proxy = proxy().before(&upstream).route("GET /", asks).start();
        proxy.owes(1);
        let mut client = FrameClient::new(&proxy, 65_535);
        client.until(SETTINGS);
        client.send([frame(SETTINGS, ACK, 0, &[]), frame(HEADERS, END_HEADERS, 1, CONNECT)].concat());
        client.until(DATA);
        let (mut room, mut quiet) = (64 << 10, 0);
        // Until the window is not opened again: nobody reads what is sent.
        while fills && quiet < 50 {
            quiet += 1;
            while room >= 16 << 10 {
                client.send(frame(DATA, 0, 1, &[0; 16 << 10]));
                (room, quiet) = (room - (16 << 10), 0);
            }
            client.send(frame(PING, 0, 0, &[0; 8]));
            loop {
                let frame = client.next().unwrap();
                match (frame.kind, frame.stream) {
                    (PING, _) => break,
                    (WINDOW_UPDATE, 1) => room += u32::from_be_bytes(frame.payload.try_into().unwrap()) as usize,
                    _ => {}
                }
            }
        }
        client.is_read([]);
        client.send(frame(RST_STREAM, 0, 1, &code.to_be_bytes()));
        let records = proxy.recorded(2);
        let record = of_requests(&records).next().unwrap();
        assert_eq!(said(record, "event.reason"), "closed_by_client", "{code} {fills}");
        drop(ended);
        proxy.done();
    }
}

/// A body that a client cuts short is not taken for the whole, whatever reason the client gives.
#[test]
fn a_body_that_its_client_resets_is_not_whole() {
    for code in [0_u32, 8] {
        let (tell, is_whole) = channel();
        let tell = Mutex::new(tell);
        let upstream = upstream().does(move |call| {
            let body = call.body();
            tell.lock().unwrap().send(body.is_ok()).unwrap();
            body.map(drop)
        });
        let upstream = upstream.start();
        let proxy = proxy().before(&upstream).open("POST /").start();
        proxy.owes(1);
        let mut client = FrameClient::new(&proxy, 65_535);
        client.send([frame(HEADERS, END_HEADERS, 1, POST), frame(DATA, 0, 1, b"hi")].concat());
        eventually("the upstream reads it", || (!upstream.seen().is_empty()).then_some(()));
        client.is_read(frame(RST_STREAM, 0, 1, &code.to_be_bytes()));
        let record = &proxy.recorded(1)[0];
        assert_eq!(said(record, "event.outcome"), "failure", "{code}");
        assert_eq!(said(record, "bartizan.upstream.duration"), &Value::Null, "{code}");
        assert!(!is_whole.recv().unwrap(), "{code}");
        proxy.done();
    }
}

/// RFC 9113 §6.4: nothing follows a reset. Both come at once here.
#[test]
fn no_interim_answer_comes_after_a_reset() {
    let ((go, wait), (sent, is_sent)) = (channel::<()>(), channel::<()>());
    let ends = Mutex::new((wait, sent));
    let upstream = upstream().does(move |call| {
        let (wait, sent) = &*ends.lock().unwrap();
        let _ = wait.recv();
        call.send("HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n")?;
        sent.send(()).unwrap();
        Ok(())
    });
    let upstream = upstream.start();
    let proxy =
        proxy().text(&proxy().before(&upstream).open("GET /").yaml().replace("workers: 2", "workers: 1")).start();
    let mut client = FrameClient::new(&proxy, 65_535);
    for number in 0..20_u8 {
        proxy.owes(1);
        let stream = 2 * number + 1;
        client.send(request(stream, GET));
        eventually("it is called", || (upstream.seen().len() > number.into()).then_some(()));
        client.is_read([]);
        proxy.signal("STOP");
        client.send(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        go.send(()).unwrap();
        is_sent.recv_timeout(DEADLINE).unwrap();
        proxy.signal("CONT");
        proxy.recorded(usize::from(number) + 1);
        client.send(frame(PING, 0, 0, &[0; 8]));
        let mut kind = HEADERS;
        while kind != PING {
            kind = client.next().unwrap().kind;
            assert_ne!(kind, HEADERS, "{number}");
        }
    }
    proxy.done();
}

/// HTTP/2 would keep them for a client that reads nothing, however many there are.
#[test]
fn a_client_that_reads_nothing_is_sent_few_interim_answers() {
    let (requests, size, hints) = (100_u8, 64_000, 16);
    let filling = upstream().does(move |call| call.answer(200, &[], "x".repeat(size))).start();
    let (sent, is_sent) = channel::<()>();
    let sent = Mutex::new(sent);
    let hinting = upstream().does(move |call| {
        let early = "HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n".repeat(hints);
        call.send(early + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        sent.lock().unwrap().send(()).unwrap();
        Ok(())
    });
    let hinting = hinting.start();
    let policy = proxy().before(&filling).open("GET /");
    let policy = policy.upstream("connections: { most: 4 }").upstream("connect_timeout: 2s");
    let api =
        format!("apis:\n  hints: {{ upstream: \"{}\", routes: {{ GET /a: {{ public: true }} }} }}\n", hinting.url());
    let proxy = proxy().text(&policy.yaml().replace("workers: 2", "workers: 1").replace("apis:\n", &api)).start();
    proxy.owes(usize::from(requests) + 3);
    let mut slow = FrameClient::narrow(&proxy, i32::MAX as u32);
    slow.send(frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
    slow.send((0..requests).map(|number| request(number * 2 + 1, GET)).collect::<Vec<_>>().concat());
    // All connections have an answer that waits, and nobody waits for one of them any more.
    let mut other = client(&proxy);
    eventually("nothing more is fetched", || (0..2).all(|_| other.get("/").send().status == 503).then_some(()));
    for number in 0..3 {
        slow.send(request((requests + number) * 2 + 1, HINTS));
        is_sent.recv_timeout(DEADLINE).unwrap();
        // It has had many turns by then.
        for _ in 0..5 {
            other.get("/none").send().is(404);
        }
    }
    let (mut ended, mut heads) = (0, 0);
    while ended < requests + 3 {
        let frame = slow.next().expect("all answers");
        ended += u8::from(matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0);
        heads += usize::from(frame.kind == HEADERS);
    }
    assert_eq!(heads - usize::from(requests) - 3, 16);
    proxy.done();
}

/// As over HTTP/1.1. Its stream ends with the connection, and looks closed.
#[test]
fn a_websocket_on_a_connection_that_is_not_read_ends_as_stalled() {
    let upstream = upstream().does(|call| {
        switch(call, &accept(call.head.header("sec-websocket-key").unwrap()))?;
        call.send(vec![0; 16 << 20])
    });
    let upstream = upstream.start();
    let policy = proxy().before(&upstream).route("GET /", "public: true, upgrade: { websocket: { idle: 1h } }");
    let proxy = policy.with("timeouts: { stall: 100ms, idle: 1h }").start();
    proxy.owes(1);
    let mut client = FrameClient::narrow(&proxy, i32::MAX as u32);
    client.send(frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
    client.until(SETTINGS);
    client.send(frame(HEADERS, END_HEADERS, 1, CONNECT));
    let records = proxy.recorded(2);
    let record = of_requests(&records).next().unwrap();
    assert_eq!(said(record, "event.reason"), "client_stalled");
    upstream.lost(1);
    proxy.done();
}

/// However many small messages arrive at once, none is too many before it could be read.
#[test]
fn a_burst_of_small_messages_goes_through() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /").start();
    let mut client = FrameClient::new(&proxy, 65_535);
    proxy.owes(1);
    client.send(frame(HEADERS, END_HEADERS, 1, POST));
    eventually("the upstream reads it", || (!upstream.seen().is_empty()).then_some(()));
    client.send([frame(DATA, 0, 1, b"hi").repeat(10_000), frame(DATA, END_STREAM, 1, b"!")].concat());
    client.until(HEADERS);
    assert_eq!(upstream.only().body.len(), 20_001);
    proxy.done();
}

/// Small parts of a body that nobody reads are bounded, also where large ones of another one are read between them.
#[test]
fn small_parts_that_nobody_reads_end_their_connection() {
    let (upstream, answer) = silent();
    let policy = proxy()
        .before(&upstream)
        .open("POST /")
        .route("POST /a", "public: true, request: { json: body.json, max_size: 16MiB }");
    let policy = policy.upstream("connect_timeout: 1h").upstream("connections: { most: 1 }");
    let proxy = proxy().text(&policy.yaml().replace("workers: 2", "workers: 1")).file("body.json", "{}").start();
    let mut client = FrameClient::new(&proxy, 65_535);
    proxy.owes(3);
    client.send([frame(SETTINGS, ACK, 0, &[]), request(1, POST)].concat());
    eventually("it is called", || (!upstream.seen().is_empty()).then_some(()));
    // This one waits for the connection that the first one has, and the last one is read to be judged.
    client.send([frame(HEADERS, END_HEADERS, 3, POST), frame(HEADERS, END_HEADERS, 5, JUDGED)].concat());
    let chunk =
        [frame(DATA, 0, 5, &[b' '; 8 << 10]), frame(DATA, 0, 3, b"x").repeat(24), frame(PING, 0, 0, &[0; 8])].concat();
    let (mut sent, mut is_asked_to_leave, mut is_open) = (0, false, true);
    while is_open && sent < 20_000 && client.0.write_all(&chunk).is_ok() {
        sent += 24;
        loop {
            match client.next() {
                Some(frame) if frame.kind == PING => break,
                Some(frame) => is_asked_to_leave |= frame.kind == GOAWAY,
                None => {
                    is_open = false;
                    break;
                }
            }
        }
    }
    assert!(is_asked_to_leave && (16_384..16_500).contains(&sent), "{is_asked_to_leave} {sent}");
    drop(answer);
    proxy.done();
}
