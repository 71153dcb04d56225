//! Names that the author of a policy chooses: what they may consist of.

use super::context::Context;
use crate::policy::tree::At;

/// Scopes are visible ASCII without `"` and `\` (RFC 6749 §3.3).
pub(super) fn check_scopes(context: &mut Context<'_>, scopes: &[String], at: At<'_>) {
    for (position, scope) in scopes.iter().enumerate() {
        let good = !scope.is_empty() && scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if !good {
            context
                .error(at.index(position), "this is not a scope")
                .help("a scope is visible ASCII without spaces, quotes and backslashes, such as `orders:read`");
        }
    }
}

/// `ISSUER:ID` names callers that the policy does not list, so names in the policy contain no colon.
pub(super) fn plain_name(context: &mut Context<'_>, what: &str, name: &str, at: At<'_>) {
    if name.is_empty() || name.contains(':') || name.len() > 128 {
        context
            .problems
            .error(at.key_place(), format!("this cannot be the name of a {what}"))
            .help("a name has 1 to 128 bytes and no `:`");
    }
}

/// Whether a limit can have this name.
pub(super) fn names_limit(context: &mut Context<'_>, name: &str, what: &str, at: At<'_>) -> bool {
    let visible = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if name.is_empty() || !visible {
        context
            .problems
            .error(at.key_place(), format!("this cannot be the name of a {what}"))
            .help("it is sent in the `RateLimit` header: use visible ASCII without spaces and quotes");
    }
    !name.is_empty() && visible
}
