//! The stream of changes: positions in it, and how replies of Redis become entries and changes.

use redis::streams::StreamId;
use redis::{FromRedisValue, RedisError, cmd};

use crate::error_text::without_codes;
use crate::state::redis::Connection;
use crate::state::registry::entry::{Change, Entry, Kind, LastUse};
use crate::state::registry::store_error::StoreError;

/// Approximate length of the stream, in changes. Redis trims it to no less.
pub(super) const KEPT: usize = 100_000;

/// An entry's position in the stream.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(u64, u64);

impl Position {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (milliseconds, sequence) = text.split_once('-')?;
        Some(Self(milliseconds.parse().ok()?, sequence.parse().ok()?))
    }

    /// Returns the position of an entry that Redis sent.
    pub(super) fn of(entry: &StreamId) -> Result<Self, StoreError> {
        let invalid = || StoreError::Unusable(format!("{:?} is not a position in the stream", entry.id));
        Self::parse(&entry.id).ok_or_else(invalid)
    }

    /// Returns whether nothing has been read yet: the stream was empty.
    pub(super) fn is_start(self) -> bool {
        self == Self::default()
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

pub(super) fn failed(error: &RedisError) -> StoreError {
    StoreError::Unreachable(without_codes(&error.to_string()))
}

/// Decodes an entry. One that cannot be read may be a revocation, so it is an error and never skipped.
pub(super) fn decode(kind: Kind, id: &str, value: &[u8]) -> Result<Entry, StoreError> {
    Entry::decode(kind, value)
        .map_err(|error| StoreError::Unusable(format!("the store's {} {id:?} cannot be read: {error}", kind.as_str())))
}

/// Reads when keys were last used.
pub(super) async fn read_uses(connection: &mut Connection, name: &str) -> Result<Vec<(String, LastUse)>, RedisError> {
    let all: Vec<(String, Vec<u8>)> = cmd("HGETALL").arg(name).query_async(connection).await?;
    Ok(all.into_iter().filter_map(|(id, value)| Some((id, serde_json::from_slice(&value).ok()?))).collect())
}

/// The kind and id of the entry that a change in the stream is about.
pub(super) fn subject(entry: &StreamId) -> Result<(Kind, String), StoreError> {
    let kind = text(entry, "kind").as_deref().and_then(Kind::of).ok_or_else(invalid)?;
    Ok((kind, text(entry, "id").ok_or_else(invalid)?))
}

/// Parses a change from the stream.
pub(super) fn change(entry: &StreamId) -> Result<Change, StoreError> {
    let (kind, id) = subject(entry)?;
    match text(entry, "op").as_deref() {
        Some("put") => {
            let value = entry.map.get("value").and_then(|value| Vec::<u8>::from_redis_value_ref(value).ok());
            Ok(Change::Put(decode(kind, &id, &value.ok_or_else(invalid)?)?))
        }
        Some("remove") => Ok(Change::Remove(kind, id)),
        _ => Err(invalid()),
    }
}

fn text(entry: &StreamId, name: &str) -> Option<String> {
    entry.map.get(name).and_then(|value| String::from_redis_value_ref(value).ok())
}

fn invalid() -> StoreError {
    StoreError::Unusable("the stream of changes holds an invalid entry".to_owned())
}
