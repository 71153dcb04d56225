//! Families of refresh tokens: what a store keeps of each grant of the token service.
//!
//! They are many and change with every refresh, so they are not part of the working set that nodes keep in step: they are read
//! from the store when one is used. Nothing secret is kept: a family's tokens are derived from its id and a generation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::store_error::StoreError;

/// A family: a grant, and the refresh tokens that followed each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Family {
    /// Its id: 128 random bits, in base64url.
    pub(crate) id: Box<str>,
    /// The client that it was given to.
    pub(crate) client: Box<str>,
    /// The scopes that were granted.
    pub(crate) scopes: Vec<Box<str>>,
    /// The audiences of its access tokens.
    pub(crate) audience: Vec<Box<str>>,
    /// Thumbprint of the DPoP key that it is bound to (RFC 9449).
    pub(crate) jkt: Option<Box<str>>,
    /// When it was granted.
    pub(crate) created: Timestamp,
    /// When it ends, unless it ends sooner because it is not used.
    pub(crate) expires: Timestamp,
    /// When it ends unless it is used.
    pub(crate) idle: Timestamp,
    /// The generation of its current refresh token, from 0.
    pub(crate) generation: u64,
    /// When the current refresh token took the place of the one before.
    pub(crate) rotated: Timestamp,
}

impl Family {
    /// Returns when it ends if it is not used.
    pub(crate) fn end(&self) -> Timestamp {
        self.expires.min(self.idle)
    }

    /// Encodes it as JSON.
    pub(super) fn encode(&self) -> Vec<u8> {
        // A plain struct with text keys: JSON can represent all of it.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Decodes it from JSON.
    pub(super) fn decode(id: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes)
            .map_err(|error| StoreError::Unusable(format!("the store's family {id:?} cannot be read: {error}")))
    }
}
