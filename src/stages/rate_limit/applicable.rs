//! The limits that one request counts against, and what was decided about each.

use super::limit::{Exceeded, Fits, Limit};
use crate::state::ledger::LimitId;

/// The most limits that one request counts against.
pub(super) const MOST: usize = 3;

/// One limit that a request counts against.
pub(super) type Applicable<'l> = (LimitId, &'l Limit);

/// What was decided about each limit, in the order of the limits.
pub(super) type Decided<'l> = [Option<(&'l Limit, Result<Fits, Exceeded>)>; MOST];
