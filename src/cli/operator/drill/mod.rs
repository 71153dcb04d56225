//! `bartizan drill`: verifies on running nodes that revocation works.
//!
//! `drill revocation` revokes a credential that every node accepts, and sends requests back to back to every node until
//! the credential is refused. The drill undoes its changes whatever the result; what it cannot undo expires. The result stays in
//! the audit record.

mod nodes;
mod places;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use http::Method;
use http::uri::PathAndQuery;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::nodes::{Clients, Node, NodeResponse, Prober, Watched, each, milliseconds};
use self::places::{Carrier, Places};
use super::revoke::text;
use super::{Backend, DaemonArguments, Operator, fail, print_json, print_line, print_table, segment};
use crate::cli::exit_code::{DONE, FAILED, INVALID};
use crate::cli::output::{self, Format};
use crate::policy::Period;
use crate::stages::auth::locations::CredentialLocations;

/// How long a node has to receive a new key, or the end of a revocation.
const SPREAD: Duration = Duration::from_secs(5);
/// How long past the bound to wait for a node that still accepts the credential.
const GIVE_UP: Duration = Duration::from_secs(5);
/// Lifetime of what the drill creates, in case it cannot be undone.
const LIFETIME: &str = "10m";
/// Note and reason that operators see.
const NOTE: &str = "revocation drill";

#[derive(clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example: bartizan drill revocation --node http://127.0.0.1:8080 --path /v1/orders --consumer acme"
)]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    drill: DrillCommand,
}

#[derive(Subcommand)]
enum DrillCommand {
    /// Verify that every node refuses a revoked credential, and measure how soon
    Revocation(Revocation),
}

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan drill revocation --policy policy.yaml --consumer acme --path /v1/orders \\
           --node https://10.1.0.7:8443 --node https://10.1.0.8:8443 --ca tls/ca.pem --within 500ms
The requests are real: choose a route that the credential may use and that changes nothing.
The record of the node at --admin keeps the result as evidence, for `bartizan ready`.
Refused requests count as failed attempts of this machine's address (`auth.failed_attempts`).
Exit codes: 0 every node refused the credential in time and kept refusing it, 1 otherwise.")]
struct Revocation {
    #[command(flatten)]
    daemon: DaemonArguments,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// URL of a node as its callers reach it: http://HOST:PORT or https://HOST:PORT; repeat for each node
    #[arg(long = "node", value_name = "URL", required = true)]
    nodes: Vec<Node>,
    /// Path and query of the requests
    #[arg(long, value_parser = path)]
    path: String,
    /// Method of the requests
    #[arg(long, default_value = "GET")]
    method: Method,
    #[command(flatten)]
    credential: Credential,
    /// Id of the --key, if the key does not contain it
    #[arg(long, value_name = "ID", requires = "key")]
    key_id: Option<String>,
    #[command(flatten)]
    places: Places,
    /// How soon every node must refuse the credential
    #[arg(long, value_name = "TIME", default_value = "1s")]
    within: Period,
    /// PEM file of the certificate authorities of the nodes; default: the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Credential {
    /// Consumer to create an API key for; the drill removes the key afterwards
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// API key to use; `-` reads it from standard input
    #[arg(long)]
    key: Option<SecretString>,
    /// Token to use; `-` reads it from standard input
    #[arg(long, value_name = "TOKEN")]
    bearer: Option<SecretString>,
}

fn path(text: &str) -> Result<String, &'static str> {
    let good = text.starts_with('/') && text.parse::<PathAndQuery>().is_ok();
    if good { Ok(text.to_owned()) } else { Err("a path begins with `/`") }
}

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    let DrillCommand::Revocation(arguments) = &arguments.drill;
    revocation(arguments).unwrap_or_else(|code| code)
}

