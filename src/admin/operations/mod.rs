//! What operators change at run time: consumers, API keys, clients, invitations, grants, suspensions, revocations.
//!
//! | endpoint | |
//! |---|---|
//! | `GET /v1/consumers`, `POST` | all, from the policy and the store; adds one |
//! | `GET, PUT, PATCH, DELETE /v1/consumers/{name}` | consumers of the policy file are read-only here |
//! | `GET, PUT, DELETE /v1/consumers/{name}/suspension` | refuses all its requests, until a time or until lifted |
//! | `GET /v1/usage`, `GET, DELETE /v1/consumers/{name}/usage` | the usage of limits; DELETE resets it |
//! | `GET, POST /v1/consumers/{name}/keys`, `PUT …/{id}` | its API keys; the secret is shown only once |
//! | `GET, POST /v1/consumers/{name}/grants`, `PUT, DELETE …/{id}` | temporary scopes |
//! | `GET /v1/keys`, `GET, PATCH, DELETE /v1/keys/{id}` | |
//! | `POST /v1/keys/{id}/rotate` | replaces the key; the old one expires after `overlap` |
//! | `GET /v1/clients`, `GET, DELETE …/{id}`, `GET /v1/consumers/{name}/clients` | clients of the token service |
//! | `GET /v1/invitations`, `DELETE …/{id}`, `GET, POST /v1/consumers/{name}/invitations` | the code is shown only once |
//! | `GET /v1/grants`, `GET /v1/suspensions` | all |
//! | `GET /v1/signing-keys`, `POST …/rotate` | the keys of the token service |
//! | `GET /v1/upstreams`, `POST …/drain` | the addresses of upstream servers |
//! | `GET, POST /v1/revocations`, `GET, DELETE /v1/revocations/{id}` | in force by the time of the response |
//! | `POST /v1/drills` | leaves the result of a drill in the record |
//!
//! Lists are sorted by id, and grants of all consumers by consumer and id: `?limit=` (1 to 1000, default 100) and `?after=`, the
//! `next` of the previous page.

mod clients;
mod details;
mod drills;
mod invitations;
mod keys;
mod known;
mod page;
mod removal;
mod revocations;
mod signing_keys;
mod upstreams;
mod usage;

use std::cell::Cell;
use std::collections::BTreeMap;

use http::{Method, StatusCode};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::endpoints::{self, Action};
use super::input::Member;
use super::{input, view};
use crate::audit::{Change as Details, ChangeRecord, Outcome};
use crate::policy::Policy;
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::stages::auth::directory::Directory;
use crate::state::registry::entry::{Change, Consumer, Digest, Entry, Grant, Identity, Kind, Suspension, grant_id};
use crate::state::registry::{Registry, StoreError};

/// Maximum length of a note or reason, in bytes.
const MAX_TEXT: usize = 256;

/// One operator's request.
pub(super) struct Operation<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) body: &'a [u8],
    /// The name of the operator's admin token.
    pub(super) by: &'a str,
    pub(super) now: Timestamp,
    /// What it would have changed, if it has failed and the store may have taken that all the same.
    pub(super) unconfirmed: Cell<Option<(ChangeRecord, Outcome)>>,
}

/// The outcome of an operation.
pub(super) struct Completed {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    /// What was changed, for the audit record.
    pub(super) change: Option<ChangeRecord>,
}

impl Completed {
    fn shown(body: Value) -> Self {
        Self { status: StatusCode::OK, body, change: None }
    }

    fn changed(status: StatusCode, body: Value, action: &'static str, target: impl Into<String>) -> Self {
        let change = ChangeRecord { action, target: target.into(), details: Details::default() };
        Self { status, body, change: Some(change) }
    }

    fn removed(action: &'static str, target: impl Into<String>) -> Self {
        Self::changed(StatusCode::OK, json!({"removed": true}), action, target)
    }

    /// Adds how it was changed, for the audit record.
    fn with(self, details: Details) -> Self {
        Self { change: self.change.map(|change| ChangeRecord { details, ..change }), ..self }
    }
}

type Result<T> = std::result::Result<T, Refusal>;

