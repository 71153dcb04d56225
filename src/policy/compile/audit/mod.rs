//! `audit`: the sinks that records are written to, their hash chain, and the spool.

mod common;
mod http_sinks;
mod places;
mod syslog;
mod transit;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

pub(super) use self::common::timeout as sink_timeout;
use self::common::{Rejected, parent_exists};
pub(super) use self::http_sinks::fields as header_fields;
use self::places::Places;
use super::context::Context;
use crate::audit::{AuditConfig, ChainConfig, CheckpointKey, OnFull, Rotate, SinkConfig, SpoolConfig};
use crate::policy::document::{self, Audit, Sink};
use crate::policy::tree::At;
use crate::policy::units::{Period, Size};

/// Default of `chain.checkpoint`, and its bounds.
const CHECKPOINT: Duration = Duration::from_secs(60);
const CHECKPOINT_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// Default of `spool.size`, and the least.
const SPOOL_SIZE: u64 = 4 << 30;
const LEAST_SPOOL: u64 = 16 << 20;
/// Default of `spool.fsync`, and the most.
const FSYNC: Duration = Duration::from_secs(1);
const MOST_FSYNC: Duration = Duration::from_secs(3600);
/// Defaults and bounds of `rotate`.
const LEAST_ROTATED: u64 = 64 << 10;
const SHORTEST_ROTATION: Duration = Duration::from_secs(60);
const KEEP: u32 = 14;
const MOST_KEPT: u32 = 10_000;

/// `audit`: standard output if it is absent; no records only if the policy says `none`.
pub(super) fn compile(context: &mut Context<'_>, written: Option<&Audit>, at: At<'_>) -> AuditConfig {
    let chain = ChainConfig { key: None, checkpoint: CHECKPOINT };
    let config = |sinks| AuditConfig { sinks, chain: chain.clone(), spool: None };
    match written {
        None if at.damaged() => config(Vec::new()),
        None => config(vec![SinkConfig::Stdout { readable: None }]),
        Some(Audit::None) => config(Vec::new()),
        Some(Audit::Sinks(written)) => config(sinks(context, written, None, (at, at))),
        Some(Audit::Map(map)) => {
            let chain = compile_chain(context, &map.chain, at.key("chain"));
            let spool = map.spool.as_ref().and_then(|written| compile_spool(context, written, at.key("spool")));
            let folder = spool.as_ref().map(|spool| spool.path.clone());
            // A spool that cannot be used has been reported.
            let folder = folder.or_else(|| map.spool.as_ref().map(|_| PathBuf::new()));
            let sinks = sinks(context, &map.to, folder.as_deref(), (at, at.key("to")));
            AuditConfig { sinks, chain, spool }
        }
    }
}

fn sinks(
    context: &mut Context<'_>,
    written: &[Sink],
    spool: Option<&Path>,
    (audit, at): (At<'_>, At<'_>),
) -> Vec<SinkConfig> {
    if written.is_empty() && !at.damaged() {
        context.missing(
            audit,
            "no audit records are written",
            "write `audit: none` if that is intended, or a sink such as `stdout`",
        );
    }
    let (mut configs, mut places): (Vec<SinkConfig>, _) = (Vec::new(), Places::new(spool));
    for (position, sink) in written.iter().enumerate() {
        let at = at.index(position);
        let same_kind = |other: &&Sink| std::mem::discriminant(*other) == std::mem::discriminant(sink);
        let number = written.iter().take(position).filter(same_kind).count();
        let rejected = Rejected { spool, number };
        let config = match sink {
            Sink::Stdout => Some(SinkConfig::Stdout { readable: None }),
            Sink::File(file) => file_sink(context, file, at.key("file")),
            Sink::Elasticsearch(written) => {
                http_sinks::elasticsearch(context, written, rejected, at.key("elasticsearch"))
            }
            Sink::Otlp(written) => http_sinks::otlp(context, written, rejected, at.key("otlp")),
            Sink::Syslog(written) => syslog::compile(context, written, at.key("syslog")),
            Sink::Http(written) => http_sinks::http(context, written, rejected, at.key("http")),
        };
        if !matches!(sink, Sink::Stdout | Sink::File(_)) && spool.is_none() {
            context
                .error(at, "a sink over the network needs a `spool`, which keeps records while it does not answer")
                .help("write `audit: { spool: { path: spool/ }, to: [...] }`");
        }
        if let Some(config) = config {
            if configs.iter().any(|known| known.to_string() == config.to_string()) {
                context.error(at, "this sink is listed twice");
            } else {
                places.add(context, &config, at);
            }
            configs.push(config);
        }
    }
    configs
}

