//! The data path: takes requests from a socket, through the chain, to an upstream, and responses back.
//!
//! - `downstream`: accepts connections, runs the workers, and serves HTTP/1 and HTTP/2 to clients.
//! - `request`: handles one request, from parsing its target to writing its audit record.
//! - `upstream`: pools of connections to upstream servers.
//! - `http1`: reads and writes HTTP/1.x.
//! - `descriptors`: how many connections the process can have.
//! - `stream`: a connection, plain or TLS; `socket`: its TCP socket.
//! - `headers`: which header fields are forwarded, in either direction.

mod deadline;
pub(crate) mod descriptors;
pub(crate) mod downstream;
mod headers;
pub(crate) mod http1;
pub(crate) mod request;
mod socket;
pub(crate) mod stream;
pub(crate) mod upstream;
