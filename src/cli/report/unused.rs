//! `bartizan report unused`: what is granted and was not used.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::audit::visible;
use crate::cli::exit_code::{DONE, FAILED, INVALID};
use crate::cli::output::{self, Format, counted};
use crate::cli::records::{self, Read};
use crate::evidence::unused::{Finding, Patch, Unused};

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan report unused --policy policy.yaml --since 30d audit-*.jsonl.gz audit.jsonl
Example: bartizan report unused --policy policy.yaml --patch audit.jsonl | patch -p0
The patch takes out scopes of roles, routes and keys that were not used; the policy still loads without them, and allows nobody more.
Consumers, clients, issuers and the scopes of single consumers are only reported, and so is what is behind an alias.
Upstreams get the caller's scopes as X-Consumer-Scopes and may enforce them, which no record shows: ask there before a scope goes. A call that auth or scope refused is no use of a scope.
Issuers are reported if every record names the issuer of its token, and if no client may exchange their tokens.
Exit codes: 0 everything was used, 1 something was not, 2 wrong usage, a policy with errors, or too little of a record.")]
pub(super) struct Arguments {
    /// The policy in force
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Files of records, plain or gzip; a folder stands for the files in it; `-` is standard input
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// Only what is newer than this counts; default: every record
    #[arg(long, value_name = "DURATION", value_parser = records::period)]
    since: Option<Duration>,
    /// Least time that the records must cover
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = records::period)]
    min_window: Duration,
    /// Print the patch alone, for `patch -p0`
    #[arg(long)]
    patch: bool,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text", conflicts_with = "patch")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let mut unused = match Unused::of(&arguments.policy) {
        Ok(unused) => unused,
        Err(problems) => {
            output::report(&problems);
            return INVALID;
        }
    };
    let since = arguments.since.and_then(|since| {
        let since = SignedDuration::try_from(since).ok()?;
        Timestamp::now().checked_sub(since).ok().map(|since| format!("{since:.3}"))
    });
    let read = records::read(&arguments.records, |record| {
        // Times are texts of one form, which sort like the times.
        if since.as_deref().is_none_or(|since| record.at_text() >= since) {
            unused.add(record);
        }
    });
    let read = match read {
        Ok(read) => read,
        Err(message) => return failed(&message),
    };
    if let Some(why) = records::is_too_short(&unused.window, arguments.min_window) {
        return failed(&why);
    }
    let findings = unused.findings();
    let patch = unused.patch(&findings);
    match arguments.format {
        _ if arguments.patch => output::print(&patch.text),
        Format::Json => output::print(&format!("{}\n", of_programs(&unused, &findings, &patch, &read))),
        Format::Text => output::print(&text(&unused, &findings, &patch, &read)),
    };
    if findings.is_empty() { DONE } else { FAILED }
}

fn failed(message: &str) -> u8 {
    output::message(format_args!("error: {message}"));
    INVALID
}

fn of_programs(unused: &Unused, findings: &BTreeSet<Finding>, patch: &Patch, read: &Read) -> Value {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| match finding {
            Finding::Scope { role, scope } => json!({"kind": "scope", "role": role, "scope": scope}),
            Finding::ConsumerScope { consumer, scope } => {
                json!({"kind": "consumer_scope", "consumer": consumer, "scope": scope})
            }
            Finding::Route { api, route } => json!({"kind": "route", "api": api, "route": route}),
            Finding::Consumer(consumer) => json!({"kind": "consumer", "consumer": consumer}),
            Finding::Key { consumer, key } => json!({"kind": "key", "consumer": consumer, "key": key}),
            Finding::Client { consumer, client } => json!({"kind": "client", "consumer": consumer, "client": client}),
            Finding::Issuer(issuer) => json!({"kind": "issuer", "issuer": issuer}),
        })
        .collect();
    let (first, last) = unused.window.ends().unzip();
    let (policies, is_among) = unused.policies();
    json!({"requests": unused.requests, "first": first, "last": last, "damaged": read.damaged, "dropped": unused.dropped,
           "policies": policies, "longest_hole_seconds": unused.window.longest_hole().as_secs(), "of_this_policy": is_among, "unused": findings,
           "patch": patch.text, "not_in_patch": patch.left, "not_tried": patch.not_tried})
}

fn text(unused: &Unused, findings: &BTreeSet<Finding>, patch: &Patch, read: &Read) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{}\n", visible(&shown(finding))));
    }
    if findings.is_empty() {
        text.push_str("everything that is granted was used\n");
    }
    let (first, last) = unused.window.ends().unwrap_or(("-", "-"));
    let window = records::window_in_words(&unused.window);
    let (policies, is_among) = unused.policies();
    text.push_str(&format!(
        "\nevidence: {} requests from {} to {} ({window}), decided by {}\n",
        unused.requests,
        visible(first),
        visible(last),
        if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") }
    ));
    if !is_among {
        text.push_str("  none of them by this policy: what it grants since then has no evidence yet\n");
    } else if policies > 1 {
        text.push_str("  what this policy grants since the last change has less evidence\n");
    }
    let lines = |count: u64, noun| counted(usize::try_from(count).unwrap_or(usize::MAX), noun);
    if unused.dropped > 0 {
        text.push_str(&format!("  {} dropped when they could not be kept\n", lines(unused.dropped, "record")));
    }
    if read.damaged > 0 {
        text.push_str(&format!(
            "  {} could not be read: `bartizan audit verify` says why\n",
            lines(read.damaged, "line")
        ));
    }
    if findings.iter().any(|finding| matches!(finding, Finding::Scope { .. } | Finding::ConsumerScope { .. })) {
        text.push_str("  upstreams get scopes as X-Consumer-Scopes: whether they enforce them is in no record\n");
    }
    if !patch.text.is_empty() {
        let lines: String = patch.text.lines().map(|line| format!("{}\n", visible(line))).collect();
        text.push_str(&format!("\n{lines}"));
    }
    if patch.left > 0 {
        let left = counted(patch.left, "finding");
        text.push_str(&format!(
            "{left} not in the patch: without it the policy would not load, or would allow more, or it is behind an alias\n"
        ));
    }
    if patch.not_tried > 0 {
        text.push_str(&format!(
            "{} not tried: apply the patch and run this again\n",
            counted(patch.not_tried, "finding")
        ));
    }
    text
}

/// A finding in a line.
fn shown(finding: &Finding) -> String {
    match finding {
        Finding::Scope { role, scope } => format!("role {role}: nobody used {scope}"),
        Finding::ConsumerScope { consumer, scope } => format!("consumer {consumer}: did not use {scope}"),
        Finding::Route { api, route } => format!("route {api}  {route}: nobody called it"),
        Finding::Consumer(consumer) => format!("consumer {consumer}: did not call"),
        Finding::Key { consumer, key } => format!("key {key} of {consumer}: was not sent"),
        Finding::Client { consumer, client } => format!("client {client} of {consumer}: was not seen"),
        Finding::Issuer(issuer) => format!("issuer {issuer}: no token of it was accepted"),
    }
}
