//! Who a request is counted for.

use std::net::IpAddr;
use std::sync::Arc;

use super::now::Now;
use super::plan::Plan;
use crate::state::ledger::{Account, Ledger};

/// What a request is counted against.
pub(crate) enum Subject<'a> {
    /// A consumer, with its plan and account.
    Consumer(Option<&'a Plan>, &'a Arc<Account>),
    /// The client address of an unauthenticated request.
    Address(IpAddr),
}

impl<'a> Subject<'a> {
    /// The plan, if there is one, and the account in which it is counted.
    pub(super) fn account(&self, ledger: &Ledger, now: Now) -> (Option<&'a Plan>, Arc<Account>) {
        match self {
            Self::Consumer(plan, account) => (*plan, Arc::clone(account)),
            Self::Address(address) => (None, ledger.address(*address, now.tick)),
        }
    }
}
