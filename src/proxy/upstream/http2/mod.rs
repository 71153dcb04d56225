//! The upstream side of HTTP/2 (RFC 9113), by the `h2` crate: connections that the requests of a worker share.
//!
//! - `connection`: one connection, which a task of its own drives. `shared`: those of a worker to an address.
//! - `stream`: one request on a connection, and its response.

mod connection;
mod shared;
mod stream;

pub(super) use connection::Http2Connection;
pub(super) use shared::SharedConnections;
pub(crate) use stream::Http2Stream;
