//! The upstream's side: a client of HTTP/1.1 (RFC 9112) over connections that are kept.
//!
//! - `pool` keeps connections, and a `link` is one of them: `head` reads what an answer says of itself, `body` finds where it
//!   ends.
//!
//! Small, because it serves one master: a request has been parsed and judged when it comes here, an answer is on its way to
//! a client, framed anew. What is not plainly one answer is refused, and whatever leaves a doubt
//! about where an answer ends closes the connection.

mod body;
mod head;
mod link;
mod pool;

pub(crate) use head::Head;
pub(crate) use link::{Link, LinkError};
pub(crate) use pool::{ConnectError, Pool, Pools};