fn revocation(arguments: &Revocation) -> Result<u8, u8> {
    let clients = Clients::new(&arguments.nodes, arguments.ca.as_deref()).map_err(|problem| fail(FAILED, &problem))?;
    let operator = arguments.daemon.open()?;
    if matches!(operator.backend, Backend::Store(_)) {
        return Err(fail(FAILED, "a drill needs running nodes, and no daemon answers; start one, or give --admin"));
    }
    let interrupt = operator.runtime.block_on(async { signal(SignalKind::interrupt()) });
    let interrupt = interrupt.map_err(|error| fail(FAILED, &format!("cannot listen for signals: {error}")))?;
    let locations = arguments.daemon.locations();
    let mut drill = Drill { arguments, operator, locations, interrupt, steps: Vec::new(), revocation: None };
    let credential = drill.credential()?;
    let prober = Arc::new(Prober {
        clients,
        method: arguments.method.clone(),
        path: credential.carrier.target(&arguments.path),
        carrier: credential.carrier.clone(),
    });
    let watched = drill.verify(&credential, &prober).unwrap_or_default();
    drill.undo(&credential, &prober);
    drill.record(&watched);
    Ok(drill.verdict(&credential, &watched))
}

/// The credential of a drill.
struct TestCredential {
    carrier: Carrier,
    /// What is revoked, as the admin API names it.
    target: (&'static str, SecretString),
    /// Name of the credential in the report.
    name: String,
    /// Id of the key, if the drill created it.
    created: Option<String>,
}

/// One step of a drill.
struct Step {
    name: &'static str,
    good: bool,
    took: Duration,
    detail: String,
}

/// A drill under backend.
struct Drill<'a> {
    arguments: &'a Revocation,
    operator: Operator,
    /// Where the policy has credentials; absent: no policy was given.
    locations: Option<CredentialLocations>,
    interrupt: Signal,
    steps: Vec<Step>,
    /// Id of the revocation to undo.
    revocation: Option<String>,
}