impl Operation<'_> {
    /// Runs the operation.
    pub(super) async fn run(&self) -> Result<Completed> {
        let segments: Vec<String> = self
            .path
            .split('/')
            .skip(1)
            .map(|segment| percent_decode_str(segment).decode_utf8().map(String::from))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| missing("the path is not UTF-8"))?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (action, parameters) = endpoints::find_action(self.method, &segments).ok_or_else(nowhere)?;
        match (action, parameters.as_slice()) {
            (Action::ListConsumers, _) => self.consumers(),
            (Action::AddConsumer, _) => self.add_consumer().await,
            (Action::GetConsumer, [name]) => self.consumer(name).map(Completed::shown),
            (Action::PutConsumer, [name]) => self.put_consumer(name, input::read(self.body)?, true).await,
            (Action::PatchConsumer, [name]) => self.put_consumer(name, input::read(self.body)?, false).await,
            (Action::RemoveConsumer, [name]) => self.remove_consumer(name).await,
            (Action::GetSuspension, [name]) => match self.registry().suspension(name) {
                Some(suspension) => Ok(Completed::shown(view::suspension(&suspension))),
                None => Err(missing("this consumer is not suspended")),
            },
            (Action::SuspendConsumer, [name]) => self.suspend(name).await,
            (Action::ResumeConsumer, [name]) => {
                self.registry().suspension(name).ok_or_else(|| missing("this consumer is not suspended"))?;
                let done = Completed::removed("consumer_resumed", *name);
                self.change(vec![Change::Remove(Kind::Suspension, (*name).to_owned())], done).await
            }
            (Action::ListUsage, _) => self.usages().await,
            (Action::GetUsage, [name]) => self.usage(name).await,
            (Action::ResetUsage, [name]) => self.reset_usage(name).await,
            (Action::ListConsumerKeys, [name]) => self.keys(Some(name)).await,
            (Action::NewKey, [name]) => self.new_key(name, None).await,
            (Action::PutKey, [name, id]) => self.new_key(name, Some(id)).await,
            (Action::ListKeys, _) => self.keys(None).await,
            (Action::GetKey, [id]) => self.key(id).map(Completed::shown),
            (Action::PatchKey, [id]) => self.patch_key(id).await,
            (Action::RemoveKey, [id]) => {
                let target = details::key(&*self.made_key(id)?).0;
                let done = Completed::removed("key_removed", target);
                self.change(vec![Change::Remove(Kind::Key, (*id).to_owned())], done).await
            }
            (Action::RotateKey, [id]) => self.rotate(id).await,
            (Action::ListClients, _) => self.clients(None),
            (Action::ListConsumerClients, [name]) => self.clients(Some(name)),
            (Action::GetClient, [id]) => self.client(id).map(Completed::shown),
            (Action::RemoveClient, [id]) => self.remove_client(id).await,
            (Action::ListInvitations, _) => self.invitations(None),
            (Action::ListConsumerInvitations, [name]) => self.invitations(Some(name)),
            (Action::Invite, [name]) => self.invite(name).await,
            (Action::WithdrawInvitation, [id]) => self.withdraw(id).await,
            (Action::ListGrants, _) => self.grants(None),
            (Action::ListConsumerGrants, [name]) => self.grants(Some(name)),
            (Action::Grant, [name]) => self.grant(name, &self.fresh_id()).await,
            (Action::PutGrant, [name, id]) => self.grant(name, id).await,
            (Action::EndGrant, [name, id]) => {
                let grants = self.registry().grants();
                let known = grants.iter().find(|one| *one.consumer == **name && *one.id == **id);
                let details = known.map(|grant| details::grant(grant));
                let details = details.ok_or_else(|| missing("this consumer has no such grant"))?;
                let done = Completed::removed("grant_ended", format!("{name} {id}")).with(details);
                self.change(vec![Change::Remove(Kind::Grant, grant_id(name, id))], done).await
            }
            (Action::ListSuspensions, _) => {
                let page = self.page()?;
                let all = self.registry().some_suspensions(page.part());
                Ok(page.show(all.iter().map(|one| (&*one.consumer, one)), |one| view::suspension(one)))
            }
            (Action::ListRevocations, _) => self.revocations().await,
            (Action::Revoke, _) => self.revoke().await,
            (Action::GetRevocation, [id]) => {
                self.revocation(id).await.map(|one| Completed::shown(view::revocation(&one)))
            }
            (Action::UndoRevocation, [id]) => {
                let target = match self.revocation(id).await {
                    Ok(known) => details::revocation(&known).0,
                    // A store that failed over may have lost what is still in force here.
                    Err(_) if self.registry().has_revocation(id) => (*id).to_owned(),
                    Err(refusal) => return Err(refusal),
                };
                let done = Completed::removed("revocation_undone", target);
                self.change(vec![Change::Remove(Kind::Revocation, (*id).to_owned())], done).await
            }
            (Action::RecordDrill, _) => self.record_drill(),
            (Action::ListSigningKeys, _) => self.signing_keys(),
            (Action::RotateSigningKey, _) => self.rotate_signing_key().await,
            (Action::ListUpstreams, _) => self.upstreams(),
            (Action::DrainUpstream, _) => self.drain_upstream(),
            _ => Err(nowhere()),
        }
    }

    fn policy(&self) -> &Policy {
        &self.in_force.policy
    }

    fn directory(&self) -> &Directory {
        &self.policy().auth().directory
    }

    fn registry(&self) -> &Registry {
        self.in_force.registry()
    }

    /// Applies changes; they are stored and in force when this returns. `done` is the outcome then.
    async fn change(&self, changes: Vec<Change>, done: Completed) -> Result<Completed> {
        self.confirmed(self.registry().change(changes).await, done)
    }

    /// Applies the changes that are decided on once no other change is being made on this node.
    async fn change_by(&self, decide: impl FnOnce() -> Result<Vec<Change>>, done: Completed) -> Result<Completed> {
        let mut refused = None;
        let begun = self.registry().begin(|| decide().map_err(|refusal| refused = Some(refusal)).ok()).await;
        let made = match begun {
            Ok(mut made) => made.done().await,
            Err(error) => Err(error),
        };
        match refused {
            Some(refusal) => Err(refusal),
            None => self.confirmed(made, done),
        }
    }

    /// The outcome of changes, as far as the store has confirmed them. Those that it may have taken are on record all the same.
    fn confirmed(&self, made: std::result::Result<(), StoreError>, done: Completed) -> Result<Completed> {
        let Err(error) = made else { return Ok(done) };
        let outcome = match error.is_stored() {
            Some(true) => Some(Outcome::Success),
            Some(false) => None,
            None => Some(Outcome::Unknown),
        };
        self.unconfirmed.set(done.change.zip(outcome));
        Err(store_error(&error))
    }

    /// An id that sorts by time.
    fn fresh_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }

    // --- consumers ---

    fn consumers(&self) -> Result<Completed> {
        let (names, next) = self.consumer_names()?;
        // One that has gone meanwhile is left out.
        let items: Vec<Value> = names.iter().filter_map(|name| self.consumer(name).ok()).collect();
        Ok(Completed::shown(json!({"items": items, "next": next})))
    }

    /// One page of the names of all consumers, and the last one if there are more.
    fn consumer_names(&self) -> Result<(Vec<Box<str>>, Option<String>)> {
        let (page, listed) = (self.page()?, self.directory().listed());
        let added = self.registry().some_consumers(page.part(), |one| !listed.contains_key(&one.name));
        let names = listed.keys().map(|name| &**name).chain(added.iter().map(|one| &*one.name));
        let (names, next) = page.take(names.map(|name| (name, ())));
        Ok((names.into_iter().map(|(name, ())| name.into()).collect(), next))
    }

    fn consumer(&self, name: &str) -> Result<Value> {
        match (self.directory().listed().get(name), self.registry().consumer(name)) {
            (Some(listed), _) => Ok(view::listed(self.policy(), listed, self.registry())),
            (None, Some(added)) => Ok(view::added(&added, self.registry())),
            (None, None) => Err(self.missing_consumer(name)),
        }
    }

    fn writable(&self, name: &str) -> Result<()> {
        if self.directory().listed().contains_key(name) {
            return Err(conflict("this consumer is defined in the policy file; change it there, and reload"));
        }
        Ok(())
    }

    async fn add_consumer(&self) -> Result<Completed> {
        let written: input::Consumer = input::read(self.body)?;
        let name = written.name.clone().ok_or_else(|| input::wrong("/name", "a consumer needs a name"))?;
        self.writable(&name)?;
        if self.registry().consumer(&name).is_some() {
            return Err(conflict("a consumer with this name exists; change it with PUT or PATCH"));
        }
        let (consumer, shown) = self.compile_consumer(&name, written, None, true)?;
        // Another request, here or on another node, may create the same one concurrently: the store lets only one
        // succeed.
        let done = Completed::changed(StatusCode::CREATED, shown, "consumer_created", name);
        self.change(vec![Change::Create(Entry::Consumer(consumer))], done).await
    }

    /// `whole`: absent members are removed; otherwise they keep their values.
    async fn put_consumer(&self, name: &str, written: input::Consumer, whole: bool) -> Result<Completed> {
        self.writable(name)?;
        let before = self.registry().consumer(name);
        let (consumer, shown) = self.compile_consumer(name, written, before.as_deref(), whole)?;
        let (status, action) = match before {
            Some(_) => (StatusCode::OK, "consumer_changed"),
            None => (StatusCode::CREATED, "consumer_created"),
        };
        let done = Completed::changed(status, shown, action, name);
        self.change(vec![Change::Put(Entry::Consumer(consumer))], done).await
    }

    /// Builds a consumer from the body, and its JSON view.
    fn compile_consumer(
        &self,
        name: &str,
        written: input::Consumer,
        before: Option<&Consumer>,
        whole: bool,
    ) -> Result<(Consumer, Value)> {
        plain(name, "/name")?;
        if before.is_none() && !whole {
            return Err(self.missing_consumer(name));
        }
        let kept = before.filter(|_| !whole);
        let roles = written.roles.or(kept.and_then(|kept| kept.roles.clone()));
        for (position, role) in roles.iter().flatten().enumerate() {
            self.check_role(role, &format!("/roles/{position}"))?;
        }
        let plan = written.plan.or(kept.and_then(|kept| kept.plan.clone()));
        plan.iter().try_for_each(|plan| self.check_plan(plan))?;
        let identities = match written.identities {
            Member::Absent => kept.map(|kept| kept.identities.clone()).unwrap_or_default(),
            Member::Null => Vec::new(),
            Member::Value(identities) => self.identities(name, identities)?,
        };
        let organization = written.organization.or(kept.and_then(|kept| kept.organization.clone()));
        organization.iter().try_for_each(|name| plain(name, "/organization"))?;
        let from = written.from.or(kept.and_then(|kept| kept.from.clone()));
        let attributes = match written.attributes {
            Member::Absent => kept.map(|kept| kept.attributes.clone()).unwrap_or_default(),
            Member::Null => BTreeMap::default(),
            Member::Value(attributes) => self.attributes(attributes)?,
        };
        let note = written.note.or(kept.and_then(|kept| kept.note.clone()));
        let (created, created_by) = match before {
            Some(before) => (before.created, before.created_by.clone()),
            None => (self.now, self.by.into()),
        };
        let (name, note) = (name.into(), text(note)?);
        let consumer =
            Consumer { name, roles, plan, organization, from, attributes, identities, note, created, created_by };
        let shown = view::added(&consumer, self.registry());
        Ok((consumer, shown))
    }

    fn identities(&self, name: &str, written: Vec<input::IdentityInput>) -> Result<Vec<Identity>> {
        let mut identities = Vec::new();
        for (position, identity) in written.into_iter().enumerate() {
            let pointer = format!("/identities/{position}");
            let identity = identity.compile(&pointer)?;
            if let Identity::Issuer { issuer, .. } = &identity {
                self.check_issuer(issuer, &format!("{pointer}/issuer"))?;
            }
            let other = self.registry().identified(&identity).is_some_and(|other| *other.name != *name);
            if other || self.directory().lists(&identity) {
                return Err(conflict(format!("{pointer}: this identity belongs to another consumer")));
            }
            identities.push(identity);
        }
        Ok(identities)
    }

    async fn suspend(&self, name: &str) -> Result<Completed> {
        let written: input::Suspension = input::read(self.body)?;
        self.check_consumer(name, written.force)?;
        let until = written.until.map(|until| until.at("/until", self.now)).transpose()?;
        let suspension = Suspension {
            consumer: name.into(),
            until,
            reason: text(written.reason)?,
            created: self.now,
            created_by: self.by.into(),
        };
        let shown = view::suspension(&suspension);
        let details = details::suspension(&suspension);
        let done = Completed::changed(StatusCode::OK, shown, "consumer_suspended", name).with(details);
        self.change(vec![Change::Put(Entry::Suspension(suspension))], done).await
    }

    // --- grants ---

    fn grants(&self, consumer: Option<&str>) -> Result<Completed> {
        let page = self.page()?;
        if let Some(name) = consumer {
            let all = self.registry().grants();
            let own = all.iter().filter(|one| *one.consumer == *name);
            return Ok(page.show(own.map(|one| (&*one.id, one)), |one| view::grant(one)));
        }
        // Grants of several consumers may have the same id.
        let all = self.registry().some_grants(page.part());
        let all: Vec<_> = all.iter().map(|one| (grant_id(&one.consumer, &one.id), one)).collect();
        Ok(page.show(all.iter().map(|(id, one)| (&**id, one)), |one| view::grant(one)))
    }

    async fn grant(&self, name: &str, id: &str) -> Result<Completed> {
        let written: input::Grant = input::read(self.body)?;
        plain(id, "/id")?;
        self.check_consumer(name, written.force)?;
        self.check_scopes(&written.scopes, written.force)?;
        if written.scopes.is_empty() {
            return Err(input::wrong("/scopes", "a grant needs at least one scope"));
        }
        let until = written.until.ok_or_else(|| input::wrong("/until", "a grant needs an end"))?;
        let until = until.at("/until", self.now)?;
        let grant = Grant {
            id: id.into(),
            consumer: name.into(),
            scopes: written.scopes,
            until,
            reason: text(written.reason)?,
            created: self.now,
            created_by: self.by.into(),
        };
        let shown = view::grant(&grant);
        let details = details::grant(&grant);
        let target = format!("{name} {id}");
        let done = Completed::changed(StatusCode::CREATED, shown, "grant_made", target).with(details);
        self.change(vec![Change::Put(Entry::Grant(grant))], done).await
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

/// Checks a name. Names are stored, recorded, and sent upstream; `ISSUER:ID` is the form for callers that are not
/// listed.
fn plain(name: &str, pointer: &str) -> Result<()> {
    let good = !name.is_empty() && name.len() <= 128 && !name.contains(|c: char| c.is_control() || c == ':');
    if good {
        Ok(())
    } else {
        Err(input::wrong(pointer, "a name must have 1 to 128 bytes, no `:` and no control characters"))
    }
}

fn text(text: Option<Box<str>>) -> Result<Option<Box<str>>> {
    match text {
        Some(text) if text.len() > MAX_TEXT => {
            Err(input::wrong("", format!("a note or reason must have at most {MAX_TEXT} bytes")))
        }
        text => Ok(text),
    }
}

/// Scopes are visible ASCII without `"` and `\` (RFC 6749 §3.3).
fn scopes(scopes: &[Box<str>]) -> Result<()> {
    let good =
        |scope: &str| !scope.is_empty() && scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    match scopes.iter().position(|scope| !good(scope)) {
        Some(position) => {
            Err(input::wrong(&format!("/scopes/{position}"), "invalid scope; use visible ASCII without `\"` and `\\`"))
        }
        None => Ok(()),
    }
}

fn missing(detail: impl Into<String>) -> Refusal {
    Refusal::new(Stage::Request, Reason::NotFound, detail.into())
}

fn wrong_query(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Schema, Reason::SchemaViolation, detail)
}

fn nowhere() -> Refusal {
    Refusal::new(
        Stage::Request,
        Reason::NoRoute,
        "the admin listener has no such endpoint, or it does not support this method",
    )
}

fn conflict(detail: impl Into<String>) -> Refusal {
    Refusal::new(Stage::Request, Reason::Conflict, detail.into()).members(Members::default())
}

fn store_error(error: &StoreError) -> Refusal {
    let reason = match error {
        StoreError::None | StoreError::Exists | StoreError::Changed => Reason::Conflict,
        StoreError::NotInForce | StoreError::InUse(_) | StoreError::Unreachable(_) | StoreError::Unusable(_) => {
            Reason::StoreUnavailable
        }
    };
    let detail = match error {
        StoreError::None => error.to_string(),
        StoreError::Changed => "another request has just changed this entry; look at it, and try again".to_owned(),
        StoreError::Exists => "another request has just created an entry with this id".to_owned(),
        StoreError::NotInForce => format!("{error}; look at it shortly before you try again"),
        _ => "the store is not available, and no change was confirmed; see the log".to_owned(),
    };
    Refusal::new(Stage::Request, reason, detail).cause(error.to_string())
}
