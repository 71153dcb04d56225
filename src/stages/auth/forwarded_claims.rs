//! Claims that the upstream gets in headers (`forward_claims`).
//!
//! A value is written so that it can be read back, whatever is in it: visible ASCII stays, all else, `%` and `,` are percent-encoded
//! (RFC 3986 §2.1), and commas separate the values of a list. A claim of another shape, or one that is too long, refuses the token: an
//! upstream that gets nothing would take the user for somebody else. A token without the claim forwards none.

use http::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value};

use super::claim_path::{Blocked, ClaimPaths};

/// Longest value of a header, in bytes.
const MAX_LENGTH: usize = 4096;

/// What is percent-encoded, beside what is no ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',');

/// Reads the claims that are forwarded. The error says what is wrong with the token.
pub(super) fn read(
    wanted: &[(HeaderName, ClaimPaths)],
    claims: &Map<String, Value>,
) -> Result<Box<[(HeaderName, HeaderValue)]>, String> {
    let one = |(name, paths): &(HeaderName, ClaimPaths)| match paths.find(claims) {
        Ok(None) => Ok(None),
        Ok(Some(value)) => field(value)
            .map(|field| field.map(|field| (name.clone(), field)))
            .map_err(|problem| format!("the claim for the header `{name}` {problem}")),
        Err(Blocked) => Err(format!("the claim for the header `{name}` is not where it should be")),
    };
    wanted.iter().filter_map(|wanted| one(wanted).transpose()).collect()
}

/// The header of a claim; `None` if that has no value. The error completes a sentence that begins with the claim.
fn field(claim: &Value) -> Result<Option<HeaderValue>, &'static str> {
    let values = match claim {
        Value::Array(items) => &**items,
        value => std::slice::from_ref(value),
    };
    let mut text = String::new();
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        match value {
            Value::String(value) if value.len() > MAX_LENGTH => return Err("is too long"),
            Value::String(value) => text.extend(utf8_percent_encode(value, ENCODED)),
            Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) if number.is_i64() || number.is_u64() => text.push_str(&number.to_string()),
            _ => return Err("is not text, a whole number, `true`, `false` or a list of these"),
        }
        if text.len() > MAX_LENGTH {
            return Err("is too long");
        }
    }
    if text.is_empty() {
        return Ok(None);
    }
    HeaderValue::try_from(text).map(Some).map_err(|_| "cannot be written in a header")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stages::auth::claim_path::ClaimPath;

    #[test]
    fn a_claim_is_written_so_that_it_can_be_read_back() {
        for (claim, expected) in [
            (json!("a@b.example"), Ok(Some("a@b.example"))),
            (json!("Müller, Jo\r\nx: y"), Ok(Some("M%C3%BCller%2C%20Jo%0D%0Ax:%20y"))),
            (json!("100%"), Ok(Some("100%25"))),
            (json!(7), Ok(Some("7"))),
            (json!(-7), Ok(Some("-7"))),
            (json!(true), Ok(Some("true"))),
            (json!(["a", "b,c", 1, false]), Ok(Some("a,b%2Cc,1,false"))),
            (json!(["a"]), Ok(Some("a"))),
            (json!(["", "a"]), Ok(Some(",a"))),
            (json!(""), Ok(None)),
            (json!([]), Ok(None)),
            (json!(null), Err(())),
            (json!(1.5), Err(())),
            (json!({"a": 1}), Err(())),
            (json!(["a", ["b"]]), Err(())),
            (json!("x".repeat(MAX_LENGTH + 1)), Err(())),
            (json!("ü".repeat(MAX_LENGTH / 4)), Err(())),
            (json!(vec!["x"; MAX_LENGTH]), Err(())),
        ] {
            let claims = Map::from_iter([("c".to_owned(), claim.clone())]);
            let paths = ClaimPaths::new(vec![ClaimPath::parse("c").unwrap()]);
            let got = read(&[(HeaderName::from_static("x-c"), paths)], &claims);
            let got = got.map(|fields| fields.first().map(|(_, value)| value.to_str().unwrap().to_owned()));
            assert_eq!(got.map_err(drop), expected.map(|text| text.map(str::to_owned)), "{claim}");
        }
    }
}
