//! Where what changes at run time is kept: `store`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::context::Context;
use crate::policy::document::{self, Secret, Servers};
use crate::policy::tree::At;
use crate::stages::rate_limit::{OnFailure, SharedLimits};
use crate::state::redis::{RedisServers, Topology};
use crate::state::registry::{StoreConfig, StoreFolder};
use crate::url::check_redis;

/// Default of `store.prefix`.
const PREFIX: &str = "bartizan";
/// Default of `store.timeout`.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How long a request waits until what it uses of a quota is on disk.
const FOLDER_TIMEOUT: Duration = Duration::from_secs(1);
/// Default of `store.limits.timeout`.
const LIMITS_TIMEOUT: Duration = Duration::from_millis(25);

/// `store.limits`: how limits are counted in a store.
pub(super) fn shared_limits(context: &mut Context<'_>, written: Option<&document::Store>, at: At<'_>) -> SharedLimits {
    if written.is_some_and(|written| written.folder.is_some()) {
        return SharedLimits { on_failure: OnFailure::Refuse, timeout: FOLDER_TIMEOUT };
    }
    let (written, at) = (written.and_then(|written| written.limits.as_ref()), at.key("limits"));
    let on_failure = match written.and_then(|written| written.on_failure.as_deref()) {
        None | Some("refuse") => OnFailure::Refuse,
        Some("local") => OnFailure::Local,
        Some("allow") => OnFailure::Allow,
        Some(other) => {
            context.unknown(at.key("on_failure"), "behaviour", other, ["refuse", "local", "allow"]);
            OnFailure::Refuse
        }
    };
    let timeout = context.period(at.key("timeout"), written.and_then(|written| written.timeout), LIMITS_TIMEOUT);
    SharedLimits { on_failure, timeout }
}

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
    let Some(redis) = &written.redis else {
        context.missing(
            at,
            "`store` names neither a folder nor Redis",
            "write a folder, `store: state/`, or `store: { redis: URL }`",
        );
        return None;
    };
    let topology = topology(context, redis, at.key("redis"))?;
    let prefix = written.prefix.as_deref().unwrap_or(PREFIX);
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
        context.error(at.key("prefix"), "a prefix is made of letters, digits and `-_.:`");
    }
    let timeout = context.period(at.key("timeout"), written.timeout, TIMEOUT);
    let ca = match &written.ca {
        None => None,
        Some(path) => Some(context.read_pem(at.key("ca"), path)?.text.clone()),
    };
    Some(StoreConfig::Redis { servers: RedisServers { topology, ca }, prefix: prefix.into(), timeout })
}

fn topology(context: &mut Context<'_>, written: &Servers, at: At<'_>) -> Option<Topology> {
    let several = match written {
        Servers::Url(url) => {
            checked(context, url, at)?;
            return Some(Topology::Single(url.clone()));
        }
        Servers::Several(several) => several,
    };
    match (&several.cluster, &several.sentinel, &several.master) {
        (Some(urls), None, None) => {
            let urls = of_several(context, urls, at.key("cluster"))?;
            Some(Topology::Cluster(urls))
        }
        (None, Some(urls), Some(primary)) => {
            let sentinels = of_several(context, urls, at.key("sentinel"))?;
            let at = at.key("master");
            let name = primary.expose_secret();
            // A name alone is a server without TLS and password.
            let primary = if name.contains("://") { primary.clone() } else { format!("redis://{name}").into() };
            checked(context, &primary, at)?;
            Some(Topology::Sentinel { sentinels, primary })
        }
        (None, Some(_), None) => {
            let help = "write the name that the Sentinels know it by: `sentinel: [URL, URL], master: main`";
            context.missing(at, "the primary has no name", help);
            None
        }
        _ => {
            let help = "write `redis: URL`, `redis: { cluster: [URL, URL] }`, or `redis: { sentinel: [URL, URL], master: main }`";
            context.error(at, "Redis is one server, a cluster, or a primary that Sentinels name").help(help);
            None
        }
    }
}

/// The URLs of servers that replace each other.
fn of_several(context: &mut Context<'_>, urls: &[Secret], at: At<'_>) -> Option<Vec<SecretString>> {
    if urls.is_empty() {
        context.error(at, "this list of servers is empty").help("write the URLs of two or more of them");
        return None;
    }
    let mut valid = true;
    for (index, Secret(url)) in urls.iter().enumerate() {
        let at = at.index(index);
        valid &= checked(context, url, at).is_some();
        let text = url.expose_secret();
        let database = text
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'))
            .is_some_and(|(_, path)| !matches!(path, "" | "0"));
        if text.starts_with("unix") || text.starts_with("redis+unix") || database {
            context
                .error(at, "servers of a cluster, and Sentinels, have neither a socket file nor a database")
                .help("write `redis://HOST:PORT`");
            valid = false;
        }
    }
    valid.then(|| urls.iter().map(|Secret(url)| url.clone()).collect())
}

fn checked(context: &mut Context<'_>, url: &SecretString, at: At<'_>) -> Option<()> {
    match check_redis(url.expose_secret()) {
        Ok(()) => Some(()),
        Err(error) => {
            context.error(at, error.message).help(error.help);
            None
        }
    }
}
