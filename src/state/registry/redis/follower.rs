//! Follows a store's stream of changes, and keeps the working set in step with it.
//!
//! After a lost connection everything is read again; until then the last known state stays in force.
//!
//! Redis replicates asynchronously, so after a failover the store may lack changes that this node has seen: the promoted
//! replica never had them, and later changes hide the gap. So order in the stream is not taken for history: each read
//! also checks that the entry read last is still there. If it is not, this is another history. Everything is read again,
//! and what this node knows is merged with it so that no restriction is lifted ([`super::super::since`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::{Duration, Instant};

use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{RedisError, Value, cmd};
use tokio::sync::watch;

use super::key_names::KeyNames;
use super::retry_log::RetryLog;
use super::stream::{KEPT, Position, change, decode, failed, read_uses, subject};
use crate::state::redis::{Client, Connection, StoreDeadlines};
use crate::state::registry::entry::Kind;
use crate::state::registry::health::Health;
use crate::state::registry::memory::Memory;
use crate::state::registry::pending_load::PendingLoad;
use crate::state::registry::since::Since;
use crate::state::registry::store_error::StoreError;

/// How long one read of the stream blocks: a reply at least this often shows that the server is alive.
const WAIT: Duration = Duration::from_millis(400);
/// Wait before reconnecting; doubled up to a second.
const RETRY: Duration = Duration::from_millis(50);
/// Entries per step when everything is read.
const STEP: usize = 1000;

/// Whether the store still has what this node has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// It has.
    Same,
    /// It may have: the entry read last was trimmed, because many changes came after it.
    Trimmed,
    /// It has not: it failed over to a replica that lagged, was restored from a backup, or was emptied.
    Other,
}

/// Follows the stream of changes.
pub(super) struct Follower {
    client: Client,
    names: KeyNames,
    deadlines: StoreDeadlines,
    memory: Arc<Memory>,
    health: Arc<AtomicU8>,
    position: watch::Sender<Option<Position>>,
    /// Identity of the store that was read last.
    identity: Option<String>,
    /// The store has lost changes before, so memory may hold what it lacks.
    diverged: bool,
    log: RetryLog,
}

impl Follower {
    pub(super) fn new(
        client: Client,
        names: KeyNames,
        deadlines: StoreDeadlines,
        memory: Arc<Memory>,
        health: Arc<AtomicU8>,
        position: watch::Sender<Option<Position>>,
    ) -> Self {
        let log = RetryLog::default();
        Self { client, names, deadlines, memory, health, position, identity: None, diverged: false, log }
    }

