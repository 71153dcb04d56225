//! The closed list of reasons for refusing a request, and the only place where a reason becomes a response: status,
//! code, title and headers (RFC 9457, RFC 6750 §3).
//!
//! A refusal has two messages: `detail` tells the caller what to change, and never shows internals; `cause` tells the
//! log what happened. Nothing here decides.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::exchange::RequestId;

/// The id of the request, in every response.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The nonce that the next DPoP proof must contain (RFC 9449 §8.1).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $status:literal $code:literal $title:literal in $($stage:ident)|+),+ $(,)?) => {
        /// Why a request is refused. The list is closed; each line gives status, code, title and stages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Reason { $($(#[doc = $doc])+ $name),+ }

        impl Reason {
            /// All reasons, in order of status; [`Reason::index`] is the position here.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            /// Status of the response.
            pub(crate) fn status(self) -> StatusCode {
                let number: u16 = match self { $(Self::$name => $status),+ };
                StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// Stable code: in the response, the record and the metrics.
            pub(crate) fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// Summary for people, the same for every refusal of this kind (RFC 9457 §3.1.3).
            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }

            /// The stages that refuse for this reason.
            pub(crate) fn stages(self) -> &'static [Stage] {
                match self { $(Self::$name => &[$(Stage::$stage),+]),+ }
            }

            /// The meaning, for operators: the comments below.
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

