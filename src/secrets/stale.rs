//! What may not go on, because a secret that it needs is stale.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// What needs a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// An issuer or an introspection endpoint, by its name: neither kind has a name of the other.
    Issuer(Box<str>),
    /// TLS of a listener, by its position in the policy.
    Listener(usize),
    /// An admin token: `admin.token`, or one by its position in `admin.tokens`.
    AdminToken(Option<usize>),
    /// What is in use already, and only is a fault of readiness.
    Other,
}

/// What may not go on at the moment. Usually nothing, which is one atomic load to find out.
#[derive(Debug, Default)]
pub(crate) struct StaleSecrets {
    any: AtomicBool,
    /// What may not go on, and how many references are stale, whether they may or not.
    holders: RwLock<(BTreeSet<Holder>, usize)>,
}

impl StaleSecrets {
    /// Replaces what may not go on, and the number of stale references. Returns whether one of them is another than before.
    pub(crate) fn replace(&self, holders: BTreeSet<Holder>, references: usize) -> bool {
        let mut known = self.holders.write().unwrap_or_else(PoisonError::into_inner);
        self.any.store(!holders.is_empty(), Ordering::Relaxed);
        let now = (holders, references);
        let changes = *known != now;
        *known = now;
        changes
    }

    /// Begins with what another policy may not use.
    pub(crate) fn take_over(&self, other: &Self) {
        let (holders, references) = other.holders.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.replace(holders, references);
    }

    /// How many references are stale.
    pub(crate) fn references(&self) -> usize {
        self.holders.read().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Whether anything may not go on.
    pub(crate) fn has_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Whether an issuer or an introspection endpoint may not go on.
    pub(crate) fn has_issuer(&self, name: &str) -> bool {
        self.has(|holder| matches!(holder, Holder::Issuer(known) if **known == *name))
    }

    /// Whether a listener may not go on.
    pub(crate) fn has_listener(&self, position: usize) -> bool {
        self.has(|holder| *holder == Holder::Listener(position))
    }

    /// Whether an admin token may not be used, by its position among all.
    pub(crate) fn has_admin_token(&self, token: Option<usize>) -> bool {
        self.has(|holder| *holder == Holder::AdminToken(token))
    }

    fn has(&self, is: impl Fn(&Holder) -> bool) -> bool {
        self.has_any() && self.holders.read().unwrap_or_else(PoisonError::into_inner).0.iter().any(is)
    }
}
