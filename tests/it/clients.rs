//! Real clients: curl, Python's requests, node's fetch; HTTP/1.1, HTTP/2, TLS.

use std::process::Command;

use crate::support::*;

/// What a command prints; it must succeed.
#[track_caller]
fn says(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn curl_speaks_every_http() {
    if !has("curl") {
        return skipped("there is no curl");
    }
    let (upstream, authority) = (upstream().start(), authority());
    let certified = authority.certifies(&["localhost"]);
    let policy = proxy().before(&upstream).open("POST /x").open("GET /x");
    let policy = policy.listen(r#"{ address: "127.0.0.1:0" }"#);
    let policy = policy.listen(r#"{ address: "127.0.0.2:0", tls: { certificate: c.pem, key: k.pem } }"#);
    let policy =
        policy.file("c.pem", certified.certificate).file("k.pem", certified.key).file("ca.pem", authority.pem());
    let proxy = policy.start();
    let ca = proxy.file("ca.pem").display().to_string();
    let plain = format!("http://127.0.0.1:{}/x", proxy.address().port());
    let port = proxy.addresses()[1].port();
    let (tls, resolve) = (format!("https://localhost:{port}/x"), format!("localhost:{port}:127.0.0.2"));
    for (flag, url, version, scheme) in [
        ("--http1.1", &plain, "1.1", "http"),
        ("--http1.0", &plain, "1", "http"),
        ("--http2-prior-knowledge", &plain, "2", "http"),
        ("--http1.1", &tls, "1.1", "https"),
        ("--http2", &tls, "2", "https"),
    ] {
        proxy.owes(1);
        let said = says(
            "curl",
            &[
                "-sS",
                flag,
                "--resolve",
                &resolve,
                "--cacert",
                &ca,
                "-d",
                "hello",
                "-w",
                " %{http_code} %{http_version}",
                url,
            ],
        );
        let (echo, ends) = said.rsplit_once("} ").unwrap();
        assert_eq!(ends, format!("200 {version}"), "{flag} {url}");
        let echo: Value = serde_json::from_str(&format!("{echo}}}")).unwrap();
        assert_eq!(echo["body"], "hello", "{flag} {url}");
        assert!(echo["headers"].to_string().contains(&format!(r#"["x-forwarded-proto","{scheme}"]"#)), "{echo}");
    }
    let records = proxy.done();
    assert_eq!(said(&records[4], "http.version"), "2");
    assert_eq!(said(&records[4], "tls.version"), "1.3");
}

#[test]
fn python_requests_works() {
    let probe = Command::new("python3").args(["-c", "import requests"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skipped("there is no python3 with requests");
    }
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let script = "import requests, sys\ns = requests.Session()\nfor _ in range(3):\n  r = s.post(sys.argv[1], json={'a': 1})\n  print(r.status_code, r.json()['body'])";
    assert_eq!(says("python3", &["-c", script, &proxy.url("/x")]), "200 {\"a\": 1}\n".repeat(3));
    proxy.owes(3);
    proxy.done();
}

#[test]
fn node_fetch_works() {
    if !has("node") {
        return skipped("there is no node");
    }
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let script = "const r = await fetch(process.argv[1], {method: 'POST', body: 'hi'}); console.log(r.status, (await r.json()).body)";
    assert_eq!(says("node", &["--input-type=module", "-e", script, &proxy.url("/x")]), "200 hi\n");
    proxy.owes(1);
    proxy.done();
}
