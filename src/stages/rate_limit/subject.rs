//! Who a request is counted for.

use std::net::IpAddr;
use std::sync::Arc;

use super::now::Now;
use super::plan::Plan;
use crate::state::ledger::{Account, Ledger};

/// What a request is counted against.
pub(crate) enum Subject<'a> {
    /// A consumer: its plan, its account, and that of the user it acts for, if users are limited.
    Consumer(Option<&'a Plan>, &'a Arc<Account>, Option<&'a Arc<Account>>),
    /// The client address of an unauthenticated request.
    Address(IpAddr),
}

impl<'a> Subject<'a> {
    /// The plan, if there is one, and the account in which it is counted.
    pub(super) fn account(&self, ledger: &Ledger, now: Now) -> (Option<&'a Plan>, Arc<Account>) {
        match self {
            Self::Consumer(plan, account, _) => (*plan, Arc::clone(account)),
            Self::Address(address) => (None, ledger.address(*address, now.tick)),
        }
    }

    /// The account of the user that a consumer acts for, and its limits.
    pub(super) fn user(&self) -> Option<(&'a Plan, &'a Arc<Account>)> {
        match self {
            Self::Consumer(Some(plan), _, Some(user)) => Some((*plan, *user)),
            _ => None,
        }
    }
}
