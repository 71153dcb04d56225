//! The client side: listeners, connections, and the workers that serve them.

mod accepted;
mod activity;
pub(super) mod client;
mod closing;
mod connection;
pub(crate) mod connection_limit;
mod deadlines;
mod http2;
pub(crate) mod listener;
mod proxy_protocol;
pub(super) mod rechecks;
mod unfinished_head;
mod uptake;
pub(crate) mod worker;
pub(crate) mod worker_thread;
