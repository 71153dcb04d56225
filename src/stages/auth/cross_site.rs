//! Decides whether a token in a cookie is taken: browsers send cookies with requests of any site's page (cross-site request
//! forgery).
//!
//! A request that may change something must show that a page of this origin sent it, or one of an origin that may act for its
//! visitors: browsers say that in `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin` (RFC 6454 §7), which no page can write. Requests
//! that say neither are refused: a client that is no browser can send its token in another place, or `Origin`.

use http::header::{HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};

use super::claims::refuse;
use crate::exchange::{Request, origin};
use crate::refusal::{Reason, Refusal};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that a page of another site may have sent with the cookie of its visitor. `allowed`: the other origins whose
/// pages may.
pub(super) fn permit(request: &Request<'_>, allowed: &[Box<str>]) -> Result<(), Refusal> {
    let method = request.exchange.method.as_ref();
    // A WebSocket is opened with GET, and then everything is sent on it (RFC 6455 §10.2). Over HTTP/2, nothing else is in the request
    // that asks for one (RFC 8441); pages cannot write this field.
    let opens_websocket = [UPGRADE, SEC_WEBSOCKET_KEY].iter().any(|name| request.headers.contains_key(name));
    let only_reads = method.is_some_and(Method::is_safe) && !opens_websocket;
    if only_reads || is_of_own_page(request.headers, (request.scheme, request.authority), allowed) {
        return Ok(());
    }
    let detail = "nothing shows that a page of this site sent the request, so the token in its cookie is not taken; send \
                  `Origin`, as browsers do, or the token in another place";
    Err(refuse(Reason::CrossSiteRequest, detail))
}

fn is_of_own_page(headers: &HeaderMap, own: (&str, &str), allowed: &[Box<str>]) -> bool {
    let said = only(headers, &ORIGIN).and_then(|origin| origin.to_str().ok());
    if said.is_some_and(|said| allowed.iter().any(|allowed| **allowed == *said)) {
        return true;
    }
    match headers.contains_key(SEC_FETCH_SITE) {
        // It knows of the whole way, of redirects too, and of the scheme that the browser used.
        true => only(headers, &SEC_FETCH_SITE).is_some_and(|site| site == "same-origin"),
        false => said.is_some_and(|said| origin::is_own(said, own)),
    }
}

/// The value of a field that occurs once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::SampleRequest;

    /// OWASP's table of what browsers send, and what others may.
    #[test]
    fn a_cookie_is_taken_from_pages_of_this_site_and_of_allowed_origins() {
        let allowed = [Box::from("https://app.example")];
        for (method, fields, good) in [
            (Method::GET, &[] as &[(&str, &str)], true),
            (Method::HEAD, &[("sec-fetch-site", "cross-site")], true),
            (Method::GET, &[("upgrade", "websocket")], false),
            (Method::GET, &[("upgrade", "websocket"), ("origin", "http://api.example")], true),
            (Method::GET, &[("sec-websocket-key", "x"), ("origin", "https://evil.example")], false),
            (Method::GET, &[("sec-websocket-key", "x"), ("origin", "http://api.example")], true),
            (Method::GET, &[("upgrade", "websocket"), ("origin", "https://evil.example")], false),
            (Method::POST, &[], false),
            (Method::DELETE, &[], false),
            (Method::POST, &[("sec-fetch-site", "same-origin")], true),
            // A page without a referrer says no origin.
            (Method::POST, &[("sec-fetch-site", "same-origin"), ("origin", "null")], true),
            (Method::POST, &[("sec-fetch-site", "same-site")], false),
            (Method::POST, &[("sec-fetch-site", "cross-site")], false),
            (Method::POST, &[("sec-fetch-site", "none")], false),
            (Method::POST, &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (Method::POST, &[("sec-fetch-site", "cross-site"), ("origin", "http://api.example")], false),
            (Method::POST, &[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")], true),
            (Method::POST, &[("origin", "http://api.example")], true),
            (Method::POST, &[("origin", "http://api.example:80")], true),
            (Method::POST, &[("origin", "http://API.example")], true),
            (Method::POST, &[("origin", "https://api.example")], false),
            (Method::POST, &[("origin", "http://api.example:8080")], false),
            (Method::POST, &[("origin", "http://api.example.evil.example")], false),
            (Method::POST, &[("origin", "null")], false),
            (Method::POST, &[("origin", "")], false),
            (Method::POST, &[("origin", "https://app.example")], true),
            (Method::POST, &[("origin", "https://app.example"), ("origin", "https://evil.example")], false),
            (Method::POST, &[("referer", "http://api.example/form")], false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let sample = SampleRequest::new(&method, "/");
            let request = Request { authority: "api.example", ..sample.with(None, &headers) };
            assert_eq!(permit(&request, &allowed).is_ok(), good, "{method} {fields:?}");
        }
    }
}
