//! `token_service`, compiled.

use std::time::Duration;

use crate::state::signing::SigningSettings;

/// The name of the API that its endpoints belong to, in records and metrics.
pub(crate) const API: &str = "token_service";

/// The token service of a policy.
#[derive(Debug)]
pub(crate) struct TokenService {
    /// Its issuer identifier.
    pub(crate) issuer: Box<str>,
    /// The audiences of its access tokens; never empty.
    pub(crate) audience: Vec<Box<str>>,
    /// Absent: no refresh tokens are given.
    pub(crate) refresh: Option<RefreshSettings>,
    /// Absent in a rehearsal, which has no store.
    pub(crate) signing: Option<SigningSettings>,
    /// Whether clients of the policy authenticate with certificates.
    pub(crate) has_certificates: bool,
}

/// Refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefreshSettings {
    /// How long a grant can be refreshed in all.
    pub(crate) lifetime: Duration,
    /// How long it can be refreshed after it was last used.
    pub(crate) idle: Duration,
    /// How long the token before gives the same response again.
    pub(crate) grace: Duration,
}

/// An endpoint of the token service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnEndpoint {
    /// RFC 6749 §3.2.
    Token,
    /// RFC 7009.
    Revoke,
    /// RFC 7662.
    Introspect,
    /// RFC 7517 §5.
    Keys,
    /// RFC 8414.
    Metadata,
}

impl OwnEndpoint {
    /// All, with their methods and their paths.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Token, "POST", "/oauth/token"),
        (Self::Revoke, "POST", "/oauth/revoke"),
        (Self::Introspect, "POST", "/oauth/introspect"),
        (Self::Keys, "GET", "/oauth/jwks"),
        (Self::Metadata, "GET", "/.well-known/oauth-authorization-server"),
    ];

    /// Its path, for an issuer with this path (RFC 8414 §3.1: the well-known part comes first).
    pub(crate) fn path(self, issuer_path: &str) -> String {
        let own =
            Self::ALL.into_iter().find_map(|(known, _, path)| (known == self).then_some(path)).unwrap_or_default();
        let issuer_path = issuer_path.trim_end_matches('/');
        match self {
            Self::Metadata => format!("{own}{issuer_path}"),
            _ => format!("{issuer_path}{own}"),
        }
    }

    /// Whether its refusals have the form of RFC 6749 §5.2.
    pub(crate) fn is_of_oauth(self) -> bool {
        matches!(self, Self::Token | Self::Revoke | Self::Introspect)
    }
}

impl TokenService {
    /// The URL of an endpoint; all but the metadata are below the issuer.
    pub(crate) fn url(&self, endpoint: OwnEndpoint) -> String {
        format!("{}{}", self.issuer.trim_end_matches('/'), endpoint.path(""))
    }
}
