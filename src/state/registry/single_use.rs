//! Single-use values that nodes share: the first to claim one, on any node, holds it for a time.
//!
//! Called while a request is handled, and only for those with a DPoP proof or a client assertion.

use std::time::Duration;

use redis::cmd;

use super::store_error::StoreError;
use crate::state::redis::{Client, RequestConnection, StoreDeadlines};

/// Makes claims in a store.
pub(super) struct SingleUse {
    /// Prefix of the names in Redis.
    prefix: String,
    connection: RequestConnection,
}

impl SingleUse {
    /// Returns a handle that claims under this prefix. Must be called within the runtime that outlives requests.
    pub(super) fn new(client: Client, prefix: String, deadlines: StoreDeadlines) -> Self {
        Self { prefix, connection: RequestConnection::new(client, deadlines) }
    }

    /// Claims `what`; returns false if any node holds a claim on it that has not expired.
    pub(super) async fn claim(&self, what: &str, lifetime: Duration) -> Result<bool, StoreError> {
        let mut set = cmd("SET");
        set.arg(format!("{}{what}", self.prefix)).arg(1).arg("NX");
        set.arg("PX").arg(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        let made = self.connection.run(async |mut connection| set.query_async(&mut connection).await).await;
        made.map(|made: Option<String>| made.is_some()).map_err(StoreError::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::redis::{RedisServers, Topology};

    /// Issue 13: how long a request waits for the store is the policy's to say, not a constant that a busy machine misses.
    #[tokio::test(start_paused = true)]
    async fn a_claim_waits_as_long_as_the_policy_says() {
        // Nobody answers there.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", silent.local_addr().unwrap());
        let client = Client::new(&RedisServers { topology: Topology::Single(url.into()), ca: None }).unwrap();
        for seconds in [7, 90] {
            let deadline = Duration::from_secs(seconds);
            let claims = SingleUse::new(client.clone(), String::new(), StoreDeadlines(deadline));
            let begun = tokio::time::Instant::now();
            let claimed = claims.claim("one", Duration::from_secs(60)).await;
            assert!(matches!(claimed, Err(StoreError::Unreachable(_))), "{claimed:?}");
            let waited = begun.elapsed();
            assert!(waited >= deadline && waited < deadline + Duration::from_secs(1), "{waited:?} of {deadline:?}");
        }
    }

    /// Who waits for an operator's command has no less time than a request.
    #[test]
    fn operators_wait_at_least_as_long_as_requests() {
        for (seconds, operator) in [(0, 2), (1, 2), (30, 30)] {
            let deadlines = StoreDeadlines(Duration::from_secs(seconds));
            assert_eq!(deadlines.operator(), Duration::from_secs(operator));
        }
    }
}
