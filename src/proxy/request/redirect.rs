//! The answer of a listener that redirects to https.

use http::{HeaderValue, Method};

use super::target::{RequestTarget, malformed, with_query};
use crate::exchange::Exchange;
use crate::policy::Policy;
use crate::refusal::{Reason, Refusal, Stage};

/// Returns the URL of a request with https and this port, without the API key that its query may have: that was sent in clear, and must
/// not look as if it worked.
///
/// # Errors
/// The host is not one of the policy's: a cache on the way could otherwise be made to send others there.
pub(super) fn location(
    policy: &Policy,
    exchange: &Exchange,
    target: &RequestTarget<'_>,
    port: u16,
) -> Result<HeaderValue, Refusal> {
    let host = &*exchange.host;
    if host.is_empty() {
        return Err(malformed("send a Host header field"));
    }
    if !policy.apis().iter().any(|api| api.serves(host) && !api.is_everywhere()) {
        let detail = "no API here has this host; check it";
        return Err(Refusal::new(Stage::Request, Reason::NoRoute, detail));
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let target = if target.target == "*" { "/" } else { &*target.target };
    let method = exchange.method.as_ref().unwrap_or(&Method::GET);
    let route = policy.route(host, method, &exchange.path, None).ok();
    let locations = route.map_or(&policy.auth().locations, |route| route.api().credentials());
    let query = target.split_once('?').map(|(_, query)| query);
    let without_key = locations.query_without_key(query).map(|rest| with_query(target, &rest));
    let target = without_key.as_deref().unwrap_or(target);
    let location = HeaderValue::try_from(format!("https://{host}{port}{target}"));
    location.map_err(|_| malformed("percent-encode the query"))
}
