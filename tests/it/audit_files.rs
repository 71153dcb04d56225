//! Files of records that are something else, or somebody else's.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::proxy::Reloaded;
use crate::support::*;

/// A pipe that nobody reads.
fn pipe(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn a_pipe_that_nobody_reads_fails_a_reload_and_a_start() {
    let (upstream, folder) = (upstream().start(), tempfile::tempdir().unwrap());
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let audit = format!("[{{ file: {{ path: {} }} }}]", pipe(folder.path(), "pipe").display());
    let why = "it is a pipe that no process reads; start its reader first, or name another file";
    assert_eq!(proxy.reload_to(|policy| policy.audit(&audit)), Reloaded::Failed);
    assert_eq!(proxy.stderr.count(why), 1);
    client(&proxy).get("/x").send().is(200);
    assert!(proxy.policy.clone().fails().contains(why));
    proxy.done();
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_said_and_not_waited_for() {
    let (upstream, spool) = (upstream().start(), "{ spool: { path: spool }, to: [stdout] }");
    let rotated = "[{ file: { path: audit.jsonl, rotate: { size: 64KiB } } }]";
    for (audit, name, why) in [
        (spool, "spool/00000000000000000000.jsonl", "is not a regular file; move it away"),
        (spool, "spool/cut.json", "is not a regular file; move it away"),
        (spool, "spool/lock", "is not a regular file; move it away"),
        (rotated, "audit.jsonl", "it is a pipe that no process reads"),
        (rotated, "audit-20261127T103000.123Z.jsonl.gz", ""),
        (spool, "spool/0000000000000000.cursor", ""),
    ] {
        let policy = proxy().before(&upstream).open("GET /x").audit(audit);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("spool")).unwrap();
        pipe(folder.path(), name);
        match why {
            "" => assert_eq!(policy.start_in(folder).stop().0, Some(0), "{name}"),
            why => {
                let said = policy.fails_in(&folder);
                assert!(said.contains(why), "{name}: {said}");
            }
        }
    }
}

#[test]
fn what_cannot_be_rotated_is_said() {
    let policy = proxy().server("http://127.0.0.1:1").open("GET /x");
    let said = policy.audit("[{ file: { path: /dev/null, rotate: { size: 64KiB } } }]").fails();
    assert!(said.contains("only a regular file can be rotated; remove `rotate`"), "{said}");
}

#[test]
fn one_process_rotates_a_file_and_others_may_read_it() {
    let (upstream, rotated) = (upstream().start(), |path: &str, size: &str| {
        format!("[{{ file: {{ path: {path}, rotate: {{ size: {size} }} }} }}]")
    });
    let policy = || proxy().before(&upstream).open("GET /x");
    let mut first = policy().audit(&rotated("audit.jsonl", "64KiB")).start();
    client(&first).get("/x").send().is(200);
    let (shared, why) = (first.file("audit.jsonl").display().to_string(), "another process rotates it");
    let mut other = policy().start();
    assert_eq!(other.reload_to(|policy| policy.audit(&rotated(&shared, "64KiB"))), Reloaded::Failed);
    assert_eq!(other.stderr.count(why), 1);
    assert!(policy().audit(&rotated(&shared, "64KiB")).fails().contains(why));
    // The process itself goes on with the file when its policy changes.
    assert_eq!(first.reload_to(|policy| policy.audit(&rotated("audit.jsonl", "128KiB"))), Reloaded::Loaded);
    client(&first).get("/x").send().is(200);
    first.recorded(2);
    for command in [["audit", "verify", &shared], ["audit", "tail", &shared], ["check", "policy.yaml", "--format=json"]]
    {
        let mut bartizan = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let status = bartizan.current_dir(first.folder.path()).args(command).output().unwrap();
        assert!(status.status.success(), "{command:?}: {}", String::from_utf8_lossy(&status.stderr));
    }
    other.done();
    first.done();
}

#[test]
fn a_file_of_the_last_day_that_there_is_stops_nothing() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /{any...}");
    let policy = policy.audit("[{ file: { path: audit.jsonl, rotate: { size: 64KiB } } }]");
    let proxy = policy.file("audit-99991230T220000.999Z.jsonl", "").start();
    let (mut client, path) = (client(&proxy), format!("/{}", "x".repeat(1000)));
    for sent in 1..100 {
        client.get(&path).send().is(200);
        proxy.recorded(sent);
    }
    let said = "the audit file could not be rotated; the old one is kept";
    assert_eq!((proxy.stderr.count(said), proxy.stderr.count("rename it")), (1, 1));
    proxy.done();
}
