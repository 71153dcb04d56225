//! Carries requests: from a socket, through the chain, to an upstream and back.
//!
//! - `downstream`: accepts connections, runs the workers, and serves HTTP/1 and HTTP/2 to clients.
//! - `request`: handles one request, from its target to its record.
//! - `upstream`: pools of connections to the servers behind us.
//! - `http1`: reads and writes HTTP/1.x. `headers`: what may cross, in either direction.

mod deadline;
pub(crate) mod downstream;
mod headers;
pub(crate) mod http1;
pub(crate) mod request;
mod stream;
mod upstream;
