//! `bartizan replay`: which decisions of a record another policy would change.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::exit_code::{DONE, FAILED, INVALID};
use super::output::{self, Format, counted};
use super::records::{self, Read};
use crate::audit::visible;
use crate::evidence::replay::{Count, Flip, Outcome, Replay};
use crate::policy::compile;

/// So many lines are shown.
const MOST: usize = 100;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan replay --policy policy.new.yaml audit-*.jsonl.gz audit.jsonl
Decided again: the route; consumers, keys and networks; scopes, `only`, `from`, and `where` by the path.
Kept as it was decided then, because a record does not have what it depends on: where credentials are sent, signatures and claims of
tokens, revocations, rate limits and quotas, schemas, proofs of possession, `where` by query or header. What this was needed for is
counted. Whether callers of a route that was public have credentials is not known.
Issuers, consumers and keys are known by their names: one with another name is another one.
Under the policy that has decided the records, nothing flips.
Exit codes: 0 nothing flips, 1 something flips, 2 wrong usage, a policy with errors, or too little of a record.")]
pub(super) struct Arguments {
    /// The policy to decide by
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Files of records, plain or gzip; a folder stands for the files in it; `-` is standard input
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// Least time that the records must cover
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = records::period)]
    min_window: Duration,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let (policy, problems) = compile::compile(&arguments.policy);
    let Some(policy) = policy else {
        output::report(&problems);
        return INVALID;
    };
    let mut replay = Replay::new(policy);
    let read = match records::read(&arguments.records, |record| replay.add(record)) {
        Ok(read) => read,
        Err(message) => return failed(&message),
    };
    if let Some(why) = records::is_too_short(&replay.window, arguments.min_window) {
        return failed(&why);
    }
    let flips = replay.flips();
    match arguments.format {
        Format::Json => output::print(&format!("{}\n", of_programs(&replay, &flips, &read))),
        Format::Text => output::print(&text(&replay, &flips, &read)),
    };
    if flips.is_empty() { DONE } else { FAILED }
}

fn failed(message: &str) -> u8 {
    output::message(format_args!("error: {message}"));
    INVALID
}

fn of_programs(replay: &Replay, flips: &[(&Flip, &Count)], read: &Read) -> Value {
    let word = |outcome: Option<Outcome>| match outcome {
        None => Value::Null,
        Some(outcome) => shown(Some(outcome)).into(),
    };
    let flips: Vec<_> = flips
        .iter()
        .map(|(flip, count)| {
            let (api, route) = flip.route.as_ref().map(|(api, route)| (&**api, &**route)).unzip();
            json!({"consumer": flip.consumer, "api": api, "route": route, "old": word(Some(flip.old)), "new": word(flip.new),
                   "records": count.records, "first": &*count.first, "last": &*count.last})
        })
        .collect();
    let not_decided: Vec<_> = replay.gaps().map(|(what, records)| json!({"what": what, "records": records})).collect();
    let (first, last) = replay.window.ends().unzip();
    json!({
        "requests": replay.requests, "first": first, "last": last, "damaged": read.damaged, "dropped": replay.dropped,
        "longest_hole_seconds": replay.window.longest_hole().as_secs(), "flips": flips,
        "flips_not_told_apart": replay.more, "not_decided_again": not_decided,
        "of_this_policy": {"records": replay.same_policy.0, "flips": replay.same_policy.1},
    })
}

fn shown(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        None => "not known",
        Some(Outcome::Allowed) => "allowed",
        Some(Outcome::Refused(code)) => code,
    }
}

fn text(replay: &Replay, flips: &[(&Flip, &Count)], read: &Read) -> String {
    let mut text = String::new();
    for (flip, count) in flips.iter().take(MOST) {
        let consumer = flip.consumer.as_deref().unwrap_or("-");
        let route = flip.route.as_ref().map_or_else(|| "-".to_owned(), |(api, route)| format!("{api}  {route}"));
        text.push_str(&format!(
            "{:>9}  {}  {}  {} → {}  (last {})\n",
            count.records,
            visible(consumer),
            visible(&route),
            shown(Some(flip.old)),
            shown(flip.new),
            visible(&count.last)
        ));
    }
    if let Some(more @ 1..) = flips.len().checked_sub(MOST) {
        text.push_str(&format!("and {more} more; `--format json` has all\n"));
    }
    if replay.more > 0 {
        text.push_str(&format!("{} records flip in further ways, which are too many to tell apart\n", replay.more));
    }
    let records: u64 = flips.iter().map(|(_, count)| count.records).sum::<u64>() + replay.more;
    let (first, last) = replay.window.ends().unwrap_or(("-", "-"));
    let window = records::window_in_words(&replay.window);
    text.push_str(&format!(
        "{records} of {} requests flip; the record is from {} to {} ({window})\n",
        replay.requests,
        visible(first),
        visible(last)
    ));
    for (what, count) in replay.gaps() {
        text.push_str(&format!("  kept as it was for {count}: {what}\n"));
    }
    text.push_str(
        "  kept as they were: where credentials are sent, signatures, revocations, rate limits and quotas, schemas\n",
    );
    let counted = |count: u64, noun| counted(usize::try_from(count).unwrap_or(usize::MAX), noun);
    if replay.dropped > 0 {
        let records = counted(replay.dropped, "record");
        text.push_str(&format!("  {records} dropped when they could not be kept\n"));
    }
    if read.damaged > 0 {
        let lines = counted(read.damaged, "line");
        text.push_str(&format!("  {lines} could not be read: `bartizan audit verify` says why\n"));
    }
    let (same, flipped) = replay.same_policy;
    if flipped > 0 {
        text.push_str(&format!(
            "  {flipped} of {same} records that this very policy has decided flip: they depend on what is not recorded\n"
        ));
    }
    text
}