impl Drill<'_> {
    /// Keeps and prints the result of a step. Returns whether it succeeded.
    fn step(&mut self, name: &'static str, began: Instant, outcome: Result<String, String>) -> bool {
        let (good, took) = (outcome.is_ok(), began.elapsed());
        let detail = outcome.unwrap_or_else(|problem| problem);
        if self.arguments.format == Format::Text {
            let word = if good { "ok" } else { "failed" };
            output::message(format_args!("{word:6}  {name}, {} ms: {detail}", milliseconds(took)));
        }
        self.steps.push(Step { name, good, took, detail });
        good
    }

    /// Waits for requests to nodes. Returns `None` if the drill is interrupted.
    fn on_nodes<T>(&mut self, asked: impl Future<Output = T>) -> Option<T> {
        let interrupt = &mut self.interrupt;
        self.operator.runtime.block_on(async {
            tokio::select! {
                answered = asked => Some(answered),
                _ = interrupt.recv() => None,
            }
        })
    }

    /// Creates a key, or takes the given credential.
    fn credential(&mut self) -> Result<TestCredential, u8> {
        let began = Instant::now();
        let arguments = self.arguments;
        let credential = match &arguments.credential {
            Credential { consumer: Some(consumer), .. } => {
                let path = format!("/v1/consumers/{}/keys", segment(consumer));
                let made =
                    self.operator.send(&Method::POST, &path, Some(&json!({"expires": LIFETIME, "note": NOTE})))?;
                let part = |name| made.get(name).and_then(Value::as_str);
                let (Some(id), Some(key)) = (part("id"), part("key")) else {
                    return Err(fail(FAILED, "a key was created, but the response does not contain it"));
                };
                let (name, created) = (format!("key {id} of {consumer}"), Some(id.to_owned()));
                TestCredential {
                    carrier: arguments.places.key(key, self.locations.as_ref())?,
                    target: ("key", id.into()),
                    name,
                    created,
                }
            }
            Credential { key: Some(key), .. } => {
                let key = text(key.expose_secret())?;
                let Some(id) = arguments.key_id.as_deref().or_else(|| key_id(&key)) else {
                    return Err(fail(INVALID, "the key does not contain its id; give it with --key-id"));
                };
                let name = format!("key {id}");
                TestCredential {
                    carrier: arguments.places.key(&key, self.locations.as_ref())?,
                    target: ("key", id.into()),
                    name,
                    created: None,
                }
            }
            Credential { bearer, .. } => {
                let token = text(bearer.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default())?;
                let carrier = arguments.places.token(&token, self.locations.as_ref())?;
                TestCredential { carrier, target: ("token", token.into()), name: "token".to_owned(), created: None }
            }
        };
        let word = if credential.created.is_some() { "made" } else { "taken" };
        self.step("credential", began, Ok(format!("{} is {word}; it goes in {}", credential.name, credential.carrier)));
        Ok(credential)
    }

    /// Checks that every node accepts the credential, revokes it, and watches every node refuse it. Returns `None` if
    /// an earlier step fails.
    fn verify(&mut self, credential: &TestCredential, prober: &Arc<Prober>) -> Option<Vec<Watched>> {
        let arguments = self.arguments;
        let timeout = if credential.created.is_some() { SPREAD } else { Duration::ZERO };
        self.accepted("accepted", prober, timeout, NodeResponse::is_accepted).then_some(())?;

        let began = Instant::now();
        let (name, value) = &credential.target;
        let body = json!({*name: value.expose_secret(), "expires": LIFETIME, "reason": NOTE});
        let response = self.operator.send(&Method::POST, "/v1/revocations", Some(&body));
        let revoked = Instant::now();
        self.revocation = response.ok().and_then(|made| Some(made.get("id")?.as_str()?.to_owned()));
        let outcome = match &self.revocation {
            Some(id) => Ok(format!("revocation {id}")),
            None => Err(format!("failed; if it took effect all the same, it expires in {LIFETIME}")),
        };
        self.step("revoked", began, outcome).then_some(())?;

        let give_up = arguments.within.0 + GIVE_UP;
        let watching = each(&arguments.nodes, |node| {
            let prober = Arc::clone(prober);
            async move { prober.watch(node, revoked, give_up).await }
        });
        let watched = self.on_nodes(watching);
        let outcome = match &watched {
            None => Err("interrupted".to_owned()),
            Some(watched) => check_nodes(watched, arguments),
        };
        self.step("refused", revoked, outcome);
        watched
    }

    /// Checks that every node accepts the credential.
    fn accepted(
        &mut self,
        name: &'static str,
        prober: &Arc<Prober>,
        timeout: Duration,
        good: fn(&NodeResponse) -> bool,
    ) -> bool {
        let began = Instant::now();
        let nodes = &self.arguments.nodes;
        let asking = each(nodes, |node| {
            let prober = Arc::clone(prober);
            async move { prober.until(&node, timeout, good).await }
        });
        let outcome = match self.on_nodes(asking) {
            None => Err("interrupted".to_owned()),
            Some(answers) => {
                let answered = answers.len();
                let problems: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
                match problems.is_empty() && answered == nodes.len() {
                    true => Ok(counted(nodes.len())),
                    false => Err(problems.join("; ")),
                }
            }
        };
        self.step(name, began, outcome)
    }

    /// Undoes the changes of the drill.
    fn undo(&mut self, credential: &TestCredential, prober: &Arc<Prober>) {
        if let Some(id) = self.revocation.take() {
            let undone = self.remove("revocation undone", &format!("/v1/revocations/{id}"));
            if undone && credential.created.is_none() {
                self.accepted("accepted again", prober, SPREAD, NodeResponse::is_known);
            }
        }
        if let Some(id) = &credential.created {
            self.remove("key removed", &format!("/v1/keys/{}", segment(id)));
        }
    }

    fn remove(&mut self, name: &'static str, path: &str) -> bool {
        let began = Instant::now();
        let outcome = match self.operator.send(&Method::DELETE, path, None) {
            Ok(_) => Ok("done".to_owned()),
            Err(_) => Err(format!("failed; it expires in {LIFETIME}")),
        };
        self.step(name, began, outcome)
    }

    /// Leaves the result in the record of the node that was asked to revoke, also that of a drill that failed.
    fn record(&mut self, watched: &[Watched]) {
        let began = Instant::now();
        let passed = self.passed(watched);
        let last = watched.iter().map(|one| one.refused_after).reduce(|last, one| last.zip(one).map(|(a, b)| a.max(b)));
        let whole = |time: Duration| time.as_nanos().div_ceil(1_000_000);
        let body = json!({
            "passed": passed,
            "nodes": self.arguments.nodes.len(),
            "within_ms": whole(self.arguments.within.0),
            "refused_after_ms": last.flatten().map(whole),
        });
        let outcome = match self.operator.send(&Method::POST, "/v1/drills", Some(&body)) {
            Ok(answer) if answer.get("recorded") == Some(&Value::Bool(true)) => {
                Ok("in the record, for `bartizan ready`".to_owned())
            }
            Ok(_) => Ok("this node keeps no record, so there is no evidence of this drill".to_owned()),
            Err(_) => Err("failed; there is no evidence of this drill".to_owned()),
        };
        self.step("evidence", began, outcome);
    }

    fn passed(&self, watched: &[Watched]) -> bool {
        !watched.is_empty() && self.steps.iter().all(|step| step.good)
    }

    /// Prints the result and returns the exit code.
    fn verdict(&self, credential: &TestCredential, watched: &[Watched]) -> u8 {
        let passed = self.passed(watched);
        let verdict = if passed { "passed" } else { "failed" };
        let nodes: Vec<Value> = watched
            .iter()
            .map(|one| {
                let after = one.refused_after.map(milliseconds);
                json!({"node": one.node.0, "refused_after_ms": after, "stayed_refused": one.stayed})
            })
            .collect();
        match self.arguments.format {
            Format::Json => {
                let steps = self.steps.iter().map(|step| {
                    let ms = milliseconds(step.took);
                    json!({"step": step.name, "ok": step.good, "ms": ms, "detail": step.detail})
                });
                let steps: Vec<Value> = steps.collect();
                print_json(&json!({"verdict": verdict, "credential": credential.name, "nodes": nodes, "steps": steps}));
            }
            Format::Text => {
                if !nodes.is_empty() {
                    let columns = [
                        ("node", "NODE"),
                        ("refused_after_ms", "REFUSED AFTER (MS)"),
                        ("stayed_refused", "STAYED REFUSED"),
                    ];
                    print_table(&nodes, &columns);
                }
                print_line(verdict);
            }
        }
        if passed { DONE } else { FAILED }
    }
}

