//! Replaces the secret of a client of the token service, as its owner asks. The old one stays valid for an overlap, so that nothing
//! has to be stopped.
//!
//! The rules are those of keys: a secret replaces only itself, is replaced once, and the next one lives as long as the operator let it
//! live. Two of a client's secrets are good at most. Those that have ended are remembered for a time: a thief that replaces what it has
//! stolen cannot make them forgotten within a day.

use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::json;

use super::input;
use super::new_credential::digest_of;
use super::overlap::{self, Asked};
use super::service::{Service, change, conflict, json, no_random_bytes, refuse};
use crate::audit::{Change as Details, ChangeRecord};
use crate::body::Body;
use crate::chain::Trace;
use crate::exchange::Answer;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::client::Presented;
use crate::stages::auth::client_proof::KnownClient;
use crate::stages::auth::{api_key_format, client_basic};
use crate::state::registry::Registry;
use crate::state::registry::entry::{Change, Client, ClientCredential, ClientSecret, Entry};

/// How long a secret is remembered that has ended.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How many secrets of a client are remembered. It may be replaced every hour.
const MOST_SECRETS: usize = 32;
/// If there are more, those are forgotten that have ended so long ago. So this bounds the pace of changes: a thief of a secret
/// needs a day to make it forgotten, and until then its owner's use of it is noticed.
const NOT_FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);

/// Answers `POST clients/{id}/rotate`.
pub(super) async fn rotate(service: &Service<'_>, body: Body, trace: &mut Trace) -> Result<Box<Answer>, Refusal> {
    let Service { in_force, request, .. } = service;
    let (registry, now) = (&**in_force.registry(), request.now());
    let asked: Asked = input::read(request, body).await?;
    let overlap = overlap::of(&asked)?;
    // Nothing is waited for from here to the verdict: otherwise any number of guesses that come at once would all be tried.
    in_force.auth.permit_attempt(request)?;
    let known = identify(service, trace).await.inspect_err(|refusal| {
        in_force.auth.note_attempt(request, refusal);
    });
    // RFC 6749 §5.2: the challenge is that of the scheme which was used.
    let known = known.map_err(|refusal| refusal.challenges(r#"Basic realm="token""#.to_owned()))?;
    trace.caller = Some(known.caller(&in_force.auth, Vec::new()));
    let Replaceable { stored, old, before } = replaceable(registry, &known, &overlap::id(&request.exchange.path), now)?;
    let secret = api_key_format::mint_client_secret(&stored.id).map_err(|_| no_random_bytes())?;
    // Rotation never extends the life of the old secret.
    let end = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
    let end = old.expires.map_or(end, |expires| expires.min(end));
    let lifetime = old.expires.map(|expires| expires.duration_since(old.created));
    let expires = lifetime.map(|lifetime| now.checked_add(lifetime).unwrap_or(Timestamp::MAX));
    let next = ClientSecret { sha256: digest_of(&secret), created: now, expires };
    let secrets = before.into_iter().chain([ClientSecret { expires: Some(end), ..old }, next]).collect();
    let after = Client { credential: ClientCredential::Secrets(secrets), ..stored.clone() };
    let record = ChangeRecord {
        action: "client_secret_rotated",
        target: format!("{} {}", stored.consumer, stored.id),
        details: Details {
            scopes: stored.scopes.clone().unwrap_or_default(),
            until: expires,
            reason: Some("by its owner".into()),
            drill: None,
        },
    };
    let shown = json!({
        "consumer": stored.consumer, "client_id": stored.id, "client_secret": secret.expose_secret(),
        "expires": expires, "scopes": stored.scopes, "replaced_expires": end,
    });
    let changed = || conflict("the client was changed at this moment; try again");
    let changes = vec![Change::Swap(Box::new((Entry::Client(stored), Entry::Client(after))))];
    change(registry, || Ok(()), changes, record, trace, changed).await?;
    Ok(json(StatusCode::CREATED, &shown))
}

/// The client that asks, by its id and secret.
async fn identify(service: &Service<'_>, trace: &mut Trace) -> Result<KnownClient, Refusal> {
    let Some(tokens) = service.in_force.policy.token_service() else {
        return Err(refuse(Stage::Request, Reason::NotFound, "there is nothing here"));
    };
    let readings = client_basic::readings(basic(service.request.headers)?)?;
    let presented: Vec<_> = readings.iter().map(|(id, secret)| Presented::Secret { id, secret }).collect();
    let (holder, unusual) = (&mut trace.holder, &mut trace.unusual);
    service.in_force.auth.client_by_any(service.request, &presented, &tokens.issuer, holder, unusual).await
}

fn basic(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes()),
        _ => {
            let detail = "send the client's id and its secret as `Authorization: Basic`, once";
            Err(refuse(Stage::Auth, Reason::InvalidClient, detail))
        }
    }
}

