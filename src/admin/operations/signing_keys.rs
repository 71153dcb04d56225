//! The signing keys of the token service.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Completed, Operation, Result, conflict, input, missing, text};
use crate::audit::Change as Details;
use crate::refusal::{Reason, Refusal, Stage};
use crate::state::registry::entry::{SigningKey, signing_key_id};
use crate::state::signing::{self, Signing};

impl Operation<'_> {
    fn signing(&self) -> Result<&Signing> {
        self.in_force.signing.as_deref().ok_or_else(|| missing("the policy has no token service"))
    }

    /// All keys, the oldest first.
    pub(super) fn signing_keys(&self) -> Result<Completed> {
        self.signing()?;
        let keys = self.registry().signing_keys();
        let keys: Vec<_> = keys.into_iter().map(|key| (signing_key_id(key.number), key)).collect();
        Ok(self.page()?.show(keys.iter().map(|(id, key)| (&**id, key)), |key| self.signing_key(key)))
    }

    /// Makes the next key.
    pub(super) async fn rotate_signing_key(&self) -> Result<Completed> {
        let signing = self.signing()?;
        let written = if self.body.is_empty() { input::SigningKeyRotation::default() } else { input::read(self.body)? };
        let reason = text(written.reason)?;
        let rotated = signing.rotate(self.now, written.now, self.by).await;
        let rotated = rotated.map_err(|error| {
            let detail = "the signing keys cannot be changed now; try again shortly";
            Refusal::new(Stage::Request, Reason::StoreUnavailable, detail).cause(error.to_string())
        })?;
        let key = rotated.ok_or_else(|| conflict("another node has made the next key at the same time"))?;
        let shown = self.signing_key(&key);
        let details = Details { reason, ..Details::default() };
        Ok(Completed::changed(StatusCode::CREATED, shown, "signing_key_rotated", format!("signing key {}", key.kid))
            .with(details))
    }

    fn signing_key(&self, key: &SigningKey) -> Value {
        let keys = self.registry().signing_keys();
        let state = if !key.is_accepted(self.now) {
            "ended"
        } else if key.active > self.now {
            "published"
        } else if signing::active(&keys, self.now).is_some_and(|active| active.kid == key.kid) {
            "active"
        } else {
            "retired"
        };
        json!({
            "id": signing_key_id(key.number), "kid": key.kid, "algorithm": key.algorithm,
            "state": state, "active": key.active, "until": key.until, "created": key.created, "created_by": key.created_by,
        })
    }
}
