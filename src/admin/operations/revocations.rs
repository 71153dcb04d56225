//! Revocations: creates, lists and undoes them. Revoking again never narrows an existing revocation.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::page::Page;
use super::{Completed, Operation, Result, details, input, missing, sha256, store_error, text, view};
use crate::stages::auth::token;
use crate::state::registry::entry::{Change, Entry, Kind, Revocation, hex};
use crate::state::registry::revocation_key::RevocationTarget;

/// How far the clocks of operators may be ahead.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

impl Operation<'_> {
    pub(super) async fn revocations(&self) -> Result<Completed> {
        let Page { limit, after } = self.page()?;
        let found = self.registry().page(Kind::Revocation, after, limit + 1).await;
        let found = found.map_err(|error| store_error(&error))?;
        let next = if found.len() > limit { found.get(limit - 1).map(Entry::id) } else { None };
        let shown = found.iter().take(limit).filter_map(|entry| match entry {
            Entry::Revocation(revocation) => Some(view::revocation(revocation)),
            _ => None,
        });
        Ok(Completed::shown(json!({"items": shown.collect::<Vec<_>>(), "next": next})))
    }

    pub(super) async fn revocation(&self, id: &str) -> Result<Revocation> {
        match self.registry().get(Kind::Revocation, id).await.map_err(|error| store_error(&error))? {
            Some(Entry::Revocation(revocation)) => Ok(revocation),
            _ => Err(missing("there is no revocation with this id")),
        }
    }

    pub(super) async fn revoke(&self) -> Result<Completed> {
        let written: input::Revocation = input::read(self.body)?;
        let issued_before = written.issued_before.as_ref();
        let issued_before = issued_before.map(|at| at.at("/issued_before", self.now)).transpose()?;
        let future = issued_before.is_some_and(|at| at > self.now.checked_add(CLOCK_SKEW).unwrap_or(self.now));
        if future && written.allow_future != Some(true) {
            return Err(input::wrong(
                "/issued_before",
                "this is in the future, so credentials that do not exist yet would be revoked, too; if that is meant, send \
                 `allow_future: true` (`--yes` on the command line)",
            ));
        }
        let expires = written.expires.as_ref().map(|at| at.at("/expires", self.now)).transpose()?;
        let reason = text(written.reason.clone())?;
        let force = written.force;
        let (target, end) = self.target(written, issued_before)?;
        self.check_target(&target, force)?;
        let hit = self.hit(&target).await;
        let mut revocation = Revocation {
            target,
            issued_before,
            expires: expires.or(end),
            reason,
            created: self.now,
            created_by: self.by.into(),
        };
        let id = revocation.target.id();
        let (target, details) = details::revocation(&revocation);
        // Revoking again never narrows an existing revocation.
        if let Some(Entry::Revocation(before)) =
            self.registry().get(Kind::Revocation, &id).await.map_err(|error| store_error(&error))?
        {
            revocation.issued_before = before.issued_before.zip(revocation.issued_before).map(|(a, b)| a.max(b));
            revocation.expires = before.expires.zip(revocation.expires).map(|(a, b)| a.max(b));
            revocation.created = before.created;
        }
        let mut shown = view::revocation(&revocation);
        if let (Value::Object(shown), Some(hit)) = (&mut shown, hit) {
            shown.insert("hit".to_owned(), hit);
        }
        let done = Completed::changed(StatusCode::CREATED, shown, "revoked", target).with(details);
        self.change(vec![Change::Put(Entry::Revocation(revocation))], done).await
    }

    /// Returns what is revoked, and when the credential itself expires, if that is known.
    fn target(
        &self,
        written: input::Revocation,
        issued_before: Option<Timestamp>,
    ) -> Result<(RevocationTarget, Option<Timestamp>)> {
        let digest = |text: &str, pointer| {
            hex::decode(text).ok_or_else(|| input::wrong(pointer, "not a SHA-256 digest in hexadecimal"))
        };
        let mut targets: Vec<RevocationTarget> = Vec::new();
        let mut end = None;
        if let Some(token) = &written.token {
            end = token::end(token);
            targets.push(RevocationTarget::Token(sha256(token::name(token.trim()).as_bytes())));
        }
        if let Some(text) = &written.sha256 {
            targets.push(RevocationTarget::Token(digest(text, "/sha256")?));
        }
        targets.extend(written.jti.map(RevocationTarget::Jti));
        match (written.subject, written.issuer) {
            (Some(subject), Some(issuer)) => {
                targets.push(RevocationTarget::Subject { issuer: self.issuer(issuer)?, subject });
            }
            (Some(_), None) => return Err(input::wrong("/issuer", "a subject needs its issuer")),
            (None, Some(issuer)) => targets.push(RevocationTarget::Issuer(self.issuer(issuer)?)),
            (None, None) => {}
        }
        targets.extend(written.consumer.map(RevocationTarget::Consumer));
        targets.extend(written.key.map(RevocationTarget::Key));
        if let Some(text) = &written.certificate {
            targets.push(RevocationTarget::Certificate(digest(
                text.strip_prefix("sha256:").unwrap_or(text),
                "/certificate",
            )?));
        }
        if written.all == Some(true) {
            targets.push(RevocationTarget::All);
        }
        let mut targets = targets.into_iter();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err(input::wrong("", "name exactly one target to revoke"));
        };
        let broad = matches!(
            target,
            RevocationTarget::Subject { .. }
                | RevocationTarget::Consumer(_)
                | RevocationTarget::Issuer(_)
                | RevocationTarget::All
        );
        match (&target, issued_before) {
            (RevocationTarget::All, None) => {
                Err(input::wrong("/issued_before", "revoking all credentials needs `issued_before`"))
            }
            (_, Some(_)) if !broad => {
                Err(input::wrong("/issued_before", "a single credential is revoked entirely; remove `issued_before`"))
            }
            _ => Ok((target, end)),
        }
    }

    fn issuer(&self, name: Box<str>) -> Result<Box<str>> {
        self.check_issuer(&name, "/issuer").map(|()| name)
    }
}
