//! Upstreams that are not there, are slow, or speak no HTTP; and those that are many, or encrypted.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::*;

#[test]
fn an_upstream_that_is_not_there_is_502() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = proxy().server(&format!("http://{gone}")).open("GET /x").start();
    client(&proxy).get("/x").send().refused(502, "upstream_unreachable");
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.stage"), "forward");
    assert_eq!(*said(&records[0], "bartizan.upstream.server"), json!(format!("http://{gone}")));
}

#[test]
fn an_upstream_that_is_silent_is_504() {
    let upstream = upstream().does(|call| call.connection.head().map(drop)).start();
    let proxy = proxy().before(&upstream).upstream("response_timeout: 100ms").open("GET /x").start();
    client(&proxy).get("/x").send().refused(504, "upstream_timeout");
    upstream.lost(1);
    proxy.done();
}

#[test]
fn what_is_no_answer_is_502() {
    for answer in [
        "hello\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let upstream = upstream().does(move |call| call.send(answer)).start();
        let proxy = proxy().before(&upstream).open("GET /x").start();
        client(&proxy).get("/x").send().refused(502, "invalid_upstream_response");
        proxy.done();
    }
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client_and_is_recorded() {
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let upstream = upstream()
        .does(move |call| {
            call.close();
            call.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
            may_go.lock().unwrap().recv().unwrap();
            Ok(())
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    let head = client.head();
    assert_eq!((head.word(1), head.header("content-length")), ("200", Some("10")));
    go.send(()).unwrap();
    assert_eq!(client.connection().runs_dry(), b"half");
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.reason"), "invalid_upstream_response");
    assert_eq!(said(&records[0], "event.outcome"), "failure");
    // S11: what was sent, not what is usual for the reason.
    assert_eq!(said(&records[0], "http.response.status_code"), 200);
    assert_eq!(said(&records[0], "http.response.body.bytes"), 4);
}

#[test]
fn an_answer_that_stalls_breaks_off() {
    let upstream = upstream()
        .does(|call| {
            call.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
            call.connection.head().map(drop)
        })
        .start();
    let proxy = proxy().before(&upstream).upstream("idle_timeout: 100ms").open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    assert_eq!(client.head().word(1), "200");
    client.connection().runs_dry();
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.reason"), "upstream_timeout");
}

#[test]
fn servers_take_turns() {
    let (one, other) = (upstream().answers(200, "one").start(), upstream().answers(200, "other").start());
    let proxy = proxy().before(&one).before(&other).open("GET /x").start();
    let mut client = client(&proxy);
    let answers: Vec<_> = (0..6).map(|_| client.get("/x").send().is(200).text()).collect();
    assert_eq!(answers.iter().filter(|answer| *answer == "one").count(), 3, "{answers:?}");
    proxy.done();
}

#[test]
fn an_https_upstream_is_believed_only_with_the_right_certificate() {
    let (ours, theirs) = (authority(), authority());
    for (authority, good) in [(&ours, true), (&theirs, false)] {
        let upstream = upstream().tls(&authority.certifies(&["localhost"])).start();
        let url = format!("https://localhost:{}", upstream.address.port());
        let policy = proxy().server(&url).upstream("ca: ca.pem").file("ca.pem", ours.pem());
        let proxy = policy.open("GET /x").start();
        let answer = client(&proxy).get("/x").send();
        if good {
            answer.is(200);
        } else {
            answer.refused(502, "upstream_unreachable");
        }
        proxy.done();
    }
}

#[test]
fn a_certificate_for_another_name_is_not_believed() {
    let authority = authority();
    let upstream = upstream().tls(&authority.certifies(&["elsewhere.test"])).start();
    let url = format!("https://localhost:{}", upstream.address.port());
    let policy = proxy().server(&url).upstream("ca: ca.pem").file("ca.pem", authority.pem());
    let proxy = policy.open("GET /x").start();
    client(&proxy).get("/x").send().refused(502, "upstream_unreachable");
    assert!(upstream.seen().is_empty());
    proxy.done();
}

#[test]
fn an_upstream_that_hangs_up_is_502_and_not_asked_twice() {
    let upstream = upstream()
        .does(|call| {
            call.close();
            Ok(())
        })
        .start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    client(&proxy).post("/x", "{}").send().refused(502, "upstream_unreachable");
    assert_eq!(upstream.seen().len(), 1);
    proxy.done();
}

#[test]
fn one_server_that_is_gone_takes_at_most_its_turns() {
    let one = upstream().answers(200, "one").start();
    let gone = std::net::TcpListener::bind("127.0.0.93:0").unwrap().local_addr().unwrap();
    let proxy = proxy().before(&one).server(&format!("http://{gone}")).open("GET /x").start();
    let mut client = client(&proxy);
    let mut answers: Vec<u16> = (0..4).map(|_| client.get("/x").send().status).collect();
    answers.sort_unstable();
    // After its first turn, the other is chosen for a second.
    assert!(answers[..2] == [200, 200] && answers[3] == 502, "{answers:?}");
    proxy.done();
}
