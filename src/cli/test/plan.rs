//! Turns a test file into a plan: resolves names against the policy and reports every mistake at its place.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::file::{ALLOW, Expect, Facts, File, GRPC_OK, LongRequest, REFUSE, Request, Test, Who};
use crate::cli::request_defaults::{FROM, media_type, read_body, split};
use crate::error_text;
use crate::grpc;
use crate::policy::diagnostic::{Problems, did_you_mean};
use crate::policy::yaml_file;
use crate::policy::{At, Period, Policy};
use crate::refusal::{Reason, Stage};
use crate::rehearsal::Rehearsal;
use crate::rehearsal::mint::Mint;
use crate::rehearsal::persona::Persona;
use crate::rehearsal::request::RehearsalRequest;

/// Maximum number of requests of one test.
const MOST_REPEATED: u32 = 100_000;

/// The tests of one policy.
pub(super) struct Plan {
    pub(super) rehearsal: Rehearsal,
    pub(super) mint: Mint,
    /// Start time of every group.
    pub(super) now: Timestamp,
    /// Each group starts with unused limits.
    pub(super) groups: Vec<Group>,
}

/// Steps that share limits and a clock.
pub(super) struct Group {
    pub(super) cases: Vec<Case>,
}

/// One request and its expected result.
pub(super) struct Case {
    pub(super) name: String,
    /// Line in the test file.
    pub(super) line: usize,
    /// The caller; callers of one name in a group share a credential.
    pub(super) caller: Option<(String, Persona)>,
    pub(super) request: RequestTemplate,
    pub(super) repeat: u32,
    pub(super) after: Duration,
    pub(super) expect: Facts,
}

/// A request that can be sent many times.
pub(super) struct RequestTemplate {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    from: IpAddr,
}

impl RequestTemplate {
    /// The request, without a credential.
    pub(super) fn build(&self) -> RehearsalRequest {
        RehearsalRequest {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            from: self.from,
            certificate: None,
        }
    }
}

/// Reads a test file and its policy. Errors are the problems of the file and those of the policy.
pub(super) fn read(path: &Path) -> Result<Plan, Vec<Problems>> {
    let mut written = yaml_file::file::<File>(path).map_err(|problems| vec![problems])?;
    let mut problems = std::mem::take(&mut written.problems);
    let (document, at) = (&written.document, written.at());
    let now = match &document.now {
        None => Timestamp::now(),
        Some(text) => text.parse().unwrap_or_else(|_| {
            problems
                .error(at.key("now").place(), "this is not a time")
                .help("write it in the format of RFC 3339, such as `2026-11-24T12:00:00Z`");
            Timestamp::UNIX_EPOCH
        }),
    };
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let Some(policy) = &document.policy else {
        if !at.damaged() {
            problems.error(at.key_place(), "`policy` is missing").help("write the path of the policy to test");
        }
        return Err(vec![problems]);
    };
    let mint = match Mint::new(document.env.clone(), Some(document.secrets.clone())) {
        Ok(mint) => mint,
        Err(problem) => {
            problems.error(None, problem);
            return Err(vec![problems]);
        }
    };
    let rehearsal = match Rehearsal::with(&folder.join(policy), &mint) {
        Ok(rehearsal) => rehearsal,
        Err(of_policy) if problems.is_empty() => return Err(vec![of_policy]),
        Err(of_policy) => return Err(vec![problems, of_policy]),
    };
    let (policy, callers) = (rehearsal.policy(), at.key("callers"));
    let mut reader = Reader { document, callers, policy, rehearsal: &rehearsal, folder, problems };
    let groups = reader.whole(at);
    let problems = reader.problems;
    if problems.has_errors() { Err(vec![problems]) } else { Ok(Plan { rehearsal, mint, now, groups }) }
}

struct Reader<'a> {
    document: &'a File,
    /// Place of `callers` in the file.
    callers: At<'a>,
    policy: &'a Policy,
    rehearsal: &'a Rehearsal,
    /// Folder of the file, which its paths are relative to.
    folder: PathBuf,
    problems: Problems,
}