reasons! {
    /// Framing, path, query, host, or two credentials.
    MalformedRequest = 400 "malformed_request" "The request is malformed" in Request | Auth | Schema,
    /// The body does not parse.
    MalformedBody = 400 "malformed_body" "The body does not parse" in Schema,
    /// A refresh token or a subject token that is not acceptable (RFC 6749 §5.2).
    InvalidGrant = 400 "invalid_grant" "The grant is invalid" in Auth,
    /// The client may not use this kind of grant (RFC 6749 §5.2).
    UnauthorizedClient = 400 "unauthorized_client" "The client may not do this" in Auth,
    /// A kind of grant that the token service does not have (RFC 6749 §5.2).
    UnsupportedGrantType = 400 "unsupported_grant_type" "The grant type is not supported" in Auth,
    /// A scope that the client cannot have (RFC 6749 §5.2).
    InvalidScope = 400 "invalid_scope" "The scope is invalid" in Scope,
    /// An audience that the token service does not give tokens for (RFC 8707 §2).
    InvalidTarget = 400 "invalid_target" "The target is invalid" in Scope,
    /// The route needs a credential, and none was sent.
    MissingCredentials = 401 "missing_credentials" "A credential is required" in Auth,
    /// A token that is not acceptable.
    InvalidToken = 401 "invalid_token" "The token is invalid" in Auth,
    /// An expired token.
    ExpiredToken = 401 "expired_token" "The token has expired" in Auth,
    /// A credential that an operator has revoked.
    Revoked = 401 "revoked" "The credential has been revoked" in Auth,
    /// A DPoP proof that is missing or invalid (RFC 9449).
    InvalidDpopProof = 401 "invalid_dpop_proof" "The DPoP proof is invalid" in Auth,
    /// The DPoP proof must contain a nonce that this server issued (RFC 9449 §8).
    UseDpopNonce = 401 "use_dpop_nonce" "The DPoP proof needs a nonce" in Auth,
    /// A client certificate that is not acceptable.
    InvalidCertificate = 401 "invalid_certificate" "The client certificate is invalid" in Auth,
    /// A token whose lifetime exceeds the issuer's limit.
    TokenLifetimeTooLong = 401 "token_lifetime_too_long" "The token's lifetime is too long" in Auth,
    /// An API key that does not exist.
    InvalidKey = 401 "invalid_key" "The API key is invalid" in Auth,
    /// An API key outside its period of validity.
    ExpiredKey = 401 "expired_key" "The API key is not valid at this time" in Auth,
    /// A client of the token service that is unknown, or whose credential is wrong (RFC 6749 §5.2).
    InvalidClient = 401 "invalid_client" "Client authentication failed" in Auth,
    /// The code of an invitation that does not exist.
    InvalidInvitation = 401 "invalid_invitation" "The invitation is invalid" in Auth,
    /// A scope is missing.
    InsufficientScope = 403 "insufficient_scope" "Insufficient scope" in Scope,
    /// The route is open to approved consumers only.
    ConsumerNotApproved = 403 "consumer_not_approved" "The consumer is not approved for this operation" in Scope,
    /// The request names an object that is not the caller's (`where`).
    NotYours = 403 "not_yours" "The object is not yours" in Scope,
    /// The client's address is in none of the networks that the credential is good from, or that the route takes (`from`).
    NetworkNotAllowed = 403 "network_not_allowed" "The network is not allowed" in Auth | Scope,
    /// The consumer is suspended.
    ConsumerSuspended = 403 "consumer_suspended" "The consumer is suspended" in Auth,
    /// The route requires a stronger or a more recent credential.
    StrongerCredentialRequired = 403 "stronger_credential_required" "A stronger credential is required" in Scope,
    /// The credential is valid, but belongs to no consumer in the policy.
    UnknownConsumer = 403 "unknown_consumer" "Unknown consumer" in Auth,
    /// A browser asks whether a page may send a request, and it may not: its origin or a header is not listed in `cors`. Or a page
    /// of another origin sends a change to `self_service`.
    CorsRefused = 403 "cors_refused" "The page may not send this request" in Request,
    /// A token in a cookie, on a request that may change something, and nothing shows that a page of this site, or of an origin that
    /// `cors` allows with `credentials`, has sent it.
    CrossSiteRequest = 403 "cross_site_request" "The request may come from another site" in Auth,
    /// The admin token lacks the right for this operation.
    InsufficientRight = 403 "insufficient_right" "Insufficient rights for this admin token" in Auth,
    /// No route has this path.
    NoRoute = 404 "no_route" "No route matches this path" in Request,
    /// The resource that an operator, or a caller of `self_service`, asks for does not exist.
    NotFound = 404 "not_found" "The resource does not exist" in Request,
    /// The path exists, but not with this method.
    MethodNotAllowed = 405 "method_not_allowed" "The method is not allowed" in Request,
    /// The request did not arrive in time.
    RequestTimeout = 408 "request_timeout" "The request took too long to arrive" in Request | Schema,
    /// The request of an operator, or of a caller of `self_service`, conflicts with the current state.
    Conflict = 409 "conflict" "The request conflicts with the current state" in Request,
    /// An invitation that was claimed before, has expired, or is no longer what its consumer was invited to.
    InvitationEnded = 410 "invitation_ended" "The invitation can no longer be claimed" in Auth,
    /// The body is too large.
    BodyTooLarge = 413 "body_too_large" "The body is too large" in Request | Schema,
    /// A request target that is too long (RFC 9110 §15.5.15).
    TargetTooLong = 414 "malformed_request" "The request target is too long" in Request,
    /// A content type that the route does not accept.
    UnsupportedMediaType = 415 "unsupported_media_type" "The content type is not accepted" in Schema,
    /// The body or a parameter violates the schema.
    SchemaViolation = 422 "schema_violation" "The request does not match the schema" in Schema,
    /// Too many requests, or more DPoP proofs of one key than are remembered.
    RateLimited = 429 "rate_limited" "Too many requests" in Auth | RateLimit,
    /// A quota is used up.
    QuotaExceeded = 429 "quota_exceeded" "The quota is used up" in RateLimit,
    /// Too many requests of one caller at the same time.
    TooManyConcurrent = 429 "too_many_concurrent" "Too many requests at the same time" in RateLimit,
    /// Too many invalid credentials from one address.
    TooManyFailures = 429 "too_many_failures" "Too many failed attempts" in Auth,
    /// Headers too large or too many (RFC 6585 §5).
    HeadersTooLarge = 431 "malformed_request" "The headers are too large" in Request,
    /// No connection to the upstream, or it broke.
    UpstreamUnreachable = 502 "upstream_unreachable" "The upstream cannot be reached" in Forward,
    /// The upstream's response is not valid HTTP, or violates its schema.
    InvalidUpstreamResponse = 502 "invalid_upstream_response" "The upstream sent an invalid response" in Forward | Response,
    /// The issuer's keys, its introspection endpoint or the store is unavailable.
    IdentityUnavailable = 503 "identity_unavailable" "Authentication is temporarily unavailable" in Auth,
    /// Changes of operators, or of callers of `self_service`, cannot be saved now.
    StoreUnavailable = 503 "store_unavailable" "The store is temporarily unavailable" in Request,
    /// The consumer's plan is not in the policy, or the store that nodes count limits in is unavailable.
    LimitsUnavailable = 503 "limits_unavailable" "Rate limits are temporarily unavailable" in Auth | RateLimit,
    /// There is no capacity now to hold, check or forward the request, or to hold its response.
    Overloaded = 503 "overloaded" "The server is overloaded" in Request | Auth | Schema | Forward | Response,
    /// The record of the request could not be kept.
    RecordUnavailable = 503 "record_unavailable" "The record is temporarily unavailable" in Request,
    /// The upstream did not respond in time.
    UpstreamTimeout = 504 "upstream_timeout" "The upstream did not respond in time" in Forward,
    /// A version of HTTP that is not 1.x (RFC 9110 §15.6.6).
    VersionNotSupported = 505 "malformed_request" "The version of HTTP is not supported" in Request,
}

