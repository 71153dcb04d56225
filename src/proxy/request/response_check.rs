//! Checks a response before it is sent to the client, and hides what the caller may not see: it is read whole, up to the size that
//! its schema allows. Where nothing is checked but fields are hidden, a long one goes on as it comes.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderName, HeaderValue, VARY,
};
use http::{HeaderMap, Method, StatusCode};

use super::forward::Forwarded;
use super::record_guard::RecordGuard;
use super::response_body::Held;
use crate::body::{Collected, Pieces, no_memory};
use crate::budget::MemoryBudget;
use crate::chain;
use crate::policy::Route;
use crate::proxy::headers::ResponseFields;
use crate::proxy::upstream::ResponseError;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::mask::Hidden;
use crate::stages::schema::content::Contents;
use crate::stages::schema::response::{Expected, Masking, Requirement};

/// A body of which fields are hidden is held until so many bytes of it have come, so that most that are no JSON can be replaced by
/// a refusal. A longer one is cut short where it turns out to be none.
const HELD: usize = 64 * 1024;

/// What was read of a body.
enum Read {
    Whole(Bytes),
    /// More of it is to come.
    Beginning(Pieces),
    /// It cannot be held, or need not be read to its end to be refused.
    Refused(Pieces, Refusal),
}

/// Checks a response against the schema for its status, if there is one, and hides what the caller may not see. Returns it with
/// what was read of its body.
pub(super) async fn check(
    mut forwarded: Forwarded,
    route: &Route,
    requirement: &Requirement,
    headers: &HeaderMap,
    guard: &mut RecordGuard,
) -> Result<(Forwarded, Held), Refusal> {
    let status = forwarded.head.status;
    // RFC 9110 §6.4.1: these have no body.
    let bodiless = guard.exchange.method == Some(Method::HEAD)
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let hidden = hidden(&mut forwarded, route, requirement, guard);
    let hides = hidden.is_some();
    let contents = if bodiless { None } else { contents(&forwarded, route, requirement, headers, guard)? };
    if bodiless || (contents.is_none() && !hides) {
        return Ok((forwarded, Held::default()));
    }
    let view = guard.view();
    let memory = &view.in_force.memory;
    let masks = hides && !route.mask_reporting.contains(Stage::Response);
    let may_be_nothing = may_be_nothing(status, guard);
    let known = refused_by_head(route, requirement, contents, (hides, masks), headers).filter(|_| !may_be_nothing);
    let in_parts = masks && contents.is_none() && requirement.hides_in_parts(headers);
    let (size, called) = (forwarded.connection.size_hint(), guard.trace.called.as_ref());
    let mut parts = contents.and_then(|contents| requirement.in_parts(contents, headers, &size, memory, called));
    let look = |come: &[u8]| parts.as_mut().is_some_and(|parts| parts.go_on(come));
    let (read, whole) = match read(&mut forwarded, requirement, memory, (in_parts, known), look).await {
        Ok(Read::Whole(whole)) => (Pieces::from([whole.clone()]), Ok(whole)),
        Ok(Read::Refused(pieces, refusal)) => (pieces, Err(refusal)),
        Ok(Read::Beginning(pieces)) => {
            let masking = hidden.map(|hidden| requirement.masking(hidden, memory));
            let begun = begin(masking, pieces, &forwarded).await.inspect_err(|_| guard.discarded());
            return begun.map(|held| (forwarded, held));
        }
        Err(refusal) => {
            guard.discarded();
            return Err(guard.counter.failure().unwrap_or(refusal));
        }
    };
    let nothing = whole.as_ref().is_ok_and(Bytes::is_empty);
    if nothing && (contents.is_none() || may_be_nothing || requirement.accepts_nothing(status)) {
        return Ok((forwarded, read.into()));
    }
    let is_valid = whole.as_ref().is_ok_and(|whole| parts.is_some_and(|parts| parts.ends_valid(whole).is_some()));
    match release(route, requirement, (contents.filter(|_| !is_valid), hidden), headers, whole, guard).await {
        Ok(None) => Ok((forwarded, read.into())),
        Ok(Some(masked)) => {
            // It was decoded.
            forwarded.head.fields.remove(&CONTENT_ENCODING);
            Ok((forwarded, Pieces::from([masked]).into()))
        }
        Err(refusal) => {
            guard.discarded();
            if forwarded.connection.has_ended() {
                forwarded.pool.put(forwarded.connection);
            }
            Err(refusal)
        }
    }
}

