//! The record's hash chain: signed, verified by command, and whole over restarts, rotations and crashes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::support::proxy::{Reloaded, of_requests, records};
use crate::support::*;

/// Exit code and standard output of `bartizan audit verify`.
fn verify(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.args(["audit", "verify"]).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

/// A new key in `NAME.pem`, and its public key in `NAME.pub`.
fn key(folder: &Path, name: &str) {
    let script = format!(
        "openssl genpkey -algorithm ed25519 -out {name}.pem && openssl pkey -in {name}.pem -pubout -out {name}.pub"
    );
    let status =
        Command::new("sh").args(["-c", &script]).current_dir(folder).stderr(std::process::Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn signed(policy: Policy, folder: &Path, key: &str) -> Policy {
    let key = folder.join(format!("{key}.pem"));
    policy.audit(&format!(
        "{{ chain: {{ key: \"${{file:{}}}\", checkpoint: 1h }}, to: [file: {{ path: audit.jsonl }}] }}",
        key.display()
    ))
}

#[test]
fn a_signed_record_is_verified_over_a_new_key_and_a_restart() {
    let (upstream, keys) = (upstream().start(), tempfile::tempdir().unwrap());
    key(keys.path(), "one");
    key(keys.path(), "two");
    let policy = proxy().before(&upstream).open("GET /x");
    let mut proxy = signed(policy, keys.path(), "one").start();
    client(&proxy).get("/x").send().is(200);
    proxy.recorded(1);
    assert_eq!(proxy.reload_to(|policy| signed(policy, keys.path(), "two")), Reloaded::Loaded);
    client(&proxy).get("/x").send().is(200);
    let proxy = proxy.again("TERM");
    client(&proxy).get("/x").send().is(200);
    let public = |name: &str| keys.path().join(format!("{name}.pub")).display().to_string();
    let (one, two, folder) = (public("one"), public("two"), tempfile::tempdir().unwrap());
    let (path, kept) = (proxy.file("audit.jsonl"), folder.path().join("audit.jsonl"));
    proxy.recorded(8);
    fs::copy(&path, &kept).unwrap();
    drop(proxy);

    let (code, said) = verify(folder.path(), &["--public-key", &one, "--complete", "audit.jsonl"]);
    assert_eq!(code, Some(0), "the first key is enough, because it names the second: {said}");
    assert!(said.starts_with("whole: 8 lines in 2 streams, 3 checkpoints"), "{said}");
    assert_eq!((said.matches("all signed").count(), said.matches("not signed yet").count()), (1, 1), "{said}");
    assert!(said.ends_with("not signed: 2 lines, which somebody else may have written\n"), "{said}");
    let (code, said) = verify(folder.path(), &["--public-key", &one, "--strict", "audit.jsonl"]);
    assert_eq!((code, said.starts_with("broken: no checkpoint signs the last 2 lines")), (Some(1), true), "{said}");
    let (code, said) = verify(folder.path(), &["--strict", "audit.jsonl"]);
    assert_eq!((code, said.contains("--public-key")), (Some(2), true), "{said}");
    let (code, said) = verify(folder.path(), &["--public-key", &two, "audit.jsonl"]);
    assert_eq!((code, said.contains("which is neither given nor named by a checkpoint")), (Some(1), true), "{said}");

    let text = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, text.replacen("\"method\":\"GET\"", "\"method\":\"PUT\"", 1)).unwrap();
    let (code, said) = verify(folder.path(), &["audit.jsonl"]);
    assert_eq!(
        (code, said.lines().next()),
        (Some(1), Some("broken: audit.jsonl:1: this line was changed: its hash is another"))
    );
    assert!(said.contains("\n  broken: {\"@timestamp\"") && said.contains("\n  after: {\"@timestamp\""), "{said}");
    // A part of it, compressed, and from standard input.
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    fs::write(folder.path().join("part.jsonl"), lines[1..].concat()).unwrap();
    let script = "gzip part.jsonl && bartizan audit verify part.jsonl.gz && gunzip < part.jsonl.gz | bartizan audit verify - --format json";
    let binary = Path::new(env!("CARGO_BIN_EXE_bartizan")).parent().unwrap().display();
    let script = format!("PATH={binary}:$PATH; set -e; {script}");
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"whole\": true"));
}

#[test]
fn a_record_goes_on_where_a_killed_process_stopped() {
    let upstream = upstream().start();
    let audit = "{ spool: { path: spool }, to: [file: { path: audit.jsonl }] }";
    let mut proxy = proxy().before(&upstream).open("GET /x").audit(audit).start();
    for _ in 0..3 {
        let mut client = client(&proxy);
        for _ in 0..20 {
            client.get("/x").send().is(200);
        }
        drop(client);
        // Whatever of it the sink has, and whatever it does not.
        proxy = proxy.again("KILL");
    }
    client(&proxy).get("/x").send().is(200);
    let path = proxy.file("audit.jsonl");
    let last = proxy.requests.load(std::sync::atomic::Ordering::SeqCst);
    let folder = proxy.folder.path().to_owned();
    let records = eventually("the last request is on record", || {
        let records = records(&path);
        let stream = said(records.last()?, "bartizan.stream").clone();
        let own: Vec<_> = records.iter().filter(|record| *said(record, "bartizan.stream") == stream).collect();
        own.iter().any(|record| said(record, "event.action") == "request").then_some(records.clone())
    });
    let (code, said_so) = verify(&folder, &["--complete", "audit.jsonl"]);
    assert_eq!(code, Some(0), "{said_so}");
    let ids: std::collections::BTreeSet<_> =
        records.iter().map(|record| said(record, "event.id").to_string()).collect();
    assert_eq!(ids.len(), records.len(), "nothing is doubled");
    let requests = of_requests(&records).count();
    // A worker that is killed takes the records of its last turn with it.
    assert!(requests <= last && requests + 3 * 4 >= last, "{requests} of {last}");
    let (code, _) = verify(&folder, &["spool"]);
    assert_eq!(code, Some(0), "the spool is a record, too");
    drop(proxy);
}

