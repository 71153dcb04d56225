//! The warnings of the log about API keys, clients and certificates that expire soon.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::admin::expiring_certificates::CertificateReminder;
use crate::admin::expiring_clients;
use crate::admin::expiring_keys::Reminder;
use crate::policy::Policy;
use crate::runtime::InForce;

/// What the log has warned about already.
pub(super) struct Reminders(Arc<Mutex<Warned>>);

struct Warned {
    keys: Reminder,
    certificates: CertificateReminder,
}

impl Reminders {
    /// For a policy that was just loaded.
    pub(super) fn after_load(policy: &Policy) -> Self {
        let certificates = CertificateReminder::after_load(policy, Timestamp::now());
        Self(Arc::new(Mutex::new(Warned { keys: Reminder::default(), certificates })))
    }

    /// Logs what is due. Not on this thread, which accepts connections: it looks at every key in the registry.
    pub(super) fn warn(&self, in_force: Arc<InForce>) {
        let warned = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let (now, auth) = (Timestamp::now(), in_force.policy.auth());
            let mut warned = warned.lock().unwrap_or_else(PoisonError::into_inner);
            warned.keys.warn(&auth.keys, in_force.registry(), now);
            let clients = expiring_clients::problems(&auth.clients, in_force.registry(), now);
            warned.certificates.warn(&in_force.policy, clients, now);
        });
    }
}
