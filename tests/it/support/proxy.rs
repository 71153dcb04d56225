//! The real binary, run as a child process on a policy in a folder of its own, on ports that the system chose.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::issuer::{ISS, Issuer};
use super::upstream::Upstream;
use super::{DEADLINE, eventually};

/// The bearer token of every admin listener here.
pub const ADMIN_TOKEN: &str = "an-admin-token-for-tests-only";

/// A policy in the making, and what goes with it.
#[derive(Default, Clone)]
pub struct Policy {
    listen: Vec<String>,
    servers: Vec<String>,
    upstream: Vec<String>,
    api: Vec<String>,
    issuers: Vec<String>,
    auth: Vec<String>,
    plans: Vec<String>,
    routes: Vec<String>,
    described: Option<String>,
    sections: String,
    audit: Option<String>,
    raw: Option<String>,
    files: Vec<(String, String)>,
    env: Vec<(String, String)>,
    shell: Option<String>,
}

/// On one plain port, with the record in a file.
pub fn proxy() -> Policy {
    Policy::default()
}

impl Policy {
    /// In front of this. More than one: round robin.
    pub fn before(self, upstream: &Upstream) -> Self {
        self.server(&upstream.url())
    }

    /// In front of whatever is there.
    pub fn server(mut self, url: &str) -> Self {
        self.servers.push(format!("\"{url}\""));
        self
    }

    /// One more key under `upstream`.
    pub fn upstream(mut self, line: &str) -> Self {
        self.upstream.push(line.to_owned());
        self
    }

    /// One more key of the API.
    pub fn api(mut self, line: &str) -> Self {
        self.api.push(line.to_owned());
        self
    }

    /// Believes this issuer's keys, fetched from its URL; callers have the plan `free`.
    pub fn trusts(self, issuer: &Issuer) -> Self {
        let url = issuer.url();
        self.issuer("corp", &format!("jwks: \"{url}\", algorithms: [RS256, ES256, EdDSA], default_plan: free"))
    }

    /// Believes an issuer with these settings, beside `issuer` and `audience` unless they are among them.
    pub fn issuer(mut self, name: &str, settings: &str) -> Self {
        let iss = if settings.contains("issuer:") { String::new() } else { format!("issuer: \"{ISS}\", ") };
        let audience = if settings.contains("audience:") { "" } else { "audience: [orders-api], " };
        self.issuers.push(format!("{name}: {{ {iss}{audience}{settings} }}"));
        self
    }

    /// One more key under `auth`.
    pub fn auth(mut self, line: &str) -> Self {
        self.auth.push(line.to_owned());
        self
    }

    /// A plan; `free` is generous unless it is given here.
    pub fn plan(mut self, line: &str) -> Self {
        self.plans.push(line.to_owned());
        self
    }

    /// `METHOD /path` and what is asked there.
    pub fn route(mut self, route: &str, asks: &str) -> Self {
        self.routes.push(format!("{route}: {{ {asks} }}"));
        self
    }

    /// What stands behind `openapi:`.
    pub fn described(mut self, openapi: &str) -> Self {
        self.described = Some(openapi.to_owned());
        self
    }

    /// Open to anybody.
    pub fn open(self, route: &str) -> Self {
        self.route(route, "public: true")
    }

    /// More of the policy: whole top-level keys.
    pub fn with(mut self, section: &str) -> Self {
        self.sections.push_str(section.trim_end());
        self.sections.push('\n');
        self
    }

    /// A listener, in place of the plain one.
    pub fn listen(mut self, listener: &str) -> Self {
        self.listen.push(listener.to_owned());
        self
    }

    /// The value of `audit`, in place of the file.
    pub fn audit(mut self, audit: &str) -> Self {
        self.audit = Some(audit.to_owned());
        self
    }

    /// The whole file, as it stands.
    pub fn text(mut self, text: &str) -> Self {
        self.raw = Some(text.to_owned());
        self
    }

