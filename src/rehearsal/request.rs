//! A request as its sender writes it, and a moment to ask it at.
//!
//! Its head is put into bytes and read as those of client connections are, so that what `run` refuses before there is a
//! request is refused here as well.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;

use crate::exchange::{ClientCertificate, Peer};
use crate::policy::{Limits, Policy};
use crate::proxy::http1::fields::HeadLimits;
use crate::proxy::http1::reader::{Reader, RequestHead};
use crate::proxy::request::target;
use crate::refusal::Refusal;

/// A moment on both clocks of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// By the wall clock.
    pub(crate) at: Timestamp,
    /// Since the rehearsal began.
    pub(crate) since: Duration,
}

/// A request.
pub(crate) struct RehearsalRequest {
    /// Its method.
    pub(crate) method: String,
    /// Path and query, as they are sent.
    pub(crate) target: String,
    /// All header fields, `Host` among them.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body, as it is sent.
    pub(crate) body: Bytes,
    /// The address it comes from.
    pub(crate) from: IpAddr,
    /// What its sender has shown when connecting.
    pub(crate) certificate: Option<Box<ClientCertificate>>,
}

/// A head that can be read.
pub(super) struct Read {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl RehearsalRequest {
    /// Whether it has a header field of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Reads its head as a client connection would.
    pub(super) fn read(&self, limits: Limits) -> Result<Read, Refusal> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() && !self.has("content-length") && !self.has("transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let limits = HeadLimits { size: limits.header_size, headers: limits.headers };
        // A break within a field would have made another request of what follows it.
        let unreadable = || target::malformed("the request line or a header is malformed");
        let mut input = Bytes::from(head);
        let read = Reader::new(limits).head(&mut input).map_err(target::malformed_framing)?;
        let RequestHead { method, uri, headers, .. } = read.filter(|_| input.is_empty()).ok_or_else(unreadable)?;
        Ok(Read { method, uri, headers })
    }

    /// Whether it comes over TLS: a certificate was shown, or no listener of the policy takes anything else.
    pub(super) fn is_secure(&self, policy: &Policy) -> bool {
        self.certificate.is_some() || policy.listeners().iter().all(|listener| listener.tls.is_some())
    }

    /// Who sends it, with what was shown when connecting.
    pub(super) fn peer(&mut self, policy: &Policy) -> Peer {
        let tls_version = self.is_secure(policy).then_some("1.3");
        Peer { certificate: self.certificate.take(), ..Peer::new((self.from, 0).into(), tls_version) }
    }
}