/// What the body of a response is checked against, if it is. One that must have no body is refused if there is one.
fn contents<'r>(
    forwarded: &Forwarded,
    route: &Route,
    requirement: &'r Requirement,
    headers: &HeaderMap,
    guard: &mut RecordGuard,
) -> Result<Option<&'r Contents>, Refusal> {
    let status = forwarded.head.status;
    match requirement.of(status, headers) {
        Some(Expected::Contents(contents)) => return Ok(Some(contents)),
        Some(Expected::Nothing) if !forwarded.connection.has_ended() => {
            chain::release_undescribed(route, requirement, status, &mut guard.trace)
                .inspect_err(|_| guard.discarded())?;
        }
        Some(Expected::Nothing) | None => {}
    }
    Ok(None)
}

/// Whether a response may come without a body, and then without a media type: the operation that was called has none.
fn may_be_nothing(status: StatusCode, guard: &RecordGuard) -> bool {
    status.is_success() && guard.trace.called.as_ref().is_some_and(|called| called.is_one_way())
}

/// Why a response is refused whatever its body is, which then need not be read to its end; and whether that is only reported. A mask
/// decides whatever else would be found, unless it only reports.
fn refused_by_head(
    route: &Route,
    requirement: &Requirement,
    contents: Option<&Contents>,
    (hides, masks): (bool, bool),
    headers: &HeaderMap,
) -> Option<(Refusal, bool)> {
    let unmaskable = if hides { Some(requirement.unmaskable(headers)?) } else { None };
    let refusal = match (unmaskable, contents) {
        (Some(unmaskable), contents) if masks || contents.is_none() => unmaskable,
        (_, contents) => requirement.unexpected(contents?, headers)?,
    };
    let reports = contents.is_none() || route.reporting.contains(Stage::Response);
    Some((refusal, reports && !masks))
}

/// Goes on with a body of which this has come, and of which something is hidden.
async fn begin(masking: Option<Masking>, beginning: Pieces, forwarded: &Forwarded) -> Result<Held, Refusal> {
    let Some(mut masking) = masking else { return Ok(beginning.into()) };
    masking.expects(forwarded.connection.size_hint().lower(), beginning.iter().map(Bytes::len).sum())?;
    let mut pieces = Pieces::new();
    for piece in beginning {
        masking.add(piece)?;
        while masking.has_more() {
            pieces.push_back(masking.go_on()?);
            tokio::task::yield_now().await;
        }
    }
    Ok(Held { pieces, masking: Some(Box::new(masking)) })
}

/// Checks a body against what it must look like, and hides what the caller may not see: then it returns what is sent in its
/// place.
async fn release(
    route: &Route,
    requirement: &Requirement,
    (contents, hidden): (Option<&Contents>, Option<Hidden>),
    headers: &HeaderMap,
    body: Result<Bytes, Refusal>,
    guard: &mut RecordGuard,
) -> Result<Option<Bytes>, Refusal> {
    let view = guard.view();
    let (in_force, trace) = (&*view.in_force, &mut guard.trace);
    let Some(hidden) = hidden else {
        return match contents {
            Some(contents) => {
                chain::release(in_force, route, requirement, contents, headers, body, trace).await.map(|()| None)
            }
            None => Ok(None),
        };
    };
    if let Some(contents) = contents {
        chain::release(in_force, route, requirement, contents, headers, body.clone(), trace).await?;
    }
    chain::hide(in_force, route, requirement, hidden, headers, body, trace).await
}

/// Returns what is hidden from the caller, and says in the fields that responses differ by caller. What the upstream says of the
/// length and the bytes of the whole would be wrong, and would tell what is hidden.
fn hidden(forwarded: &mut Forwarded, route: &Route, requirement: &Requirement, guard: &RecordGuard) -> Option<Hidden> {
    const OF_WHOLE: [HeaderName; 7] = [
        CONTENT_LENGTH,
        ETAG,
        ACCEPT_RANGES,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
    ];
    let mask = requirement.mask()?;
    let fields = &mut forwarded.head.fields;
    for name in route.api().credentials().varying() {
        fields.push(VARY, name.into());
    }
    make_private(fields);
    let caller = guard.trace.caller.as_deref();
    let hidden = mask.hidden(|scope| caller.is_some_and(|caller| caller.has(scope)))?;
    OF_WHOLE.iter().for_each(|name| fields.remove(name));
    Some(hidden)
}

