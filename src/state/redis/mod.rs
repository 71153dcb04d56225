//! Redis or Valkey, however it is run: one server, a primary that Sentinels name, or a cluster.
//!
//! - `servers`: which servers, as the policy writes them;
//! - `client`: opens connections to them; `connection`: one of those, whatever is at its other end;
//! - `deadlines`: how long each of that may take; `request_connection`: the connection that requests share.

mod client;
mod connection;
mod deadlines;
mod request_connection;
#[cfg(test)]
pub(crate) mod server;
mod servers;

pub(crate) use self::client::Client;
pub(crate) use self::connection::{Connection, is_broken};
pub(crate) use self::deadlines::StoreDeadlines;
pub(crate) use self::request_connection::RequestConnection;
pub(crate) use self::servers::{RedisServers, Topology};
