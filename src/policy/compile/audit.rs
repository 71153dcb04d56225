//! `audit`: the sinks that records are written to.

use super::context::Context;
use crate::audit::SinkConfig;
use crate::policy::document::{self, Audit, Sink};
use crate::policy::tree::At;

/// `audit`: standard output if it is absent; no records only if the policy says `none`.
pub(super) fn compile(context: &mut Context<'_>, written: Option<&Audit>, at: At<'_>) -> Vec<SinkConfig> {
    let sinks = match written {
        None if at.damaged() => return Vec::new(),
        None => return vec![SinkConfig::Stdout { readable: None }],
        Some(Audit::None) => return Vec::new(),
        Some(Audit::Sinks(sinks)) => sinks,
    };
    if sinks.is_empty() {
        context.missing(
            at,
            "no audit records are written",
            "write `audit: none` if that is intended, or a sink such as `stdout`",
        );
    }
    let mut configs = Vec::new();
    for (position, sink) in sinks.iter().enumerate() {
        let at = at.index(position);
        let config = match sink {
            Sink::Stdout => Some(SinkConfig::Stdout { readable: None }),
            Sink::File(file) => file_sink(context, file, at.key("file")),
        };
        if let Some(config) = config {
            if configs.contains(&config) {
                context.error(at, "this sink is listed twice");
            }
            configs.push(config);
        }
    }
    configs
}

fn file_sink(context: &mut Context<'_>, written: &document::FileSink, at: At<'_>) -> Option<SinkConfig> {
    let Some(path) = &written.path else {
        context.missing(at.key("path"), "`path` is missing", "write `file: { path: audit.jsonl }`");
        return None;
    };
    let path = context.sources.path(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        context.error(at.key("path"), "the folder of this file does not exist").help("create it first");
    }
    Some(SinkConfig::File { path })
}
