//! Carrying requests: from a socket, through the chain, to an upstream and back.
//!
//! - `listener` accepts, `gate` bounds, `thread` runs a `worker`, and `connection` speaks HTTP through the `front`, where
//!   `framing` watches the bytes.
//! - `request` is the way of one request: `headers` and `path` say what may cross, `forward` sends over a kept connection to
//!   the `upstream`, `held` holds back what must be checked, `answer` streams back, and the `witness` writes the record.

mod alarm;
mod answer;
mod connection;
mod forward;
mod framing;
mod front;
pub(crate) mod gate;
mod headers;
mod held;
pub(crate) mod listener;
mod path;
mod request;
mod stream;
pub(crate) mod thread;
mod upstream;
mod witness;
pub(crate) mod worker;
