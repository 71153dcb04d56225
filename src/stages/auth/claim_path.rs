//! The claims that a setting reads: names and JSON pointers (RFC 6901), parsed once, tried in order.
//!
//! Only a claim that is missing makes the next one count. A value in the way of a pointer is an error and not an
//! absence: such a token has another shape than the policy expects.

use std::fmt;

use serde_json::{Map, Value};

/// Claims in the order they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimPaths(Box<[ClaimPath]>);

/// One claim: its name, or the members that lead to it. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimPath(Box<[Step]>);

/// A member of an object, or an element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    name: Box<str>,
    /// The same as a position (RFC 6901 §4: no leading zeros).
    index: Option<usize>,
}

/// A pointer leads through a value that is neither an object nor an array with this position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blocked;

impl ClaimPath {
    /// Parses a name, or a JSON pointer where it begins with `/`. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(Step::parse).collect::<Option<_>>().map(Self).ok_or(
                "in a JSON pointer, `~0` is a `~` and `~1` a `/`; no other character may follow a `~` (RFC 6901)",
            ),
            None if text.is_empty() => Err("the name of a claim must not be empty"),
            None => Ok(Self::of_name(text)),
        }
    }

    fn of_name(name: &str) -> Self {
        Self([Step { name: name.into(), index: None }].into())
    }

    /// Its value, whatever its type.
    pub(super) fn find<'c>(&self, claims: &'c Map<String, Value>) -> Result<Option<&'c Value>, Blocked> {
        let mut steps = self.0.iter();
        let mut found = steps.next().and_then(|step| claims.get(&*step.name));
        for step in steps {
            found = match (found, step.index) {
                (None, _) => return Ok(None),
                (Some(Value::Object(members)), _) => members.get(&*step.name),
                (Some(Value::Array(items)), Some(index)) => items.get(index),
                (Some(_), _) => return Err(Blocked),
            };
        }
        Ok(found)
    }
}

impl Step {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('~');
        let mut name = parts.next()?.to_owned();
        for part in parts {
            let (escaped, rest) = match part.split_at_checked(1)? {
                ("0", rest) => ('~', rest),
                ("1", rest) => ('/', rest),
                _ => return None,
            };
            name.push(escaped);
            name.push_str(rest);
        }
        let digits = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        let index = name.parse().ok().filter(|_| digits);
        Some(Self { name: name.into(), index })
    }
}

impl ClaimPaths {
    /// Tries these in this order.
    pub(crate) fn new(paths: Vec<ClaimPath>) -> Self {
        Self(paths.into())
    }

    /// Tries the claims with these names, in this order.
    pub(crate) fn of_names(names: &[&str]) -> Self {
        Self(names.iter().map(|name| ClaimPath::of_name(name)).collect())
    }

    /// Whether this is the only one.
    pub(super) fn is_only(&self, name: &str) -> bool {
        matches!(&*self.0, [ClaimPath(steps)] if matches!(&**steps, [step] if *step.name == *name))
    }

    /// The first of them that is present, whatever its type.
    pub(super) fn find<'c>(&self, claims: &'c Map<String, Value>) -> Result<Option<&'c Value>, Blocked> {
        self.0.iter().find_map(|path| path.find(claims).transpose()).transpose()
    }

    /// Sets the first of them, for rehearsals. Returns whether it could: another claim may be in the way.
    pub(crate) fn set(&self, claims: &mut Map<String, Value>, value: Value) -> bool {
        self.0.first().is_some_and(|path| path.set(claims, value))
    }
}

impl ClaimPath {
    /// Sets it, for rehearsals. Returns whether it could: another claim may be in the way.
    pub(crate) fn set(&self, claims: &mut Map<String, Value>, value: Value) -> bool {
        let Some((last, outer)) = self.0.split_last() else { return false };
        let mut members = claims;
        for step in outer {
            let inner = members.entry(&*step.name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(inner) = inner else { return false };
            members = inner;
        }
        if members.get(&*last.name).is_some_and(Value::is_object) {
            return false;
        }
        members.insert(last.name.as_ref().to_owned(), value);
        true
    }
}

/// As written in the policy.
impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            [step] if !step.name.starts_with('/') => f.write_str(&step.name),
            steps => {
                steps.iter().try_for_each(|step| write!(f, "/{}", step.name.replace('~', "~0").replace('/', "~1")))
            }
        }
    }
}

