//! Connections to Redis, with the timeouts that every user of one needs.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};

/// Timeout for opening a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// Timeout of one command of an operator.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// Opens a connection; `answer` is the timeout of each command.
pub(super) async fn connect(client: &Client, answer: Duration) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(answer));
    client.get_multiplexed_async_connection_with_config(&config).await
}
