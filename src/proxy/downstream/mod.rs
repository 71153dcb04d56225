//! The client side: listeners, connections, and the workers that serve them.

mod accepted;
pub(super) mod client;
mod connection;
pub(crate) mod connection_limit;
pub(crate) mod listener;
mod rewind;
pub(crate) mod worker;
pub(crate) mod worker_thread;
