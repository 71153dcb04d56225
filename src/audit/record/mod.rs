//! One audit record: its fields, and its two formats.

mod clock;
mod fields;
mod mark;
mod read;
mod reference;
mod text;
mod write;

pub(super) use self::clock::Clock;
pub(crate) use self::fields::{
    ALERTS, CLIENT_DISCONNECTED, CLIENT_STALLED, Change, ChangeRecord, CredentialFacts, DrillFacts,
    KEY_ROTATION_FAILED, LimitFacts, NEW_NETWORK, Outcome, QUOTA_USED, REPLACED_SECRET_USED, REQUEST,
    REVOCATION_DRILL_FAILED, REVOCATION_DRILLED, Record, SCOPES_PROBED, SignalFacts, UNUSED_KEY_USED, UpstreamFields,
    WEBSOCKET_OPENED,
};
pub(super) use self::mark::{
    CHAIN_STARTED, CHECKPOINT, CheckpointFacts, Follows, KEY_CHANGED, Mark, MarkKind, STOPPED,
};
pub(crate) use self::read::{readable, visible};
pub(crate) use self::reference::FIELDS;
pub(crate) use self::text::{TEXT_MAX, visible_json};
pub(crate) use self::write::ARRAY_MAX;
pub(super) use self::write::{LINE_ROOM, write, write_mark};

#[cfg(test)]
pub(super) mod tests;
