//! The values that other parts of the process hold, collected on each scrape.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::series::{Series, counter, gauge};
use super::upstream::{AddressNumbers, register_addresses};

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

/// A key of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KidLabels {
    issuer: String,
    kid: String,
}

/// A kind of store, or of its entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    consumer: String,
    key: String,
}

/// A certificate or a revocation list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct CertificateLabels {
    kind: &'static str,
    file: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct InputLabels {
    source: &'static str,
    reference: String,
}

/// Current values that other modules hold, collected on each scrape.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// The audit log.
    pub(crate) audit: AuditNumbers,
    /// Issuers whose keys tokens are verified with.
    pub(crate) issuers: Vec<IssuerNumbers>,
    /// The store, if there is one.
    pub(crate) store: Option<StoreNumbers>,
    /// The memory of bodies.
    pub(crate) memory: MemoryNumbers,
    /// Certificates and revocation lists of the listeners.
    pub(crate) certificates: Vec<CertificateNumbers>,
    /// Secrets of the policy; bounded in number.
    pub(crate) secrets: Vec<InputNumbers>,
    /// The vault, if there is one.
    pub(crate) vault: Option<VaultNumbers>,
    /// What the system says about this process.
    pub(crate) process: Option<ProcessNumbers>,
    /// API keys that are made on schedule.
    pub(crate) rotations: Vec<RotationNumbers>,
    /// The addresses of upstream servers.
    pub(crate) addresses: Vec<AddressNumbers>,
    /// API keys that expire soon, soonest first; bounded in number.
    pub(crate) ending: Vec<KeyNumbers>,
    /// Total number of API keys that expire soon.
    pub(crate) endings: usize,
}

/// The secrets of the vault.
#[derive(Debug)]
pub(crate) struct VaultNumbers {
    /// Each secret that the policy refers to.
    pub(crate) secrets: Vec<SecretNumbers>,
    /// Outcome → logins.
    pub(crate) logins: [(&'static str, u64); 2],
}

/// One secret.
#[derive(Debug)]
pub(crate) struct SecretNumbers {
    /// Its path.
    pub(crate) secret: String,
    /// Since the vault last gave it, in seconds.
    pub(crate) age: f64,
    /// How often the vault did not give it again.
    pub(crate) failures: u64,
}

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SecretLabels {
    secret: String,
}

/// The counters of the audit sinks.
#[derive(Debug, Default, Clone)]
pub(crate) struct AuditNumbers {
    /// Records written.
    pub(crate) records: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// A sink cannot be written to.
    pub(crate) failing: bool,
    /// Records dropped.
    pub(crate) dropped: u64,
    /// Bytes in the spool, if there is one.
    pub(crate) spooled: Option<u64>,
    /// Each sink.
    pub(crate) sinks: Vec<SinkNumbers>,
}

/// What one audit sink has done.
#[derive(Debug, Clone)]
pub(crate) struct SinkNumbers {
    /// Its name.
    pub(crate) sink: String,
    /// Records that it does not have yet.
    pub(crate) waiting: u64,
    /// Age of the oldest of them, in seconds.
    pub(crate) lag: f64,
    /// Attempts that failed.
    pub(crate) failures: u64,
    /// Records that it refused for good.
    pub(crate) rejected: u64,
    /// Those of them that its file of rejected records had no room for.
    pub(crate) rejected_not_kept: u64,
}

/// An audit sink.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
}

/// The memory budget of bodies that are held and decoded.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MemoryNumbers {
    /// Bytes in use.
    pub(crate) in_use: u64,
    /// The limit in bytes.
    pub(crate) limit: u64,
    /// How often bytes were refused.
    pub(crate) refusals: u64,
}

/// When a certificate or a revocation list expires.
#[derive(Debug)]
pub(crate) struct CertificateNumbers {
    /// `certificate`, `client_ca` or `client_crl`.
    pub(crate) kind: &'static str,
    /// The file, as the policy names it.
    pub(crate) file: String,
    /// The subject of a certificate, the issuer of a list.
    pub(crate) name: String,
    /// In seconds since 1970.
    pub(crate) end: i64,
}

/// A secret, or a file of certificates.
#[derive(Debug)]
pub(crate) struct InputNumbers {
    /// `env`, `file` or `vault`.
    pub(crate) source: &'static str,
    /// As the policy writes it.
    pub(crate) reference: String,
    /// Its source gave it when it was last asked.
    pub(crate) up: bool,
    /// Since when this value is known, in seconds since 1970.
    pub(crate) since: Option<i64>,
}

