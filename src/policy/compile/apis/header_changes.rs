//! `headers.request` and `headers.response` of an API: `set` and `remove`.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::policy::compile::context::Context;
use crate::policy::header_changes::{HeaderChanges, reserved_in_requests, reserved_in_responses};
use crate::policy::tree::At;
use crate::policy::{Api, Route};

/// Says why a field with this name cannot be changed.
type Reserved = fn(&str) -> Option<&'static str>;

/// `headers.request`, without `keep`.
pub(super) fn of_requests(
    context: &mut Context<'_>,
    set: &BTreeMap<String, String>,
    removed: &[String],
    at: At<'_>,
) -> HeaderChanges {
    changes(context, set, removed, reserved_in_requests, at)
}

/// `headers.response`.
pub(super) fn of_responses(
    context: &mut Context<'_>,
    set: &BTreeMap<String, String>,
    removed: &[String],
    at: At<'_>,
) -> HeaderChanges {
    changes(context, set, removed, reserved_in_responses, at)
}

fn changes(
    context: &mut Context<'_>,
    set: &BTreeMap<String, String>,
    removed: &[String],
    reserved: Reserved,
    at: At<'_>,
) -> HeaderChanges {
    let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (written, value) in set {
        let at = at.key("set").key(written);
        let Some(name) = name(context, written, reserved, at, true) else { continue };
        if fields.iter().any(|(known, _)| *known == name) {
            context.problems.error(at.key_place(), format!("`{name}` is set twice"));
            continue;
        }
        match HeaderValue::from_str(value) {
            Ok(mut value) if value.to_str().is_ok() => {
                // It may be a secret.
                value.set_sensitive(true);
                fields.push((name, value));
            }
            _ => {
                context.error(at, "this cannot be the value of a header").help("write visible ASCII on one line");
            }
        }
    }
    let mut names = Vec::new();
    for (position, written) in removed.iter().enumerate() {
        let at = at.key("remove").index(position);
        let Some(name) = name(context, written, reserved, at, false) else { continue };
        if fields.iter().any(|(set, _)| *set == name) {
            context.error(at, format!("`{name}` is set, which removes all others with its name"));
        }
        names.push(name);
    }
    HeaderChanges::new(fields, &names)
}

/// A name that may be changed; a problem of a key is reported at the key.
fn name(context: &mut Context<'_>, written: &str, reserved: Reserved, at: At<'_>, is_key: bool) -> Option<HeaderName> {
    let place = if is_key { at.key_place() } else { at.place() };
    let Ok(name) = written.parse::<HeaderName>() else {
        let problem = context.problems.error(place, "this is not the name of a header");
        problem.help("write one name, such as `x-debug`");
        return None;
    };
    if let Some(why) = reserved(name.as_str()) {
        context.problems.error(place, format!("`{name}` cannot be changed: {why}"));
        return None;
    }
    Some(name)
}

/// Reports fields of requests that are validated, and changed afterwards.
pub(super) fn check_validated<'r>(
    context: &mut Context<'_>,
    api: &Api,
    routes: impl Iterator<Item = &'r Route>,
    at: At<'_>,
) {
    for route in routes {
        if let Some(name) = route.decisive_headers().find(|name| api.request_headers().drops(name.as_str())) {
            let message = format!("`{}` validates `{name}`, so the upstream must get it as it came", route.name());
            context.error(at, message).help("remove it here, or from what the route validates");
        }
    }
}
