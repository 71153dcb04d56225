//! Hides the credentials of a request in what the peer says about it: some repeat in an error what they were sent, and errors
//! are logged and shown to operators.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use memchr::memmem;

/// Shorter texts are not hidden: they are found by chance, and are no secrets worth the name.
const SHORTEST: usize = 8;
/// What stands in place of a credential.
const HIDDEN: &[u8] = "[hidden]".as_bytes();

/// Marks a request whose path or query is a credential, as those of webhooks are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretTarget;

/// The credentials of one request.
#[derive(Debug)]
pub(super) struct Veil(Vec<Vec<u8>>);

impl Veil {
    /// The words of its sensitive fields, the password of `Basic`, and its target if that is marked as secret.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let mut hidden = Vec::new();
        for value in request.headers().values().filter(|value| value.is_sensitive()) {
            for word in value.as_bytes().split(|byte| *byte == b' ') {
                let password = STANDARD.decode(word).ok();
                let password = password
                    .and_then(|pair| Some(pair.split_at_checked(memchr::memchr(b':', &pair)?)?.1.get(1..)?.to_vec()));
                hidden.extend(password);
                hidden.push(word.to_vec());
            }
        }
        if request.extensions().get::<SecretTarget>().is_some() {
            let parts = request.uri().path().split('/').chain(request.uri().query());
            hidden.extend(parts.map(|part| part.as_bytes().to_vec()));
        }
        hidden.retain(|text| text.len() >= SHORTEST);
        // What is part of another would leave the rest of it.
        hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(hidden)
    }

    /// The text without them.
    pub(super) fn over(&self, text: Bytes) -> Bytes {
        let mut shown = Cow::Borrowed(&*text);
        for secret in &self.0 {
            if memmem::find(&shown, secret).is_some() {
                shown = Cow::Owned(without(&shown, secret));
            }
        }
        match shown {
            Cow::Borrowed(_) => text,
            Cow::Owned(shown) => shown.into(),
        }
    }
}

fn without(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(text.len());
    let mut end = 0;
    for start in memmem::find_iter(text, secret) {
        shown.extend_from_slice(text.get(end..start).unwrap_or_default());
        shown.extend_from_slice(HIDDEN);
        end = start.saturating_add(secret.len());
    }
    shown.extend_from_slice(text.get(end..).unwrap_or_default());
    shown
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};

    use super::*;

    #[test]
    fn what_was_sent_as_a_credential_is_not_shown() {
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text).unwrap();
            value.set_sensitive(true);
            value
        };
        let basic = format!("Basic {}", STANDARD.encode("me:pass:word"));
        for (authorization, is_secret, said, shown) in [
            ("Bearer 12345678", false, "no 12345678, but 12345678", "no [hidden], but [hidden]"),
            ("Bearer 1234567", false, "no 1234567", "no 1234567"),
            (&basic, false, "me:pass:word", "me:[hidden]"),
            ("Bearer 12345678 123456789", false, "123456789", "[hidden]"),
            ("-", false, "/services/T0/B0000001/x text/plain", "/services/T0/B0000001/x text/plain"),
            ("-", true, "/services/T0/B0000001/x text/plain", "/[hidden]/T0/[hidden]/x text/plain"),
            ("-", true, "?token=secret", "?[hidden]"),
            ("-", true, "", ""),
        ] {
            let mut request = Request::get("https://a.example/services/T0/B0000001?token=secret").body(()).unwrap();
            request.headers_mut().insert(AUTHORIZATION, sensitive(authorization));
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/plain"));
            if is_secret {
                request.extensions_mut().insert(SecretTarget);
            }
            assert_eq!(Veil::of(&request).over(said.into()), shown, "{authorization}");
        }
    }
}
