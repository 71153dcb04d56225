//! Document → [`Policy`]: the only bridge between what is written and what holds. It does not stop at the first problem.
//!
//! Each part has a file of its own; all share one [`Context`]. Nothing here opens a socket or starts anything, so checking
//! a policy and running it is the same code.

mod apis;
mod callers;
mod edge;

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::Uri;
use rustls::ClientConfig;

use super::diagnostic::{Problem, Problems, did_you_mean};
use super::document::Document;
use super::load::{self, Loaded};
use super::source::{SourceText, Sources};
use super::tree::At;
use super::units::Period;
use super::{Policy, tls};
use crate::stages::auth::cache::KeyEpoch;
use crate::stages::auth::key_set::RemoteKeySet;
use crate::state::ledger::Ledger;
use crate::telemetry::Metrics;

/// What outlives policies, and what they are compiled against.
#[derive(Clone)]
pub(crate) struct Lasting {
    /// How much callers have used of their limits.
    pub(crate) ledger: Arc<Ledger>,
    /// Every number.
    pub(crate) metrics: Metrics,
    /// Counts changes of key sets.
    pub(crate) key_epoch: KeyEpoch,
    /// Key sets behind URLs that some policy still holds.
    key_sets: Arc<Mutex<HashMap<String, Weak<RemoteKeySet>>>>,
}

impl Lasting {
    /// For a process that started then.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            ledger: Arc::new(Ledger::new(started)),
            metrics: Metrics::new(),
            key_epoch: KeyEpoch::default(),
            key_sets: Arc::default(),
        }
    }

    /// The key set behind a URL: that of the policy before when it trusts the same authorities.
    fn key_set(&self, url: &Uri, trust: &Trust) -> Arc<RemoteKeySet> {
        let mut known = self.key_sets.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, key_set| key_set.strong_count() > 0);
        let identity = format!("{url} {}", trust.identity);
        if let Some(key_set) = known.get(&identity).and_then(Weak::upgrade) {
            return key_set;
        }
        let key_set = Arc::new(RemoteKeySet::new(url.clone(), Arc::clone(&trust.config), self.key_epoch.clone()));
        known.insert(identity, Arc::downgrade(&key_set));
        key_set
    }
}

/// Whom we trust as a client.
#[derive(Clone)]
struct Trust {
    config: Arc<ClientConfig>,
    /// Equal when the same authorities are trusted.
    identity: String,
}

/// Reads a policy file and compiles it. There is a policy exactly when there are no errors; warnings come with it.
pub(crate) fn compile(path: &Path, lasting: &Lasting) -> (Option<Policy>, Problems) {
    let Loaded { document, tree, sources, problems } = match load::read(path) {
        Ok(loaded) => loaded,
        Err(problems) => return (None, problems),
    };
    let mut context = Context { sources, problems, lasting, system: None };
    let policy = whole(&mut context, &document, tree.at());
    (Some(policy).filter(|_| !context.problems.has_errors()), context.problems)
}

/// All parts, each whether or not those before it were good.
fn whole(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Policy {
    match document.version {
        Some(1) => {}
        Some(_) => {
            context
                .error(at.key("version"), "this version of the policy language is not known")
                .help("write `version: 1`");
        }
        None => context.missing(at.key("version"), "`version` is missing", "write `version: 1`"),
    }
    let timeouts = edge::timeouts(context, &document.timeouts, at.key("timeouts"));
    let limits = edge::limits(context, &document.limits, at.key("limits"));
    let listeners = edge::listeners(context, document, at);
    let admin = edge::admin(context, document.admin.as_ref(), at.key("admin"));
    let trusted_proxies = edge::networks(context, &document.trusted_proxies, at.key("trusted_proxies"));
    let sinks = edge::sinks(context, document.audit.as_ref(), at.key("audit"));
    let callers = callers::compile(context, document, at);
    let apis = apis::compile(context, document, at);

    Policy {
        digest: context.sources.digest().into(),
        fingerprint: context.sources.fingerprint(),
        workers: edge::workers(document),
        timeouts,
        limits,
        listeners,
        trusted_proxies,
        admin,
        auth: callers.auth,
        key_sets: callers.key_sets,
        apis: apis.apis,
        routes: apis.routes,
        router: apis.router,
        unrouted: context.lasting.metrics.route("", ""),
        servers: apis.servers,
        sinks,
    }
}

/// What all parts of the compiler share.
struct Context<'a> {
    sources: Sources,
    problems: Problems,
    lasting: &'a Lasting,
    /// The system's authorities, read when first needed.
    system: Option<Trust>,
}