impl Reader<'_> {
    fn whole(&mut self, at: At<'_>) -> Vec<Group> {
        let document = self.document;
        for (name, caller) in &document.callers {
            // Reports problems once, however many tests use the caller.
            let _ = caller.persona(self.callers.key(name), self.policy, &mut self.problems);
        }
        if document.tests.is_empty() && !at.damaged() {
            self.problems
                .error(at.key("tests").key_place(), "there are no tests")
                .help("write `tests:` with a list of `name`, `as`, `request` and `expect`");
        }
        let at = at.key("tests");
        document.tests.iter().enumerate().map(|(position, test)| self.group(test, at.index(position))).collect()
    }

    fn group(&mut self, test: &Test, at: At<'_>) -> Group {
        let name = test.name.clone().unwrap_or_else(|| self.missing_name(at));
        let Some(steps) = &test.sequence else {
            if test.after.is_some() {
                self.problems.error(at.key("after").key_place(), "`after` needs a previous step").help(
                    "steps of a `sequence` share limits and a clock, and `after` is the time between two of them",
                );
            }
            return Group { cases: self.case(name, test, None, at).into_iter().collect() };
        };
        for (key, present) in [
            ("request", test.request.is_some()),
            ("expect", test.expect.is_some()),
            ("repeat", test.repeat.is_some()),
            ("after", test.after.is_some()),
        ] {
            if present {
                self.problems.error(at.key(key).key_place(), format!("`{key}` belongs to a step of the sequence"));
            }
        }
        if steps.is_empty() {
            self.problems.error(at.key("sequence").key_place(), "this sequence has no steps");
        }
        let mut cases = Vec::new();
        for (position, step) in steps.iter().enumerate() {
            let at_step = at.key("sequence").index(position);
            if step.sequence.is_some() {
                self.problems.error(at_step.key("sequence").key_place(), "a step cannot be a sequence");
                continue;
            }
            let step_name = step.name.clone().unwrap_or_else(|| format!("step {}", position + 1));
            let caller = test.caller.as_ref().map(|caller| (caller, at.key("as")));
            cases.extend(self.case(format!("{name} › {step_name}"), step, caller, at_step));
        }
        Group { cases }
    }

    fn missing_name(&mut self, at: At<'_>) -> String {
        if !at.damaged() {
            self.problems
                .error(at.key("name").place(), "`name` is missing")
                .help("describe in a few words what the test expects");
        }
        String::new()
    }

    fn case(&mut self, name: String, test: &Test, usual: Option<(&Who, At<'_>)>, at: At<'_>) -> Option<Case> {
        let caller = test.caller.as_ref().map(|caller| (caller, at.key("as"))).or(usual);
        let caller = match caller {
            None => None,
            Some((caller, at)) => Some(self.caller(caller, at)?),
        };
        let repeat = test.repeat.unwrap_or(1);
        if !(1..=MOST_REPEATED).contains(&repeat) {
            let message = format!("a request is repeated 1 to {MOST_REPEATED} times");
            self.problems.error(at.key("repeat").place(), message);
        }
        let request = match &test.request {
            Some(request) => self.request(request, at.key("request")),
            None => {
                self.missing(at, "request", "this test has no request", "write `request: METHOD /path`");
                None
            }
        };
        let expect = match &test.expect {
            Some(expect) => self.expect(expect, at.key("expect")),
            None => {
                self.missing(
                    at,
                    "expect",
                    "this test has no expectation",
                    "write `expect: allow`, or `{ status: 403 }`",
                );
                None
            }
        };
        let Period(after) = test.after.unwrap_or(Period(Duration::ZERO));
        let (line, _) = at.place().start();
        Some(Case { name, line, caller, request: request?, repeat, after, expect: expect? })
    }

    fn missing(&mut self, at: At<'_>, key: &str, message: &str, help: &str) {
        if !at.damaged() {
            self.problems.error(at.key(key).place(), message).help(help);
        }
    }

    fn caller(&mut self, caller: &Who, at: At<'_>) -> Option<(String, Persona)> {
        match caller {
            Who::Named(name) => {
                let Some(caller) = self.document.callers.get(name) else {
                    let callers = self.document.callers.keys().map(String::as_str);
                    let help = did_you_mean(name, callers)
                        .unwrap_or_else(|| "define it under `callers`, or write a map here".to_owned());
                    self.problems.error(at.place(), format!("there is no caller `{name}`")).help(help);
                    return None;
                };
                // Its problems have already been reported where it is defined.
                let persona = caller.persona(self.callers.key(name), self.policy, &mut Problems::new())?;
                Some((name.clone(), persona))
            }
            Who::Inline(caller) => {
                let persona = caller.persona(at, self.policy, &mut self.problems)?;
                Some((at.place().to_string(), persona))
            }
        }
    }

    fn request(&mut self, request: &Request, at: At<'_>) -> Option<RequestTemplate> {
        const HELP: &str = "write the method, one space, and the path: `GET /v1/orders/7`";
        let none = LongRequest::default();
        let (method, target, long) = match request {
            Request::Short(text) => {
                let Some((method, target)) = split(text) else {
                    self.problems.error(at.place(), "this is not a request").help(HELP);
                    return None;
                };
                (method, target, &none)
            }
            Request::Long(long) => {
                let (Some(method), Some(target)) = (&long.method, &long.path) else {
                    if !at.damaged() {
                        self.problems.error(at.place(), "a request needs `method` and `path`").help(HELP);
                    }
                    return None;
                };
                (method.as_str(), target.as_str(), &**long)
            }
        };
        let from = match long.from.as_ref().map(|text| text.parse()) {
            None => FROM,
            Some(Ok(from)) => from,
            Some(Err(_)) => {
                self.problems.error(at.key("from").place(), "this is not an IP address");
                FROM
            }
        };
        let (body, media_type) = self.body(long, at)?;
        let mut headers: Vec<(String, String)> =
            long.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let has = |wanted: &str| long.headers.keys().any(|name| name.eq_ignore_ascii_case(wanted));
        if !has("host") {
            let likely = || self.rehearsal.likely_host(method, target);
            let host = long.host.clone().unwrap_or_else(likely);
            headers.push(("host".to_owned(), host));
        }
        if let Some(media_type) = media_type
            && !has("content-type")
        {
            headers.push(("content-type".to_owned(), media_type.to_owned()));
        }
        Some(RequestTemplate { method: method.to_owned(), target: target.to_owned(), headers, body, from })
    }

    /// The body, and its content type where that is known.
    fn body(&mut self, request: &LongRequest, at: At<'_>) -> Option<(Bytes, Option<&'static str>)> {
        match (request.body, &request.body_text, &request.body_file) {
            (None, None, None) => Some((Bytes::new(), None)),
            (Some(_), None, None) => Some((at.key("body").json_text().into_bytes().into(), Some("application/json"))),
            (None, Some(text), None) => Some((text.clone().into_bytes().into(), None)),
            (None, None, Some(file)) => {
                let path = self.folder.join(file);
                match read_body(&path) {
                    Ok(bytes) => Some((bytes, media_type(&path))),
                    Err(error) => {
                        let message = format!("{} cannot be read: {}", path.display(), error_text::system(&error));
                        let help = "paths are relative to the folder of this file";
                        self.problems.error(at.key("body_file").place(), message).help(help);
                        None
                    }
                }
            }
            _ => {
                let message = "a request can have only one body";
                let help = "write one of `body`, `body_text` and `body_file`";
                self.problems.error(at.place(), message).help(help);
                None
            }
        }
    }

    fn expect(&mut self, expect: &Expect, at: At<'_>) -> Option<Facts> {
        let facts = match expect {
            Expect::Word(word) if word == "allow" => return Some(Facts { status: Some(200), ..Facts::default() }),
            Expect::Word(_) => {
                self.problems
                    .error(at.place(), "this is not a valid expectation")
                    .help("write `allow`, or what a refusal has: `{ status: 403, code: insufficient_scope }`");
                return None;
            }
            Expect::Facts(facts) => &**facts,
        };
        let before = self.problems.len();
        let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        let stages: Vec<&str> = Stage::ALL.iter().map(|stage| stage.as_str()).collect();
        let routes: Vec<&str> = self.policy.routes().iter().map(|route| &**route.name()).collect();
        let statuses: BTreeSet<&str> = Reason::ALL.iter().map(|reason| grpc::status(*reason).1).collect();
        let statuses: Vec<&str> = statuses.into_iter().chain([GRPC_OK, "none"]).collect();
        for (key, what, written, names) in [
            ("grpc_status", "gRPC status", &facts.grpc_status, &statuses),
            ("code", "code", &facts.code, &codes),
            ("stage", "stage", &facts.stage, &stages),
            ("route", "route", &facts.route, &routes),
            ("cors", "verdict", &facts.cors, &vec![ALLOW, REFUSE, "none"]),
        ] {
            if let Some(written) = written {
                self.one_of(what, written, names, at.key(key));
            }
        }
        for (position, code) in facts.would_refuse.iter().flatten().enumerate() {
            self.one_of("code", code, &codes, at.key("would_refuse").index(position));
        }
        if *facts == Facts::default() && !at.damaged() {
            self.problems.error(at.place(), "this expectation is empty").help(
                "write `allow`, or some of `status`, `grpc_status`, `code`, `stage`, `scopes`, `granted`, `violations`, `consumer`, \
                 `route`, `would_refuse`, `upstream_path`, `cors`, `hidden`",
            );
        }
        (self.problems.len() == before).then(|| facts.clone())
    }

    fn one_of(&mut self, what: &str, written: &str, names: &[&str], at: At<'_>) {
        if !names.contains(&written) {
            let help = did_you_mean(written, names.iter().copied())
                .unwrap_or_else(|| format!("write one of {}", names.join(", ")));
            self.problems.error(at.place(), format!("there is no {what} `{written}`")).help(help);
        }
    }
}
