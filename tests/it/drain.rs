//! The end of the process: what is in flight finishes, every record is written.

use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::*;

#[test]
fn a_request_in_flight_is_finished() {
    let (asked, is_asked) = channel();
    let (go, may_go) = channel::<()>();
    let (asked, may_go) = (Mutex::new(asked), Mutex::new(may_go));
    let upstream = upstream()
        .does(move |call| {
            asked.lock().unwrap().send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
            call.answer(200, &[], "late")
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    is_asked.recv().unwrap();
    proxy.signal("TERM");
    proxy.stderr.wait("stopping", 1);
    go.send(()).unwrap();
    assert_eq!(client.answer().is(200).text(), "late");
    proxy.done();
}

#[test]
fn a_second_signal_ends_the_wait() {
    let (asked, is_asked) = channel();
    let asked = Mutex::new(asked);
    let upstream = upstream()
        .does(move |call| {
            asked.lock().unwrap().send(()).unwrap();
            // Until the proxy goes away.
            call.connection.head().map(drop)
        })
        .start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    is_asked.recv().unwrap();
    proxy.signal("TERM");
    proxy.stderr.wait("stopping", 1);
    proxy.signal("TERM");
    proxy.ended();
}

#[test]
fn systemd_is_notified() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = || {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x").env("NOTIFY_SOCKET", path.to_str().unwrap());
    let proxy = policy.start();
    assert_eq!(heard(), "READY=1");
    proxy.reload();
    let reloading = heard();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(heard(), "READY=1");
    proxy.done();
    assert_eq!(heard(), "STOPPING=1");
}

#[test]
fn what_does_not_finish_is_cut_when_the_time_is_up() {
    let upstream = upstream().does(|call| call.connection.head().map(drop)).start();
    let proxy = proxy().before(&upstream).open("GET /x").with("timeouts: { drain: 100ms }").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    eventually("the upstream is asked", || (!upstream.seen().is_empty()).then_some(()));
    // It ends, and even this request has its record.
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.outcome"), "failure");
}

#[test]
fn connections_that_do_nothing_are_closed() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let (mut kept, mut silent) = (client(&proxy), client(&proxy));
    kept.get("/x").send().is(200);
    silent.connection();
    proxy.done();
    kept.closes();
    silent.closes();
}

/// Who has connected cannot know that the proxy ends, and may have sent a request already.
#[test]
fn a_connection_that_was_just_accepted_is_served() {
    let upstream = upstream().answers(200, "ok").start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    proxy.signal("STOP");
    let mut clients: Vec<_> = (0..8).map(|_| client(&proxy)).collect();
    for client in &mut clients {
        client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    }
    proxy.signal("TERM");
    proxy.signal("CONT");
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().is(200).text(), "ok"));
    assert_eq!(proxy.done().len(), 8);
}

/// S2: HTTP/2 says goodbye and waits for the client to take notice, but not for ever.
#[test]
fn an_http2_client_that_takes_no_notice_does_not_hold_up_the_end() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").with("timeouts: { drain: 1h }").start();
    let mut gone = client(&proxy);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    gone.raw([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat(), 0);
    proxy.done();
    gone.connection().runs_dry();
}

#[test]
fn it_ends_in_time_although_the_record_cannot_be_written() {
    // S7: the workers wait for the sinks' queues, which nothing empties.
    let upstream = upstream().answers(200, "ok").start();
    let drain = "timeouts: { drain: 100ms }";
    let proxy = proxy().before(&upstream).open("GET /x").audit("[{ file: { path: /dev/full } }]").with(drain).start();
    let mut client = client(&proxy);
    // Until the queue is full; each answer has its own batch of records.
    for _ in 0..300 {
        client.get("/x").send().is(200);
    }
    let stderr = proxy.stderr.clone();
    let (code, _) = proxy.stop();
    assert_eq!(code, Some(1));
    stderr.wait("audit records could not be written", 1);
}
