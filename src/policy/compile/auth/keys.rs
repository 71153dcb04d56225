//! The keys that verify the tokens of an issuer: discovered, a key set, a public key, or a shared secret.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::policy::compile::context::Context;
use crate::policy::document;
use crate::policy::tree::At;
use crate::stages::auth::key_location::{Location, RemoteKeys};
use crate::stages::auth::key_set::KeySet;
use crate::url::{Form, HttpUrl};

/// Default of `clock_skew`, in seconds.
pub(super) const CLOCK_SKEW: i64 = 30;

/// Values of `algorithms`.
pub(super) const ALGORITHMS: [&str; 12] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"];

/// Default of `stale_for`.
const STALE_FOR: Duration = Duration::from_secs(24 * 3600);

/// A longer time gets a warning: withdrawn keys stay valid for that long when the issuer cannot be reached.
const LONG_STALE_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a PEM block begins (RFC 7468 §2).
const PEM: &str = "-----BEGIN ";

/// A secret with less entropy than this is refused, however long it is, in bits.
pub(in crate::policy::compile) const MIN_ENTROPY: f64 = 96.0;

/// The keys of one issuer.
#[derive(Clone)]
pub(in crate::policy::compile) enum Keys {
    /// Those of a file or a secret.
    Fixed(Arc<KeySet>),
    /// Those to fetch.
    Remote(Box<RemoteKeys>),
}

/// Compiles the keys of an issuer with this `iss`.
pub(super) fn compile(
    context: &mut Context<'_>,
    written: &document::Issuer,
    iss: Option<&str>,
    at: At<'_>,
) -> Option<Keys> {
    let given = [
        ("jwks", written.jwks.is_some()),
        ("public_key", written.public_key.is_some()),
        ("secret", written.secret.is_some()),
    ];
    let mut given = given.into_iter().filter_map(|(key, given)| given.then_some(key));
    if let (Some(one), Some(other)) = (given.next(), given.next()) {
        context.error(at.key(other), format!("an issuer has `{one}` or `{other}`, not both"));
        return None;
    }
    match (&written.jwks, &written.public_key, &written.secret) {
        (Some(jwks), ..) if jwks.contains("://") => remote_keys(context, written, jwks, at),
        (Some(jwks), ..) => jwks_file(context, jwks, at.key("jwks")),
        (_, Some(path), _) => public_key(context, path, at.key("public_key")),
        (.., Some(secret)) => shared_secret(context, written, secret, at.key("secret")),
        (None, None, None) => discovered_keys(context, written, iss, at),
    }
}

/// The keys of a tenant's issuer: each has its own metadata, unless they share a key set.
pub(super) fn of(context: &mut Context<'_>, keys: &Keys, iss: &str, at: At<'_>) -> Option<Keys> {
    match keys {
        Keys::Remote(remote) if matches!(remote.location, Location::Discover { .. }) => {
            let location = discovery(context, iss, at)?;
            Some(Keys::Remote(Box::new(RemoteKeys { location, ..(**remote).clone() })))
        }
        keys => Some(keys.clone()),
    }
}

/// Where the metadata of an issuer are.
fn discovery(context: &mut Context<'_>, iss: &str, at: At<'_>) -> Option<Location> {
    let why = match HttpUrl::parse(iss, Form::IDENTIFIER) {
        Ok(url) if url.is_safe() => match Location::discover(iss, &url) {
            Some(location) => return Some(location),
            None => "the URLs of its metadata would not be valid",
        },
        Ok(_) => "responses over plain http can be replaced in transit",
        Err(error) => error.message,
    };
    context.error(at.key("issuer"), format!("the keys of this issuer cannot be discovered: {why}")).help(
        "correct its URL; or write `jwks:` with the URL or file of its key set, or `public_key:` with a PEM file",
    );
    None
}