impl Context<'_> {
    fn error(&mut self, at: At<'_>, message: impl Into<String>) -> &mut Problem {
        self.problems.error(at.place(), message)
    }

    fn warning(&mut self, at: At<'_>, message: impl Into<String>) -> &mut Problem {
        self.problems.warning(at.place(), message)
    }

    /// Something that must be there is not; silent where a problem told already may be the reason.
    fn missing(&mut self, at: At<'_>, message: impl Into<String>, help: impl Into<String>) {
        if !at.damaged() {
            self.problems.error(at.key_place(), message).help(help);
        }
    }

    /// A name that is not among those it must be among.
    fn unknown<'n>(&mut self, at: At<'_>, what: &str, name: &str, known: impl IntoIterator<Item = &'n str>) {
        let known: Vec<&str> = known.into_iter().collect();
        let help = did_you_mean(name, known.iter().copied()).unwrap_or_else(|| match known.is_empty() {
            true => format!("the policy has no {what} yet"),
            false => format!("it has {}", known.join(", ")),
        });
        let shown = at.written().unwrap_or(name).to_owned();
        self.error(at, format!("there is no {what} `{shown}`")).help(help);
    }

    /// Reads a file that the policy names; what is wrong is told at the name.
    fn read(&mut self, at: At<'_>, path: &str) -> Option<Arc<SourceText>> {
        match self.sources.read(path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.unreadable(at, &error, error.help());
                None
            }
        }
    }

    fn unreadable(&mut self, at: At<'_>, error: &impl Display, help: Option<&'static str>) {
        let problem = self.error(at, error.to_string());
        if let Some(help) = help {
            problem.help(help);
        }
    }

    /// A time that must be longer than nothing; the default when it is absent.
    fn period(&mut self, at: At<'_>, written: Option<Period>, default: Duration) -> Duration {
        match written {
            Some(Period(Duration::ZERO)) => {
                self.error(at, "this time must be longer than nothing");
                default
            }
            Some(Period(period)) => period,
            None => default,
        }
    }

    /// Whom to trust when calling an https server: the authorities of a file, or the system's.
    fn trust(&mut self, ca: Option<&String>, at: At<'_>) -> Option<Trust> {
        let Some(path) = ca else { return self.system_trust(at) };
        let text = self.read(at.key("ca"), path)?;
        match tls::client(text.text.as_bytes()) {
            Ok(config) => Some(Trust { config, identity: text.text.clone() }),
            Err(problem) => {
                self.error(at.key("ca"), format!("{} {problem}", text.name));
                None
            }
        }
    }

    fn system_trust(&mut self, at: At<'_>) -> Option<Trust> {
        if self.system.is_none() {
            // Reading the system's authorities takes a while, and they are those the process started with.
            static SYSTEM: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
            match SYSTEM.get_or_init(tls::system_client) {
                Ok(config) => self.system = Some(Trust { config: Arc::clone(config), identity: "system".to_owned() }),
                Err(problem) => {
                    let problem = problem.clone();
                    self.error(at, problem);
                }
            }
        }
        self.system.clone()
    }
}

/// Scopes are visible ASCII without `"` and `\` (RFC 6749 §3.3).
fn check_scopes(context: &mut Context<'_>, scopes: &[String], at: At<'_>) {
    for (position, scope) in scopes.iter().enumerate() {
        let good = !scope.is_empty() && scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if !good {
            context
                .error(at.index(position), "this is not a scope")
                .help("a scope is visible ASCII without spaces, quotes and backslashes, such as `orders:read`");
        }
    }
}