    /// A file beside the policy.
    pub fn file(mut self, name: &str, content: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// A variable of the process's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The variables that the process gets.
    pub fn variables(&self) -> &[(String, String)] {
        &self.env
    }

    /// How many files and sockets the process may open.
    pub fn descriptors(self, most: u32) -> Self {
        self.after(&format!("ulimit -n {most}"))
    }

    /// Started by a shell that has run this before, such as `umask 0`.
    pub fn after(mut self, shell: &str) -> Self {
        self.shell = Some(shell.to_owned());
        self
    }

    /// As YAML.
    pub fn yaml(&self) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let list = |items: &[String], indent: &str| -> String {
            items.iter().map(|item| format!("{indent}{item}\n")).collect()
        };
        let mut text = String::from("version: 1\nworkers: 2\nlisten:\n");
        if self.listen.is_empty() {
            text.push_str("  - { address: \"127.0.0.1:0\" }\n");
        }
        for listener in &self.listen {
            text.push_str(&format!("  - {listener}\n"));
        }
        text.push_str(&format!("admin: {{ address: \"127.0.0.1:0\", token: {ADMIN_TOKEN} }}\n"));
        if !self.issuers.is_empty() || !self.auth.is_empty() {
            text.push_str("auth:\n");
        }
        if !self.issuers.is_empty() {
            text.push_str(&format!("  issuers:\n{}", list(&self.issuers, "    ")));
        }
        text.push_str(&list(&self.auth, "  "));
        text.push_str("plans:\n");
        if !self.plans.iter().any(|plan| plan.starts_with("free:")) {
            text.push_str("  free: { rate: 100000/s }\n");
        }
        text.push_str(&list(&self.plans, "  "));
        text.push_str(&self.sections);
        text.push_str("apis:\n  orders:\n    upstream:\n");
        text.push_str(&format!("      servers: [{}]\n", self.servers.join(", ")));
        text.push_str(&list(&self.upstream, "      "));
        text.push_str(&list(&self.api, "    "));
        if let Some(openapi) = &self.described {
            text.push_str(&format!("    openapi: {openapi}\n"));
        }
        if !self.routes.is_empty() {
            text.push_str(&format!("    routes:\n{}", list(&self.routes, "      ")));
        }
        text.push_str(&format!("audit: {}\n", self.audit.as_deref().unwrap_or("[{ file: { path: audit.jsonl } }]")));
        text
    }

    /// Writes policy and files to a folder.
    pub fn write(&self, folder: &Path) -> PathBuf {
        for (name, content) in &self.files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let policy = folder.join("policy.yaml");
        // Renamed into place, so that a reload never reads half of it.
        std::fs::write(folder.join("policy.new"), self.yaml()).unwrap();
        std::fs::rename(folder.join("policy.new"), &policy).unwrap();
        policy
    }

    /// Starts it. It must end by itself; returns what it said.
    #[track_caller]
    pub fn fails(self) -> String {
        self.fails_in(&TempDir::new().unwrap())
    }

    /// As [`fails`](Self::fails), with what is in a folder.
    #[track_caller]
    pub fn fails_in(&self, folder: &TempDir) -> String {
        let output = self.command(&self.write(folder.path())).output().expect("the binary runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What `check` says of it, however that ends.
    pub fn checked(&self) -> String {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.env_remove("BARTIZAN_POLICY").arg("check").arg(self.write(folder.path()));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    }

    /// The command that runs this policy file.
    fn command(&self, policy: &Path) -> Command {
        let binary = env!("CARGO_BIN_EXE_bartizan");
        let mut command = match &self.shell {
            None => Command::new(binary),
            Some(before) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), binary]);
                shell
            }
        };
        command.args(["run", "--policy"]).arg(policy);
        command.env_remove("BARTIZAN_LOG").env_remove("BARTIZAN_LOG_FORMAT").env_remove("NOTIFY_SOCKET");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Proxy {
        self.start_in(TempDir::new().unwrap())
    }

    /// As [`start`](Self::start), with what is in a folder.
    #[track_caller]
    pub fn start_in(self, folder: TempDir) -> Proxy {
        let policy = self.write(folder.path());
        let mut child = self
            .command(&policy)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        let mut proxy = Proxy {
            addresses: Vec::new(),
            admin: None,
            requests: Arc::default(),
            policy: self,
            folder,
            child,
            stdout,
            stderr,
        };
        let yaml = proxy.policy.yaml();
        let admin = yaml.lines().find(|line| line.starts_with("admin:")).unwrap_or_default();
        // An address, a socket, or both.
        match ["address:", "socket:"].iter().filter(|place| admin.contains(**place)).count() {
            0 => proxy.stderr.wait("listening on ", 1),
            places => proxy.stderr.wait("admin on ", places),
        }
        for line in proxy.stderr.all() {
            // As JSON, the line goes on after the address.
            let until = |rest: &str| rest.split('"').next().unwrap().to_owned();
            let address = |rest: &str| until(rest.split("//").nth(1).unwrap()).parse::<SocketAddr>().unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                proxy.addresses.push(address(rest));
            } else if let Some((_, rest)) = line.split_once("admin on http") {
                proxy.admin = Some(address(rest));
            }
        }
        proxy
    }
}

/// What a stream of the child said so far.
#[derive(Clone)]
pub struct Lines(Arc<(Mutex<Said>, Condvar)>);