/// Checks that every node refused the credential in time and kept refusing it.
fn check_nodes(watched: &[Watched], arguments: &Revocation) -> Result<String, String> {
    let within = arguments.within;
    let problem = |one: &Watched| match (one.refused_after, &one.seen) {
        (_, Some(seen)) => Some(format!("{}: {seen}", one.node)),
        (Some(after), None) if after > within.0 => {
            Some(format!("{}: after {} ms, which is not within {within}", one.node, milliseconds(after)))
        }
        _ => None,
    };
    let problems: Vec<String> = watched.iter().filter_map(problem).collect();
    if problems.is_empty() && watched.len() == arguments.nodes.len() {
        Ok(format!("{}, within {within}", counted(watched.len())))
    } else {
        Err(problems.join("; "))
    }
}

/// Returns the id in a key of Bartizan: `bz_ID_SECRET_CHECKSUM`.
fn key_id(key: &str) -> Option<&str> {
    let mut parts = key.strip_prefix("bz_")?.split('_');
    let (id, secret) = (parts.next()?, parts.next()?);
    Some(id).filter(|id| !id.is_empty() && !secret.is_empty())
}

fn counted(nodes: usize) -> String {
    format!("by {nodes} node{}", if nodes == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_contains_its_id() {
        for (key, id) in [
            ("bz_acme-1_secret_123456", Some("acme-1")),
            ("bz_acme-1", None),
            ("bz__secret_123456", None),
            ("hunter2", None),
            ("", None),
        ] {
            assert_eq!(key_id(key), id, "{key}");
        }
    }

    #[test]
    fn paths_are_plain() {
        for (text, good) in [("/v1/orders?x=1", true), ("/", true), ("v1", false), ("", false), ("/a b", false)] {
            assert_eq!(path(text).is_ok(), good, "{text}");
        }
    }
}
