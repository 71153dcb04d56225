//! How paths are mapped: `strip`, `rewrite`, `encoded_slash`, `upstream.host`, and base paths of servers.

use http::HeaderValue;

use crate::policy::compile::context::Context;
use crate::policy::diagnostic::did_you_mean;
use crate::policy::document;
use crate::policy::path_mapping::{PathMapping, Template};
use crate::policy::router::{PathName, Pattern, Segment};
use crate::policy::tree::At;
use crate::policy::upstream::ForwardedHost;
use crate::stages::schema::segment::{Extent, PathPlace};

/// `strip`.
pub(super) fn strip(context: &mut Context<'_>, written: Option<&str>, at: At<'_>) -> Option<Box<str>> {
    let written = written?;
    match plain_path(written) {
        Ok(()) if written == "/" || written.ends_with('/') => {
            context.error(at, "nothing follows the last slash").help("write it as `/v1`, without a slash at its end");
        }
        Ok(()) => return Some(written.into()),
        Err(problem) => {
            context.error(at, format!("this is not a path: {problem}")).help("write it as `/v1`");
        }
    }
    None
}

/// The base path in the URL of a server: empty, or without a slash at its end.
pub(super) fn base(context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<Box<str>> {
    let base = path.trim_end_matches('/');
    if base.is_empty() {
        return Some(Box::default());
    }
    match plain_path(base) {
        Ok(()) => Some(base.into()),
        Err(problem) => {
            let message = format!("the path of this URL cannot be put before another: {problem}");
            context.error(at, message).help("write it as `http://10.1.0.7:9000/base`");
            None
        }
    }
}

/// What is wrong with a path that has no names.
fn plain_path(path: &str) -> Result<(), String> {
    let pattern = Pattern::parse(&format!("GET {path}"))?;
    if pattern.names().is_empty() { Ok(()) } else { Err("it has no `{`".to_owned()) }
}

/// `upstream.host`.
pub(super) fn host(context: &mut Context<'_>, written: Option<&str>, at: At<'_>) -> ForwardedHost {
    let Some(text) = written else { return ForwardedHost::Server };
    match text {
        "upstream" => return ForwardedHost::Server,
        "preserve" => return ForwardedHost::Preserved,
        _ => {}
    }
    if let Some(help) = did_you_mean(text, ["upstream", "preserve"]) {
        context.error(at, format!("`{text}` is neither `upstream` nor `preserve`, and hardly a host")).help(help);
        return ForwardedHost::Server;
    }
    let is_host = text.parse::<http::uri::Authority>().is_ok_and(|authority| {
        let name = authority.host();
        authority == *text && !text.contains('@') && !name.is_empty() && !name.contains('%')
    });
    match HeaderValue::from_str(text) {
        Ok(value) if is_host => ForwardedHost::Literal(value),
        _ => {
            context
                .error(at, "this is not a host")
                .help("write `upstream`, `preserve`, or a host such as `orders.internal`");
            ForwardedHost::Server
        }
    }
}

/// `encoded_slash`: whether it is kept.
pub(super) fn keeps_encoded_slash(context: &mut Context<'_>, written: Option<&str>, at: At<'_>) -> bool {
    match written {
        None | Some("refuse") => false,
        Some("keep") => true,
        Some(other) => {
            context.unknown(at, "behaviour", other, ["keep", "refuse"]);
            false
        }
    }
}

/// What becomes of the path of a route: its `rewrite`, or `strip` of its API.
pub(super) fn of_route(
    context: &mut Context<'_>,
    route: &document::Route,
    strip: Option<&str>,
    pattern: &Pattern,
    at: At<'_>,
) -> PathMapping {
    if let Some(written) = &route.rewrite {
        return rewrite(context, written, pattern.names(), at.key("rewrite"));
    }
    let Some(strip) = strip else { return PathMapping::Same };
    let is_text = |(wanted, segment): (&str, &Segment)| matches!(segment, Segment::Text(text) if **text == *wanted);
    let wanted = strip.split('/').skip(1);
    let (_, segments) = pattern.requests();
    if wanted.clone().count() > segments.len() || !wanted.zip(segments).all(is_text) {
        context
            .problems
            .error(at.key_place(), format!("`strip` is `{strip}`, and this route does not begin with it"))
            .help(format!("write it as `{} {strip}/…`, or give it a `rewrite`", pattern.method));
    }
    PathMapping::Strip(strip.into())
}

fn rewrite(context: &mut Context<'_>, written: &str, names: &[PathName], at: At<'_>) -> PathMapping {
    let mut reported = false;
    let read = Template::read(written, |name| {
        let place = place(context, name, names, at);
        reported = place.is_none();
        place
    });
    match read {
        Some((template, sample)) => match plain_path(&sample) {
            Ok(()) => return PathMapping::Rewrite(template),
            Err(problem) => {
                context.error(at, format!("this is not a path: {problem}")).help("write it as `/internal/{id}`");
            }
        },
        None if !reported => drop(context.error(at, "`{` is never closed")),
        None => {}
    }
    PathMapping::Same
}

/// The name in the braces of a `rewrite`: one of the route's own, in the form that it has there.
fn place(context: &mut Context<'_>, written: &str, names: &[PathName], at: At<'_>) -> Option<PathPlace> {
    let name = written.strip_suffix("...").unwrap_or(written);
    let Some(known) = names.iter().find(|known| *known.name == *name) else {
        let known = names.iter().map(|known| &*known.name);
        let help = did_you_mean(name, known.clone()).unwrap_or_else(|| match names.is_empty() {
            true => "the path of the route has no names".to_owned(),
            false => format!("it has {}", known.collect::<Vec<_>>().join(", ")),
        });
        context.error(at, format!("the path of this route has no name `{name}`")).help(help);
        return None;
    };
    let is_rest = known.place.extent == Extent::Rest;
    if is_rest != written.ends_with("...") {
        let form = if is_rest { format!("{{{name}...}}") } else { format!("{{{name}}}") };
        context.error(at, format!("`{{{written}}}` is not how the route has it")).help(format!("write `{form}`"));
        return None;
    }
    Some(known.place.clone())
}
