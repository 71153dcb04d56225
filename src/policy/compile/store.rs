//! Where what changes at run time is kept: `store`.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::context::Context;
use crate::policy::document;
use crate::policy::tree::At;
use crate::state::registry::{StoreConfig, StoreFolder};
use crate::url::check_redis;

/// Default of `store.prefix`.
const PREFIX: &str = "bartizan";
/// Default of `store.timeout`.
const TIMEOUT: Duration = Duration::from_millis(500);

/// `store`: where it is, and whether what is known is enough while it is out of reach.
pub(super) fn compile(
    context: &mut Context<'_>,
    written: Option<&document::Store>,
    at: At<'_>,
) -> (Option<StoreConfig>, bool) {
    let mut serve = false;
    let config = written.and_then(|written| {
        serve = on_failure(context, written, at.key("on_failure"));
        config(context, written, at)
    });
    // What is rehearsed changes nothing, waits for nobody, and leaves no folder behind.
    (config.filter(|_| context.stand_ins.is_none()), serve)
}

fn on_failure(context: &mut Context<'_>, written: &document::Store, at: At<'_>) -> bool {
    match written.on_failure.as_deref() {
        None | Some("refuse") => false,
        Some("serve") => true,
        Some(other) => {
            context.unknown(at, "behaviour", other, ["refuse", "serve"]);
            false
        }
    }
}

fn config(context: &mut Context<'_>, written: &document::Store, at: At<'_>) -> Option<StoreConfig> {
    if let Some(folder) = &written.folder {
        let folder = context.sources.path(folder);
        match StoreFolder::new(&folder).examine() {
            Ok(None) => {}
            Ok(Some(warning)) => drop(context.warning(at, warning)),
            Err(error) => drop(context.error(at, error.to_string())),
        }
        return Some(StoreConfig::Embedded { folder });
    }
    let Some(url) = &written.redis else {
        context.missing(
            at,
            "`store` names neither a folder nor Redis",
            "write a folder, `store: state/`, or `store: { redis: URL }`",
        );
        return None;
    };
    if let Err(error) = check_redis(url.expose_secret()) {
        context.error(at.key("redis"), error.message).help(error.help);
        return None;
    }
    let prefix = written.prefix.as_deref().unwrap_or(PREFIX);
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
        context.error(at.key("prefix"), "a prefix is made of letters, digits and `-_.:`");
    }
    let timeout = context.period(at.key("timeout"), written.timeout, TIMEOUT);
    let ca = match &written.ca {
        None => None,
        Some(path) => Some(context.read(at.key("ca"), path)?.text.clone()),
    };
    Some(StoreConfig::Redis { url: url.clone(), prefix: prefix.into(), ca, timeout })
}
