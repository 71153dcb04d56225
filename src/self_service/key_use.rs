//! How an API key is sent, for those who read it and for programs.

use serde_json::{Map, Value, json};

use crate::policy::Policy;
use crate::stages::auth::locations::KeyLocation;

/// Where the API keys of a policy are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyUse<'p>(Option<&'p KeyLocation>);

impl<'p> KeyUse<'p> {
    pub(super) fn of(policy: &'p Policy) -> Self {
        Self(policy.auth().locations.key.as_ref())
    }

    /// Adds where it goes to an answer with a key: `header`, and `scheme` if it has one; or `query`.
    pub(super) fn tell(self, answer: &mut Map<String, Value>) {
        let mut add = |name: &str, value: &str| drop(answer.insert(name.to_owned(), value.into()));
        match self.0 {
            Some(KeyLocation::Header(name)) => add("header", name.as_str()),
            Some(KeyLocation::Authorization(scheme)) => {
                add("header", "authorization");
                add("scheme", scheme);
            }
            Some(KeyLocation::Query(name)) => add("query", name),
            None => {}
        }
    }

    /// What `curl` is called with for this URL; `key` is put in double quotes.
    pub(super) fn curl(self, url: &str, key: &str) -> String {
        let url = url.replace('\'', "%27");
        match self.0 {
            Some(KeyLocation::Header(name)) => format!("-H \"{name}: {key}\" '{url}'"),
            Some(KeyLocation::Authorization(scheme)) => format!("-H \"Authorization: {scheme} {key}\" '{url}'"),
            Some(KeyLocation::Query(name)) => format!("'{url}?{name}='\"{key}\""),
            None => format!("'{url}'"),
        }
    }

    /// The same in words, which follow "send your API key as".
    pub(super) fn words(self) -> String {
        match self.0 {
            Some(KeyLocation::Header(name)) => name.to_string(),
            Some(KeyLocation::Authorization(scheme)) => format!("Authorization: {scheme}"),
            Some(KeyLocation::Query(name)) => format!("?{name}="),
            None => "x-api-key".to_owned(),
        }
    }

    /// The security scheme (OpenAPI 3.1 §4.8.27).
    pub(super) fn scheme(self) -> Value {
        match self.0 {
            Some(KeyLocation::Header(name)) => json!({"type": "apiKey", "in": "header", "name": name.as_str()}),
            Some(KeyLocation::Authorization(scheme)) => json!({"type": "http", "scheme": scheme}),
            Some(KeyLocation::Query(name)) => json!({"type": "apiKey", "in": "query", "name": name}),
            None => json!({"type": "apiKey", "in": "header", "name": "x-api-key"}),
        }
    }
}