impl Reason {
    /// Position in [`Reason::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The stage at which a request was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Before the chain of stages: framing, headers, path, route.
    Request,
    /// Authentication.
    Auth,
    /// Authorization.
    Scope,
    /// Rate limits.
    RateLimit,
    /// Checking the request against the schema.
    Schema,
    /// Forwarding to the upstream.
    Forward,
    /// Checking the upstream's response against the schema.
    Response,
}

impl Stage {
    /// All stages, in their order.
    pub(crate) const ALL: [Self; 7] =
        [Self::Request, Self::Auth, Self::Scope, Self::RateLimit, Self::Schema, Self::Forward, Self::Response];

    /// The stages that may only report (`mode`). What comes before the chain, and forwarding, cannot.
    pub(crate) const REPORTABLE: [Self; 5] = [Self::Auth, Self::Scope, Self::RateLimit, Self::Schema, Self::Response];

    /// The name used in policies, records and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Auth => "auth",
            Self::Scope => "scope",
            Self::RateLimit => "rate_limit",
            Self::Schema => "schema",
            Self::Forward => "forward",
            Self::Response => "response",
        }
    }
}

/// A violation of a schema in a message.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    /// The place: a JSON pointer (RFC 6901) into the body. Of parameters: below `/path`, `/query`, `/header` or
    /// `/cookie`. In XML: the path of the element.
    pub(crate) pointer: String,
    /// What is wrong, without the value itself.
    pub(crate) detail: String,
    /// The keyword of JSON Schema that is violated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keyword: Option<Box<str>>,
    /// JSON pointer to that keyword in the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Box<str>>,
}

impl Violation {
    /// Returns a violation without a keyword of JSON Schema.
    pub(crate) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into(), keyword: None, schema: None }
    }
}

/// Members of the response that only some reasons have.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Members {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) required_scopes: Option<Vec<Box<str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) granted_scopes: Option<Vec<Box<str>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<Violation>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allowed_methods: Option<Vec<Box<str>>>,
}

/// A refused request: the reason, the messages, and what the response must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(Box<Facts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    reason: Reason,
    stage: Stage,
    detail: Cow<'static, str>,
    cause: Option<Cow<'static, str>>,
    members: Members,
    /// What is wrong with the upstream's response; never shown to the caller.
    unsaid: Vec<Violation>,
    close: bool,
    /// Whether it is recorded only, even where its stage enforces.
    reported: bool,
    dpop_nonce: Option<HeaderValue>,
    /// What challenges a client that must send another credential, unless that is `Bearer`.
    challenges: Option<Box<str>>,
}

impl Refusal {
    /// Returns a refusal for this reason; `detail` says what the caller should change.
    pub(crate) fn new(stage: Stage, reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        debug_assert!(reason.stages().contains(&stage), "{reason:?} is not a reason of {stage:?}");
        let detail = detail.into();
        Self(Box::new(Facts {
            reason,
            stage,
            detail,
            cause: None,
            members: Members::default(),
            unsaid: Vec::new(),
            close: false,
            reported: false,
            dpop_nonce: None,
            challenges: None,
        }))
    }

