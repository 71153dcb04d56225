//! `security` of a description: alternatives, each of schemes that must all be satisfied.
//!
//! - `oauth2` and `openIdConnect`: a caller with these scopes. `http: bearer`, `apiKey` in a header or in the query, and a token in a
//!   cookie: a known caller (with these scopes, where roles are listed). `mutualTLS`: one with a client certificate, too. Where keys
//!   and tokens are is the policy's to say.
//! - An alternative without schemes is ignored beside others: closed by default.
//! - Schemes that are required together are one credential, with the client certificate that it comes with. Two tokens are
//!   one, which needs the scopes of both, and this is reported: a request has one `Authorization`.
//! - Passwords, and two credentials in one request are not supported; an alternative
//!   that needs them is left out and reported. An operation is closed if none remains.

use std::fmt;

use super::diagnostics::Diagnostics;
use super::files::{Node, Spot};
use super::reading::Reading;
use crate::policy::source::quote;

/// Who may call an operation.
#[derive(Debug, Clone)]
pub(crate) enum Security {
    /// No credential is required: `security` is empty or absent.
    Open,
    /// One of these must be satisfied.
    AnyOf(Vec<Alternative>),
    /// Its requirements are not supported: where, and why.
    Unknown(Spot, String),
}

/// What a caller must present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alternative {
    /// All of them.
    pub(crate) scopes: Vec<String>,
    /// A client certificate.
    pub(crate) certificate: bool,
    /// A token.
    pub(crate) bearer: bool,
    /// The cookie that its token is in, if it is in one.
    pub(crate) cookie: Option<String>,
    /// Where its API key is.
    pub(crate) key: Option<DescribedKey>,
}

/// Where an API key is, by a name that need not be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DescribedKey {
    Header(String),
    Query(String),
}

/// As the policy names the place: `header: NAME`.
impl fmt::Display for DescribedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header: {name}"),
            Self::Query(name) => write!(f, "query: {name}"),
        }
    }
}

/// An issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issuer {
    /// Name of the scheme.
    pub(crate) name: String,
    /// URL of discovery, or of the token endpoint.
    pub(crate) url: String,
    /// Whether `url` is the discovery URL.
    pub(crate) discovery: bool,
}

/// Reads the `security` of an operation; `root` has the schemes, and the default where the operation has none.
pub(super) fn read(reading: &mut Reading<'_>, operation: &Node<'_>, root: &Node<'_>) -> Security {
    let Some(written) = operation.get("security").or_else(|| root.get("security")) else { return Security::Open };
    if !written.value.is_array() {
        return Security::Unknown(Spot::of(&written), "`security` is a list of requirements".to_owned());
    }
    let mut alternatives: Vec<Alternative> = Vec::new();
    let (mut nothing, mut failed) = (written.items().next().is_none(), None);
    for requirement in written.items() {
        if requirement.value.as_object().is_some_and(serde_json::Map::is_empty) {
            nothing = true;
            continue;
        }
        match alternative(&requirement, root, &mut reading.diagnostics) {
            Ok(alternative) if alternatives.contains(&alternative) => {}
            Ok(alternative) => alternatives.push(alternative),
            Err((at, problem)) => {
                failed.get_or_insert((at, problem));
            }
        }
    }
    match (alternatives.is_empty(), failed) {
        (true, Some((at, problem))) => Security::Unknown(Spot::of(&at), problem),
        (true, None) => Security::Open,
        (false, failed) => {
            if let Some((at, problem)) = failed {
                reading.diagnostics.warning(&at, format!("{problem}; the other alternatives remain"));
            }
            if nothing {
                tell_optional(&mut reading.diagnostics, &written);
            }
            Security::AnyOf(alternatives)
        }
    }
}

fn tell_optional(diagnostics: &mut Diagnostics, written: &Node<'_>) {
    diagnostics
        .warning(written, "`{}` makes credentials optional, but here one is required")
        .help("the policy may open an operation: `routes: { GET /path: { public: true } }`");
}

