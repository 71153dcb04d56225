//! The first minute with the product: what `bartizan demo` prints works when it is pasted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::client::Client;

/// For whatever has to come sooner or later.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running demo, ended when dropped.
struct Demo {
    child: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let mut child = command.arg("demo").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("the demo says something in time")
    }

    /// Reads on to the line that begins so, and returns all before it.
    fn until(&self, beginning: &str) -> Vec<String> {
        std::iter::repeat_with(|| self.line()).take_while(|line| !line.starts_with(beginning)).collect()
    }

    /// Ends it as Ctrl-C does; returns its exit code.
    fn interrupt(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every status in what a line printed: that of an answer with headers, or those of `-w '%{http_code} '`.
fn statuses(output: &str) -> Vec<u16> {
    match output.strip_prefix("HTTP/") {
        Some(answer) => vec![answer.split(' ').nth(1).unwrap().parse().unwrap()],
        None => output.split_whitespace().map(|status| status.parse().unwrap()).collect(),
    }
}

#[test]
fn the_six_lines_do_what_they_say() {
    let mut demo = Demo::start();
    let page = demo.until("Audit records");
    assert!(demo.line().contains("decision"), "the records have a heading");
    let policy = page.iter().find_map(|line| line.trim().strip_prefix("policy")).unwrap().trim();
    assert!(Path::new(policy).is_file(), "{policy}");

    let calls: Vec<_> = page.windows(2).filter(|pair| pair[1].starts_with("curl ")).collect();
    assert_eq!(calls.len(), 6, "{page:#?}");
    let curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status();
    if !curl.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no curl here to paste the lines into");
        assert_eq!(demo.interrupt(), Some(0));
        return;
    }

    let mut all = Vec::new();
    for call in calls {
        let output = Command::new("bash").args(["-c", &call[1]]).output().unwrap();
        assert!(output.status.success(), "{call:#?}: {output:?}");
        let got = statuses(&String::from_utf8(output.stdout).unwrap());
        let (_, promised) = call[0].rsplit_once("→ ").unwrap();
        match promised.split_once(" five times, then ") {
            None => assert_eq!(got, [promised.parse::<u16>().unwrap()], "{}", call[0]),
            Some((first, then)) => {
                let (first, then) = (first.parse().unwrap(), then.parse().unwrap());
                assert_eq!((got.len(), &got[..5]), (15, &[first; 5][..]), "{}", call[0]);
                // On a slow machine the limit lets one more through a second.
                assert!(got[5..].contains(&then) && got.iter().all(|got| [first, then].contains(got)), "{got:?}");
            }
        }
        all.extend(got);
    }

    // One readable line for each of them. Records of one connection come in order; those of different workers need not.
    let mut reported: Vec<u16> =
        all.iter().map(|_| demo.line().split_whitespace().nth(1).unwrap().parse().unwrap()).collect();
    reported.sort_unstable();
    all.sort_unstable();
    assert_eq!(reported, all);

    assert_eq!(demo.interrupt(), Some(0));
    assert!(!Path::new(policy).exists(), "the unpacked policy goes away with the demo");
}

#[test]
fn the_address_of_the_admin_page_signs_in() {
    let mut demo = Demo::start();
    let page = demo.until("Paste these");
    let link = page.iter().find_map(|line| line.trim().split_once("/#token=")).expect("a link to the page");
    let address = link.0.strip_prefix("http://").unwrap().parse().unwrap();
    let mut operator = Client::new(address, Arc::default());
    let document = operator.get("/").send();
    assert!(document.status == 200 && document.text().contains("<title>Bartizan</title>"), "{document:?}");
    let me = operator.get("/v1/operator").bearer(link.1).send().json();
    assert_eq!(me["rights"], "operate", "{me}");
    // What the page offers works: there is a store, and a place where invitations are claimed.
    let key = operator.post("/v1/consumers/shop/keys", "{}").bearer(link.1).send();
    let invitation = operator.post("/v1/consumers/shop/invitations", "{}").bearer(link.1).send();
    assert_eq!((key.status, invitation.status), (201, 201), "{} {}", key.text(), invitation.text());
    assert_eq!(demo.interrupt(), Some(0));
}

#[test]
fn two_demos_run_side_by_side() {
    let (mut first, mut second) = (Demo::start(), Demo::start());
    let place = |page: Vec<String>| page.into_iter().find(|line| line.trim().starts_with("proxy")).unwrap();
    let places = (place(first.until("Audit records")), place(second.until("Audit records")));
    assert_ne!(places.0, places.1);
    assert_eq!((first.interrupt(), second.interrupt()), (Some(0), Some(0)));
}
