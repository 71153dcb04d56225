//! A file of policy tests as written: plain serde types, and nothing else. What does not fit the policy is told later.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::cli::persona::Asker;
use crate::policy::Period;
use crate::policy::yaml_file::Anything;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// The policy file, relative to this one.
    pub(super) policy: Option<String>,
    /// Where the clock of every test begins (RFC 3339); the present when absent.
    pub(super) now: Option<String>,
    /// Environment variables that the policy refers to.
    pub(super) env: BTreeMap<String, String>,
    /// Name → who asks.
    pub(super) callers: BTreeMap<String, Asker>,
    /// The tests.
    pub(super) tests: Vec<Test>,
}

/// One test, or several that share limits and a clock.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Test {
    /// Its name.
    pub(super) name: Option<String>,
    /// Who asks; nobody when absent. Of a sequence: whoever asks in steps that do not say.
    #[serde(rename = "as")]
    pub(super) caller: Option<Who>,
    /// What is asked.
    pub(super) request: Option<Request>,
    /// How often; the expectation is of the last.
    pub(super) repeat: Option<u32>,
    /// So long after the step before it.
    pub(super) after: Option<Period>,
    /// What must come of it.
    pub(super) expect: Option<Expect>,
    /// In place of a request: steps.
    pub(super) sequence: Option<Vec<Test>>,
}

/// Who asks.
#[derive(Debug)]
pub(super) enum Who {
    /// One of `callers`.
    Named(String),
    /// Written here.
    Inline(Box<Asker>),
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// `METHOD /path`.
    Short(String),
    /// With more than that.
    Long(Box<LongRequest>),
}

/// A request with more than method and path.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LongRequest {
    /// Its method.
    pub(super) method: Option<String>,
    /// Its path, with its query.
    pub(super) path: Option<String>,
    /// The host it is for.
    pub(super) host: Option<String>,
    /// Its other header fields.
    pub(super) headers: BTreeMap<String, String>,
    /// Its body: this, as JSON.
    pub(super) body: Option<Anything>,
    /// Its body, as it is written.
    pub(super) body_text: Option<String>,
    /// Its body: what is in this file.
    pub(super) body_file: Option<String>,
    /// The address it comes from.
    pub(super) from: Option<String>,
}

/// What must come of a request.
#[derive(Debug)]
pub(super) enum Expect {
    /// A word: `allow`.
    Word(String),
    /// What is written, and no more.
    Facts(Box<Facts>),
}

/// Facts of an outcome.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Facts {
    /// Status of the answer; 200 for what would have been forwarded.
    pub(super) status: Option<u16>,
    /// Code of the refusal.
    pub(super) code: Option<String>,
    /// The stage that refused.
    pub(super) stage: Option<String>,
    /// The scopes that the route asks for.
    pub(super) scopes: Option<Vec<String>>,
    /// The scopes that the caller has.
    pub(super) granted: Option<Vec<String>>,
    /// Where the body breaks the schema: JSON pointers, all of them.
    pub(super) violations: Option<Vec<String>>,
    /// Who the caller is.
    pub(super) consumer: Option<String>,
    /// The route, as the policy names it.
    pub(super) route: Option<String>,
    /// Codes of what stages that only report would have refused; an empty list: nothing.
    pub(super) would_refuse: Option<Vec<String>>,
}

/// A type that is written as one text, or as a map.
macro_rules! text_or_map {
    ($type:ident, $expected:literal, $text:expr, $map:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> Visitor<'de> for Either {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        Ok($text(text.to_owned()))
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map($map)
                    }
                }
                deserializer.deserialize_any(Either)
            }
        }
    };
}

text_or_map!(Who, "a name from `callers`, or a map with who asks", Who::Named, Who::Inline);
text_or_map!(Request, "`METHOD /path`, or a map with `method` and `path`", Request::Short, Request::Long);
text_or_map!(Expect, "`allow`, or a map with `status`, `code` and more", Expect::Word, Expect::Facts);
