//! Records as they come: `bartizan audit tail` of a file and of a node, and the stream of the admin listener.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::client::operator;
use crate::support::proxy::{ADMIN_TOKEN, Reloaded};
use crate::support::*;

/// A running `bartizan audit tail`, which is killed at the end.
struct Tail(Child, BufReader<std::process::ChildStdout>);

impl Tail {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.args(["audit", "tail"]).args(arguments).stdout(Stdio::piped()).env_remove("BARTIZAN_POLICY");
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self(child, lines)
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tail(arguments: &[&str]) -> Vec<String> {
    let mut tail = Tail::start(arguments);
    let mut lines = Vec::new();
    loop {
        match tail.next() {
            line if line.is_empty() => return lines,
            line => lines.push(line),
        }
    }
}

#[test]
fn the_last_records_of_a_file_are_shown_and_those_that_come() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy =
        proxy().before(&upstream).trusts(&issuer).route("GET /x", "scopes: [orders:read]").open("GET /open").start();
    let mut client = client(&proxy);
    client.get("/open").send().is(200);
    client.get("/x").send().is(401);
    client.get("/x").bearer(issuer.token().claim("scope", "other").text()).send().is(403);
    client.get("/open").send().is(200);
    proxy.recorded(4);
    let path = proxy.file("audit.jsonl").display().to_string();
    let shown = tail(&[&path, "-n", "2"]);
    assert_eq!(shown.len(), 2);
    assert!(shown[0].contains("  403  GET ") && shown[0].contains("refused by scope: insufficient_scope"), "{shown:?}");
    for (filter, count) in [
        (vec!["--code", "4xx"], 2),
        (vec!["--code", "401"], 1),
        (vec!["--code", "insufficient_scope", "--user", "corp:alice"], 1),
        (vec!["--route", "GET /open"], 2),
        (vec!["--consumer", "nobody"], 0),
        (vec!["--api", "orders", "--action", "request"], 4),
    ] {
        let arguments = [vec![&*path, "--format", "json"], filter.clone()].concat();
        let shown: Vec<Value> = tail(&arguments).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(shown.len(), count, "{filter:?}");
    }
    // It goes on in the file that takes its place.
    let mut following = Tail::start(&[&path, "--follow", "-n", "1", "--format", "json", "--route", "GET /open"]);
    let number = |line: String| serde_json::from_str::<Value>(&line).unwrap()["event"]["sequence"].as_u64().unwrap();
    assert_eq!(number(following.next()), 4);
    client.get("/open").send().is(200);
    assert_eq!(number(following.next()), 5);
    std::fs::rename(&path, format!("{path}.1")).unwrap();
    assert_eq!(proxy.reload(), Reloaded::Unchanged);
    client.get("/open").send().is(200);
    let last = number(following.next());
    assert!(matches!(last, 6 | 7), "that of the reload comes before or after: {last}");
    drop(proxy);
}

#[test]
fn a_node_is_followed_over_a_new_policy() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").open("GET /y").start();
    let admin = format!("http://{}", proxy.admin());
    let mut tail = Tail::start(&["--admin", &admin, "--admin-token", ADMIN_TOKEN, "--route", "GET /x"]);
    let follows = |proxy: &Proxy, count: usize| {
        let asked = |record: &&Value| said(record, "url.path") == "/v1/audit";
        eventually("it follows", || (proxy.records().iter().filter(asked).count() == count).then_some(()));
    };
    follows(&proxy, 1);
    let mut client = client(&proxy);
    client.get("/y").send().is(200);
    client.get("/x").send().is(200);
    assert!(tail.next().contains(" /x "));
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /z")), Reloaded::Loaded);
    // The stream ends, because the token may not be known any more, and is taken up again.
    follows(&proxy, 2);
    client.get("/x").send().is(200);
    assert!(tail.next().contains(" /x "));
    drop(proxy);
}

#[test]
fn the_stream_says_what_it_does_not_know() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut operator = operator(&proxy);
    let answer = operator.get("/v1/audit?colour=red").bearer(ADMIN_TOKEN).send();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("use `consumer`, `user`, `api`, `route`, `action`, `code`"), "{}", answer.text());
    assert_eq!(operator.get("/v1/audit").send().status, 401);
    drop(proxy);
    let silent = proxy_without_record(&upstream);
    let answer = self::operator(&silent).get("/v1/audit").bearer(ADMIN_TOKEN).send();
    assert_eq!((answer.status, answer.text().contains("audit: none")), (409, true));
}

fn proxy_without_record(upstream: &Upstream) -> Proxy {
    proxy().before(upstream).open("GET /x").audit("none").start()
}

#[test]
fn what_is_hidden_in_a_record_stays_escaped_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let record = |agent: &str| {
        format!(
            "{{\"@timestamp\":\"2026-11-27T10:00:00.123Z\",\"user_agent\":{{\"original\":\"{agent}\"}},\"event\":{{\"category\":[\"api\"],\"action\":\"request\"}}}}\n"
        )
    };
    // As records have it, and as somebody else may have written it.
    std::fs::write(&path, record("a\\u007f\\u202eb") + &record("a\u{7f}\u{202e}b")).unwrap();
    let path = path.display().to_string();
    let export =
        Command::new(env!("CARGO_BIN_EXE_bartizan")).args(["audit", "export", "--ocsf", &path]).output().unwrap();
    let exported = String::from_utf8(export.stdout).unwrap();
    let shown = tail(&[&path, "--format", "json"]);
    for line in exported.lines().chain(shown.iter().map(String::as_str)) {
        assert!(line.contains("a\\u007f\\u202eb"), "{line}");
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    assert_eq!((exported.lines().count(), shown.len()), (2, 2));
}

#[test]
fn a_last_line_without_a_line_break_counts_and_a_compressed_file_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let record = r#"{"@timestamp":"2026-11-27T10:00:00.123Z","event":{"category":["api"],"action":"request"}}"#;
    let export = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let done = command.args(["audit", "export", "--ocsf", &path(file)]).output().unwrap();
        (
            done.status.code(),
            String::from_utf8(done.stdout).unwrap().lines().count(),
            String::from_utf8(done.stderr).unwrap(),
        )
    };
    std::fs::write(path("whole"), format!("{record}\n{record}")).unwrap();
    assert_eq!((export("whole"), tail(&[&path("whole")]).len()), ((Some(0), 2, String::new()), 2));
    std::fs::write(path("torn"), format!("{record}\n{}", &record[..40])).unwrap();
    let (code, count, said) = export("torn");
    assert_eq!((code, count), (Some(1), 1));
    assert!(said.contains("1 line could not be read as records"), "{said}");
    let zipped = Command::new("gzip").args(["--keep", &path("whole")]).status().unwrap();
    assert!(zipped.success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let followed = command.args(["audit", "tail", "--follow", &path("whole.gz")]).output().unwrap();
    let said = String::from_utf8(followed.stderr).unwrap();
    assert!(said.contains("a compressed file cannot be followed") && followed.stdout.is_empty(), "{said}");
    assert_eq!(tail(&[&path("whole.gz")]).len(), 2);
}
