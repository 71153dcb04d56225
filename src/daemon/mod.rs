//! The composition root: compile, prepare, put in force; reload; drain.
//!
//! One thread does this: it handles signals and admin requests, accepts connections and hands them to workers, and
//! replaces the policy in force. Every resource is *prepared* before any is *committed*: preparing may fail and changes
//! nothing that is in force, so a reload changes everything or nothing. Each resource has its own file.

mod descriptors;
mod error;
mod key_rotations;
mod key_sets;
mod listeners;
mod process_memory;
mod registry;
mod reminders;
mod secrets;
mod signals;
mod signing_keys;
mod traces;
mod trail;
mod upstreams;
mod watch;
mod watch_rounds;
mod workers;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

pub(crate) use self::error::StartError;
use self::key_rotations::KeyRotations;
use self::key_sets::KeySets;
use self::listeners::Listeners;
use self::registry::KeptRegistry;
use self::reminders::Reminders;
use self::secrets::KeptSecrets;
use self::signals::{SignalAction, Signals, notify, notify_reloading};
use self::signing_keys::SigningKeys;
use self::upstreams::KeptUpstreams;
use self::watch::FileWatch;
use self::watch_rounds::{Looked, Verdict};
use self::workers::Workers;
use crate::admin::launch_check::{Checklist, LaunchCheck};
use crate::admin::listener::Bound as AdminBound;
use crate::admin::listeners::AdminListeners;
use crate::admin::store_content::StoreContent;
use crate::admin::{Command, DaemonHandle, Reloaded, record_reload};
use crate::audit::{ALERTS, Recorder};
use crate::policy::Policy;
use crate::policy::compile;
use crate::policy::diagnostic::{Problems, Severity};
use crate::policy::source::PolicyText;
use crate::policy::watch::changed_file;
use crate::proxy::descriptors::Budget;
use crate::proxy::downstream::listener::{Bound, Registered};
use crate::proxy::downstream::worker::Shared;
use crate::proxy::upstream::UpstreamLimit;
use crate::runtime::{InForce, Runtime};
use crate::stages::replaced_secrets::ReplacedSecrets;
use crate::stages::scope_probes::ScopeProbes;
use crate::state::published::Published;

/// How often API keys and certificates are checked for upcoming expiry: operators may create keys, and the store may be read
/// late.
const REMIND: Duration = Duration::from_secs(60);
/// Shortest and longest time that the sinks have to write the last records at shutdown; between them, as long as requests
/// have to finish.
const LAST_RECORDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Longest time that the last spans have at shutdown.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Settings of a daemon.
pub(crate) struct Setup {
    /// The policy file.
    pub(crate) policy: PathBuf,
    /// Writes records to standard output for people; true: in colour.
    pub(crate) readable: Option<bool>,
    /// Makes the launch checklist for the admin listener.
    pub(crate) checklist: Checklist,
    /// Sockets that are already bound, for the listeners with these addresses.
    pub(crate) bound: Vec<Bound>,
}

/// A running daemon.
pub(crate) struct Daemon {
    setup: Setup,
    runtime: Arc<Runtime>,
    shared: Arc<Shared>,
    /// How many connections the process can have.
    budget: Budget,
    resources: Resources,
    workers: Workers,
    signals: Signals,
    /// Records reloads that a signal asks for; those of operators are recorded by the admin listener.
    recorder: Rc<Recorder>,
    reminders: Reminders,
    signing_keys: SigningKeys,
    key_rotations: KeyRotations,
    commands: mpsc::Receiver<Command>,
    /// A message: a secret of the vault has changed.
    changed_secrets: mpsc::Receiver<()>,
    /// The files that are loaded when they change.
    watch: FileWatch,
    /// A signal to stop came during a reload.
    stops: bool,
}

