//! `self_service`, compiled.

/// The name of the API that its endpoints belong to, in records and metrics.
pub(crate) const API: &str = "self_service";

/// What callers may see and do for themselves.
#[derive(Debug)]
pub(crate) struct SelfService {
    /// The path that everything is below; without a slash at its end.
    pub(crate) path: Box<str>,
}

/// An endpoint for callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SelfEndpoint {
    /// Who the caller is, what is left of its limits, and its keys.
    Me,
    /// Replaces a key of the caller.
    RotateKey,
    /// Replaces the secret of the client of the token service that asks.
    RotateSecret,
    /// Makes the credential of an invitation.
    ClaimInvitation,
    /// What the caller may call, as an OpenAPI document.
    OpenApi,
    /// The same as a page.
    Docs,
}

impl SelfEndpoint {
    /// All, with their methods and their paths below [`SelfService::path`].
    pub(crate) const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Me, "GET", "/me"),
        (Self::RotateKey, "POST", "/keys/{id}/rotate"),
        (Self::RotateSecret, "POST", "/clients/{id}/rotate"),
        (Self::ClaimInvitation, "POST", "/invitations/claim"),
        (Self::OpenApi, "GET", "/openapi.json"),
        (Self::Docs, "GET", "/docs"),
    ];

    /// Whether the chain asks for no credential: neither a code nor the secret of a client is one that APIs take, so the endpoint itself
    /// checks them.
    pub(crate) fn is_public(self) -> bool {
        matches!(self, Self::ClaimInvitation | Self::RotateSecret)
    }
}

impl SelfService {
    /// The path of an endpoint, with the names of its parameters.
    pub(crate) fn path_of(&self, endpoint: SelfEndpoint) -> String {
        let mut all = SelfEndpoint::ALL.into_iter();
        let below = all.find_map(|(known, _, path)| (known == endpoint).then_some(path)).unwrap_or_default();
        format!("{}{below}", self.path)
    }
}
