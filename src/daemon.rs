//! The composition root: compile, open, bind, serve; reload; drain.
//!
//! One thread composes: it listens to signals and the admin listener, accepts connections and hands them to workers, and
//! swaps what is in force. Everything new is built before anything old is let go, so a reload that fails changes nothing.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle as Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::admin::expiring_keys::Reminder;
use crate::admin::listener::Bound as BoundEntrance;
use crate::admin::listeners::AdminListeners;
use crate::admin::{Command, Reloaded};
use crate::audit::{SinkConfig, Trail};
use crate::policy::Policy;
use crate::policy::compile::{self, Runtime};
use crate::policy::diagnostic::{Problems, Severity};
use crate::proxy::downstream::connection_limit::ConnectionLimit;
use crate::proxy::downstream::listener::{self, Bound, Listening};
use crate::proxy::downstream::worker::{InForce, Shared};
use crate::proxy::downstream::worker_thread::{self, Handle};
use crate::stages::auth::key_source::RemoteKeySet;
use crate::state::published::Published;
use crate::state::registry::Registry;

/// How long a start or a reload waits for key sets that have never been fetched.
const FIRST_FETCH: Duration = Duration::from_secs(3);
/// How often API keys are checked for upcoming expiry: operators may have made some since, or the store was read late.
const REMIND: Duration = Duration::from_secs(60);
/// How long the sinks have to write the last records at shutdown.
const LAST_RECORDS: Duration = Duration::from_secs(10);

/// Settings of a daemon.
pub(crate) struct Setup {
    /// The policy file.
    pub(crate) policy: PathBuf,
    /// Records to standard output are written for people; true: in colour.
    pub(crate) readable: Option<bool>,
    /// Sockets that are bound already, for the listeners of the policy that have their addresses.
    pub(crate) bound: Vec<Bound>,
}

/// Why a daemon did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The policy has errors.
    Policy(Problems),
    /// Something could not be opened or bound.
    System(String),
}

impl From<String> for StartError {
    fn from(what: String) -> Self {
        Self::System(what)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(_) => f.write_str("the policy has errors"),
            Self::System(what) => f.write_str(what),
        }
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    setup: Setup,
    runtime: Runtime,
    shared: Arc<Shared>,
    connection_limit: Arc<ConnectionLimit>,
    workers: Arc<Vec<Handle>>,
    listening: Vec<Listening>,
    admin: AdminListeners,
    /// Key sets behind URLs, each with the task that keeps it fresh.
    key_sets: Vec<(Arc<RemoteKeySet>, JoinHandle<()>)>,
    /// What operators have changed, with the task that keeps it.
    registry: (Arc<Registry>, JoinHandle<()>),
    /// The keys that the log has already warned about.
    reminder: Reminder,
    /// Turns true when workers are to finish.
    drain: watch::Sender<bool>,
    /// Turns true when workers are to cut off what has not finished.
    cut: watch::Sender<bool>,
    commands: mpsc::Receiver<Command>,
    signals: Signals,
    /// For admin listeners that come later.
    commander: mpsc::Sender<Command>,
    threads: Vec<Thread<()>>,
}

