//! The version of OpenAPI that a description is written in.

use super::diagnostics::Diagnostics;
use super::files::{Files, Node};

/// The version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 3.0.x.
    V3_0,
    /// 3.1.x.
    V3_1,
}

/// Whether a `$schema` names what schemas of OpenAPI 3.1 are written in.
pub(super) fn is_dialect(named: &str) -> bool {
    named.trim_end_matches('#') == "https://json-schema.org/draft/2020-12/schema"
        || named.starts_with("https://spec.openapis.org/oas/3.1/dialect/")
}

/// Reads the version; `None`, and a problem, where it is not supported.
pub(super) fn of(files: &Files, diagnostics: &mut Diagnostics) -> Option<Version> {
    let root = files.root()?;
    if let Some(swagger) = root.get("swagger") {
        diagnostics
            .error(&swagger, "this is Swagger 2.0; only OpenAPI 3.0 and 3.1 are supported")
            .at_key()
            .help("convert it, for example with `swagger2openapi`");
        return None;
    }
    let Some(written) = root.get("openapi") else {
        diagnostics
            .error(&root, "this is not an OpenAPI document: it has no `openapi`")
            .help("it begins with `openapi: 3.1.0`");
        return None;
    };
    // `openapi: 3.1` without quotes is a number in YAML.
    let text = written.value.as_str().map_or_else(|| written.value.to_string(), str::to_owned);
    let minor = text.strip_prefix("3.").and_then(|rest| rest.split('.').next());
    let version = match minor {
        Some("0") => Version::V3_0,
        Some("1") => Version::V3_1,
        _ => {
            diagnostics.error(&written, "this version of OpenAPI is not supported").help("use 3.0 or 3.1");
            return None;
        }
    };
    let unknown = |dialect: &Node<'_>| !dialect.value.as_str().is_some_and(is_dialect);
    if let Some(dialect) = root.get("jsonSchemaDialect").filter(|_| version == Version::V3_1).filter(unknown) {
        diagnostics
            .error(&dialect, "this dialect of JSON Schema is not supported")
            .help("remove it: the default is JSON Schema 2020-12");
    }
    Some(version)
}