/// What a daemon holds open for the policy in force, except the audit trail.
struct Resources {
    registry: KeptRegistry,
    key_sets: KeySets,
    secrets: KeptSecrets,
    upstreams: KeptUpstreams,
    listeners: Listeners,
    admin: AdminListeners,
    /// For admin listeners that are opened later.
    handle: DaemonHandle,
}

/// A policy and its resources, ready to be put in force.
struct Prepared {
    in_force: Arc<InForce>,
    /// Where policy and store do not fit, to be logged once the policy is in force.
    mismatches: Problems,
    key_sets: KeySets,
    listeners: Vec<Registered>,
    admin: Vec<AdminBound>,
}

impl Prepared {
    /// Opens and binds everything that a policy needs and `current` lacks. Changes nothing that is in force.
    async fn new(
        policy: Policy,
        setup: &mut Setup,
        runtime: &Runtime,
        current: Option<(&Resources, &InForce)>,
    ) -> Result<Self, StartError> {
        let (resources, in_force) = current.unzip();
        // What others can see comes last: a client may connect as soon as a socket is bound.
        let registry = runtime.registry(policy.store());
        KeptRegistry::prepare(&registry).await?;
        let trail = trail::prepare(&policy, setup.readable, in_force.map(|in_force| &*in_force.trail))?;
        let tracer = traces::prepare(&policy, trail.node(), runtime, in_force)?;
        let in_force = Arc::new(InForce::attach(policy, trail, runtime, in_force).traced(tracer));
        let mismatches = StoreContent::of(&in_force, Timestamp::now()).compare(&in_force.policy);
        // At the start there is no other policy to keep. That of the store came through another node, and must not stop
        // this one: the policy's counts.
        if mismatches.has_errors() && resources.is_some() {
            return Err(StartError::Policy(mismatches));
        }
        let none = KeySets::default();
        let key_sets = resources.map_or(&none, |open| &open.key_sets).prepare(in_force.auth.key_sets()).await;
        upstreams::prepare(&in_force, &runtime.known_endpoints).await;
        let policy = &in_force.policy;
        let listeners = Listeners::prepare(resources.map(|open| &open.listeners), policy, &mut setup.bound)?;
        let (none, bound) = (AdminListeners::default(), &mut setup.bound);
        let admin = resources.map_or(&none, |open| &open.admin);
        let admin = admin.prepare(policy, |address| listeners::bind(address, bound))?;
        // Nobody waits for a key if there can be one now. Last of all: a key in the store stays there.
        SigningKeys::default().maintain(&in_force, None).await;
        Ok(Self { in_force, mismatches, key_sets, listeners, admin })
    }
}

impl Resources {
    /// Puts the prepared policy in force, then releases the resources that only the previous one used. Nothing here can fail.
    async fn commit(&mut self, prepared: Prepared, shared: &Arc<Shared>) {
        let Prepared { in_force, mismatches, key_sets, listeners, admin } = prepared;
        let policy = &in_force.policy;
        let previous = shared.in_force.current();
        self.secrets.judge(&in_force, &previous);
        shared.in_force.replace(Arc::clone(&in_force));
        shared.epoch.touch();
        // At the start, they are the same.
        if !Arc::ptr_eq(&previous, &in_force) {
            previous.documents.retire();
        }
        in_force.trail.install(&previous.trail);
        in_force.trail.reopen();
        let listening = self.listeners.commit(listeners, policy).await;
        let admin = self.admin.settle(policy, admin, shared, &self.handle);
        self.key_sets.commit(key_sets, in_force.auth.key_sets());
        self.secrets.commit(&in_force);
        self.upstreams.commit(&in_force);
        in_force.ages.put_in_force(&policy.inputs, Timestamp::now());
        self.registry.commit(in_force.registry()).await;
        log_problems(&mismatches);
        for address in listening {
            tracing::info!("listening on {address}");
        }
        for place in admin {
            tracing::info!("admin on {place}");
        }
    }
}