/// What the system says about this process.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct ProcessNumbers {
    /// CPU time used, in seconds.
    pub(crate) cpu_seconds: f64,
    /// In seconds since 1970.
    pub(crate) started: f64,
    /// In bytes.
    pub(crate) virtual_memory: u64,
    /// In bytes.
    pub(crate) resident_memory: u64,
    pub(crate) open_fds: u64,
    /// Absent: unlimited.
    pub(crate) max_fds: Option<u64>,
}

/// The state of an issuer's keys.
#[derive(Debug)]
pub(crate) struct IssuerNumbers {
    /// Name in the policy.
    pub(crate) name: String,
    /// Its keys are loaded, and the last fetch succeeded.
    pub(crate) up: bool,
    /// Keys that verify tokens now.
    pub(crate) keys: usize,
    /// When they were last fetched, in seconds since 1970; absent for those of a file or a secret.
    pub(crate) loaded: Option<i64>,
    /// `kid` → tokens verified.
    pub(crate) tokens: Vec<(String, u64)>,
}

impl IssuerNumbers {
    /// Adds those of another tenant of the same issuer: what is worst of all of them counts.
    pub(crate) fn add(&mut self, other: Self) {
        self.up &= other.up;
        self.keys += other.keys;
        self.loaded = self.loaded.min(other.loaded);
        self.tokens.extend(other.tokens);
    }
}

