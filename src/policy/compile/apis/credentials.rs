//! Where the requests to an API carry their credentials.

use crate::policy::cors::Cors;
use crate::stages::auth::locations::CredentialLocations;

/// Where credentials are at an API with this `cors`.
pub(super) fn compile(locations: &CredentialLocations, cors: Option<&Cors>) -> CredentialLocations {
    let acting = cors.filter(|cors| cors.credentials).and_then(|cors| cors.origins.clone());
    CredentialLocations { cookie_origins: acting.unwrap_or_default(), ..locations.clone() }
}