impl Daemon {
    /// Compiles the policy, opens and binds everything, and serves. Must be called within a local runtime.
    pub(crate) async fn start(mut setup: Setup) -> Result<Self, StartError> {
        let signals = Signals::install();
        let signals = signals.map_err(|error| StartError::System(format!("cannot handle signals: {error}")))?;
        // Before there is a secret in it.
        process_memory::keep_private();
        let runtime = Arc::new(Runtime::new(Instant::now()));
        let (policy, report) = compile::for_daemon(&setup.policy, None, &runtime.vaults);
        let Some(policy) = policy else { return Err(StartError::Policy(report)) };
        log_problems(&report);
        let workers = Workers::count(policy.workers());
        let budget = descriptors::prepare(policy.limits().connections, workers)?;

        // A counter that begins with its first alert would hide it from `increase()`.
        ALERTS.into_iter().for_each(|action| runtime.metrics.expect_alert(action));
        let prepared = Prepared::new(policy, &mut setup, &runtime, None).await?;
        let shared = Arc::new(Shared {
            in_force: Arc::new(Published::new(Arc::clone(&prepared.in_force))),
            epoch: runtime.epoch.clone(),
            metrics: runtime.metrics.clone(),
            upstreams: UpstreamLimit::new(budget.upstreams),
            scope_probes: ScopeProbes::default(),
            replaced_secrets: ReplacedSecrets::default(),
        });
        let (workers, handles) = Workers::start(workers, &shared)?;
        let (handle, commands) = DaemonHandle::new(LaunchCheck::new(setup.policy.clone(), setup.checklist));
        let (secrets, changed_secrets) = KeptSecrets::new(runtime.epoch.clone());
        let mut resources = Resources {
            registry: KeptRegistry::default(),
            key_sets: KeySets::default(),
            secrets,
            upstreams: KeptUpstreams::new(&runtime.known_endpoints),
            listeners: Listeners::new(Arc::clone(&shared), budget, handles),
            admin: AdminListeners::default(),
            handle,
        };
        resources.commit(prepared, &shared).await;
        let reminders = Reminders::after_load(&shared.in_force.current().policy);
        let recorder = Recorder::new(Arc::clone(&shared.in_force.current().trail));
        let key_rotations = KeyRotations::start(&shared, &recorder);
        let mut daemon = Self {
            setup,
            runtime,
            shared,
            budget,
            resources,
            workers,
            signals,
            recorder,
            reminders,
            signing_keys: SigningKeys::default(),
            key_rotations,
            commands,
            changed_secrets,
            watch: FileWatch::default(),
            stops: false,
        };
        daemon.loaded();
        Ok(daemon)
    }