/// The state of the store.
#[derive(Debug)]
pub(crate) struct StoreNumbers {
    /// `embedded` or `redis`.
    pub(crate) kind: &'static str,
    /// This node is in sync with the store.
    pub(crate) up: bool,
    /// Kind → number of entries.
    pub(crate) entries: Vec<(&'static str, usize)>,
    /// The limits that nodes count together, if they do.
    pub(crate) limits: Option<SharedLimitNumbers>,
}

/// The limits that nodes count together in the store.
#[derive(Debug)]
pub(crate) struct SharedLimitNumbers {
    /// The store answers, as far as is known.
    pub(crate) up: bool,
    /// Nodes that count, this one included.
    pub(crate) nodes: u32,
    /// Outcome → questions.
    pub(crate) questions: [(&'static str, u64); 2],
    /// What was taken in advance, and what of it was returned.
    pub(crate) blocks: [(&'static str, u64); 2],
}

/// What became of something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// An API key that is made on schedule.
#[derive(Debug)]
pub(crate) struct RotationNumbers {
    /// The consumer that owns the keys.
    pub(crate) consumer: String,
    /// The id of the rotation.
    pub(crate) key: String,
    /// The last attempt to make or deliver a key did not fail.
    pub(crate) up: bool,
    /// Failed attempts.
    pub(crate) failures: u64,
    /// When the next key is due, in seconds since 1970.
    pub(crate) next: Option<i64>,
}

/// When an API key expires.
#[derive(Debug)]
pub(crate) struct KeyNumbers {
    /// The consumer that owns the key.
    pub(crate) consumer: String,
    /// Its id.
    pub(crate) key: String,
    /// In seconds since 1970.
    pub(crate) end: i64,
}

impl Gauges {
    pub(super) fn register(self, registry: &mut Registry) {
        register_audit(&self.audit, registry);
        register_memory(self.memory, registry);
        register_certificates(self.certificates, registry);
        register_secrets(self.secrets, registry);
        register_issuers(self.issuers, registry);
        if let Some(vault) = self.vault {
            register_vault(vault, registry);
        }
        if let Some(store) = self.store {
            register_store(store, registry);
        }
        let ends = self.ending.into_iter();
        let ends = ends.map(|KeyNumbers { consumer, key, end }| (KeyLabels { consumer, key }, gauge(end)));
        registry.register_with_unit(
            "api_key_expires_timestamp",
            "When API keys expire, for the first 1000 that expire within 30 days",
            Unit::Seconds,
            Series(ends.collect()),
        );
        let endings = gauge(self.endings.try_into().unwrap_or(i64::MAX));
        registry.register("api_keys_expiring", "API keys that expire within 30 days", endings);
        register_rotations(self.rotations, registry);
        register_addresses(self.addresses, registry);
    }
}

fn register_rotations(rotations: Vec<RotationNumbers>, registry: &mut Registry) {
    let (mut up, mut failures, mut next) = (Vec::new(), Vec::new(), Vec::new());
    for numbers in rotations {
        let labels = KeyLabels { consumer: numbers.consumer, key: numbers.key };
        up.push((labels.clone(), gauge(numbers.up.into())));
        failures.push((labels.clone(), counter(numbers.failures)));
        next.extend(numbers.next.map(|at| (labels, gauge(at))));
    }
    let help = "0 while an API key cannot be rotated or delivered to the vault; the key before stays";
    registry.register("key_rotation_up", help, Series(up));
    registry.register("key_rotation_failures", "Failed attempts to rotate or deliver an API key", Series(failures));
    let help = "When the next API key of a rotation is due";
    registry.register_with_unit("key_rotation_next_timestamp", help, Unit::Seconds, Series(next));
}

fn register_audit(audit: &AuditNumbers, registry: &mut Registry) {
    registry.register("audit_records", "Audit records written, over all sinks", counter(audit.records));
    let help = "Audit bytes written, over all sinks";
    registry.register_with_unit("audit_written", help, Unit::Bytes, counter(audit.bytes));
    let help = "1 while records cannot be kept: a sink cannot be written, or the spool takes no more";
    registry.register("audit_failing", help, gauge(audit.failing.into()));
    let help = "Audit records that were dropped, because they could not be kept";
    registry.register("audit_dropped", help, counter(audit.dropped));
    if let Some(spooled) = audit.spooled {
        let spooled = gauge(spooled.try_into().unwrap_or(i64::MAX));
        registry.register_with_unit("audit_spool", "Size of the audit spool", Unit::Bytes, spooled);
    }
    let of = |value: fn(&SinkNumbers) -> u64| {
        let sinks = audit.sinks.iter();
        sinks.map(move |numbers| (SinkLabels { sink: numbers.sink.clone() }, value(numbers)))
    };
    let gauges = |value| {
        Series(of(value).map(|(labels, value)| (labels, gauge(value.try_into().unwrap_or(i64::MAX)))).collect())
    };
    let counters = |value| Series(of(value).map(|(labels, value)| (labels, counter(value))).collect());
    let help = "Audit records that a sink does not have yet";
    registry.register("audit_sink_lag_records", help, gauges(|sink| sink.waiting));
    let lags = audit.sinks.iter().map(|numbers| {
        let lag: Gauge<f64, AtomicU64> = Gauge::default();
        lag.set(numbers.lag);
        (SinkLabels { sink: numbers.sink.clone() }, lag)
    });
    let help = "Age of the oldest audit record that a sink does not have yet";
    registry.register_with_unit("audit_sink_lag", help, Unit::Seconds, Series(lags.collect()));
    let help = "Failed attempts to write audit records to a sink";
    registry.register("audit_sink_failures", help, counters(|sink| sink.failures));
    let help = "Audit records that a sink refused for good; they are in its file of rejected records";
    registry.register("audit_sink_rejected", help, counters(|sink| sink.rejected));
    let help = "Audit records that a sink refused for good, and that its file of rejected records had no room for";
    registry.register("audit_sink_rejected_not_kept", help, counters(|sink| sink.rejected_not_kept));
}

fn register_certificates(certificates: Vec<CertificateNumbers>, registry: &mut Registry) {
    // Two of one name in one file, as when a key was changed: the earlier end counts.
    let mut ends: BTreeMap<CertificateLabels, i64> = BTreeMap::new();
    for CertificateNumbers { kind, file, name, end } in certificates {
        let first = ends.entry(CertificateLabels { kind, file, name }).or_insert(end);
        *first = end.min(*first);
    }
    registry.register_with_unit(
        "certificate_expiry_timestamp",
        "When the listeners' certificates, client authorities and revocation lists expire",
        Unit::Seconds,
        Series(ends.into_iter().map(|(labels, end)| (labels, gauge(end))).collect()),
    );
}

fn register_secrets(secrets: Vec<InputNumbers>, registry: &mut Registry) {
    let (mut since, mut up) = (BTreeMap::new(), BTreeMap::new());
    for numbers in secrets {
        let labels = InputLabels { source: numbers.source, reference: numbers.reference };
        // Two of one reference, as when a file holds certificates and their key: what is wrong with one counts.
        *up.entry(labels.clone()).or_insert(true) &= numbers.up;
        since.extend(numbers.since.map(|at| (labels, gauge(at))));
    }
    let up = up.into_iter().map(|(labels, up)| (labels, gauge(up.into()))).collect();
    registry.register("secret_up", "0 while a secret or certificate cannot be read, or not be used", Series(up));
    registry.register_with_unit(
        "secret_since_timestamp",
        "Since when the value of a secret or certificate in force is known",
        Unit::Seconds,
        Series(since.into_iter().collect()),
    );
}

pub(super) fn register_process(numbers: Option<ProcessNumbers>, registry: &mut Registry) {
    let Some(numbers) = numbers else { return };
    let whole = |value: u64| gauge(value.try_into().unwrap_or(i64::MAX));
    let cpu: Counter<f64, AtomicU64> = Counter::default();
    cpu.inc_by(numbers.cpu_seconds);
    registry.register_with_unit("cpu", "CPU time used", Unit::Seconds, cpu);
    let started: Gauge<f64, AtomicU64> = Gauge::default();
    started.set(numbers.started);
    registry.register_with_unit("start_time", "When the process was started", Unit::Seconds, started);
    let (resident, total) = (whole(numbers.resident_memory), whole(numbers.virtual_memory));
    registry.register_with_unit("resident_memory", "Memory in use", Unit::Bytes, resident);
    registry.register_with_unit("virtual_memory", "Address space in use", Unit::Bytes, total);
    registry.register("open_fds", "Open files and sockets", whole(numbers.open_fds));
    if let Some(most) = numbers.max_fds {
        registry.register("max_fds", "Files and sockets that may be open", whole(most));
    }
}

fn register_vault(vault: VaultNumbers, registry: &mut Registry) {
    let (mut ages, mut failures) = (Vec::new(), Vec::new());
    for SecretNumbers { secret, age, failures: failed } in vault.secrets {
        let (labels, since): (_, Gauge<f64, AtomicU64>) = (SecretLabels { secret }, Gauge::default());
        since.set(age);
        ages.push((labels.clone(), since));
        failures.push((labels, counter(failed)));
    }
    let help = "Time since the vault last gave a secret";
    registry.register_with_unit("secret_age", help, Unit::Seconds, Series(ages));
    let help = "Times that the vault did not give a secret again; its last value stays in use";
    registry.register("secret_failures", help, Series(failures));
    let logins = vault.logins.map(|(outcome, count)| (OutcomeLabels { outcome }, counter(count)));
    registry.register("vault_logins", "Logins to the vault", Series(logins.into()));
}

fn register_memory(memory: MemoryNumbers, registry: &mut Registry) {
    let bytes = |value: u64| gauge(value.try_into().unwrap_or(i64::MAX));
    let (in_use, limit, refusals) = (bytes(memory.in_use), bytes(memory.limit), counter(memory.refusals));
    let help = "Bytes of bodies that are held or decoded to be checked";
    registry.register_with_unit("body_memory", help, Unit::Bytes, in_use);
    registry.register_with_unit("body_memory_limit", "The limit of these bytes: `limits.memory`", Unit::Bytes, limit);
    let help = "Times that a body did not fit into this limit; its request is refused with 503";
    registry.register("body_memory_refusals", help, refusals);
}

fn register_issuers(issuers: Vec<IssuerNumbers>, registry: &mut Registry) {
    let (mut up, mut keys, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
    // Keys without a name, or with the same one, are counted together.
    let mut tokens: BTreeMap<(String, String), u64> = BTreeMap::new();
    for numbers in issuers {
        let labels = IssuerLabels { issuer: numbers.name };
        up.push((labels.clone(), gauge(numbers.up.into())));
        keys.push((labels.clone(), gauge(numbers.keys.try_into().unwrap_or(i64::MAX))));
        loaded.extend(numbers.loaded.map(|at| (labels.clone(), gauge(at))));
        for (kid, count) in numbers.tokens {
            *tokens.entry((labels.issuer.clone(), kid)).or_default() += count;
        }
    }
    let tokens = tokens.into_iter().map(|((issuer, kid), count)| (KidLabels { issuer, kid }, counter(count)));
    registry.register("issuer_up", "1 when an issuer's keys are loaded and the last fetch succeeded", Series(up));
    registry.register(
        "issuer_keys",
        "Keys of an issuer that are in use; with 0, its callers are refused with 503",
        Series(keys),
    );
    registry.register_with_unit(
        "issuer_keys_loaded_timestamp",
        "When an issuer's keys were last fetched",
        Unit::Seconds,
        Series(loaded),
    );
    registry.register(
        "issuer_tokens",
        "Tokens verified with an issuer's key; cached results are not counted again",
        Series(tokens.collect()),
    );
}

fn register_store(store: StoreNumbers, registry: &mut Registry) {
    let up = vec![(KindLabels { kind: store.kind }, gauge(store.up.into()))];
    let entries = store.entries.into_iter();
    let entries = entries.map(|(kind, count)| (KindLabels { kind }, gauge(count.try_into().unwrap_or(i64::MAX))));
    registry.register("store_up", "1 while this node is in sync with the store", Series(up));
    registry.register(
        "store_entries",
        "Entries in the store, by kind; expired ones count until they are swept",
        Series(entries.collect()),
    );
    let Some(limits) = store.limits else { return };
    registry.register("limits_store_up", "1 while the store answers about limits", gauge(limits.up.into()));
    registry.register(
        "limits_nodes",
        "Nodes that count limits together, this one included",
        gauge(limits.nodes.into()),
    );
    let counted = |numbers: [(&'static str, u64); 2]| {
        Series(numbers.map(|(outcome, count)| (OutcomeLabels { outcome }, counter(count))).to_vec())
    };
    registry.register("limits_questions", "Questions about limits to the store", counted(limits.questions));
    registry.register("limits_tokens", "What was taken from limits in advance, and returned", counted(limits.blocks));
}
