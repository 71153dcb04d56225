//! A connection that requests share.
//!
//! It is for what is asked while a request is handled: the deadline is that of requests, much shorter than that of operators'
//! commands, and requests share one connection instead of queueing for it.

use redis::RedisError;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::client::Client;
use super::connection::Connection;
use super::deadlines::StoreDeadlines;
use crate::error_text::without_codes;

/// The connection; opened when it is first used.
pub(crate) struct RequestConnection {
    client: Client,
    deadlines: StoreDeadlines,
    connection: Mutex<Option<Connection>>,
    /// The runtime that drives the connection: the threads of requests do not live long enough.
    runtime: Handle,
}

impl RequestConnection {
    /// Must be called within the runtime that outlives requests.
    pub(crate) fn new(client: Client, deadlines: StoreDeadlines) -> Self {
        Self { client, deadlines, connection: Mutex::default(), runtime: Handle::current() }
    }

    /// Runs a command within the deadline of requests.
    ///
    /// # Errors
    /// What is wrong, for operators; the next command opens a new connection.
    pub(crate) async fn run<T>(
        &self,
        command: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, String> {
        let deadline = self.deadlines.request();
        let running = async { command(self.connection().await?).await };
        let failed = match tokio::time::timeout(deadline, running).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => without_codes(&error.to_string()),
            Err(_) => format!("no answer within {deadline:?}"),
        };
        self.connection.lock().await.take();
        Err(failed)
    }

    async fn connection(&self) -> Result<Connection, RedisError> {
        let mut slot = self.connection.lock().await;
        if let Some(open) = &*slot {
            return Ok(open.clone());
        }
        let (client, deadlines) = (self.client.clone(), self.deadlines);
        let opening = self.runtime.spawn(async move { deadlines.connect(&client, deadlines.request()).await });
        let opened = opening.await.map_err(|error| RedisError::from(std::io::Error::other(error)))??;
        Ok(slot.insert(opened).clone())
    }
}