/// Lines, and whether the stream has ended.
type Said = (Vec<String>, bool);

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let kept = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                kept.0.0.lock().unwrap().0.push(String::from_utf8_lossy(&line).into_owned());
                kept.0.1.notify_all();
            }
            kept.0.0.lock().unwrap().1 = true;
            kept.0.1.notify_all();
        });
        lines
    }

    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().0.clone()
    }

    /// How many lines contain this.
    pub fn count(&self, text: &str) -> usize {
        self.all().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until so many lines contain this.
    #[track_caller]
    pub fn wait(&self, text: &str, times: usize) {
        let unmet = |(lines, ended): &mut (Vec<String>, bool)| {
            !*ended && lines.iter().filter(|line| line.contains(text)).count() < times
        };
        let guard = self.0.0.lock().unwrap();
        let (guard, _) = self.0.1.wait_timeout_while(guard, DEADLINE, unmet).unwrap();
        let lines = guard.0.clone();
        // Who panics with it would spoil it for the one who tells what the proxy said.
        drop(guard);
        let found = lines.iter().filter(|line| line.contains(text)).count();
        assert!(found >= times, "no {text:?} in:\n{}", lines.join("\n"));
    }

    /// Waits until the stream has ended.
    fn wait_end(&self) {
        let guard = self.0.0.lock().unwrap();
        let (guard, _) = self.0.1.wait_timeout_while(guard, DEADLINE, |(_, ended)| !*ended).unwrap();
        assert!(guard.1, "the stream never ended");
    }
}

/// How a reload went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    Loaded,
    Unchanged,
    Failed,
}

/// What the log says of a reload.
const RELOADS: [(&str, Reloaded); 3] = [
    ("the policy was reloaded", Reloaded::Loaded),
    ("neither the policy nor a file that it names has changed", Reloaded::Unchanged),
    ("the policy was not reloaded", Reloaded::Failed),
];

/// A running proxy. Dropping it kills it.
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    /// Requests that are owed a record; clients count them.
    pub requests: Arc<AtomicUsize>,
    pub policy: Policy,
    pub folder: TempDir,
    child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Proxy {
    /// Its first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Its listeners, as they were told at the start.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("there is an admin listener")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// So many requests were sent by something that does not count itself.
    pub fn owes(&self, records: usize) {
        self.requests.fetch_add(records, Ordering::SeqCst);
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(status.success());
    }

    /// SIGHUP, and waits until the log tells how it went.
    #[track_caller]
    pub fn reload(&self) -> Reloaded {
        let count = || RELOADS.map(|(text, _)| self.stderr.count(text));
        let before = count();
        self.signal("HUP");
        eventually("the reload ends", || {
            let after = count();
            (0..RELOADS.len()).find(|&kind| after[kind] > before[kind]).map(|kind| RELOADS[kind].1)
        })
    }

    /// Puts another policy in place and reloads.
    #[track_caller]
    pub fn reload_to(&mut self, change: impl FnOnce(Policy) -> Policy) -> Reloaded {
        self.policy = change(self.policy.clone());
        self.policy.write(self.folder.path());
        self.reload()
    }

    /// The records that are in the file by now.
    pub fn records(&self) -> Vec<Value> {
        records(&self.file("audit.jsonl"))
    }

    /// Waits until there are so many records.
    #[track_caller]
    pub fn recorded(&self, count: usize) -> Vec<Value> {
        eventually(&format!("there are {count} records"), || {
            let records = self.records();
            (records.len() >= count).then_some(records)
        })
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the proxy ends", || self.child.try_wait().unwrap())
    }

    /// Ends it by this signal, and starts it again in the same folder.
    #[track_caller]
    pub fn again(mut self, signal: &str) -> Self {
        self.signal(signal);
        self.ended();
        let folder = std::mem::replace(&mut self.folder, TempDir::new().unwrap());
        let (policy, requests) = (self.policy.clone(), Arc::clone(&self.requests));
        let mut proxy = policy.start_in(folder);
        proxy.requests = requests;
        proxy
    }

    /// SIGTERM; returns the exit code and every record.
    #[track_caller]
    pub fn stop(mut self) -> (Option<i32>, Vec<Value>) {
        self.signal("TERM");
        let status = self.ended();
        self.stdout.wait_end();
        self.stderr.wait_end();
        assert_eq!(self.stderr.count("panicked"), 0, "{}", self.stderr.all().join("\n"));
        (status.code(), self.records())
    }

    /// The end of most tests: it drains, ends with 0, and has written exactly one record for each request.
    #[track_caller]
    pub fn done(self) -> Vec<Value> {
        let requests = self.requests.load(Ordering::SeqCst);
        let (code, records) = self.stop();
        assert_eq!(code, Some(0));
        assert_eq!(of_requests(&records).count(), requests, "one record for each request: {records:#?}");
        records
    }
}

/// Records of requests, without those of operators' changes.
pub fn of_requests(records: &[Value]) -> impl Iterator<Item = &Value> {
    records.iter().filter(|record| said(record, "event.action") == "request")
}

/// What a record says under this dotted name, as it stands in Elastic Common Schema.
pub fn said<'a>(record: &'a Value, name: &str) -> &'a Value {
    record.pointer(&format!("/{}", name.replace('.', "/"))).unwrap_or(&Value::Null)
}

/// All whole lines of a file of records.
pub fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let parse = |line: &[u8]| match serde_json::from_slice(line) {
        Ok(record) => record,
        Err(error) => panic!("not a record: {error}: {}", String::from_utf8_lossy(line)),
    };
    text[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the proxy said:\n{}", self.stderr.all().join("\n"));
        }
    }
}
