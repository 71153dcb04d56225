//! Upstreams that are not there, are slow, or speak no HTTP; and those that are many, or encrypted.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::certificates::Certified;
use crate::support::proxy::Reloaded;
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

/// What servers show, what the policy says of it, and what operators read where it does not fit.
#[test]
fn an_https_upstream_is_believed_only_with_the_right_certificate() {
    let (ours, theirs) = (authority(), authority());
    let local = ours.certifies(&["localhost"]);
    let elsewhere = ours.certifies(&["elsewhere.test"]);
    let pin = |certified: &Certified| format!("sha256:{}", certified.key_digest());
    let (right, wrong) = (pin(&local), pin(&elsewhere));
    let none = "";
    for (shown, tls, problem) in [
        (&local, "ca: ca.pem".to_owned(), none),
        (
            &theirs.certifies(&["localhost"]),
            "ca: ca.pem".to_owned(),
            "name the authority of its certificate in `tls.ca`",
        ),
        (&elsewhere, "ca: ca.pem".to_owned(), "or write one in `tls.server_name`"),
        (&elsewhere, "ca: ca.pem, server_name: elsewhere.test".to_owned(), none),
        (&local, format!("ca: ca.pem, pin: \"{right}\""), none),
        (&local, format!("ca: ca.pem, pin: [\"{wrong}\", \"{right}\"]"), none),
        (
            &local,
            format!("ca: ca.pem, pin: \"{wrong}\""),
            &*format!("its key is `{right}`, which `tls.pin` does not have"),
        ),
        // A pin replaces no authority.
        (&local, format!("ca: theirs.pem, pin: \"{right}\""), "name the authority of its certificate in `tls.ca`"),
    ] {
        let upstream = upstream().tls(shown).start();
        let url = format!("https://localhost:{}", upstream.address.port());
        let policy = proxy().server(&url).upstream(&format!("tls: {{ {tls} }}"));
        let policy = policy.file("ca.pem", ours.pem()).file("theirs.pem", theirs.pem());
        let proxy = policy.open("GET /x").start();
        let answer = client(&proxy).get("/x").send();
        if problem.is_empty() {
            answer.is(200);
        } else {
            answer.refused(502, "upstream_unreachable");
            assert!(upstream.seen().is_empty());
        }
        let records = proxy.done();
        let cause = records[0]["bartizan"]["cause"].as_str().unwrap_or_default();
        assert!(cause.ends_with(problem), "{tls}: {cause}");
    }
}

#[test]
fn an_upstream_that_asks_for_a_certificate_is_shown_ours() {
    let (servers, clients) = (authority(), authority());
    let own = clients.certifies(&["proxy.test"]);
    for (tls, problem) in [
        ("ca: ca.pem, certificate: own.pem, key: own.key", ""),
        ("ca: ca.pem", "it asks for a certificate: write one in `tls.certificate` and `tls.key`"),
    ] {
        let upstream = upstream().tls_for(&servers.certifies(&["localhost"]), &clients).start();
        let url = format!("https://localhost:{}", upstream.address.port());
        let policy = proxy().server(&url).upstream(&format!("tls: {{ {tls} }}")).file("ca.pem", servers.pem());
        let proxy =
            policy.file("own.pem", own.certificate.clone()).file("own.key", own.key.clone()).open("GET /x").start();
        let answer = client(&proxy).get("/x").send();
        if problem.is_empty() {
            answer.is(200);
            // It is read again with the policy, and the next connection shows another one, which the server does not accept.
            let next = servers.certifies(&["next.test"]);
            std::fs::write(proxy.file("own.pem"), &next.certificate).unwrap();
            std::fs::write(proxy.file("own.key"), &next.key).unwrap();
            assert_eq!(proxy.reload(), Reloaded::Loaded);
            client(&proxy).get("/x").send().refused(502, "upstream_unreachable");
        } else {
            answer.refused(502, "upstream_unreachable");
        }
        let records = proxy.done();
        let cause = records[0]["bartizan"]["cause"].as_str().unwrap_or_default();
        assert!(cause.ends_with(problem), "{tls}: {cause}");
    }
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

#[test]
fn a_large_upload_arrives_whole_at_a_server_that_reads_slowly_over_tls() {
    let ours = authority();
    let upstream = upstream()
        .tls(&ours.certifies(&["localhost"]))
        .does(|call| {
            let body = call.body()?;
            call.answer(200, &[], body.len().to_string())
        })
        .start();
    let url = format!("https://localhost:{}", upstream.address.port());
    let proxy = proxy()
        .server(&url)
        .upstream("tls: { ca: ca.pem }")
        .file("ca.pem", ours.pem())
        .route("POST /x", "public: true, request: { max_size: 32MiB }")
        .start();
    let mut client = client(&proxy);
    for size in [16 << 20, 16_000_001] {
        let answer = client.post("/x", vec![b'x'; size]).send().is(200);
        assert_eq!(answer.text(), size.to_string());
    }
    proxy.done();
}
