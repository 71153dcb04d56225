//! What the process itself calls: key sets, introspection endpoints, the vault, the sinks of the record, and the collector of traces.
//!
//! [`settings`]: the proxy and the timeouts of the policy. [`dial`] opens connections, through the proxy if there is one;
//! [`http_client`] sends requests over them, and [`answer`] is what comes back. [`veil`] hides
//! credentials in it. [`gzip`]: compressed bodies; [`backoff`]: pauses
//! between attempts.

mod answer;
mod backoff;
mod dial;
mod gzip;
mod http_client;
mod no_proxy;
mod settings;
mod veil;

pub(crate) use self::answer::{Answer, shown};
pub(crate) use self::backoff::{Backoff, jittered};
pub(crate) use self::dial::{Connection, Dialer};
pub(crate) use self::gzip::gzipped;
pub(crate) use self::http_client::{HttpClient, NoAnswer};
pub(crate) use self::no_proxy::NoProxy;
pub(crate) use self::settings::{CONNECT_TIMEOUT, Egress, Proxy, TIMEOUT, Trust};
pub(crate) use self::veil::SecretTarget;
