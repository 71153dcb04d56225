//! What the process itself calls: key sets, introspection endpoints, and the sinks of the record.
//!
//! [`settings`]: the proxy and the timeouts of the policy. [`dial`] opens connections, through the proxy if there is one;
//! [`http_client`] sends requests over them.

mod dial;
mod http_client;
mod no_proxy;
mod settings;

pub(crate) use self::dial::{Connection, Dialer};
pub(crate) use self::http_client::{Answer, HttpClient};
pub(crate) use self::no_proxy::NoProxy;
pub(crate) use self::settings::{CONNECT_TIMEOUT, Egress, Proxy, TIMEOUT, Trust};
