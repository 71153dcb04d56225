//! Invites consumers to claim a credential themselves, so that nobody has to send them a secret that lasts. The code is in one response
//! only, and never stored.

use std::sync::Arc;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{Completed, Operation, Result, conflict, details, input, missing, sha256, text, view};
use crate::policy::self_service::{SelfEndpoint, SelfService};
use crate::policy::{Api, Period};
use crate::refusal::{Reason, Refusal, Stage};
use crate::self_service::sheet;
use crate::stages::auth::api_key_format;
use crate::stages::auth::client::{self, MOST_CLIENTS};
use crate::state::registry::entry::{Change, Entry, Invitation, InvitedCredential};
use crate::url::{Form, HttpUrl};

/// How long an invitation can be claimed by default, and at most.
const EXPIRES: SignedDuration = SignedDuration::from_hours(24);
const MAX_EXPIRES: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Default lifetime of the credential.
const LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How many invitations of a consumer can be open at once.
const MAX_OPEN: usize = 20;
/// How many invitations are kept in all. Those that ended first make room for others.
const MAX_KEPT: usize = 10_000;

impl Operation<'_> {
    pub(super) fn invitations(&self, consumer: Option<&str>) -> Result<Completed> {
        let page = self.page()?;
        let all = match consumer {
            Some(name) => self.registry().invitations_of(name),
            None => self.registry().some_invitations(page.part()),
        };
        Ok(page.show(all.iter().map(|one| (&*one.id, one)), |one| view::invitation(one, self.now)))
    }

    pub(super) async fn invite(&self, name: &str) -> Result<Completed> {
        let written: input::Invitation = input::read(self.body)?;
        let service = self.self_service()?;
        let consumer = self.directory().named(name, self.registry())?.ok_or_else(|| self.missing_consumer(name))?;
        let credential = written.credential.unwrap_or(InvitedCredential::ApiKey);
        self.check_credential(&credential)?;
        let base = written.url.as_deref().map(base).transpose()?;
        let expires = match written.expires {
            Some(at) => at.at("/expires", self.now)?,
            None => self.now.checked_add(EXPIRES).unwrap_or(Timestamp::MAX),
        };
        if expires <= self.now || expires.duration_since(self.now) > MAX_EXPIRES {
            return Err(input::wrong("/expires", "an invitation can be claimed for at most 30d"));
        }
        self.check_scopes(written.scopes.as_deref().unwrap_or_default(), written.force)?;
        let id = api_key_format::new_id(name);
        let code = api_key_format::mint_invitation(&id).map_err(|_| {
            Refusal::new(Stage::Request, Reason::StoreUnavailable, "the system cannot provide random bytes now")
        })?;
        let invitation = Invitation {
            id: id.into(),
            consumer: name.into(),
            plan: consumer.plan().map(|plan| Box::from(&**plan.name())),
            credential: credential.clone(),
            sha256: sha256(code.expose_secret().as_bytes()),
            scopes: written.scopes,
            from: written.from,
            lifetime: self.lifetime(&credential, written.key_lifetime)?,
            expires,
            claimed: None,
            withdrawn: None,
            note: text(written.note)?,
            created: self.now,
            created_by: self.by.into(),
        };
        let mut shown = view::invitation(&invitation, self.now);
        let sheet = sheet::sheet(self.policy(), service, &consumer, &invitation, base.as_deref());
        if let Value::Object(shown) = &mut shown {
            shown.insert("code".to_owned(), code.expose_secret().into());
            shown.insert("claim".to_owned(), service.path_of(SelfEndpoint::ClaimInvitation).into());
            shown.insert("sheet".to_owned(), sheet.into());
        }
        let (target, details) = details::invitation(&invitation);
        // Of those that are made at the same time, each counts for the next.
        let decide = || {
            let mut changes = self.make_room(name, &credential)?;
            changes.push(Change::Create(Entry::Invitation(invitation)));
            Ok(changes)
        };
        let done = Completed::changed(StatusCode::CREATED, shown, "invitation_created", target).with(details);
        self.change_by(decide, done).await
    }

    pub(super) async fn withdraw(&self, id: &str) -> Result<Completed> {
        let known = self.registry().invitation(id).ok_or_else(|| missing("there is no invitation with this id"))?;
        if let Some(claim) = &known.claimed {
            let (id, what) = (&claim.credential, if known.credential.is_client() { "client" } else { "key" });
            return Err(conflict(format!("it was claimed: revoke the {what} `{id}` if that was somebody else")));
        }
        let after = Invitation { withdrawn: Some(self.now), ..Invitation::clone(&known) };
        let (target, details) = details::invitation(&after);
        // Of a claim and this at the same time, one succeeds.
        let swap = (Entry::Invitation(Invitation::clone(&known)), Entry::Invitation(after));
        let done = Completed::removed("invitation_withdrawn", target).with(details);
        self.change(vec![Change::Swap(Box::new(swap))], done).await
    }

    fn self_service(&self) -> Result<&SelfService> {
        self.policy().self_service().ok_or_else(|| {
            conflict(
                "the policy has no `self_service`, so nobody could claim an invitation; write `self_service: { path: /.bartizan }`",
            )
        })
    }

    /// Decides whether there is room for another invitation, and what makes room for it.
    fn make_room(&self, name: &str, credential: &InvitedCredential) -> Result<Vec<Change>> {
        let clients = client::good_clients(self.registry(), name, self.now);
        room(&self.registry().invitations(), clients, name, credential, self.now)
    }

    /// Refuses what nobody could use.
    fn check_credential(&self, credential: &InvitedCredential) -> Result<()> {
        if credential.is_client() && self.policy().token_service().is_none() {
            return Err(conflict(
                "the policy has no `token_service`, which gives tokens to clients; write it, or invite for an API key",
            ));
        }
        if matches!(credential, InvitedCredential::Later(_)) {
            let kinds = "use `api_key`, `client_secret`, `private_key_jwt` or `certificate`";
            return Err(input::wrong("/credential", kinds));
        }
        let takes_tokens = |api: &Api| !api.credentials().tokens.is_empty();
        if credential.is_client() && !self.policy().apis().iter().any(|api| takes_tokens(api)) {
            return Err(conflict(
                "no API takes tokens, so a client could not call any; write `bearer` under its `credentials`, or invite for an API key",
            ));
        }
        if *credential == InvitedCredential::Certificate && !self.in_force.auth.takes_certificates() {
            return Err(conflict(
                "no listener asks for client certificates; write `client_ca` under its `tls`, with the authorities that sign them",
            ));
        }
        Ok(())
    }

    /// In seconds; absent: the credential does not expire.
    fn lifetime(&self, credential: &InvitedCredential, written: input::Member<String>) -> Result<Option<i64>> {
        let longest = self.policy().auth().keys.max_age().filter(|_| !credential.is_client());
        let lifetime = match written {
            input::Member::Absent => Some(longest.map_or(LIFETIME, |longest| longest.min(LIFETIME))),
            input::Member::Null => None,
            input::Member::Value(text) => {
                let period = text.parse::<Period>().ok().filter(|period| period.0.as_secs() > 0);
                let period = period.and_then(|period| SignedDuration::try_from(period.0).ok());
                let wrong =
                    || input::wrong("/key_lifetime", "use a duration such as `90d`, or null: it does not expire");
                Some(period.ok_or_else(wrong)?)
            }
        };
        Ok(lifetime.map(|lifetime| lifetime.as_secs()))
    }
}

