//! Keeps the signing keys of the token service: makes the first one, and the next one when it is time.

use std::time::Duration;

use jiff::Timestamp;

use crate::admin::record_signing_key;
use crate::audit::Recorder;
use crate::runtime::InForce;
use crate::state::registry::Health;

/// How often it is checked whether a key is to be made.
pub(super) const CHECK: Duration = Duration::from_secs(1);

/// The last failure, which is logged once.
#[derive(Debug, Default)]
pub(super) struct SigningKeys {
    failed: Option<String>,
}

impl SigningKeys {
    /// Makes a key if it is time. While the store is out of reach, the keys that are known stay.
    pub(super) async fn maintain(&mut self, in_force: &InForce, recorder: Option<&Recorder>) {
        let Some(signing) = &in_force.signing else { return };
        if in_force.registry().health() != Health::Ready {
            return;
        }
        match signing.maintain(Timestamp::now()).await {
            Ok(made) => {
                if self.failed.take().is_some() {
                    tracing::info!("the signing keys of the token service can be used again");
                }
                let Some(key) = made else { return };
                tracing::info!(kid = &*key.kid, active = %key.active, "a signing key of the token service was made");
                if let Some(recorder) = recorder {
                    record_signing_key(recorder, in_force, &key);
                }
            }
            Err(error) => {
                let error = error.to_string();
                if self.failed.as_ref() != Some(&error) {
                    tracing::error!(error, "the signing keys of the token service cannot be used");
                    self.failed = Some(error);
                }
            }
        }
    }
}
