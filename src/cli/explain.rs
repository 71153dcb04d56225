//! `bartizan explain`: traces one request through the chain without sending it. Prints what each stage decides and why.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::exit_code::{DONE, FAILED, INVALID};
use super::log::Log;
use super::output::{self, Format};
use super::persona::WrittenPersona;
use super::request_defaults::{FROM, media_type, read_body, read_piped_body};
use crate::error_text;
use crate::grpc;
use crate::policy::diagnostic::{Problems, did_you_mean};
use crate::policy::self_service::SelfEndpoint;
use crate::policy::{Api, Own, Policy, yaml_file};
use crate::refusal::Reason;
use crate::rehearsal::Rehearsal;
use crate::rehearsal::delivery::Delivery;
use crate::rehearsal::mint::Mint;
use crate::rehearsal::request::{Moment, RehearsalRequest};
use crate::rehearsal::trace::{Outcome, RehearsalTrace};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  bartizan explain --policy policy.yaml GET /v1/orders/7 --bearer \"$TOKEN\"
  bartizan explain --policy policy.yaml POST /v1/orders --body order.json --as '{ issuer: corp, id: acme, scopes: [orders:write] }'
The request is not sent. --bearer fetches keys from issuers and calls their endpoints as `run` does; --as makes no connections.
Limits start unused, and changes that operators made at run time are ignored.
Exit codes: 0 it would be forwarded, 1 it would be refused, 2 wrong usage or the policy has errors.")]
pub(super) struct Arguments {
    /// Path of the policy file
    #[arg(long, value_name = "FILE", env = "BARTIZAN_POLICY")]
    policy: PathBuf,
    /// Method of the request, such as GET
    method: String,
    /// Path and query of the request
    path: String,
    /// Token to send as `Authorization: Bearer`, or where `auth.tokens.from` has it first; `-` reads it from standard input
    #[arg(long, value_name = "TOKEN")]
    bearer: Option<String>,
    /// API key to send where the policy looks for keys; `-` reads it from standard input
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Identity to create a valid credential for, written like `as` in a test
    #[arg(long = "as", value_name = "WHO", conflicts_with_all = ["bearer", "key"])]
    caller: Option<String>,
    /// Header field to send, `Name: value`; may be repeated
    #[arg(long = "header", value_name = "FIELD", value_parser = field)]
    headers: Vec<(String, String)>,
    /// Host of the request; default: a host that has a matching route
    #[arg(long)]
    host: Option<String>,
    /// File with the body; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS", default_value_t = FROM)]
    from: IpAddr,
    /// Time of the request in RFC 3339; default: now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Output format of the explanation
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Why there is nothing to explain.
enum Stopped {
    /// Errors in the policy or in `--as`.
    Problems(Problems),
    /// Any other failure.
    Failed(String),
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let explained = runtime
        .map_err(|error| Stopped::Failed(error.to_string()))
        .and_then(|runtime| runtime.block_on(explain(arguments)));
    match explained {
        Ok(explained) => {
            match arguments.format {
                Format::Json => output::print(&format!("{}\n", explained.json())),
                Format::Text => output::print(&explained.text()),
            };
            if explained.trace.refusal().is_none() { DONE } else { FAILED }
        }
        Err(Stopped::Problems(problems)) => {
            match arguments.format {
                Format::Json => {
                    output::print(&format!("{}\n", problems.json(&arguments.policy.display().to_string())));
                }
                Format::Text => output::report(&problems),
            }
            INVALID
        }
        Err(Stopped::Failed(error)) => {
            output::message(format_args!("error: {error}"));
            INVALID
        }
    }
}

/// A trace, and the time it assumes.
struct Explained {
    trace: RehearsalTrace,
    at: Timestamp,
    /// It is a request of gRPC.
    is_grpc: bool,
    /// What the trace ignored.
    note: Option<&'static str>,
    /// The host or route that was probably meant, when no route was found.
    meant: Option<String>,
}

async fn explain(arguments: &Arguments) -> Result<Explained, Stopped> {
    let at = arguments.at.unwrap_or_else(Timestamp::now);
    let body = arguments.body.as_ref().and_then(|body| body.to_str());
    let given = [arguments.bearer.as_deref(), arguments.key.as_deref(), body];
    if given.iter().filter(|given| **given == Some("-")).count() > 1 {
        return Err(Stopped::Failed("only one of --bearer, --key and --body can be `-`".to_owned()));
    }
    let mut request = RehearsalRequest {
        method: arguments.method.clone(),
        target: arguments.path.clone(),
        headers: arguments.headers.clone(),
        body: Bytes::new(),
        from: arguments.from,
        certificate: None,
    };
    if let Some(file) = &arguments.body {
        let read = if file.as_os_str() == "-" { read_piped_body() } else { read_body(file) };
        request.body = read.map_err(|error| {
            Stopped::Failed(format!("{} cannot be read: {}", file.display(), error_text::system(&error)))
        })?;
        if let Some(media_type) = media_type(file)
            && !request.has("content-type")
        {
            request.headers.push(("content-type".to_owned(), media_type.to_owned()));
        }
    }
    let host_is_given = arguments.host.is_some() || request.has("host");
    let rehearsal = match &arguments.caller {
        Some(text) => impersonate(arguments, text, &mut request, at)?,
        None => Rehearsal::without_stand_ins(&arguments.policy).map_err(Stopped::Problems)?,
    };
    let locations = &rehearsal.policy().auth().locations;
    if let Some(token) = secret(arguments.bearer.as_deref())? {
        request.send_token(locations, &token);
    }
    if let Some(key) = secret(arguments.key.as_deref())? {
        request.send_key(locations, &key);
    }
    add_host(arguments, &rehearsal, &mut request);
    if arguments.caller.is_none() && request.may_have_token(locations) {
        // The log says why a key set cannot be fetched.
        Log::from_env("warn").map_err(Stopped::Failed)?.start();
        rehearsal.fetch_keys(at).await;
    }
    let note = rehearsal.policy().has_store().then_some(
        "the store is not read: revocations, suspensions, grants, and keys and consumers created at run time are ignored",
    );
    let is_grpc = request.is_grpc();
    let trace = rehearsal.trace(request, Moment { at, since: Duration::ZERO }).await;
    let unrouted = trace.refusal().is_some_and(|refusal| refusal.reason() == Reason::NoRoute);
    let meant = if unrouted { meant(&trace, rehearsal.policy(), host_is_given) } else { None };
    Ok(Explained { trace, at, is_grpc, note, meant })
}

/// Suggests the host or the route that was probably meant. A host that was not given may be any.
fn meant(trace: &RehearsalTrace, policy: &Policy, host_is_given: bool) -> Option<String> {
    let host = &*trace.host;
    let serves = |api: &Arc<Api>| api.serves(host);
    if host_is_given && !policy.apis().iter().any(serves) {
        return did_you_mean(host, policy.apis().iter().flat_map(|api| api.hosts()).map(|host| &**host));
    }
    let routes = policy.routes().iter().filter(|route| !host_is_given || serves(route.api()));
    let routes = routes.map(|route| &**route.name());
    did_you_mean(&format!("{} {}", trace.method, trace.path), routes)
}

/// Adds `Host` if no header names the host.
fn add_host(arguments: &Arguments, rehearsal: &Rehearsal, request: &mut RehearsalRequest) {
    if !request.has("host") {
        let host = arguments.host.as_deref();
        let host = host.map_or_else(|| rehearsal.likely_host(&request.method, &request.target), str::to_owned);
        request.headers.push(("host".to_owned(), host));
    }
}

/// Creates the requested credential, and a policy that accepts it.
fn impersonate(
    arguments: &Arguments,
    text: &str,
    request: &mut RehearsalRequest,
    at: Timestamp,
) -> Result<Rehearsal, Stopped> {
    let mut written = yaml_file::text::<WrittenPersona>("--as", text.to_owned()).map_err(Stopped::Problems)?;
    let mint = Mint::new(BTreeMap::new(), None).map_err(Stopped::Failed)?;
    let rehearsal = Rehearsal::with(&arguments.policy, &mint).map_err(Stopped::Problems)?;
    let policy = rehearsal.policy();
    let mut problems = std::mem::take(&mut written.problems);
    let persona = written.document.persona(written.at(), policy, &mut problems);
    let Some(persona) = persona.filter(|_| !problems.has_errors()) else { return Err(Stopped::Problems(problems)) };
    let credential = mint.credential(rehearsal.in_force(), &persona, at).map_err(Stopped::Failed)?;
    add_host(arguments, &rehearsal, request);
    credential.add_to(rehearsal.in_force(), request, at).map_err(Stopped::Failed)?;
    Ok(rehearsal)
}

/// Returns the argument, or reads standard input for `-`, which keeps the secret out of process lists.
fn secret(given: Option<&str>) -> Result<Option<String>, Stopped> {
    if given != Some("-") {
        return Ok(given.map(str::to_owned));
    }
    let read = std::io::read_to_string(std::io::stdin());
    let failed = |error| Stopped::Failed(format!("standard input cannot be read: {}", error_text::system(&error)));
    let text = read.map_err(failed)?;
    Ok(Some(text.trim().to_owned()))
}

impl Explained {
    fn servers(&self) -> Vec<String> {
        let servers = self.trace.route.as_ref().map(|route| &*route.api().upstream().servers);
        servers.unwrap_or_default().iter().map(|server| server.name.to_string()).collect()
    }

