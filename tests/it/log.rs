//! The log on standard error.

use crate::support::*;

#[test]
fn as_json_every_line_is_json_from_the_first() {
    // U8: so are what is announced at the start, warnings of the policy, and reasons to end.
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x").env("BARTIZAN_LOG_FORMAT", "json");
    let mut proxy = policy.with("limits: { memory: 1MiB, body_size: 2MiB }").start();
    let answers = "public: true, request: { json: any.json, max_size: 2MiB }";
    proxy.reload_to(|policy| policy.file("any.json", "true").route("POST /y", answers));
    client(&proxy).get("/x").send().is(200);
    let stderr = proxy.stderr.clone();
    proxy.done();
    let lines = stderr.all();
    assert!(
        ["listening on http://", "admin on http://", "may have a body of", "stopping"]
            .iter()
            .all(|text| stderr.count(text) == 1),
        "{lines:#?}"
    );
    for line in lines {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
        assert_ne!(line["fields"]["help"], "", "what is absent is left out: {line}");
    }
}

#[test]
fn as_json_the_reasons_not_to_start_are_json_too() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = proxy().text("version: 2\nlisten: []\n").write(folder.path());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let run = command.args(["run", "--policy"]).arg(file).env("BARTIZAN_LOG_FORMAT", "json").output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8(run.stderr).unwrap();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 1 && lines.iter().all(|line| line["level"] == "ERROR"), "{said}");
    assert!(said.contains("this version of the policy language is unknown"), "{said}");
}

#[test]
fn a_level_or_format_that_is_not_known_is_an_error() {
    // U19: a log that is silent by mistake is noticed too late.
    let folder = tempfile::TempDir::new().unwrap();
    let file = proxy().text("version: 1\n").write(folder.path());
    for (name, value, allowed) in [
        ("BARTIZAN_LOG", "warning", "off, error, warn, info, debug, trace"),
        ("BARTIZAN_LOG_FORMAT", "yaml", "`text` or `json`"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let run = command.args(["run", "--policy"]).arg(&file).env(name, value).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.contains(name) && said.contains(value) && said.contains(allowed), "{said}");
    }
}

#[test]
fn ports_that_come_with_a_reload_are_announced() {
    // U8: with port 0 nothing else says where they are.
    let upstream = upstream().answers(200, "ok").start();
    let mut proxy = proxy().before(&upstream).open("GET /x").listen("{ address: \"127.0.0.1:0\" }").start();
    let (stderr, first) = (proxy.stderr.clone(), proxy.address());
    proxy.reload_to(|policy| policy.listen("{ address: \"127.0.0.2:0\" }"));
    stderr.wait("listening on http://127.0.0.2:", 1);
    assert_eq!(stderr.count("listening on "), 2, "the one that stays is not announced again: {first}");
    proxy.done();
}
