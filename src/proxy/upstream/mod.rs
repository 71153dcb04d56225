//! The upstream side: a client of HTTP/1.1 (RFC 9112) and HTTP/2 (RFC 9113) with pooled connections.
//!
//! - `balance` chooses an address; `pool` keeps connections to it, for which requests wait in `slots`; `exchange` is one request on one of them, and `error` why it gets
//!   no response. `connection` is one of HTTP/1.1, `http2` has those of HTTP/2.
//! - `head` parses the head of a response; its body is decoded by `http1::body_decoder`.
//!
//! The client of HTTP/1.1 is small because it has a single user: requests were parsed and checked before, and responses are framed
//! again for the client. Anything that is not plainly one response is refused, and any doubt about where a response
//! ends closes the connection.

mod balance;
mod connection;
mod error;
mod exchange;
mod head;
mod http2;
mod limit;
pub(crate) mod outlier;
mod pool;
mod slots;

pub(crate) use balance::{Choice, Chosen, choose};
pub(crate) use connection::UpstreamConnection;
pub(crate) use error::ResponseError;
pub(crate) use exchange::{RequestHead, UpstreamExchange};
pub(crate) use head::{Head, Interims, MAX_HEADERS, read as read_head};
pub(crate) use limit::UpstreamLimit;
pub(crate) use pool::{ConnectError, Pool, Pools};

#[cfg(test)]
mod tests;
