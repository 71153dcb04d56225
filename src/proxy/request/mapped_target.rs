//! The target for the upstream: the path that was matched, as `strip` or `rewrite` maps it, and the query as received.

use std::borrow::Cow;

use super::path::{EncodedSlashes, normalise};
use super::target::malformed;
use crate::policy::Route;
use crate::policy::path_mapping::PathMapping;
use crate::refusal::Refusal;

/// Maps a target, a path in normal form with its query, for the upstream of its route. Returns the new path, if there is one.
///
/// # Errors
/// The mapped path is not in normal form: then values of the route's names, put together, mean something else than each does.
pub(crate) fn map(route: &Route, target: &mut Cow<'_, str>) -> Result<Option<Box<str>>, Refusal> {
    if route.mapping == PathMapping::Same {
        return Ok(None);
    }
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mapped = route.mapping.apply(path).ok_or_else(ambiguous)?;
    match normalise(&mapped, EncodedSlashes::of(route.keeps_encoded_slash)) {
        Ok(Cow::Borrowed(_)) => {}
        _ => return Err(ambiguous()),
    }
    let path = Box::from(&*mapped);
    *target = Cow::Owned(format!("{mapped}{query}"));
    Ok(Some(path))
}

#[cold]
fn ambiguous() -> Refusal {
    malformed("write the path so that its parts can be told apart: they are put together in another way for the API")
}
