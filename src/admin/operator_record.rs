//! The audit record of an operator's request: one for every request that needs a right, allowed or refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{Method, StatusCode};
use serde_json::Value;

use super::operations::{Completed, Operation};
use crate::audit::{ChangeRecord, Outcome, Record, Recorder};
use crate::exchange::{Exchange, Peer};
use crate::refusal::{Refusal, Stage};

/// The client address in the record for a Unix socket, a signal, a schedule or the command line: this machine.
pub(super) const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// `event.action` of a request that changes nothing.
const READ: &str = "admin_read";
/// `event.action` of a change that was refused.
const CHANGE_REFUSED: &str = "change_refused";
/// `event.action` of a request whose token is missing, unknown or lacks the right, or whose address has failed too often.
const OPERATOR_REFUSED: &str = "operator_refused";

/// What an operator did, or would have done.
#[derive(Default)]
pub(super) struct OperatorRequest {
    /// The operator's name, once known.
    pub(super) by: Box<str>,
    /// What was changed.
    pub(super) change: Option<ChangeRecord>,
    /// What is known of that, if the request was refused.
    pub(super) outcome: Option<Outcome>,
    /// Bytes of the body.
    pub(super) request_bytes: u64,
}

/// How a request was answered.
pub(super) struct Answered<'a> {
    pub(super) status: StatusCode,
    pub(super) bytes: u64,
    pub(super) refusal: Option<&'a Refusal>,
}

impl OperatorRequest {
    fn action(&self, method: Option<&Method>, refusal: Option<&Refusal>) -> &'static str {
        match (&self.change, refusal) {
            (Some(change), _) => change.action,
            (None, Some(refusal)) if refusal.stage() == Stage::Auth => OPERATOR_REFUSED,
            _ if matches!(method, Some(&Method::GET | &Method::HEAD)) => READ,
            (None, _) => CHANGE_REFUSED,
        }
    }

    /// Runs an operation. What it was to change is on record also if it is refused although the store may have taken it.
    pub(super) async fn run(&mut self, operation: Operation<'_>) -> Result<(StatusCode, Value), Refusal> {
        let done = operation.run().await;
        (self.change, self.outcome) = operation.unconfirmed.take().unzip();
        let Completed { status, body, change } = done?;
        self.change = change;
        Ok((status, body))
    }

    /// Writes the record.
    pub(super) fn record(
        &self,
        recorder: &Recorder,
        peer: &Peer,
        exchange: &Exchange,
        policy: &str,
        answered: &Answered<'_>,
    ) {
        let Answered { status, bytes, refusal } = answered;
        let action = self.action(exchange.method.as_ref(), *refusal);
        recorder.record(&Record {
            duration: exchange.begun.elapsed(),
            outcome: self.outcome.unwrap_or(if status.is_success() { Outcome::Success } else { Outcome::Failure }),
            reason: refusal.map(|refusal| refusal.reason().code()),
            stage: refusal.map(|refusal| refusal.stage().as_str()),
            cause: refusal.and_then(Refusal::logged),
            client_port: Some(peer.address.port()).filter(|port| *port > 0),
            request_bytes: self.request_bytes,
            status: Some(status.as_u16()),
            response_bytes: *bytes,
            consumer: Some(&*self.by).filter(|by| !by.is_empty()),
            target: self.change.as_ref().map(|change| &*change.target),
            change: self.change.as_ref().map(|change| &change.details),
            violations: refusal.map(|refusal| refusal.violations()).unwrap_or_default(),
            ..Record::of(exchange, peer, action, policy)
        });
    }
}
