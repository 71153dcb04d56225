//! The parameters of a request: `application/x-www-form-urlencoded` (RFC 6749 Appendix B).

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;

use super::service::malformed;
use crate::body::Body;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::client_basic;

/// Most parameters of a request.
const MAX_PARAMETERS: usize = 64;
/// The only media type.
const FORM: &str = "application/x-www-form-urlencoded";
/// Parameters that may come several times (RFC 8707 §2, RFC 8693 §2.1).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// The parameters, decoded, in their order.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the body, which its route has bounded in size and time.
    pub(super) async fn read(headers: &HeaderMap, mut body: Body) -> Result<Self, Refusal> {
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(FORM) || headers.get_all(CONTENT_TYPE).iter().count() > 1 {
            let detail = format!("send the parameters as {FORM}");
            return Err(Refusal::new(Stage::Schema, Reason::UnsupportedMediaType, detail));
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            // The reason is that of the body itself.
            let frame = frame.map_err(|_| malformed("the body ended early"))?;
            bytes.extend_from_slice(frame.data_ref().map(|data| &**data).unwrap_or_default());
        }
        Self::parse(&bytes)
    }

    /// Parameters without a value count as absent (RFC 6749 §3.2).
    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut form: Vec<(String, String)> = Vec::new();
        for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match memchr::memchr(b'=', pair).and_then(|at| pair.split_at_checked(at)) {
                Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
                None => (pair, &[][..]),
            };
            let (name, value) = (decoded(name)?, decoded(value)?);
            if form.iter().any(|(known, _)| *known == name) && !REPEATABLE.contains(&&*name) {
                return Err(malformed("a parameter is there more than once"));
            }
            if form.len() >= MAX_PARAMETERS {
                return Err(malformed("send fewer parameters"));
            }
            form.push((name, value));
        }
        form.retain(|(_, value)| !value.is_empty());
        Ok(Self(form))
    }

    /// A parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    pub(super) fn need(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| malformed(format!("`{name}` is missing")))
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Decodes `+` and escapes; what is not UTF-8 afterwards is refused.
fn decoded(text: &[u8]) -> Result<String, Refusal> {
    client_basic::decoded(text).ok_or_else(|| malformed("the parameters are not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_not_repeated() {
        for (body, expected) in [
            ("a=1&b=x+y%2B%26", Some(vec![("a", "1"), ("b", "x y+&")])),
            ("&&a=1&", Some(vec![("a", "1")])),
            ("a=&b", Some(vec![])),
            ("a==&b=%zz", Some(vec![("a", "="), ("b", "%zz")])),
            ("a=1&%61=2", None),
            ("a=&a=2", None),
            ("resource=1&resource=2", Some(vec![("resource", "1"), ("resource", "2")])),
            ("a=%ff", None),
            ("", Some(vec![])),
        ] {
            let parsed = Form::parse(body.as_bytes()).ok();
            let parsed = parsed
                .as_ref()
                .map(|form| form.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>());
            assert_eq!(parsed, expected, "{body}");
        }
        let many: String = (0..=MAX_PARAMETERS).map(|number| format!("p{number}=1&")).collect();
        assert!(Form::parse(many.as_bytes()).is_err());
    }
}
