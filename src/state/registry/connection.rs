//! Connections to Redis, with the timeouts that every user of one needs.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};

/// Shortest timeout for opening a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// Shortest timeout of one command of an operator.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a store may take, from the time that the policy gives it for a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreDeadlines(pub(super) Duration);

impl StoreDeadlines {
    /// Of what a request waits for, including the time to open a connection.
    pub(super) fn request(self) -> Duration {
        self.0
    }

    /// Of one command of an operator: never shorter than a request's.
    pub(super) fn operator(self) -> Duration {
        ANSWER.max(self.0)
    }

    /// Opens a connection; `answer` is the timeout of each command.
    pub(super) async fn connect(self, client: &Client, answer: Duration) -> Result<MultiplexedConnection, RedisError> {
        let (connect, answer) = (Some(CONNECT.max(self.0)), Some(answer));
        let config = AsyncConnectionConfig::new().set_connection_timeout(connect).set_response_timeout(answer);
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}
