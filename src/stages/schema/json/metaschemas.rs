//! The meta-schemas that are built in: those of the drafts, which the `referencing` crate has, and those of OpenAPI.

use std::sync::{Arc, OnceLock};

use jsonschema::{Draft, Validator, uri};
use referencing::SPECIFICATIONS;
use serde_json::Value;

use super::misuse;
use super::problem::SchemaProblem;

/// As published at spec.openapis.org.
const OPENAPI: [&str; 12] = [
    include_str!("metaschemas/oas-3.0-schema-2021-09-28.json"),
    include_str!("metaschemas/oas-3.0-schema-2024-10-18.json"),
    include_str!("metaschemas/oas-3.1-dialect-2024-10-25.json"),
    include_str!("metaschemas/oas-3.1-dialect-2024-11-10.json"),
    include_str!("metaschemas/oas-3.1-dialect-base.json"),
    include_str!("metaschemas/oas-3.1-meta-2024-10-25.json"),
    include_str!("metaschemas/oas-3.1-meta-2024-11-10.json"),
    include_str!("metaschemas/oas-3.1-meta-base.json"),
    include_str!("metaschemas/oas-3.1-schema-2022-10-07.json"),
    include_str!("metaschemas/oas-3.1-schema-base-2022-10-07.json"),
    include_str!("metaschemas/oas-3.2-dialect-2025-09-17.json"),
    include_str!("metaschemas/oas-3.2-meta-2025-09-17.json"),
];
/// Where OpenAPI's dialects of 2020-12 begin.
const DIALECTS: [&str; 2] =
    ["https://spec.openapis.org/oas/3.1/dialect/", "https://spec.openapis.org/oas/3.2/dialect/"];

/// Most problems of one document that are reported.
const MOST: usize = 5;

/// The draft that a `$schema` names, or whose keywords a dialect of OpenAPI has.
pub(crate) fn draft(named: &str) -> Option<Draft> {
    let named = named.trim();
    if DIALECTS.iter().any(|dialect| named.starts_with(dialect)) {
        return Some(Draft::Draft202012);
    }
    Some(Draft::from_schema_uri(named)).filter(|draft| *draft != Draft::Unknown)
}

/// The meta-schema of this URI.
pub(super) fn find(uri: &str) -> Option<Arc<Value>> {
    // Other meta-schemas may refer to it, so its identifier decides.
    for text in OPENAPI.iter().filter(|text| text.contains(&format!("\"{uri}\""))) {
        let value: Value = serde_json::from_str(text).ok()?;
        if value.get("$id").or(value.get("id")).and_then(Value::as_str) == Some(uri) {
            return Some(Arc::new(value));
        }
    }
    let draft = uri
        .contains("json-schema.org/")
        .then(|| uri.replacen("http://json-schema.org/draft/2", "https://json-schema.org/draft/2", 1))?;
    let draft = draft.replacen("https://json-schema.org/draft-0", "http://json-schema.org/draft-0", 1);
    let resolver = SPECIFICATIONS.resolver(uri::from_str(&draft).ok()?);
    let found = resolver.lookup("").ok()?;
    Some(Arc::new(found.contents().clone()))
}

/// What is wrong with a document, by the meta-schema of its draft.
pub(super) fn problems(document: &Value, draft: Draft) -> Vec<SchemaProblem> {
    const DRAFTS: [Draft; 5] = [Draft::Draft4, Draft::Draft6, Draft::Draft7, Draft::Draft201909, Draft::Draft202012];
    // Made when it is needed: each takes about a megabyte, and most policies have one draft.
    static VALIDATORS: [OnceLock<Option<Validator>>; DRAFTS.len()] = [const { OnceLock::new() }; DRAFTS.len()];
    let own = DRAFTS.iter().zip(&VALIDATORS).find(|(known, _)| **known == draft);
    let Some(validator) = own.and_then(|(_, own)| own.get_or_init(|| validator(draft)).as_ref()) else {
        return Vec::new();
    };
    if validator.is_valid(document) {
        return Vec::new();
    }
    validator.iter_errors(document).take(MOST).map(|error| misuse::problem(&error, draft)).collect()
}

/// Patterns and references are not judged here: their reader says what is wrong, and accepts more than a meta-schema
/// does.
fn validator(draft: Draft) -> Option<Validator> {
    let uri = match draft {
        Draft::Draft4 => "http://json-schema.org/draft-04/schema",
        Draft::Draft6 => "http://json-schema.org/draft-06/schema",
        Draft::Draft7 => "http://json-schema.org/draft-07/schema",
        Draft::Draft201909 => "https://json-schema.org/draft/2019-09/schema",
        _ => "https://json-schema.org/draft/2020-12/schema",
    };
    jsonschema::options().with_draft(draft).offline().should_validate_formats(false).build(&*find(uri)?).ok()
}