/// The signals we handle, installed before the first listener is announced: an early one must not end the process.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Daemon {
    /// Compiles the policy, opens and binds everything, and serves. Must be called within a local runtime.
    pub(crate) async fn start(mut setup: Setup) -> Result<Self, StartError> {
        let signals = Signals::new().map_err(|error| StartError::System(format!("signals cannot be had: {error}")))?;
        let runtime = Runtime::new(Instant::now());
        let (policy, report) = compile::compile(&setup.policy, &runtime);
        let Some(policy) = policy else { return Err(StartError::Policy(report)) };
        log(&report);

        let registry = Arc::clone(policy.auth().directory().registry());
        registry.open().await.map_err(|error| StartError::System(error.to_string()))?;
        let registry = keep(registry);
        let trail =
            Trail::open(&sinks(&policy, &setup), None).map_err(|error| StartError::System(error.to_string()))?;
        let cached = &mut setup.bound;
        let bound = bind_all(policy.listeners().iter().map(|listener| listener.address), cached)?;
        let bound_admin = AdminListeners::default().prepare(&policy, |address| bind(address, cached))?;

        let policy = Arc::new(policy);
        let in_force = InForce { policy: Arc::clone(&policy), trail: Arc::new(trail) };
        let shared = Arc::new(Shared {
            in_force: Arc::new(Published::new(Arc::new(in_force))),
            ledger: Arc::clone(&runtime.ledger),
            epoch: runtime.epoch.clone(),
            metrics: runtime.metrics.clone(),
        });
        let ((drain, draining), (cut, cutting)) = (watch::channel(false), watch::channel(false));
        let count =
            policy.workers().or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
        let workers: Vec<_> = (0..count)
            .map(|number| worker_thread::start(number, Arc::clone(&shared), draining.clone(), cutting.clone()))
            .collect::<Result<_, _>>()
            .map_err(|error| StartError::System(format!("a worker could not start: {error}")))?;
        let (handles, threads): (Vec<_>, Vec<_>) = workers.into_iter().unzip();

        let (commander, commands) = mpsc::channel(4);
        let mut daemon = Self {
            connection_limit: ConnectionLimit::new(runtime.metrics.clone()),
            setup,
            runtime,
            shared,
            workers: Arc::new(handles),
            listening: Vec::new(),
            admin: AdminListeners::default(),
            key_sets: Vec::new(),
            registry,
            reminder: Reminder::default(),
            drain,
            cut,
            commands,
            signals,
            commander,
            threads,
        };
        daemon.loaded();
        daemon.follow_key_sets(&policy).await;
        daemon.listen(bound)?;
        daemon.listen_admin(&policy, bound_admin)?;
        Ok(daemon)
    }

    /// Where requests are taken: address, and whether with TLS.
    pub(crate) fn addresses(&self) -> Vec<(SocketAddr, bool)> {
        let policy = &self.shared.in_force.current().policy;
        let tls = |listening: &Listening| {
            policy.listeners().iter().any(|listener| listener.address == listening.configured && listener.tls.is_some())
        };
        self.listening.iter().map(|listening| (listening.local, tls(listening))).collect()
    }

    /// Where the admin listener is: `http://ADDRESS`, `unix:PATH`.
    pub(crate) fn admin_places(&self) -> impl Iterator<Item = &str> {
        self.admin.labels()
    }

    /// Serves until SIGTERM or SIGINT, then drains. SIGHUP reloads. A second SIGTERM or SIGINT ends the wait.
    ///
    /// Errors: when records could not be written in time.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        notify(&[sd_notify::NotifyState::Ready]);
        let mut remind = tokio::time::interval(REMIND);
        remind.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = remind.tick() => self.remind(),
                _ = self.signals.hangup.recv() => {
                    self.reload().await;
                }
                Some(Command::Reload(reply)) = self.commands.recv() => {
                    // Nobody waits any more: the reload was made all the same.
                    let _ = reply.send(self.reload().await);
                }
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
            }
        }
        self.stop().await
    }

    /// Reads everything again, and puts it in force whole or not at all.
    async fn reload(&mut self) -> Reloaded {
        match sd_notify::NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[sd_notify::NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "systemd could not be told"),
        }
        let reloaded = self.try_reload().await;
        match &reloaded {
            Reloaded::Loaded => {
                self.runtime.metrics.reload("loaded");
                tracing::info!(policy = %self.shared.in_force.current().policy.digest(), "the policy was reloaded");
            }
            Reloaded::Unchanged => {
                self.runtime.metrics.reload("unchanged");
                tracing::info!("nothing that the policy is made of has changed");
            }
            Reloaded::Failed(report) => {
                self.runtime.metrics.reload("failed");
                log(report);
                tracing::error!("the policy was not reloaded; the previous one stays in force");
            }
        }
        notify(&[sd_notify::NotifyState::Ready]);
        reloaded
    }

    async fn try_reload(&mut self) -> Reloaded {
        let (path, runtime) = (self.setup.policy.clone(), self.runtime.clone());
        // Compiling schemas takes as long as it takes; connections are accepted meanwhile.
        let compiled = tokio::task::spawn_blocking(move || compile::compile(&path, &runtime)).await;
        let (policy, report) = match compiled {
            Ok(compiled) => compiled,
            Err(error) => return Reloaded::Failed(only(format!("the policy could not be compiled: {error}"))),
        };
        let Some(policy) = policy else { return Reloaded::Failed(report) };
        let before = self.shared.in_force.current();
        if policy.is_same(&before.policy) {
            before.trail.reopen();
            return Reloaded::Unchanged;
        }
        log(&report);

        // Everything that can fail comes first.
        let registry = Arc::clone(policy.auth().directory().registry());
        if let Err(error) = registry.open().await {
            return Reloaded::Failed(only(error.to_string()));
        }
        let known = |address: &SocketAddr| self.listening.iter().any(|listening| listening.configured == *address);
        let wanted = policy.listeners().iter().map(|listener| listener.address).filter(|address| !known(address));
        let none = &mut Vec::new();
        let opened = bind_all(wanted, none).and_then(|bound| {
            let trail = Trail::open(&sinks(&policy, &self.setup), Some(&before.trail));
            let trail = trail.map_err(|error| StartError::System(error.to_string()))?;
            Ok((bound, trail, self.admin.prepare(&policy, |address| bind(address, none))?))
        });
        let (bound, trail, bound_admin) = match opened {
            Ok(opened) => opened,
            Err(error) => return Reloaded::Failed(only(error.to_string())),
        };
        if policy.workers() != before.policy.workers() {
            tracing::warn!("`workers` changes when the process is started again");
        }

        let policy = Arc::new(policy);
        self.follow_key_sets(&policy).await;
        self.shared.in_force.replace(Arc::new(InForce { policy: Arc::clone(&policy), trail: Arc::new(trail) }));
        if !Arc::ptr_eq(&registry, &self.registry.0) {
            let before = std::mem::replace(&mut self.registry, keep(registry));
            before.1.abort();
            before.0.flush().await;
        }
        self.loaded();
        self.reminder = Reminder::default();
        self.remind();
        self.shared.in_force.current().trail.reopen();
        self.forget_key_sets(&policy);
        if let Err(error) = self.listen(bound).and_then(|()| self.listen_admin(&policy, bound_admin)) {
            // The sockets are bound; only the runtime itself could refuse them.
            tracing::error!(%error, "a listener could not be started");
        }
        self.stop_listeners(|configured| policy.listeners().iter().all(|listener| listener.address != configured))
            .await;
        Reloaded::Loaded
    }

    fn loaded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.runtime.metrics.policy_loaded.set(now.as_secs_f64());
    }

    /// Warns of API keys that end soon.
    fn remind(&mut self) {
        let in_force = self.shared.in_force.current();
        let auth = in_force.policy.auth();
        self.reminder.warn(auth.keys(), auth.directory().registry(), Timestamp::now());
    }

    /// Starts keeping new key sets fresh, and waits a little for their first fetch.
    async fn follow_key_sets(&mut self, policy: &Policy) {
        let mut new = Vec::new();
        for key_set in policy.key_sets() {
            if !self.key_sets.iter().any(|(followed, _)| Arc::ptr_eq(followed, key_set)) {
                let kept = Arc::clone(key_set);
                let task = tokio::spawn(async move { kept.keep_fresh().await });
                self.key_sets.push((Arc::clone(key_set), task));
                new.push(Arc::clone(key_set));
            }
        }
        let first = async {
            for key_set in new {
                key_set.first_fetch().await;
            }
        };
        if tokio::time::timeout(FIRST_FETCH, first).await.is_err() {
            tracing::warn!("a key set has not been fetched yet; its tokens are answered with 503 until it has");
        }
    }

    fn forget_key_sets(&mut self, policy: &Policy) {
        self.key_sets.retain(|(followed, task)| {
            let wanted = policy.key_sets().iter().any(|key_set| Arc::ptr_eq(followed, key_set));
            if !wanted {
                task.abort();
            }
            wanted
        });
    }

    fn listen(&mut self, bound: Vec<Bound>) -> Result<(), StartError> {
        for bound in bound {
            let listening = Listening::start(
                bound,
                Arc::clone(&self.shared),
                Arc::clone(&self.connection_limit),
                Arc::clone(&self.workers),
            );
            self.listening.push(listening.map_err(|error| StartError::System(error.to_string()))?);
        }
        Ok(())
    }

    fn listen_admin(&mut self, policy: &Policy, bound: Vec<BoundEntrance>) -> Result<(), StartError> {
        let settled = self.admin.settle(policy, bound, &self.shared, &self.commander);
        settled.map_err(|error| StartError::System(error.to_string()))
    }

    async fn stop_listeners(&mut self, unwanted: impl Fn(SocketAddr) -> bool) {
        let (stop, keep): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.listening).into_iter().partition(|listening| unwanted(listening.configured));
        self.listening = keep;
        for listening in stop {
            listening.stop().await;
        }
    }

    /// Stops accepting, lets what is in flight finish, writes every record.
    async fn stop(mut self) -> io::Result<()> {
        notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopping: finishing what is in flight");
        self.stop_listeners(|_| true).await;
        self.admin.close().await;
        self.drain.send_replace(true);
        let (finished, mut finish) = oneshot::channel();
        let threads = std::mem::take(&mut self.threads);
        let joining = std::thread::spawn(move || {
            for thread in threads {
                // A worker that panicked has said so.
                let _ = thread.join();
            }
            let _ = finished.send(());
        });
        tokio::select! {
        _ = &mut finish => {}
        () = self.signals.end() => {
            tracing::warn!("asked twice: stopping at once");
            self.cut.send_replace(true);
            // Not for what is in flight any more, but for its records.
            let _ = tokio::time::timeout(LAST_RECORDS, finish).await;
        }
            }
        drop(joining);
        self.registry.1.abort();
        self.registry.0.flush().await;
        let in_force = self.shared.in_force.current();
        let left = in_force.trail.close(LAST_RECORDS).await;
        if left > 0 {
            return Err(io::Error::other(format!("{left} audit records could not be written")));
        }
        Ok(())
    }
}