/// Decides whether another invitation of a consumer, which has so many good clients, has room among `all`. Returns what has to be removed
/// for it.
fn room(
    all: &[Arc<Invitation>],
    clients: usize,
    name: &str,
    credential: &InvitedCredential,
    now: Timestamp,
) -> Result<Vec<Change>> {
    let is_open = |one: &&Arc<Invitation>| one.state(now) == "open";
    let own = || all.iter().filter(|one| *one.consumer == *name).filter(is_open);
    if own().count() >= MAX_OPEN {
        return Err(conflict(format!("this consumer has {MAX_OPEN} open invitations; withdraw some of them")));
    }
    let invited = own().filter(|one| one.credential.is_client()).count();
    if credential.is_client() && clients + invited >= MOST_CLIENTS {
        let detail = format!(
            "this consumer has {MOST_CLIENTS} clients, or invitations for them; remove or withdraw those that are not used"
        );
        return Err(conflict(detail));
    }
    let surplus = (all.len() + 1).saturating_sub(MAX_KEPT);
    if surplus == 0 {
        return Ok(Vec::new());
    }
    let mut ended: Vec<_> = all.iter().filter(|one| !is_open(one)).collect();
    if ended.len() < surplus {
        return Err(conflict(format!("there are {MAX_KEPT} open invitations; withdraw some of them")));
    }
    ended.sort_by_key(|one| one.end());
    let first = ended.into_iter().take(surplus);
    Ok(first.map(|one| Change::RemoveIf(Entry::Invitation(Invitation::clone(one)))).collect())
}