fn alternative<'d>(
    requirement: &Node<'d>,
    root: &Node<'d>,
    diagnostics: &mut Diagnostics,
) -> Result<Alternative, (Node<'d>, String)> {
    const TWO: &str = "a request with two credentials is not accepted";
    if !requirement.value.is_object() {
        return Err((requirement.clone(), "a requirement has security schemes, each with a list of scopes".to_owned()));
    }
    let mut tokens = 0;
    let mut alternative =
        Alternative { scopes: Vec::new(), certificate: false, bearer: false, cookie: None, key: None };
    let schemes = root.get("components").and_then(|components| components.get("securitySchemes"));
    for (name, scopes) in requirement.entries() {
        let scheme = schemes.as_ref().and_then(|schemes| schemes.get(name)).ok_or_else(|| {
            (requirement.clone(), format!("there is no security scheme {} under `components`", quote(name)))
        })?;
        let scheme = scheme.resolved().map_err(|problem| (scheme.clone(), problem))?;
        let fail = |problem: &str| Err((scheme.clone(), format!("{}: {problem}", quote(name))));
        match scheme.text("type").unwrap_or_default() {
            "oauth2" | "openIdConnect" => tokens += 1,
            "http" if scheme.text("scheme").is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer")) => {
                tokens += 1;
            }
            "http" => return fail("`bearer` is the only HTTP scheme that is supported"),
            "apiKey" if scheme.text("in") == Some("header") => {
                // An API key in `Authorization` is a bearer token under another name.
                match scheme.text("name") {
                    None => return fail("an API key in a header needs its `name`"),
                    Some(header) if header.eq_ignore_ascii_case("authorization") => tokens += 1,
                    _ if alternative.key.is_some() => return Err((requirement.clone(), TWO.to_owned())),
                    Some(header) => alternative.key = Some(DescribedKey::Header(header.to_owned())),
                }
            }
            "apiKey" => match (scheme.text("in"), scheme.text("name")) {
                (Some("query"), Some(_)) if alternative.key.is_some() => {
                    return Err((requirement.clone(), TWO.to_owned()));
                }
                (Some("query"), Some(name)) => alternative.key = Some(DescribedKey::Query(name.to_owned())),
                // Browsers keep sessions there: a token, not a key that somebody has been given.
                (Some("cookie"), Some(name)) => {
                    tokens += 1;
                    alternative.cookie = Some(name.to_owned());
                }
                _ => return fail("an API key needs `in`, `header`, `query` or `cookie`, and a `name`"),
            },
            "mutualTLS" => alternative.certificate = true,
            other => return fail(&format!("{} is not a type of security scheme", quote(other))),
        }
        add_scopes(&mut alternative.scopes, name, scopes)?;
    }
    alternative.bearer = tokens > 0;
    if alternative.bearer && alternative.key.is_some() {
        return Err((requirement.clone(), TWO.to_owned()));
    }
    if tokens > 1 {
        diagnostics.warning(requirement, "a request has one token, which here needs the scopes of all these schemes");
    }
    Ok(alternative)
}

/// Adds the scopes that a scheme needs.
fn add_scopes<'d>(known: &mut Vec<String>, scheme: &str, scopes: Node<'d>) -> Result<(), (Node<'d>, String)> {
    if !scopes.value.is_array() {
        return Err((scopes, format!("{}: its scopes are a list", quote(scheme))));
    }
    for scope in scopes.items() {
        match scope.value.as_str() {
            Some(text) if is_scope(text) => {
                if !known.iter().any(|known| known == text) {
                    known.push(text.to_owned());
                }
            }
            _ => return Err((scope, "this is not a scope".to_owned())),
        }
    }
    Ok(())
}

/// Visible ASCII without `"` and `\` (RFC 6749 §3.3).
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// The issuers of the tokens that a description asks for.
pub(super) fn issuers(root: &Node<'_>) -> Vec<Issuer> {
    let schemes = root.get("components").and_then(|components| components.get("securitySchemes"));
    let schemes = schemes.iter().flat_map(Node::entries);
    schemes
        .filter_map(|(name, scheme)| {
            let scheme = scheme.resolved().ok()?;
            let (url, discovery) = match scheme.text("type")? {
                "openIdConnect" => (scheme.text("openIdConnectUrl")?, true),
                "oauth2" => {
                    let flows = scheme.get("flows")?;
                    let url = |(_, flow): (&str, Node<'_>)| {
                        flow.text("tokenUrl").or_else(|| flow.text("authorizationUrl")).map(str::to_owned)
                    };
                    return flows.entries().find_map(url).map(|url| Issuer {
                        name: name.to_owned(),
                        url,
                        discovery: false,
                    });
                }
                _ => return None,
            };
            Some(Issuer { name: name.to_owned(), url: url.to_owned(), discovery })
        })
        .collect()
}