/// Says that no shared cache may keep a response: a caller that shows a certificate names itself in no field (RFC 9111 §5.2.2.7). What
/// else the upstream says of caches stays.
fn make_private(fields: &mut ResponseFields) {
    /// For caches of others alone (RFC 9213 §3, and what was there before it).
    const OF_SHARED: [HeaderName; 2] =
        [HeaderName::from_static("cdn-cache-control"), HeaderName::from_static("surrogate-control")];
    OF_SHARED.iter().for_each(|name| fields.remove(name));
    let mut said = String::from("private");
    for (_, value) in fields.iter().filter(|(name, _)| *name == CACHE_CONTROL) {
        match value.to_str() {
            Ok(text) if !text.contains('"') => {
                let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
                let kept = all.filter(|one| {
                    let name = one.split('=').next().unwrap_or_default().trim_end().to_ascii_lowercase();
                    !matches!(&*name, "private" | "public" | "s-maxage")
                });
                kept.for_each(|one| said.extend([", ", one]));
            }
            // Names of fields, as in `private="set-cookie"`: the shortest that is safe whatever they are.
            _ => said.push_str(", no-cache"),
        }
    }
    fields.remove(&CACHE_CONTROL);
    let value = HeaderValue::try_from(said);
    fields.push(CACHE_CONTROL, value.unwrap_or(HeaderValue::from_static("private")));
}

/// Reads the body of a response, within the limit of its size and the memory budget. `in_parts`: if it is long, only its beginning.
/// `known`: why it is refused, unless there is none, and whether that is only reported: then none of it is waited for.
/// `look` sees all that has come, whenever there is more of it, and again as long as it returns true.
async fn read(
    forwarded: &mut Forwarded,
    requirement: &Requirement,
    memory: &MemoryBudget,
    (in_parts, known): (bool, Option<(Refusal, bool)>),
    mut look: impl FnMut(&[u8]) -> bool,
) -> Result<Read, Refusal> {
    let idle = forwarded.pool.idle_timeout();
    let mut collected = Collected::new(memory);
    if let Some((refusal, true)) = &known
        && !forwarded.connection.has_ended()
    {
        return Ok(Read::Refused(Pieces::new(), refusal.clone()));
    }
    loop {
        let connection = &mut forwarded.connection;
        let since = Instant::now();
        connection.deadline().not_after(since + idle);
        let piece = poll_fn(|cx| {
            if let Poll::Ready(piece) = connection.poll_body(cx) {
                return Poll::Ready(Some(piece));
            }
            ready!(connection.deadline().poll(cx, |_| since + idle));
            Poll::Ready(None)
        });
        let data = match piece.await {
            None => {
                forwarded.connection.gave_up();
                return Err(refused(Reason::UpstreamTimeout, "the upstream stopped sending its response"));
            }
            Some(None) => break,
            Some(Some(Err(error))) => return Err(interrupted(&error)),
            // Trailers are not part of what is checked, so they are not forwarded.
            Some(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        let kept = collected.push(data, &forwarded.connection.size_hint());
        if kept.is_err() {
            return Ok(Read::Refused(collected.into_pieces(), no_memory(Stage::Response)));
        }
        if let Some((refusal, _)) = known.as_ref().filter(|_| collected.len() > 0) {
            return Ok(Read::Refused(collected.into_pieces(), refusal.clone()));
        }
        if collected.len() as u64 > requirement.max_size {
            return Ok(Read::Refused(collected.into_pieces(), requirement.too_large()));
        }
        if in_parts && collected.len() > HELD && !forwarded.connection.has_ended() {
            return Ok(Read::Beginning(collected.into_pieces()));
        }
        while look(collected.bytes()) {
            tokio::task::yield_now().await;
        }
    }
    Ok(Read::Whole(collected.into_bytes()))
}

fn interrupted(error: &ResponseError) -> Refusal {
    refused(Reason::InvalidUpstreamResponse, "the upstream ended its response early").cause(error.to_string())
}

fn refused(reason: Reason, detail: &'static str) -> Refusal {
    Refusal::new(Stage::Forward, reason, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_that_differs_by_caller_is_for_no_shared_cache() {
        for (said, expected) in [
            (&[][..], "private"),
            (&["no-store"], "private, no-store"),
            (&["private"], "private"),
            (&["Public, max-age=60 , S-MaxAge=600", "must-revalidate"], "private, max-age=60, must-revalidate"),
            (&["private=\"set-cookie, a\""], "private, no-cache"),
        ] {
            let mut fields = ResponseFields::with_capacity(4);
            for value in said {
                fields.push(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            fields.push(HeaderName::from_static("cdn-cache-control"), HeaderValue::from_static("max-age=60"));
            make_private(&mut fields);
            let all: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            assert_eq!(all, [("cache-control", expected)], "{said:?}");
        }
    }
}
