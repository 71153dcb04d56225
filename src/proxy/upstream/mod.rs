//! The upstream side: an HTTP/1.1 client (RFC 9112) with pooled connections.
//!
//! - `pool` keeps idle connections; `link` is one connection.
//! - `head` parses the head of a response; `body` finds where its body ends.
//!
//! The client is small because it has a single user: requests were parsed and checked before, and responses are framed
//! again for the client. Anything that is not plainly one response is refused, and any doubt about where a response
//! ends
//! closes the connection.

mod body;
mod head;
mod link;
mod pool;

pub(crate) use head::Head;
pub(crate) use link::{Link, LinkError};
pub(crate) use pool::{ConnectError, Pool, Pools};

#[cfg(test)]
mod tests;
