//! How a client presents itself (RFC 6749 §2.3, RFC 7521 §4.2, RFC 8705 §2).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::form::Form;
use super::service::{malformed, refuse};
use crate::refusal::{Reason, Refusal};
use crate::stages::auth::client::Presented;
use crate::stages::auth::client_basic;

/// RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a request has of a client.
pub(super) enum Credentials<'a> {
    /// One or two readings of the header, as id and secret.
    Basic(Vec<(String, String)>),
    Form(Presented<'a>),
}

impl Credentials<'_> {
    /// The client is who it says to be if one of these is right.
    pub(super) fn readings(&self) -> Vec<Presented<'_>> {
        match self {
            Self::Basic(readings) => readings.iter().map(|(id, secret)| Presented::Secret { id, secret }).collect(),
            Self::Form(presented) => vec![*presented],
        }
    }
}

/// Finds the one credential of a client. More than one is refused (RFC 6749 §2.3).
pub(super) fn of<'a>(headers: &HeaderMap, form: &'a Form) -> Result<Credentials<'a>, Refusal> {
    let id = form.get("client_id");
    let (secret, assertion) = (form.get("client_secret"), form.get("client_assertion"));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next(), secret, assertion) {
        (Some(value), None, None, None) => {
            let mut readings = client_basic::readings(value.as_bytes())?;
            readings.retain(|(named, _)| id.is_none_or(|id| id == named));
            if readings.is_empty() {
                return Err(malformed("`client_id` is not the client of the Authorization header"));
            }
            Ok(Credentials::Basic(readings))
        }
        (None, _, Some(secret), None) => {
            let id = id.ok_or_else(|| malformed("`client_id` is missing"))?;
            Ok(Credentials::Form(Presented::Secret { id, secret }))
        }
        (None, _, None, Some(assertion)) => match form.get("client_assertion_type") {
            Some(ASSERTION_TYPE) => Ok(Credentials::Form(Presented::Assertion { id, assertion })),
            _ => Err(malformed(format!("`client_assertion_type` is not {ASSERTION_TYPE}"))),
        },
        (None, _, None, None) => match id {
            Some(id) => Ok(Credentials::Form(Presented::Id(id))),
            None => Err(refuse(Reason::InvalidClient, "send the credential of a client")),
        },
        _ => Err(malformed("send one credential of the client")),
    }
}
