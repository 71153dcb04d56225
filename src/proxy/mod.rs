//! Carrying requests: from a socket, through the chain, to an upstream and back.
//!
//! - `listener` accepts, `gate` bounds, `thread` runs a `worker`, and `connection` finds out which HTTP a `client` speaks:
//!   `http1` reads it by `framing`, HTTP/2 is hyper's business behind the `front`.
//! - `request` is the way of one request: `arrival` reads what it is for, `headers` and `path` say what may cross, `forward`
//!   sends over a kept connection to the `upstream`, `held` holds back what must be checked, `answer` streams back, and the
//!   `witness` writes the record.

mod alarm;
mod answer;
pub(crate) mod arrival;
mod client;
mod connection;
mod forward;
pub(crate) mod framing;
mod front;
pub(crate) mod gate;
mod headers;
mod held;
mod http1;
mod inlet;
pub(crate) mod listener;
mod outgoing;
pub(crate) mod path;
mod request;
mod stream;
pub(crate) mod thread;
mod upstream;
mod witness;
pub(crate) mod worker;