/// RFC 7518 §3.2: the secret is at least as long as the hash.
fn shared_secret(
    context: &mut Context<'_>,
    written: &document::Issuer,
    secret: &SecretString,
    at: At<'_>,
) -> Option<Keys> {
    let least = match written.algorithms.iter().map(String::as_str).max() {
        Some("HS512") => 64,
        Some("HS384") => 48,
        _ => 32,
    };
    let secret = secret.expose_secret().as_bytes();
    if secret.len() < least {
        context.error(at, format!("the secret is too short: it needs at least {least} bytes (RFC 7518)"));
        return None;
    }
    if max_entropy(secret) < MIN_ENTROPY {
        context
            .error(at, "the secret is long enough, but can be guessed (RFC 8725 §3.5)")
            .help("it repeats a few characters; generate one: `openssl rand -hex 32`");
        return None;
    }
    Some(fixed(KeySet::from_secret(secret)))
}

/// Upper bound of a secret's entropy in bits: as if each byte were chosen at random from those that occur in it.
pub(in crate::policy::compile) fn max_entropy(secret: &[u8]) -> f64 {
    let mut different = secret.to_vec();
    different.sort_unstable();
    different.dedup();
    secret.len() as f64 * (different.len() as f64).log2()
}

fn remote_keys(context: &mut Context<'_>, written: &document::Issuer, jwks: &str, at: At<'_>) -> Option<Keys> {
    let url = safe_url(context, jwks, at.key("jwks"))?;
    fetched(context, written, Location::Jwks(url.uri().clone()), at)
}

fn discovered_keys(
    context: &mut Context<'_>,
    written: &document::Issuer,
    iss: Option<&str>,
    at: At<'_>,
) -> Option<Keys> {
    // Its absence is reported elsewhere; so is a key that may be a misspelt `jwks`, and a value that cannot be used.
    let damaged = ["jwks", "public_key", "secret"].into_iter().any(|key| at.key(key).damaged());
    let location = discovery(context, iss.filter(|_| !damaged)?, at)?;
    fetched(context, written, location, at)
}

fn fetched(context: &mut Context<'_>, written: &document::Issuer, location: Location, at: At<'_>) -> Option<Keys> {
    let stale_for = context.period(at.key("stale_for"), written.stale_for, STALE_FOR);
    if stale_for > LONG_STALE_FOR {
        context
            .warning(at.key("stale_for"), "keys that the issuer has withdrawn are used for this long when it is down")
            .help("a day or two outlasts most outages");
    }
    let trust = context.trust(written.ca.as_ref(), at)?;
    let keys = RemoteKeys { location, stale_for, trust, egress: Arc::clone(&context.egress) };
    Some(Keys::Remote(Box::new(keys)))
}

/// Parses a URL whose responses cannot be replaced on the way.
pub(super) fn safe_url(context: &mut Context<'_>, text: &str, at: At<'_>) -> Option<HttpUrl> {
    match HttpUrl::parse(text, Form::DOCUMENT) {
        Ok(url) if url.is_safe() => Some(url),
        Ok(_) => {
            context
                .error(at, "responses over plain http can be replaced in transit")
                .help("use https (`ca:` names a private authority); http is accepted on this machine only");
            None
        }
        Err(error) => {
            context.error(at, error.message).help(error.help);
            None
        }
    }
}

pub(in crate::policy::compile) fn jwks_file(context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<Keys> {
    let text = context.read(at, path)?;
    if text.text.contains(PEM) {
        context
            .error(at, format!("{} is a PEM file, not a JWKS", text.name))
            .help("write `public_key:` in place of `jwks:`");
        return None;
    }
    let set = KeySet::from_jwks(text.text.as_bytes()).map(|(set, skipped)| {
        for reason in skipped {
            context.warning(at, format!("{}: {reason}; it is not used", text.name));
        }
        set
    });
    set.map_err(|problem| context.error(at, format!("{} {problem}", text.name))).ok().map(fixed)
}

fn public_key(context: &mut Context<'_>, path: &str, at: At<'_>) -> Option<Keys> {
    const HELP: &str = "write `jwks:` for the URL or file of a key set";
    if path.contains("://") {
        context.error(at, "this is a URL, not a PEM file").help(HELP);
        return None;
    }
    let text = context.read(at, path)?;
    match KeySet::from_pem(&text.text) {
        Ok(set) => Some(fixed(set)),
        Err(problem) => {
            let problem = context.error(at, format!("{} {problem}", text.name));
            if !text.text.contains(PEM) {
                problem.help(HELP);
            }
            None
        }
    }
}

fn fixed(set: KeySet) -> Keys {
    Keys::Fixed(Arc::new(set))
}
