//! The format of test files: plain serde types. `plan` reports what does not fit the policy.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::cli::persona::WrittenPersona;
use crate::policy::Period;
use crate::policy::yaml_file::Anything;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// The policy file, relative to this one.
    pub(super) policy: Option<String>,
    /// Start time of every test (RFC 3339); default: now.
    pub(super) now: Option<String>,
    /// Environment variables that the policy refers to.
    pub(super) env: BTreeMap<String, String>,
    /// Fields of secrets in the vault that the policy refers to: `vault:MOUNT/PATH#FIELD`.
    pub(super) secrets: BTreeMap<String, String>,
    /// Callers by name.
    pub(super) callers: BTreeMap<String, WrittenPersona>,
    /// The tests.
    pub(super) tests: Vec<Test>,
}

/// One test, or several that share limits and a clock.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Test {
    pub(super) name: Option<String>,
    /// The caller; none when absent. In a sequence, the caller of steps without one.
    #[serde(rename = "as")]
    pub(super) caller: Option<Who>,
    pub(super) request: Option<Request>,
    /// How often to send the request; `expect` applies to the last response.
    pub(super) repeat: Option<u32>,
    /// Time since the previous step.
    pub(super) after: Option<Period>,
    /// The expected result.
    pub(super) expect: Option<Expect>,
    /// Steps, instead of a request.
    pub(super) sequence: Option<Vec<Test>>,
}

/// A caller.
#[derive(Debug)]
pub(super) enum Who {
    /// One of `callers`.
    Named(String),
    /// A map in the test itself.
    Inline(Box<WrittenPersona>),
}

/// A request.
#[derive(Debug)]
pub(super) enum Request {
    /// `METHOD /path`.
    Short(String),
    /// A map.
    Long(Box<LongRequest>),
}

/// A request with more than method and path.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LongRequest {
    pub(super) method: Option<String>,
    /// Path and query.
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    /// Header fields besides `Host`.
    pub(super) headers: BTreeMap<String, String>,
    /// Body, as YAML that is sent as JSON.
    pub(super) body: Option<Anything>,
    /// Body as literal text.
    pub(super) body_text: Option<String>,
    /// File that holds the body.
    pub(super) body_file: Option<String>,
    /// Client address.
    pub(super) from: Option<String>,
}

/// The words for `cors`.
pub(super) const ALLOW: &str = "allow";
pub(super) const REFUSE: &str = "refuse";
/// The status of a call that would be forwarded, if the server has no other.
pub(super) const GRPC_OK: &str = "OK";

/// The expected result of a request.
#[derive(Debug)]
pub(super) enum Expect {
    /// The word `allow`.
    Word(String),
    /// Only the given facts are compared.
    Facts(Box<Facts>),
}

/// Facts of a result.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Facts {
    /// Status of the response; 200 for a request that would be forwarded. For gRPC calls: the HTTP status that the refusal would have.
    pub(super) status: Option<u16>,
    /// Name of the gRPC status; `OK` for a call that would be forwarded.
    pub(super) grpc_status: Option<String>,
    /// Code of the refusal.
    pub(super) code: Option<String>,
    /// The stage that refused.
    pub(super) stage: Option<String>,
    /// The scopes that the route requires.
    pub(super) scopes: Option<Vec<String>>,
    /// The scopes that the caller has.
    pub(super) granted: Option<Vec<String>>,
    /// JSON pointers to all schema violations in the body.
    pub(super) violations: Option<Vec<String>>,
    /// Name of the caller's consumer.
    pub(super) consumer: Option<String>,
    /// The route, as the policy names it.
    pub(super) route: Option<String>,
    /// Codes of refusals by stages that only report; an empty list means none.
    pub(super) would_refuse: Option<Vec<String>>,
    /// Path and query that the upstream would get.
    pub(super) upstream_path: Option<String>,
    /// `allow` or `refuse`: whether the page that sends it from a browser may read the response.
    pub(super) cors: Option<String>,
    /// The paths of what the caller does not see of responses, in any order.
    pub(super) hidden: Option<Vec<String>>,
}

/// Deserializes a type from a string or a map.
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

text_or_map!(Who, "a name from `callers`, or a map that describes the caller", Who::Named, Who::Inline);
text_or_map!(Request, "`METHOD /path`, or a map with `method` and `path`", Request::Short, Request::Long);
text_or_map!(Expect, "`allow`, or a map with `status`, `code` and more", Expect::Word, Expect::Facts);