    /// The path that the upstream gets, if it is not the one that was matched.
    fn mapped(&self) -> String {
        let mapped = self.trace.upstream_target().filter(|target| *target != self.trace.target);
        mapped.map(|target| format!(" as {target}")).unwrap_or_default()
    }

    /// What its upstream would do with it.
    fn delivery(&self) -> Option<Delivery<'_>> {
        let route = self.trace.route.as_ref()?;
        Some(Delivery::new(route.api().upstream(), &self.trace.method))
    }

    /// The part of this process that answers it.
    fn own(&self) -> Option<Own> {
        self.trace.route.as_ref().and_then(|route| route.own)
    }

    fn text(&self) -> String {
        let mut text = format!("{} {}\n", self.trace.method, self.trace.target);
        for step in self.trace.steps(self.at) {
            let why = match (step.outcome, step.name) {
                (Outcome::Passed, "path" | "route" | "cors" | "mask") => step.why,
                (Outcome::Passed, _) => format!("ok: {}", step.why),
                (Outcome::NotAsked, _) => format!("not asked: {}", step.why),
                (Outcome::Refused, _) => format!("refused: {}", step.why),
                (Outcome::Reported, _) => format!("would be refused, and is only reported: {}", step.why),
                (Outcome::NotReached, _) => "not reached".to_owned(),
            };
            let why = why.replace('\n', "\n              ");
            text.push_str(&format!("  {:<12}{why}\n", step.name.replace('_', " ")));
        }
        match self.trace.refusal() {
            Some(refusal) => {
                let reason = refusal.reason();
                let status = reason.status().as_u16().to_string();
                let status = if self.is_grpc { grpc::status(reason).1 } else { &status };
                text.push_str(&format!("→ {status} {}: {}\n", reason.code(), refusal.detail()));
                if let Some(meant) = &self.meant {
                    text.push_str(&format!("  {meant}\n"));
                }
            }
            None if self.trace.ends_here() => text.push_str("→ 204: the proxy itself answers, and asks no upstream\n"),
            None if let Some(own) = self.own() => {
                text.push_str(match own {
                    Own::TokenService(_) => "→ answered by the token service, which checks the client and the grant\n",
                    Own::SelfService(SelfEndpoint::ClaimInvitation) => {
                        "→ answered by the proxy, which checks the code\n"
                    }
                    Own::SelfService(SelfEndpoint::RotateSecret) => {
                        "→ answered by the proxy, which checks the secret of the client\n"
                    }
                    Own::SelfService(_) => "→ answered by the proxy, about the caller alone\n",
                });
            }
            None => {
                let headers = self.trace.identity_headers();
                let with = if headers.is_empty() { "" } else { ", with" };
                text.push_str(&format!("→ forwarded to {}{}{with}\n", self.servers().join(" or "), self.mapped()));
                for (name, value) in headers {
                    text.push_str(&format!("  {name}: {value}\n"));
                }
                for (name, fact) in self.delivery().iter().flat_map(Delivery::facts) {
                    text.push_str(&format!("  {name:<12}{fact}\n"));
                }
            }
        }
        if let Some(note) = self.note {
            text.push_str(&format!("note: {note}\n"));
        }
        text
    }

