//! Answers that are given before the request's body has arrived: clients get to read them.

use std::process::Command;

use crate::support::*;

/// A proxy whose routes answer early, each for another reason; and the statuses, by path.
fn early(upstream: &Upstream) -> (Proxy, [(&'static str, &'static str); 5]) {
    let policy = proxy().before(upstream).route("POST /401", "scopes: [s]");
    let policy = policy.route("POST /413", "public: true, request: { max_size: 10B }");
    let policy = policy.route("POST /429", "public: true, rate: 1/day").open("POST /403").open("GET /x");
    let proxy = policy.start();
    client(&proxy).post("/429", "").send();
    (proxy, [("/401", "401"), ("/404", "404"), ("/413", "413"), ("/429", "429"), ("/403", "403")])
}

/// An upstream that answers 403 before it has read the body, and closes.
fn hasty() -> Upstream {
    let upstream = upstream().does(|call| {
        if call.head.word(1) != "/403" {
            return call.answer(200, &[], "");
        }
        call.close();
        call.send("HTTP/1.1 403 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
    });
    upstream.start()
}

/// F3: if little is left of the body, it is read, and the connection serves the next request.
#[test]
fn a_refusal_before_the_rest_of_a_small_body_keeps_the_connection() {
    let upstream = hasty();
    let (proxy, statuses) = early(&upstream);
    for (path, status) in statuses {
        let mut client = client(&proxy);
        client.raw(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 15\r\n\r\nhello"), 1);
        let head = client.head();
        assert_eq!((head.word(1), head.header("connection")), (status, (path == "/413").then_some("close")), "{path}");
        let mut body = wire::Body::of(&head, wire::Framing::UntilClose);
        body.rest(client.connection()).unwrap();
        client.more("0123456789");
        if path == "/413" {
            client.closes();
        } else {
            client.get("/x").send().is(200);
        }
    }
    proxy.done();
}

/// F3: if much is left, or an unknown amount, the end of the connection is announced, and the rest is read meanwhile.
#[test]
fn a_refusal_before_the_rest_of_a_large_body_announces_the_close() {
    let upstream = hasty();
    let (proxy, statuses) = early(&upstream);
    for framing in ["content-length: 5000000", "transfer-encoding: chunked"] {
        for (path, status) in statuses {
            let mut client = client(&proxy);
            client.raw(format!("POST {path} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n4c4b40\r\n{}", "x".repeat(20)), 1);
            let head = client.head();
            assert_eq!((head.word(1), head.header("connection")), (status, Some("close")), "{framing} {path}");
            let mut body = wire::Body::of(&head, wire::Framing::UntilClose);
            body.rest(client.connection()).unwrap();
            client.more("x".repeat(4_999_972));
            client.closes();
        }
    }
    proxy.done();
}

/// What a program prints for all early answers: their statuses.
#[track_caller]
fn reads_early_answers(program: &str, arguments: &[&str]) {
    let upstream = hasty();
    let (proxy, statuses) = early(&upstream);
    let urls: Vec<_> = statuses.iter().map(|(path, _)| proxy.url(path)).collect();
    let output = Command::new(program).args(arguments).args(&urls).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let expected: Vec<_> = statuses.iter().map(|(_, status)| *status).collect();
    assert_eq!(text(&output.stdout).trim(), expected.join(" "), "{}", text(&output.stderr));
    proxy.owes(statuses.len());
    proxy.done();
}

/// F3: this client reads nothing before it has sent all.
#[test]
fn python_http_client_reads_early_answers() {
    if !has("python3") {
        return skipped("there is no python3");
    }
    let script = "import http.client, sys\nfrom urllib.parse import urlsplit\nseen = []\nfor url in sys.argv[1:]:\n  \
                  u = urlsplit(url)\n  c = http.client.HTTPConnection(u.netloc)\n  \
                  c.request('POST', u.path, b'x' * 5000000)\n  r = c.getresponse()\n  r.read()\n  \
                  seen.append(str(r.status))\nprint(' '.join(seen))";
    reads_early_answers("python3", &["-c", script]);
}

/// F3.
#[test]
fn python_requests_reads_early_answers() {
    let probe = Command::new("python3").args(["-c", "import requests"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skipped("there is no python3 with requests");
    }
    let script = "import requests, sys\ns = requests.Session()\n\
                  print(' '.join(str(s.post(url, data=b'x' * 5000000).status_code) for url in sys.argv[1:]))";
    reads_early_answers("python3", &["-c", script]);
}

/// F3.
#[test]
fn node_fetch_reads_early_answers() {
    if !has("node") {
        return skipped("there is no node");
    }
    let script = "const seen = []; for (const url of process.argv.slice(1)) { \
                  const r = await fetch(url, {method: 'POST', body: Buffer.alloc(5000000)}); \
                  await r.text(); seen.push(r.status) } console.log(seen.join(' '))";
    reads_early_answers("node", &["--input-type=module", "-e", script]);
}
