//! The timeouts that every user of a connection needs.

use std::time::Duration;

use redis::cluster::ClusterConfig;
use redis::{AsyncConnectionConfig, RedisError};

use super::client::Client;
use super::connection::Connection;

/// Shortest timeout for opening a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// Shortest timeout of one command of an operator.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a store may take, from the time that the policy gives it for a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreDeadlines(pub(crate) Duration);

impl StoreDeadlines {
    /// Of what a request waits for, including the time to open a connection.
    pub(crate) fn request(self) -> Duration {
        self.0
    }

    /// Of one command of an operator: never shorter than a request's.
    pub(crate) fn operator(self) -> Duration {
        ANSWER.max(self.0)
    }

    /// Opens a connection; `answer` is the timeout of each command.
    pub(crate) async fn connect(self, client: &Client, answer: Duration) -> Result<Connection, RedisError> {
        let connect = CONNECT.max(self.0);
        let single =
            AsyncConnectionConfig::new().set_connection_timeout(Some(connect)).set_response_timeout(Some(answer));
        let cluster = ClusterConfig::new().set_connection_timeout(connect).set_response_timeout(answer);
        // A client that asks several servers in turn may take several times that.
        let opened = tokio::time::timeout(connect + self.operator(), client.connect(&single, cluster)).await;
        opened.unwrap_or_else(|_| Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))))
    }
}