    fn json(&self) -> Value {
        let steps = self.trace.steps(self.at).into_iter();
        let steps = steps.map(|step| json!({"step": step.name, "outcome": step.outcome.as_str(), "why": step.why}));
        let mut object = Map::new();
        let mut say = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
        let trace = &self.trace;
        say("request", json!({"method": trace.method, "target": trace.target, "path": trace.path, "host": trace.host}));
        if let Some(may_read) = trace.cors() {
            say("cors", json!(if may_read { "allow" } else { "refuse" }));
        }
        if trace.refusal().is_none() {
            say("hidden", json!(trace.hidden()));
        }
        say("at", json!(self.at.to_string()));
        say("steps", steps.collect());
        say("allowed", json!(trace.refusal().is_none()));
        say("route", json!(trace.route.as_ref().map(|route| route.name().to_string())));
        say("api", json!(trace.route.as_ref().map(|route| route.api().name().to_string())));
        say("consumer", json!(trace.caller().map(|caller| caller.consumer().to_string())));
        let codes: Vec<&str> = trace.would_refuse().iter().map(|refusal| refusal.reason().code()).collect();
        say("would_refuse", json!(codes));
        match trace.refusal() {
            Some(refusal) => {
                say("status", json!(refusal.reason().status().as_u16()));
                if self.is_grpc {
                    say("grpc_status", json!(grpc::status(refusal.reason()).1));
                }
                say("code", json!(refusal.reason().code()));
                say("stage", json!(refusal.stage().as_str()));
                say("detail", json!(refusal.detail()));
                if let Some(meant) = &self.meant {
                    say("help", json!(meant));
                }
                say("members", serde_json::to_value(refusal.own_members()).unwrap_or_default());
            }
            None if self.trace.ends_here() => say("status", json!(204)),
            None if let Some(own) = self.own() => {
                let part = if matches!(own, Own::TokenService(_)) { "token_service" } else { "self_service" };
                say("answered_by", json!(part));
            }
            None => {
                let headers: Map<String, Value> = trace
                    .identity_headers()
                    .into_iter()
                    .map(|(name, value)| (name.into_owned(), json!(value)))
                    .collect();
                say(
                    "upstream",
                    json!({"servers": self.servers(), "target": self.trace.upstream_target(), "headers": headers}),
                );
                say("delivery", self.delivery().map_or(Value::Null, |delivery| delivery.to_json()));
            }
        }
        if let Some(note) = self.note {
            say("note", json!(note));
        }
        Value::Object(object)
    }
}