/// A client whose secret can be replaced.
struct Replaceable {
    /// The client as it is stored.
    stored: Client,
    /// Its secret.
    old: ClientSecret,
    /// Those before, as far as they are remembered.
    before: Vec<ClientSecret>,
}

fn replaceable(registry: &Registry, known: &KnownClient, id: &str, now: Timestamp) -> Result<Replaceable, Refusal> {
    if *known.client.id != *id {
        return Err(refuse(Stage::Request, Reason::NotFound, "the path names another client than you are"));
    }
    let is_made = known.client.created.is_some();
    let stored = registry.client(id).filter(|_| is_made).ok_or_else(|| {
        conflict("this client is kept by the API's owner, who alone can replace its secret; ask for a new one")
    })?;
    let ClientCredential::Secrets(secrets) = &stored.credential else {
        return Err(conflict("this client has no secret"));
    };
    let Some((newest, before)) = secrets.split_last() else { return Err(conflict("this client has no secret")) };
    if known.secret != Some(newest.sha256) {
        return Err(conflict(
            "this secret was replaced already; if you do not have the next one, ask the API's owner for a new client",
        ));
    }
    if let Some(end) = before.iter().filter_map(|secret| secret.expires).max().filter(|end| *end > now) {
        return Err(conflict(format!("the secret before is valid until {end}; replace this one after that")));
    }
    let before = remembered(before, now).map_err(|again| {
        let detail = "this client has had too many secrets within a day; replace this one after";
        conflict(format!("{detail} {again}, or ask the API's owner for a new one"))
    })?;
    Ok(Replaceable { stored: Client::clone(&stored), old: newest.clone(), before })
}

/// Of the secrets before the one that is replaced now, the oldest first, those that are remembered.
///
/// # Errors
/// There are too many. They are not from this time on.
fn remembered(before: &[ClientSecret], now: Timestamp) -> Result<Vec<ClientSecret>, Timestamp> {
    let ended_for = |secret: &ClientSecret, period| secret.expires.is_some_and(|end| now.duration_since(end) >= period);
    let mut kept: Vec<ClientSecret> = before.iter().filter(|secret| !ended_for(secret, KEPT)).cloned().collect();
    // With the one that is replaced, and the next.
    let surplus = (kept.len() + 2).saturating_sub(MOST_SECRETS);
    if let Some(last) = surplus.checked_sub(1).and_then(|last| kept.get(last))
        && !ended_for(last, NOT_FORGOTTEN)
    {
        return Err(last.expires.unwrap_or(now).checked_add(NOT_FORGOTTEN).unwrap_or(Timestamp::MAX));
    }
    kept.drain(..surplus);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_ended_within_a_day_is_not_forgotten() {
        let at = |hours: i64| Timestamp::from_second(1_795_000_000).unwrap() + SignedDuration::from_hours(hours);
        let secret =
            |age: i64| ClientSecret { sha256: Default::default(), created: at(-age - 1), expires: Some(at(-age)) };
        let (hourly, daily) = (|age: i64| age, |age: i64| age * 24);
        for (ages, expected) in [
            ((0..0).map(hourly).collect::<Vec<i64>>(), Ok(0)),
            ((1..=30).map(hourly).collect(), Ok(30)),
            // 31 that ended every hour: there is always one that ended a day ago.
            ((1..=31).map(hourly).collect(), Ok(30)),
            ((0..=30).map(hourly).collect(), Ok(30)),
            ((1..=31).map(daily).collect(), Ok(30)),
            // Those of long ago go in any case.
            ((88..=95).map(daily).collect(), Ok(2)),
            (vec![0; 30], Ok(30)),
            (vec![0; 31], Err(at(24))),
            ([vec![0; 30], vec![23]].concat(), Err(at(1))),
            ([vec![0; 30], vec![24]].concat(), Ok(30)),
            ([vec![0; 29], vec![23, 24]].concat(), Ok(30)),
            ([vec![0; 30], vec![23, 24]].concat(), Err(at(1))),
        ] {
            let before: Vec<ClientSecret> = ages.iter().rev().copied().map(secret).collect();
            let remembered = remembered(&before, at(0));
            // The oldest go.
            if let Ok(kept) = &remembered {
                assert!(before.ends_with(kept), "{ages:?}");
            }
            assert_eq!(remembered.map(|kept| kept.len()), expected, "{ages:?}");
        }
    }
}