    pub(super) async fn run(mut self) {
        let mut wait = RETRY;
        loop {
            let begun = Instant::now();
            let Err(error) = self.follow().await;
            if Health::load(&self.health) != Health::Loading {
                Health::Stale.store(&self.health);
            }
            if self.log.is_due(Instant::now()) {
                tracing::warn!(%error, "the store cannot be reached; the last known state stays in force");
            }
            // A connection that lasted for a while is retried at once.
            wait =
                if begun.elapsed() > Duration::from_secs(5) { RETRY } else { (wait * 2).min(Duration::from_secs(1)) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn follow(&mut self) -> Result<Infallible, StoreError> {
        let connecting = self.deadlines.connect(&self.client, WAIT + self.deadlines.operator());
        let mut connection = connecting.await.map_err(|error| failed(&error))?;
        loop {
            self.read_everything(&mut connection).await?;
            Health::Ready.store(&self.health);
            self.log.reset();
            tracing::info!(revocations = self.memory.revoked.len(), "the store was read");
            self.follow_stream(&mut connection).await?;
            Health::Stale.store(&self.health);
        }
    }

    /// Applies changes as they arrive. Returns when the store has another history than the one that was read.
    async fn follow_stream(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let stream = self.names.stream();
        loop {
            let at = self.position.borrow().unwrap_or_default();
            // The check comes after the read, so that nothing of another history is applied.
            let mut read = redis::pipe();
            read.cmd("XREAD").arg("BLOCK").arg(u64::try_from(WAIT.as_millis()).unwrap_or(400)).arg("COUNT").arg(STEP);
            read.arg("STREAMS").arg(&stream).arg(at.to_string());
            read.cmd("XRANGE").arg(&stream).arg(at.to_string()).arg(at.to_string());
            let (came, last): (Option<StreamReadReply>, StreamRangeReply) =
                read.query_async(connection).await.map_err(|error| failed(&error))?;
            if last.ids.is_empty() && !at.is_start() {
                return Ok(());
            }
            for entry in came.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
                let position = Position::of(&entry)?;
                self.memory.apply(change(&entry)?);
                self.position.send_replace(Some(position));
            }
        }
    }

    /// Reads everything in the store, and replaces the working set, or merges it if the store has another history.
    async fn read_everything(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let fail = |error: RedisError| failed(&error);
        let name = self.names.identity();
        let fresh = uuid::Uuid::now_v7().to_string();
        let _: Value = cmd("SET").arg(&name).arg(&fresh).arg("NX").query_async(connection).await.map_err(fail)?;
        let identity: String = cmd("GET").arg(&name).query_async(connection).await.map_err(fail)?;
        // Before reading: changes made during the read arrive again on the stream.
        let newest = self.range(connection, "XREVRANGE", "+", "-", 1).await?;
        let newest = newest.first().map(Position::of).transpose()?.unwrap_or_default();
        let before = *self.position.borrow();
        let since = match before {
            None => None,
            Some(before) => {
                let same_store = self.identity.as_ref().is_none_or(|known| *known == identity);
                let history = if same_store { self.history(connection, before).await? } else { History::Other };
                self.diverged |= history == History::Other;
                match self.diverged {
                    true => Some(self.since(connection, before, history).await?),
                    false => None,
                }
            }
        };

        let mut load = PendingLoad::new(&self.memory);
        self.read_entries(connection, &mut load).await?;
        let uses = read_uses(connection, &self.names.uses()).await.map_err(fail)?;
        match since {
            None => load.replace(),
            Some(since) => {
                let kept = load.merge(&since);
                tracing::error!(
                    kept_revocations = kept.revocations,
                    kept_suspensions = kept.suspensions,
                    kept_consumers = kept.consumers,
                    ignored_keys_and_grants = kept.ignored,
                    "the store has lost data, as after a failover to a replica that lagged; what this node has seen \
                     revoked, suspended or removed stays so here until it is seen undone: repeat the last changes"
                );
            }
        }
        for (key, last) in uses {
            self.memory.learn_use(&key, last);
        }
        self.identity = Some(identity);
        self.position.send_replace(Some(newest));
        Ok(())
    }

    async fn read_entries(&self, connection: &mut Connection, load: &mut PendingLoad<'_>) -> Result<(), StoreError> {
        for kind in Kind::ALL {
            let mut cursor = 0_u64;
            loop {
                let mut scan = cmd("HSCAN");
                scan.arg(self.names.hash(kind)).arg(cursor).arg("COUNT").arg(STEP);
                let (next, entries): (u64, Vec<(String, Vec<u8>)>) =
                    scan.query_async(connection).await.map_err(|error| failed(&error))?;
                for (id, value) in entries {
                    load.put(decode(kind, &id, &value)?);
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns whether the stream still has the entry at `before`.
    async fn history(&self, connection: &mut Connection, before: Position) -> Result<History, StoreError> {
        let at = before.to_string();
        if before.is_start() || !self.range(connection, "XRANGE", &at, &at, 1).await?.is_empty() {
            return Ok(History::Same);
        }
        let oldest = self.range(connection, "XRANGE", "-", "+", 1).await?;
        let oldest = oldest.first().map(Position::of).transpose()?.unwrap_or_default();
        let length = cmd("XLEN").arg(self.names.stream()).query_async::<usize>(connection).await;
        let length = length.map_err(|error| failed(&error))?;
        // Trimming leaves at least KEPT entries, so a shorter stream was not trimmed: it never had the entry.
        Ok(if oldest > before && length >= KEPT { History::Trimmed } else { History::Other })
    }

    /// Returns what the store has changed since `before`.
    async fn since(
        &self,
        connection: &mut Connection,
        before: Position,
        history: History,
    ) -> Result<Since, StoreError> {
        let mut since = Since::new(history != History::Trimmed);
        let mut after = before;
        loop {
            let page = self.range(connection, "XRANGE", &format!("({after}"), "+", STEP).await?;
            let Some(last) = page.last() else { return Ok(since) };
            after = Position::of(last)?;
            for entry in &page {
                let (kind, id) = subject(entry)?;
                since.note(kind, id);
            }
        }
    }

    /// Returns up to `count` entries of the stream.
    async fn range(
        &self,
        connection: &mut Connection,
        command: &str,
        from: &str,
        to: &str,
        count: usize,
    ) -> Result<Vec<StreamId>, StoreError> {
        let mut range = cmd(command);
        range.arg(self.names.stream()).arg(from).arg(to).arg("COUNT").arg(count);
        let reply: Result<StreamRangeReply, RedisError> = range.query_async(connection).await;
        reply.map(|reply| reply.ids).map_err(|error| failed(&error))
    }
}
