//! `powerful_scopes`: the scopes whose routes `bartizan ready` looks at more closely.

use std::sync::Arc;

use super::context::Context;
use crate::policy::Route;
use crate::policy::document::Document;
use crate::policy::tree::At;

/// A name that no route requires would protect nothing, and nobody would notice.
pub(super) fn check(context: &mut Context<'_>, document: &Document, routes: &[Arc<Route>], at: At<'_>) {
    // Where something has an error, routes may be missing.
    if document.powerful_scopes.is_empty() || context.problems.has_errors() {
        return;
    }
    let known = || routes.iter().flat_map(|route| route.all_scopes());
    for (position, scope) in document.powerful_scopes.iter().enumerate() {
        if !known().any(|one| one == scope) {
            context.unknown(at.index(position), "scope that a route requires, called", scope, known());
        }
    }
}