/// All of them, each in backquotes.
impl fmt::Display for ClaimPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, path) in self.0.iter().enumerate() {
            write!(f, "{}`{path}`", if position == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(texts: &[&str]) -> ClaimPaths {
        ClaimPaths::new(texts.iter().map(|text| ClaimPath::parse(text).unwrap()).collect())
    }

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_first_claim_that_is_present_counts() {
        let claims = map(&json!({
            "sub": "alice", "null": null, "a.b": "dot", "https://example.com/roles": ["clerk"], "a/b": "slash", "m~n": "tilde",
            "~1": "both", "realm": {"roles": ["x", {"name": "y"}], "": "empty", "0": "zero", "none": null}, "text": "t", "": "root",
        }));
        for (tried, found) in [
            (&["sub"][..], Ok(Some(json!("alice")))),
            (&["gone"], Ok(None)),
            (&["gone", "sub"], Ok(Some(json!("alice")))),
            (&["null", "sub"], Ok(Some(Value::Null))),
            // Names are taken as they are: neither dots nor slashes lead anywhere.
            (&["a.b"], Ok(Some(json!("dot")))),
            (&["https://example.com/roles"], Ok(Some(json!(["clerk"])))),
            (&["a/b"], Ok(Some(json!("slash")))),
            (&["realm.roles"], Ok(None)),
            // RFC 6901 §4 and §5: `~01` is `~1`.
            (&["/a~1b"], Ok(Some(json!("slash")))),
            (&["/m~0n"], Ok(Some(json!("tilde")))),
            (&["/~01"], Ok(Some(json!("both")))),
            (&["/"], Ok(Some(json!("root")))),
            (&["/https:~1~1example.com~1roles/0"], Ok(Some(json!("clerk")))),
            (&["/realm/roles/0"], Ok(Some(json!("x")))),
            (&["/realm/roles/1/name"], Ok(Some(json!("y")))),
            (&["/realm/"], Ok(Some(json!("empty")))),
            (&["/realm/0"], Ok(Some(json!("zero")))),
            (&["/realm/none"], Ok(Some(Value::Null))),
            (&["/realm/gone", "/gone/roles", "sub"], Ok(Some(json!("alice")))),
            (&["/realm/roles/2"], Ok(None)),
            (&["/realm/gone/deeper"], Ok(None)),
            // Another shape is no absence, so the next claim does not count.
            (&["/text/roles", "sub"], Err(Blocked)),
            (&["/null/roles", "sub"], Err(Blocked)),
            (&["/realm/roles/x", "sub"], Err(Blocked)),
            (&["/realm/roles/00", "sub"], Err(Blocked)),
            (&["/realm/roles/-", "sub"], Err(Blocked)),
            (&["/realm/none/deeper", "sub"], Err(Blocked)),
        ] {
            assert_eq!(paths(tried).find(&claims).map(Option::<&Value>::cloned), found, "{tried:?}");
        }
    }

    #[test]
    fn what_is_not_a_name_or_a_pointer_is_an_error() {
        for text in ["", "/a~", "/a~2b", "/~é", "/a/~/b"] {
            assert!(ClaimPath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_set_is_found_and_nothing_is_overwritten_by_its_members() {
        for tried in ["sub", "https://example.com/roles", "/realm/roles", "/a~1b/m~0n", "/groups/0"] {
            let mut claims = map(&json!({"realm": {"other": 1}}));
            assert!(paths(&[tried, "other"]).set(&mut claims, json!("set")), "{tried}");
            assert_eq!(paths(&[tried]).find(&claims), Ok(Some(&json!("set"))), "{tried}");
            assert_eq!(claims["realm"]["other"], 1);
        }
        let mut claims = map(&json!({"text": "t", "realm": {"roles": []}}));
        assert!(!paths(&["/text/roles"]).set(&mut claims, json!(1)) && !paths(&["realm"]).set(&mut claims, json!(1)));
    }
}