/// Lets a register be kept in the background.
fn keep(registry: Arc<Registry>) -> (Arc<Registry>, JoinHandle<()>) {
    let kept = Arc::clone(&registry);
    (registry, tokio::spawn(async move { kept.keep().await }))
}

fn sinks(policy: &Policy, setup: &Setup) -> Vec<SinkConfig> {
    let presented = |sink: &SinkConfig| match sink {
        SinkConfig::Stdout { .. } => SinkConfig::Stdout { readable: setup.readable },
        file @ SinkConfig::File { .. } => file.clone(),
    };
    policy.sinks().iter().map(presented).collect()
}

fn bind_all(
    addresses: impl IntoIterator<Item = SocketAddr>,
    cached: &mut Vec<Bound>,
) -> Result<Vec<Bound>, StartError> {
    addresses.into_iter().map(|address| bind(address, cached)).collect()
}

/// Binds the address, or reuses the socket already bound to it.
fn bind(address: SocketAddr, cached: &mut Vec<Bound>) -> Result<Bound, StartError> {
    match cached.iter().position(|bound| bound.local == address) {
        Some(position) => Ok(cached.swap_remove(position).configured_as(address)),
        None => listener::bind(address)
            .map_err(|error| StartError::System(format!("{address} cannot be listened on: {error}"))),
    }
}

/// A single problem without a place.
fn only(message: String) -> Problems {
    let mut problems = Problems::new();
    problems.error(None, message);
    problems
}

/// Puts problems into the log, one line each.
fn log(problems: &Problems) {
    for problem in problems.iter() {
        let place = problem.place.as_ref().map(ToString::to_string);
        let (place, help) = (place.as_deref().unwrap_or("policy"), problem.help.as_deref().unwrap_or_default());
        match problem.severity {
            Severity::Error => tracing::error!(place, help, "{}", problem.message),
            Severity::Warning => tracing::warn!(place, help, "{}", problem.message),
        }
    }
}

/// Tells systemd, when it asked to be told (`NOTIFY_SOCKET`).
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
