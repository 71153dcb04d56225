//! Commands that cannot write: no panic, one line, exit code 1; and a closed pipe, such as `| head`, is no failure (U10).

use std::fs::{self, File};
use std::io::PipeWriter;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::eventually;

const POLICY: &str = "version: 1
listen: [{ address: \"127.0.0.1:0\" }]
admin: { socket: { path: admin.sock }, token: an-admin-token-for-tests-only }
store: state
consumers: { acme: {} }
apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { public: true } } } }
audit: none
";
const TESTS: &str = "policy: policy.yaml\ntests: [{ name: a, request: GET /x, expect: allow }]\n";
const OPENAPI: &str = "openapi: 3.0.0\ninfo: { title: t, version: v }\npaths: { /x: { get: { responses: {} } } }\n";

const COMMANDS: &[&str] = &[
    "check policy.yaml",
    "check policy.yaml --format json",
    "explain --policy policy.yaml GET /x",
    "explain --policy policy.yaml GET /x --format json",
    "test t.yaml",
    "test t.yaml --format json",
    "schema",
    "man",
    "completions bash",
    "help codes",
    "help policy",
    "init --openapi api.yaml --upstream http://127.0.0.1:9",
    "consumer list --policy policy.yaml",
    "consumer list --policy policy.yaml --format json",
    "key list --policy policy.yaml",
    "revoke list --policy policy.yaml --format json",
];

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in [("policy.yaml", POLICY), ("t.yaml", TESTS), ("api.yaml", OPENAPI)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn closed() -> PipeWriter {
    std::io::pipe().unwrap().1
}

fn bartizan(folder: &TempDir, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.current_dir(folder.path()).args(arguments.split(' ')).env_remove("BARTIZAN_POLICY");
    command
}

/// The exit code, and what was said on standard error.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_result_that_cannot_be_written_is_one_line_and_a_failure() {
    let folder = folder();
    for arguments in COMMANDS {
        let (code, said) = run(bartizan(&folder, arguments).stdout(full()));
        assert_eq!(code, Some(1), "{arguments}: {said}");
        assert_eq!(said.matches("error: standard output: ").count(), 1, "{arguments}: {said}");
        assert!(!said.contains("panicked"), "{arguments}: {said}");
    }
}

#[test]
fn a_closed_pipe_is_silent() {
    let folder = folder();
    for arguments in COMMANDS {
        let (code, said) = run(bartizan(&folder, arguments).stdout(closed()));
        assert_eq!(code, Some(0), "{arguments}: {said}");
        assert!(!said.contains("error") && !said.contains("panicked"), "{arguments}: {said}");
    }
}

#[test]
fn messages_that_cannot_be_written_change_nothing() {
    let folder = folder();
    fs::write(folder.path().join("bad.yaml"), "version: 2\n").unwrap();
    for (arguments, expected) in [
        ("check bad.yaml", 2),
        ("explain --policy bad.yaml GET /x", 2),
        ("test bad.yaml", 2),
        ("run --policy bad.yaml", 2),
        ("init --openapi bad.yaml --upstream http://127.0.0.1:9", 2),
        ("init --openapi api.yaml --upstream nowhere", 2),
        ("init --openapi api.yaml --upstream http://127.0.0.1:90000", 2),
        ("consumer list --policy bad.yaml", 2),
        ("consumer list --admin http://127.0.0.1:90000 --admin-token t", 2),
        ("consumer suspend nobody --until 1h --policy policy.yaml", 1),
    ] {
        for stderr in [Stdio::from(full()), Stdio::from(closed())] {
            let (code, _) = run(bartizan(&folder, arguments).stderr(stderr));
            assert_eq!(code, Some(expected), "{arguments}");
        }
    }
}

#[test]
fn a_proxy_whose_log_cannot_be_written_serves_all_the_same() {
    let folder = folder();
    let mut proxy = bartizan(&folder, "run --policy policy.yaml").stderr(full()).spawn().unwrap();
    let socket = folder.path().join("admin.sock");
    eventually("it serves", || {
        assert_eq!(proxy.try_wait().unwrap(), None, "it ended");
        UnixStream::connect(&socket).ok()
    });
    let signal = |name: &str| Command::new("kill").args([name, &proxy.id().to_string()]).status().unwrap();
    // A reload that fails is logged.
    fs::write(folder.path().join("policy.yaml"), "version: 2\n").unwrap();
    assert!(signal("-HUP").success() && signal("-TERM").success());
    assert_eq!(proxy.wait().unwrap().code(), Some(0));
}
