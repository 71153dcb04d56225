//! `consumers.*.keys.*.rotate`: keys that are made on schedule.

use std::time::Duration;

use jiff::SignedDuration;

use super::context::Context;
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::secrets::vault::VaultReference;
use crate::stages::auth::api_key_format::is_id;
use crate::stages::auth::key_rotation::KeyRotation;

/// Bounds of `every`.
const EVERY: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(400 * 24 * 3600));
/// Default of `overlap`, and its shortest value.
const OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);
const MIN_OVERLAP: Duration = Duration::from_secs(60);
/// Longest id: a number is added to it.
const MAX_ID: usize = 48;
/// What `deliver` begins with.
const SCHEME: &str = "vault:";

/// One of the keys of a consumer that has `rotate`; `at` is the key.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    (consumer, key, written): (&str, &document::Key, &document::KeyRotation),
    max_key_age: Option<SignedDuration>,
    at: At<'_>,
) -> Option<KeyRotation> {
    for name in ["sha256", "created", "not_before", "expires"] {
        if at.key(name).present() {
            let message = format!("`{name}` is of a key that you make, and those that rotate are made here");
            context.error(at.key(name), message).help("remove it, or write another entry for that key");
        }
    }
    let id = key.id.as_deref();
    match id {
        None => {
            context.missing(at, "keys that rotate need an `id`", "write `id: NAME`; the keys are `NAME-1`, `NAME-2`");
        }
        Some(id) if !is_id(id) || id.len() > MAX_ID => {
            let message = "the id of keys that rotate is part of the keys";
            let help = format!("write 1 to {MAX_ID} lower-case letters, digits and `-`");
            context.error(at.key("id"), message).help(help);
        }
        Some(_) => {}
    }
    let at = at.key("rotate");
    if document.store.is_none() {
        let help = "write `store: state/` for one node, or `store: { redis: URL }` for several";
        context.missing(at, "keys that rotate need a store", help);
    }
    let (every, overlap) = times(context, written, max_key_age, at)?;
    let deliver = place(context, document, written, at.key("deliver"))?;
    let scopes = key.scopes.as_ref();
    Some(KeyRotation {
        id: id?.into(),
        consumer: consumer.into(),
        scopes: scopes.map(|scopes| scopes.iter().map(|scope| Box::from(scope.as_str())).collect()),
        networks: None,
        every,
        overlap,
        deliver,
    })
}

/// `every` and `overlap`.
fn times(
    context: &mut Context<'_>,
    written: &document::KeyRotation,
    max_key_age: Option<SignedDuration>,
    at: At<'_>,
) -> Option<(SignedDuration, SignedDuration)> {
    let overlap = context.period(at.key("overlap"), written.overlap, OVERLAP);
    if overlap < MIN_OVERLAP {
        context
            .error(at.key("overlap"), "the consumer would have no time to read the next key")
            .help("write at least `1m`, and more than the time for which it keeps what it has read");
    }
    if written.every.is_none() {
        context.missing(at.key("every"), "`every` is missing", "write how long a key is used, such as `every: 30d`");
        return None;
    }
    let every = context.period(at.key("every"), written.every, EVERY.1);
    if !(EVERY.0..=EVERY.1).contains(&every) {
        context.error(at.key("every"), "a key is used for 1h to 400d");
    } else if every <= overlap {
        let message = "the next key would be made before the key before it has ended";
        context.error(at.key("every"), message).help("write more than `overlap`, which is `7d` by default");
    }
    let (every, overlap) = (SignedDuration::try_from(every).ok()?, SignedDuration::try_from(overlap).ok()?);
    if max_key_age.is_some_and(|most| every.saturating_add(overlap) > most) {
        context
            .error(at.key("every"), "a key would be refused before its end: `auth.api_keys.max_key_age` is shorter")
            .help("write less, so that `every` and `overlap` together are at most `max_key_age`");
    }
    Some((every, overlap))
}

/// `deliver`.
fn place(
    context: &mut Context<'_>,
    document: &Document,
    written: &document::KeyRotation,
    at: At<'_>,
) -> Option<VaultReference> {
    const HELP: &str =
        "write `deliver: \"vault:MOUNT/PATH#FIELD\"`, such as `vault:kv/partners/acme#key`, without `${…}`";
    let Some(text) = &written.deliver else {
        context.missing(at, "`deliver` is missing", HELP);
        return None;
    };
    let parsed = text.strip_prefix(SCHEME).and_then(|text| VaultReference::parse(text).ok());
    let Some(parsed) = parsed else {
        context.error(at, "this is not the field of a secret").help(HELP);
        return None;
    };
    if parsed.secret.version.is_some() {
        context.error(at, "a version of a secret cannot be changed").help("leave out `@VERSION`");
    }
    if document.secrets.vault.is_none() {
        context
            .error(at, "the policy does not say where the vault is")
            .help("write `secrets: { vault: { address: URL, login: … } }`");
    }
    Some(parsed)
}
