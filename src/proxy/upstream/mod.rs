//! The upstream side: an HTTP/1.1 client (RFC 9112) with pooled connections.
//!
//! - `balance` chooses an address; `pool` keeps idle connections to it; `connection` is one of them, and `error` why it gives no response.
//! - `head` parses the head of a response; its body is decoded by `http1::body_decoder`.
//!
//! The client is small because it has a single user: requests were parsed and checked before, and responses are framed
//! again for the client. Anything that is not plainly one response is refused, and any doubt about where a response
//! ends closes the connection.

mod balance;
mod connection;
mod error;
mod head;
mod limit;
pub(crate) mod outlier;
mod pool;

pub(crate) use balance::{Choice, Chosen, choose};
pub(crate) use connection::UpstreamConnection;
pub(crate) use error::ResponseError;
pub(crate) use head::{Head, Interims, MAX_HEADERS, read as read_head};
pub(crate) use limit::UpstreamLimit;
pub(crate) use pool::{ConnectError, Pool, Pools};

#[cfg(test)]
mod tests;
