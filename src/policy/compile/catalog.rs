//! `catalog`: checks that each entry is a URL, and that its file or folder exists.

use super::context::Context;
use crate::policy::catalog::{Catalog, is_prefix};
use crate::policy::document::Document;
use crate::policy::source::quote;
use crate::policy::tree::At;

/// `catalog`.
pub(super) fn compile(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Catalog {
    let at = at.key("catalog");
    for (url, place) in &document.catalog {
        let at = at.key(url);
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        if !scheme.is_some_and(|scheme| scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            let help = "write the URL as it is in `$ref`, such as `https://example.com/schemas/`";
            context.problems.error(at.key_place(), "this is not a URL").help(help);
        }
        let path = context.sources.path(place);
        let (kind, fits) = match is_prefix(url) {
            true => ("folder", path.is_dir()),
            false => ("file", path.is_file()),
        };
        if place.is_empty() || !fits {
            let help = match is_prefix(url) {
                true => "a URL that ends with `/` stands for all that begin with it, and has a folder",
                false => "a URL has a file; to name a folder, end the URL with `/`",
            };
            context.error(at, format!("there is no {kind} {}", quote(place))).help(help);
        }
    }
    Catalog::new(&document.catalog)
}