fn compile_chain(context: &mut Context<'_>, written: &document::Chain, at: At<'_>) -> ChainConfig {
    let key = written.key.as_ref().and_then(|key| {
        let at = at.key("key");
        let pem = context.private_key(key, at)?;
        match CheckpointKey::from_pem(pem.expose_secret()) {
            Ok(key) => Some(Arc::new(key)),
            Err(problem) => {
                context.error(at, format!("the key {problem}"));
                None
            }
        }
    });
    let key = match (&written.transit, key) {
        (None, key) => key,
        (Some(_), Some(_)) => {
            context
                .error(at.key("transit"), "checkpoints are signed by `key` or by `transit`")
                .help("remove one of them");
            None
        }
        (Some(name), None) => transit::key(context, name, at.key("transit")),
    };
    let at = at.key("checkpoint");
    let checkpoint = written.checkpoint.map_or(CHECKPOINT, |Period(period)| period);
    if !CHECKPOINT_BOUNDS.contains(&checkpoint) {
        context.error(at, "the time between two checkpoints is from 1s to 1d");
    }
    ChainConfig { key, checkpoint }
}

fn compile_spool(context: &mut Context<'_>, written: &document::Spool, at: At<'_>) -> Option<SpoolConfig> {
    let on_full = match written.on_full.as_deref() {
        None | Some("wait") => OnFull::Wait,
        Some("refuse") => OnFull::Refuse,
        Some("drop_and_count") => OnFull::DropAndCount,
        Some(other) => {
            context.unknown(at.key("on_full"), "behaviour", other, ["wait", "refuse", "drop_and_count"]);
            OnFull::Wait
        }
    };
    let size = written.size.map_or(SPOOL_SIZE, |Size(size)| size);
    if size < LEAST_SPOOL {
        context.error(at.key("size"), "a spool has at least 16MiB");
    }
    let fsync = written.fsync.map_or(FSYNC, |Period(period)| period);
    if fsync > MOST_FSYNC {
        context.error(at.key("fsync"), "records would be in memory alone for more than 1h");
    }
    let Some(path) = written.path.as_deref().filter(|path| !path.is_empty()) else {
        context.missing(at.key("path"), "`path` is missing", "write the folder: `spool: { path: spool/ }`");
        return None;
    };
    let at = at.key("path");
    let path = context.sources.path(path);
    if path.exists() && !path.is_dir() {
        context.error(at, "this is not a folder").help("name a folder, which is created if it does not exist");
    } else {
        parent_exists(context, &path, "the folder that the spool is in does not exist", at);
    }
    Some(SpoolConfig { path, size, fsync, on_full })
}

fn file_sink(context: &mut Context<'_>, written: &document::FileSink, at: At<'_>) -> Option<SinkConfig> {
    let rotate = written.rotate.as_ref().and_then(|written| rotate(context, written, at.key("rotate")));
    let Some(path) = &written.path else {
        context.missing(at.key("path"), "`path` is missing", "write `file: { path: audit.jsonl }`");
        return None;
    };
    let path = context.sources.path(path);
    if path.is_dir() {
        context.error(at.key("path"), "this is a folder").help("name a file, such as `audit.jsonl`");
    }
    parent_exists(context, &path, "the folder of this file does not exist", at.key("path"));
    Some(SinkConfig::File { path, rotate })
}

fn rotate(context: &mut Context<'_>, written: &document::Rotate, at: At<'_>) -> Option<Rotate> {
    let size = written.size.map(|Size(size)| size);
    if size.is_some_and(|size| size < LEAST_ROTATED) {
        context.error(at.key("size"), "a file is rotated at 64KiB or more");
    }
    let every = written.every.map(|Period(every)| every);
    if every.is_some_and(|every| every < SHORTEST_ROTATION) {
        context.error(at.key("every"), "a file is rotated every 1m or less often");
    }
    let keep = written.keep.unwrap_or(KEEP);
    if !(1..=MOST_KEPT).contains(&keep) {
        context.error(at.key("keep"), format!("from 1 to {MOST_KEPT} former files are kept"));
    }
    if size.is_none() && every.is_none() {
        context.missing(at, "`rotate` needs `size` or `every`", "write `rotate: { size: 100MiB }`");
        return None;
    }
    Some(Rotate { size, every, keep, compress: written.compress.unwrap_or(true) })
}