    /// Serves until SIGTERM or SIGINT, then drains. SIGHUP reloads. A second SIGTERM or SIGINT ends the wait.
    ///
    /// Fails if records could not be written in time.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        notify(NotifyState::Ready);
        let mut remind = tokio::time::interval(REMIND);
        remind.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check_keys = tokio::time::interval(signing_keys::CHECK);
        check_keys.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.stops {
            tokio::select! {
                _ = remind.tick() => self.reminders.warn(self.shared.in_force.current()),
                _ = check_keys.tick() => {
                    let in_force = self.shared.in_force.current();
                    self.signing_keys.maintain(&in_force, Some(&self.recorder)).await;
                }
                action = self.signals.next() => match action {
                    SignalAction::Reload => {
                        let reloaded = self.reload().await;
                        record_reload(&self.recorder, &self.shared.in_force.current(), &reloaded, "signal");
                    }
                    SignalAction::Stop => break,
                },
                Some(()) = self.changed_secrets.recv() => {
                    let failed = |daemon: &mut Self, why: &str| daemon.resources.secrets.failed(why);
                    self.reload_changed("a secret of the vault", "vault", failed).await;
                }
                looked = self.watch.look() => self.looked(&looked).await,
                Some(Command::Reload(reply)) = self.commands.recv() => {
                    // An error means that nobody waits for the reply; the reload is complete anyway.
                    let _ = reply.send(self.reload().await);
                }
            }
        }
        self.stop().await
    }

    /// Reads everything again, and puts all of it in force, or nothing.
    async fn reload(&mut self) -> Reloaded {
        notify_reloading();
        let reloaded = self.try_reload(None).await;
        let metrics = &self.runtime.metrics;
        match &reloaded {
            Reloaded::Loaded => {
                metrics.reload("loaded");
                tracing::info!(policy = %self.shared.in_force.current().policy.digest(), "the policy was reloaded");
            }
            Reloaded::Unchanged => {
                metrics.reload("unchanged");
                tracing::info!("neither the policy nor a file that it names has changed");
            }
            Reloaded::Failed(report) => {
                metrics.reload("failed");
                log_problems(report);
                tracing::error!("the policy was not reloaded; the previous one stays in force");
            }
        }
        notify(NotifyState::Ready);
        reloaded
    }

    /// Reloads if the watched files have changed.
    async fn looked(&mut self, looked: &Looked) {
        let verdict = self.watch.judge(looked);
        let tried = matches!(verdict, Verdict::Reload(_));
        if let Verdict::Reload(changed) = verdict {
            self.reload_changed(&changed.join(", "), "watch", |daemon, why| daemon.watch.failed(why)).await;
        }
        let new = self.runtime.ages.report(self.watch.rounds.errors(), Timestamp::now());
        // The log has told how an attempt ended.
        for (file, error) in new.iter().filter(|_| !tried) {
            tracing::warn!(file = &**file, "{error}; what was read before stays in force");
        }
    }

    /// Reads everything again but, unless it is watched, the policy file, because of what has changed. `failed` says whether a
    /// failure is to be reported.
    async fn reload_changed(&mut self, changed: &str, by: &'static str, failed: impl FnOnce(&mut Self, &str) -> bool) {
        let text = self.shared.in_force.current().policy.text.clone();
        let reloaded = self.try_reload(text).await;
        match &reloaded {
            Reloaded::Loaded => {
                self.runtime.metrics.reload("loaded");
                let policy = self.shared.in_force.current().policy.digest().clone();
                tracing::info!(%policy, "the policy was reloaded because {changed} changed");
            }
            Reloaded::Unchanged => return,
            // Nobody asked for it, and nothing is wrong with it.
            Reloaded::Failed(_) if self.stops => return,
            Reloaded::Failed(report) => {
                let why = report.iter().find(|problem| problem.severity == Severity::Error);
                let why = why.map_or("the policy has errors", |problem| &problem.message);
                if !failed(self, why) {
                    tracing::debug!(why, "{changed} changed, and cannot be put in force yet");
                    return;
                }
                self.runtime.metrics.reload("failed");
                log_problems(report);
                tracing::error!(
                    "the policy was not reloaded although {changed} changed; the previous one stays in force"
                );
            }
        }
        record_reload(&self.recorder, &self.shared.in_force.current(), &reloaded, by);
    }

    async fn try_reload(&mut self, text: Option<PolicyText>) -> Reloaded {
        let reloaded = self.try_to_replace(text).await;
        let current = self.shared.in_force.current();
        self.runtime.vaults.keep(current.policy.vault.as_ref().map(|vault| &vault.vault));
        reloaded
    }

    async fn try_to_replace(&mut self, text: Option<PolicyText>) -> Reloaded {
        let is_asked_for = text.is_none();
        let (path, runtime) = (self.setup.policy.clone(), Arc::clone(&self.runtime));
        // Compiling schemas can take long, and so can the vault; connections are accepted in the meantime.
        let compiling = tokio::task::spawn_blocking(move || compile::for_daemon(&path, text, &runtime.vaults));
        let compiled = tokio::select! {
            compiled = compiling => compiled,
            () = self.signals.stop() => {
                self.stops = true;
                return Reloaded::Failed(StartError::System("the process is stopping".to_owned()).into_problems());
            }
        };
        let (policy, report) = match compiled {
            Ok((Some(policy), report)) => (policy, report),
            Ok((None, report)) => return Reloaded::Failed(report),
            Err(error) => {
                let error = StartError::System(format!("the policy could not be compiled: {error}"));
                return Reloaded::Failed(error.into_problems());
            }
        };
        let current = self.shared.in_force.current();
        if policy.is_same(&current.policy) {
            if let Some(vault) = &policy.vault {
                self.resources.secrets.loaded(vault);
            }
            current.trail.reopen();
            return Reloaded::Unchanged;
        }
        if !is_asked_for
            && current.policy.watch.is_none()
            && let Some(file) = changed_file(&policy.inputs, &current.policy.inputs)
        {
            let mut problems = Problems::new();
            problems.error(None, format!("{file} has changed as well, and files are put in force by a reload only"));
            return Reloaded::Failed(problems);
        }
        log_problems(&report);
        if policy.workers() != current.policy.workers() {
            tracing::warn!("a change of `workers` takes effect when the process is restarted");
        }
        let held = Some((&self.resources, &*current));
        let prepared = match Prepared::new(policy, &mut self.setup, &self.runtime, held).await {
            Ok(prepared) => prepared,
            Err(error) => return Reloaded::Failed(error.into_problems()),
        };
        // Not again with each secret that rotates.
        let connections = prepared.in_force.policy.limits().connections;
        if connections != current.policy.limits().connections {
            descriptors::warn(self.budget, connections);
        }
        self.resources.commit(prepared, &self.shared).await;
        self.loaded();
        let in_force = self.shared.in_force.current();
        self.reminders = Reminders::after_load(&in_force.policy);
        self.reminders.warn(in_force);
        Reloaded::Loaded
    }

    fn loaded(&mut self) {
        self.watch.follow(&self.shared.in_force.current().policy);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.runtime.metrics.policy_loaded.set(now.as_secs_f64());
    }

    /// Stops accepting, lets what is in flight finish, writes every record.
    async fn stop(self) -> io::Result<()> {
        let Self { shared, mut resources, workers, mut signals, recorder, key_rotations, .. } = self;
        notify(NotifyState::Stopping);
        tracing::info!("stopping; requests in flight will finish first");
        let in_force = shared.in_force.current();
        let drain = in_force.policy.timeouts().drain;
        let last = drain.clamp(LAST_RECORDS.0, LAST_RECORDS.1);
        // Set before anybody waits for the sinks: one that cannot be written would keep the workers for ever.
        let deadline = Instant::now() + drain + last;
        in_force.trail.give_up_at(deadline);
        resources.listeners.close(|_| true).await;
        workers.drain();
        resources.admin.close().await;
        key_rotations.close().await;
        workers.close(&mut signals, &in_force.trail, deadline, last).await;
        resources.registry.close().await;
        // What is not handed over in time is counted as lost.
        let _ = tokio::time::timeout_at((deadline + last).into(), recorder.close()).await;
        if let Some(tracer) = &in_force.tracer {
            tracer.close(last.min(LAST_SPANS)).await;
        }
        match in_force.trail.close(last).await {
            0 => Ok(()),
            left => Err(io::Error::other(format!("{left} audit records could not be written"))),
        }
    }
}

/// Writes problems to the log, one line each.
pub(crate) fn log_problems(problems: &Problems) {
    for problem in problems.iter() {
        let place = problem.place.as_ref().map(ToString::to_string);
        // An absent help is left out.
        let (place, help) = (place.as_deref().unwrap_or("policy"), problem.help.as_deref());
        match problem.severity {
            Severity::Error => tracing::error!(place, help, "{}", problem.message),
            Severity::Warning => tracing::warn!(place, help, "{}", problem.message),
            Severity::Note => tracing::info!(place, help, "{}", problem.message),
        }
    }
}