/// A pipe that nobody reads yet, and both of its ends.
fn pipe(folder: &Path) -> (String, fs::File) {
    let path = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let open = fs::File::options().read(true).write(true).open(&path).unwrap();
    (path.display().to_string(), open)
}

#[test]
fn a_full_spool_does_what_the_policy_says_and_counts_it() {
    for (on_full, refuses) in [("refuse", true), ("drop_and_count", false)] {
        let (upstream, folder) = (upstream().start(), tempfile::tempdir().unwrap());
        let (pipe, reader) = pipe(folder.path());
        let audit =
            format!("{{ spool: {{ path: spool, size: 16MiB, on_full: {on_full} }}, to: [file: {{ path: {pipe} }}] }}");
        let proxy = proxy().before(&upstream).open("GET /{any...}").audit(&audit).start();
        let (path, agent) = (format!("/{}", "x".repeat(1000)), "y".repeat(1000));
        let mut client = client(&proxy);
        let full = "the audit spool takes no more";
        let (mut passed, mut refused) = (0_u64, 0_u64);
        // Until it is full, and then some.
        while refused < 100 && (refuses || passed < 20_000) {
            let answer = client.get(&path).header("user-agent", &agent).send();
            match answer.status {
                200 => passed += 1,
                503 => {
                    answer.refused(503, "record_unavailable");
                    refused += 1;
                }
                other => panic!("{other}"),
            }
        }
        assert_eq!((proxy.stderr.count(full), refused > 0), (1, refuses));
        // Somebody reads the pipe at last.
        let kept = folder.path().join("audit.jsonl");
        let written = kept.clone();
        let reading = thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(reader).split(b'\n') {
                let line = line.unwrap();
                if line == b"end" {
                    break;
                }
                lines.extend(line);
                lines.push(b'\n');
            }
            fs::write(written, lines).unwrap();
        });
        eventually("records can be kept again", || {
            let answer = client.get("/last").send();
            match answer.status {
                200 => passed += 1,
                _ => refused += 1,
            }
            (proxy.stderr.count("the audit spool takes lines again") == 1 && answer.status == 200).then_some(())
        });
        drop(client);
        assert_eq!(proxy.stop().0, Some(0));
        fs::write(&pipe, "end\n").unwrap();
        reading.join().unwrap();
        let records = records(&kept);
        let dropped: u64 = records.iter().filter_map(|record| said(record, "bartizan.dropped").as_u64()).sum();
        let requests = of_requests(&records).count() as u64;
        assert_eq!((requests + dropped, dropped > 0), (passed + refused, true), "{on_full}: {requests} + {dropped}");
        let (code, said) = verify(folder.path(), &["--complete", "audit.jsonl"]);
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn the_chain_goes_on_over_rotated_files() {
    let upstream = upstream().start();
    for spool in ["", "spool: { path: spool }, "] {
        let audit = format!(
            "{{ {spool}to: [file: {{ path: audit.jsonl, rotate: {{ size: 64KiB, keep: 3, compress: true }} }}] }}"
        );
        let proxy = proxy().before(&upstream).open("GET /x").audit(&audit).start();
        let send = |proxy: &proxy::Proxy, count: usize| {
            let (mut client, agent) = (client(proxy), "y".repeat(1000));
            for _ in 0..count {
                client.get("/x").header("user-agent", &agent).send().is(200);
            }
        };
        send(&proxy, 300);
        let mut proxy = proxy.again("TERM");
        send(&proxy, 300);
        let folder = proxy.folder.path().to_owned();
        let files = || {
            let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.starts_with("audit")).collect::<Vec<_>>()
        };
        eventually("three former files are compressed", || {
            let files = files();
            let compressed = files.iter().filter(|name| name.ends_with(".jsonl.gz")).count();
            (compressed == 3 && files.len() == 4).then_some(())
        });
        // Nothing is rotated while it is read.
        proxy.signal("TERM");
        proxy.ended();
        let (code, said) = verify(proxy.folder.path(), &["."]);
        assert_eq!((code, said.starts_with("whole: ")), (Some(0), true), "{said}");
        drop(proxy);
    }
}

#[test]
fn a_command_without_a_daemon_leaves_its_record_in_the_spool() {
    let (upstream, folder) = (upstream().start(), tempfile::tempdir().unwrap());
    let kept = |name: &str| folder.path().join(name).display().to_string();
    let audit = format!("{{ spool: {{ path: {} }}, to: [file: {{ path: {} }}] }}", kept("spool"), kept("audit.jsonl"));
    let people = "roles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }";
    let policy = proxy()
        .before(&upstream)
        .with(&format!("store: \"{}\"\n{people}", kept("state")))
        .route("GET /x", "scopes: [orders:read]")
        .audit(&audit);
    let file = policy.write(folder.path()).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output =
        command.args(["key", "new", "--consumer", "acme", "--expires", "1d", "--policy", &file]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!folder.path().join("audit.jsonl").exists(), "nobody delivers it yet");
    let proxy = policy.start();
    let records = eventually("the record is delivered", || {
        let records = records(&folder.path().join("audit.jsonl"));
        records.iter().any(|record| said(record, "event.action") == "key_created").then_some(records)
    });
    assert_eq!(said(&records[0], "user.id"), "command line");
    drop(proxy);
}