/// The URL that the partner calls, without a slash at its end.
fn base(text: &str) -> Result<String> {
    HttpUrl::parse(text, Form::BASE).map_err(|error| input::wrong("/url", error.message))?;
    // It stands in commands that people paste.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]%".contains(c);
    if !text.chars().all(plain) {
        return Err(input::wrong("/url", "use a plain URL, such as `https://api.example.com`"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::registry::entry::{Claim, Digest};

    const NOW: i64 = 1_795_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).unwrap()
    }

    /// An invitation that was made so many seconds ago, and is open for an hour.
    fn invitation(consumer: &str, age: i64) -> Invitation {
        Invitation {
            id: format!("{consumer}-{age}").into(),
            consumer: consumer.into(),
            plan: None,
            credential: InvitedCredential::ClientSecret,
            sha256: Digest::default(),
            scopes: None,
            from: None,
            lifetime: None,
            expires: at(3600 - age),
            claimed: None,
            withdrawn: None,
            note: None,
            created: at(-age),
            created_by: "admin".into(),
        }
    }

    fn claimed(consumer: &str, age: i64) -> Invitation {
        let claim = Claim { at: at(-age), address: [192, 0, 2, 1].into(), credential: "x".into() };
        Invitation { claimed: Some(claim), ..invitation(consumer, age) }
    }

    /// What is removed for another invitation of `acme`, or the beginning of the refusal.
    fn decided(
        all: Vec<Invitation>,
        clients: usize,
        credential: &InvitedCredential,
    ) -> std::result::Result<Vec<String>, String> {
        let all: Vec<_> = all.into_iter().map(Arc::new).collect();
        let removed = room(&all, clients, "acme", credential, at(0));
        let id = |change: &Change| match change {
            Change::RemoveIf(Entry::Invitation(one)) => one.id.to_string(),
            other => panic!("{other:?}"),
        };
        removed.map(|changes| changes.iter().map(id).collect()).map_err(|refusal| refusal.detail().to_owned())
    }

    #[test]
    fn what_has_ended_makes_room_and_what_is_open_does_not() {
        let many = |count: usize, one: &dyn Fn(&str, i64) -> Invitation| {
            (0..count).map(|number| one(&format!("c{number}"), i64::try_from(number).unwrap())).collect::<Vec<_>>()
        };
        let (key, secret) = (&InvitedCredential::ApiKey, &InvitedCredential::ClientSecret);
        let of_acme = |count: usize| (0..count).map(|number| invitation("acme", i64::try_from(number).unwrap()));
        for (all, clients, credential, expected) in [
            (Vec::new(), 0, key, Ok(vec![])),
            (of_acme(19).collect(), 0, key, Ok(vec![])),
            (of_acme(20).collect(), 0, key, Err("20 open invitations")),
            // A claim of each of them keeps what is promised.
            (of_acme(5).collect(), 94, secret, Ok(vec![])),
            (of_acme(5).collect(), 95, secret, Err("100 clients, or invitations for them")),
            (of_acme(5).collect(), 95, key, Ok(vec![])),
            (of_acme(5).map(|one| Invitation { credential: key.clone(), ..one }).collect(), 95, secret, Ok(vec![])),
            (
                vec![claimed("acme", 1), Invitation { withdrawn: Some(at(0)), ..invitation("acme", 2) }],
                99,
                secret,
                Ok(vec![]),
            ),
            (many(MAX_KEPT - 1, &claimed), 0, key, Ok(vec![])),
            (many(MAX_KEPT, &claimed), 0, key, Ok(vec!["c9999-9999"])),
            (many(MAX_KEPT + 1, &claimed), 0, key, Ok(vec!["c10000-10000", "c9999-9999"])),
            // Not the oldest, but the one that ended first.
            (
                [
                    vec![Invitation { withdrawn: Some(at(0)), ..invitation("old", 99_999) }],
                    vec![Invitation { expires: at(-9_000), ..invitation("young", 9_001) }],
                    many(MAX_KEPT - 2, &|name, age| claimed(name, age.min(8_000))),
                ]
                .concat(),
                0,
                key,
                Ok(vec!["young-9001"]),
            ),
            // One has expired.
            (
                many(MAX_KEPT, &|name, age| invitation(name, if name == "c7" { 3600 } else { age % 3600 })),
                0,
                key,
                Ok(vec!["c7-3600"]),
            ),
            (many(MAX_KEPT, &|name, age| invitation(name, age % 3600)), 0, key, Err("10000 open invitations")),
        ] {
            let (count, decided) = (all.len(), decided(all, clients, credential));
            match expected {
                Ok(removed) => assert_eq!(decided, Ok(removed.into_iter().map(str::to_owned).collect()), "{count}"),
                Err(why) => assert!(decided.as_ref().is_err_and(|detail| detail.contains(why)), "{count}: {decided:?}"),
            }
        }
    }
}