    /// Sets what happened, for the log only.
    pub(crate) fn cause(mut self, cause: impl Into<Cow<'static, str>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Sets the additional members of the response.
    pub(crate) fn members(mut self, members: Members) -> Self {
        self.0.members = members;
        self
    }

    /// Sets violations that are recorded, but not sent in the response.
    pub(crate) fn unsaid(mut self, violations: Vec<Violation>) -> Self {
        self.0.unsaid = violations;
        self
    }

    /// The nonce that the next DPoP proof must contain (RFC 9449 §8).
    pub(crate) fn dpop_nonce(mut self, nonce: HeaderValue) -> Self {
        self.0.dpop_nonce = Some(nonce);
        self
    }

    /// Challenges the client with other schemes than `Bearer`, where it must send another credential.
    pub(crate) fn challenges(mut self, challenges: String) -> Self {
        self.0.challenges = Some(challenges.into());
        self
    }

    /// Closes the connection after the response: the next bytes on it may not be the start of a request.
    pub(crate) fn closing(mut self) -> Self {
        self.0.close = true;
        self
    }

    /// Only records it: the rule that it is about reports, though its stage enforces.
    pub(crate) fn only_reported(mut self) -> Self {
        self.0.reported = true;
        self
    }

    pub(crate) fn is_only_reported(&self) -> bool {
        self.0.reported
    }

    pub(crate) fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The stage that decided.
    pub(crate) fn stage(&self) -> Stage {
        self.0.stage
    }

    /// What the caller should change.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The members that only some reasons have.
    pub(crate) fn own_members(&self) -> &Members {
        &self.0.members
    }

    /// What happened, for the log.
    pub(crate) fn logged(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// What is wrong with the message.
    pub(crate) fn violations(&self) -> &[Violation] {
        if self.0.members.errors.is_empty() { &self.0.unsaid } else { &self.0.members.errors }
    }

    /// Returns the response: status, headers, and a body of `application/problem+json` (RFC 9457).
    pub(crate) fn answer(&self, id: &RequestId) -> (StatusCode, HeaderMap, Bytes) {
        #[derive(Serialize)]
        struct Problem<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            instance: String,
            code: &'a str,
            #[serde(flatten)]
            members: &'a Members,
        }
        let code = self.0.reason.code();
        let body = serde_json::to_vec(&Problem {
            r#type: format!("urn:bartizan:problem:{code}"),
            title: self.0.reason.title(),
            status: self.0.reason.status().as_u16(),
            detail: &self.0.detail,
            instance: format!("urn:uuid:{}", id.as_str()),
            code,
            members: &self.0.members,
        })
        .unwrap_or_default();

        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(X_REQUEST_ID, id.to_header());
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.0.members.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = &self.0.members.allowed_methods
            && let Ok(value) = HeaderValue::try_from(methods.join(", "))
        {
            headers.insert(ALLOW, value);
        }
        if let Some(nonce) = &self.0.dpop_nonce {
            headers.insert(DPOP_NONCE, nonce.clone());
        }
        if self.0.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        (self.0.reason.status(), headers, Bytes::from(body))
    }

    /// Returns the response of a token endpoint (RFC 6749 §5.2): status, headers, and a body of `application/json`.
    pub(crate) fn oauth_answer(&self, id: &RequestId) -> (StatusCode, HeaderMap, Bytes) {
        #[derive(Serialize)]
        struct Error<'a> {
            error: &'a str,
            error_description: String,
        }
        let (_, mut headers, _) = self.answer(id);
        let reason = self.0.reason;
        let (status, error) = match reason {
            Reason::InvalidClient => (StatusCode::UNAUTHORIZED, reason.code()),
            // RFC 9449 §5: the client is known, so this is no 401.
            Reason::InvalidDpopProof | Reason::UseDpopNonce => (StatusCode::BAD_REQUEST, reason.code()),
            Reason::ConsumerSuspended => (StatusCode::BAD_REQUEST, Reason::UnauthorizedClient.code()),
            reason if reason.status() == StatusCode::UNAUTHORIZED => {
                (StatusCode::UNAUTHORIZED, Reason::InvalidClient.code())
            }
            Reason::InvalidGrant
            | Reason::UnauthorizedClient
            | Reason::UnsupportedGrantType
            | Reason::InvalidScope
            | Reason::InvalidTarget => (reason.status(), reason.code()),
            // These are of RFC 6749 §4.1.2.1, which clients know.
            reason if reason.status().is_server_error() => (reason.status(), "temporarily_unavailable"),
            reason if reason.status() == StatusCode::TOO_MANY_REQUESTS => (reason.status(), "temporarily_unavailable"),
            reason => (reason.status(), "invalid_request"),
        };
        headers.remove(WWW_AUTHENTICATE);
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="token""#));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // RFC 6749 §5.2: visible ASCII without `"` and `\`.
        let allowed = |c: char| if matches!(c, ' '..='!' | '#'..='[' | ']'..='~') { c } else { '\'' };
        let error_description = self.0.detail.chars().map(allowed).collect();
        let body = serde_json::to_vec(&Error { error, error_description }).unwrap_or_default();
        (status, headers, Bytes::from(body))
    }

    /// `WWW-Authenticate` as RFC 6750 §3 requires: no `error` when no credential was sent (§3.1).
    fn challenge(&self) -> Option<HeaderValue> {
        const REALM: &str = r#"Bearer realm="api""#;
        let text = match self.0.reason {
            Reason::InsufficientScope => {
                let scopes = self.0.members.required_scopes.as_deref().unwrap_or_default().join(" ");
                format!(r#"{REALM}, error="insufficient_scope", scope="{scopes}""#)
            }
            // RFC 6750 does not cover API keys, but RFC 9110 §15.5.2 requires a challenge with every 401.
            Reason::MissingCredentials
            | Reason::InvalidKey
            | Reason::ExpiredKey
            | Reason::InvalidCertificate
            | Reason::InvalidClient
            | Reason::InvalidInvitation => self.0.challenges.as_deref().unwrap_or(REALM).to_owned(),
            // RFC 9449 §7.1 and §9.
            Reason::InvalidDpopProof | Reason::UseDpopNonce => {
                format!(r#"DPoP realm="api", error="{}""#, self.0.reason.code())
            }
            reason if reason.status() == StatusCode::UNAUTHORIZED => {
                // A quoted-string of RFC 6750 §3 holds neither `"` nor `\`.
                let words = self.0.detail.replace(['"', '\\'], "'");
                format!(r#"{REALM}, error="invalid_token", error_description="{words}""#)
            }
            _ => return None,
        };
        HeaderValue::try_from(text).ok().or_else(|| Some(HeaderValue::from_static(REALM)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_one_of_the_interface() {
        let listed: Vec<_> =
            Reason::ALL.iter().map(|reason| (reason.status().as_u16(), reason.code(), reason.index())).collect();
        assert!(listed.iter().enumerate().all(|(position, (status, _, index))| *index == position && *status >= 400));
        assert!(listed.is_sorted_by_key(|(status, ..)| *status));
    }

    #[test]
    fn answers_are_problem_json_with_the_challenge_of_rfc_6750() {
        let id = RequestId::new(jiff::Timestamp::UNIX_EPOCH);
        for (refusal, challenge) in [
            (Refusal::new(Stage::Auth, Reason::MissingCredentials, "send a token"), Some(r#"Bearer realm="api""#)),
            (
                Refusal::new(Stage::Auth, Reason::ExpiredToken, r#"the "token" ended"#),
                Some(r#"Bearer realm="api", error="invalid_token", error_description="the 'token' ended""#),
            ),
            (
                Refusal::new(Stage::Scope, Reason::InsufficientScope, "ask for it")
                    .members(Members { required_scopes: Some(vec!["a:b".into(), "c".into()]), ..Members::default() }),
                Some(r#"Bearer realm="api", error="insufficient_scope", scope="a:b c""#),
            ),
            (Refusal::new(Stage::Request, Reason::NoRoute, "no"), None),
        ] {
            let (status, headers, body) = refusal.answer(&id);
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(status, refusal.reason().status());
            assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
            assert_eq!(headers[X_REQUEST_ID], id.as_str());
            assert_eq!(headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap()), challenge);
            assert_eq!(body["type"], format!("urn:bartizan:problem:{}", refusal.reason().code()));
            assert_eq!(body["instance"], format!("urn:uuid:{}", id.as_str()));
            assert_eq!(body["status"], status.as_u16());
        }
    }
}
