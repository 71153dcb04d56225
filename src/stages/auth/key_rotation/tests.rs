use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::progress::Progress;
use super::rotator::{Delivered, KeyVault, Outcome, Rotator};
use super::*;
use crate::stages::auth::api_key::ApiKeys;
use crate::state::epoch::Epoch;
use crate::state::ledger::Ledger;
use crate::state::redis::server::Server;
use crate::state::registry::entry::{AskedRotation, Change, Entry, Kind, Revocation, Rotation};
use crate::state::registry::revocation_key::RevocationTarget;
use crate::state::registry::{Registry, StoreConfig};

const DAY: i64 = 24 * 3600;
const EVERY: i64 = 30 * DAY;
const OVERLAP: i64 = 7 * DAY;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A vault with one field, which checks versions as an engine of version 2 does.
#[derive(Default)]
struct OneField {
    value: RefCell<Option<String>>,
    version: Cell<u64>,
    /// It does not answer.
    down: Cell<bool>,
    /// It takes no writes.
    read_only: Cell<bool>,
    /// It writes, and does not say so.
    mute: Cell<bool>,
    /// How many writes come too late, because others have changed the secret.
    others: Cell<u32>,
    /// A write waits for this.
    gate: RefCell<Option<Arc<Notify>>>,
}

impl OneField {
    fn put(&self, value: &str) {
        self.value.replace(Some(value.to_owned()));
        self.version.set(self.version.get() + 1);
    }
}

impl KeyVault for OneField {
    type Opened = (u64, Option<String>);

    async fn open(&self, _: &VaultReference) -> Result<Self::Opened, String> {
        if self.down.get() {
            return Err("down".to_owned());
        }
        Ok((self.version.get(), self.value.borrow().clone()))
    }

    fn value((_, value): &Self::Opened, _: &VaultReference) -> Option<SecretString> {
        value.as_deref().map(SecretString::from)
    }

    async fn write(
        &self,
        _: &VaultReference,
        (version, _): Self::Opened,
        value: &SecretString,
    ) -> Result<bool, String> {
        if self.down.get() || self.read_only.get() {
            return Err("not written".to_owned());
        }
        // Others change other fields of the same secret.
        let others = self.others.get();
        self.others.set(others.saturating_sub(1));
        self.version.set(self.version.get() + u64::from(others > 0));
        if version != self.version.get() {
            return Ok(false);
        }
        let gate = self.gate.take();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        self.put(value.expose_secret());
        if self.mute.get() { Err("no answer".to_owned()) } else { Ok(true) }
    }
}

/// A node: its registry, and what only it knows.
struct Node {
    registry: Registry,
    progress: Progress,
    rotation: KeyRotation,
    listed: ApiKeys,
    _folder: TempDir,
}

async fn node(config: Option<StoreConfig>) -> Node {
    let folder = TempDir::new().unwrap();
    let config = config.unwrap_or(StoreConfig::Embedded { folder: folder.path().to_owned() });
    let registry = Registry::new(Some(config), Epoch::default(), Ledger::new(Instant::now()).clock());
    registry.open().await.unwrap();
    let rotation = KeyRotation {
        id: "acme".into(),
        consumer: "acme".into(),
        scopes: None,
        networks: None,
        every: SignedDuration::from_secs(EVERY),
        overlap: SignedDuration::from_secs(OVERLAP),
        deliver: VaultReference::parse("kv/partners/acme#key").unwrap(),
    };
    Node { registry, progress: Progress::default(), rotation, listed: ApiKeys::default(), _folder: folder }
}

impl Node {
    fn rotator<'a>(&'a self, vault: &'a OneField) -> Rotator<'a, OneField> {
        let Self { registry, progress, rotation, listed, .. } = self;
        Rotator { rotation, listed, registry, vault, progress }
    }

    fn keys(&self) -> Vec<Arc<Key>> {
        let mut keys = self.registry.rotated_keys();
        keys.sort_by_key(|key| key.rotation.as_ref().unwrap().number);
        keys
    }

    fn key(&self, id: &str) -> Arc<Key> {
        self.registry.key_by_id(id).unwrap_or_else(|| panic!("there is no {id}"))
    }

    async fn advance(&self, vault: &OneField, second: i64) -> Outcome {
        self.rotator(vault).advance(self.keys(), at(second)).await
    }

    /// Rounds until a key is delivered. Returns it, with the end of the key before.
    async fn delivers(&self, vault: &OneField, second: i64) -> Delivered {
        for round in 0..3 {
            match self.advance(vault, second + round).await {
                Outcome::Nothing => {}
                Outcome::Delivered(delivered) => return delivered,
                Outcome::Failed { why, .. } => panic!("{why}"),
            }
        }
        panic!("nothing was delivered: {:?}", self.keys());
    }

    async fn does_nothing(&self, vault: &OneField, seconds: &[i64]) {
        for second in seconds {
            let outcome = self.advance(vault, *second).await;
            assert!(matches!(outcome, Outcome::Nothing), "{second}: {outcome:?}");
        }
    }

    /// The key that a consumer finds in the vault, if it is accepted at this time.
    fn finds(&self, vault: &OneField, second: i64) -> Option<Arc<Key>> {
        let text = vault.value.borrow().clone()?;
        let key = self.registry.key(&digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap())?;
        key.expires.is_none_or(|end| at(second) < end).then_some(key)
    }

    async fn puts(&self, key: Key) {
        self.registry.change(vec![Change::Put(Entry::Key(key))]).await.unwrap();
    }
}

#[tokio::test]
async fn the_next_key_is_in_the_vault_before_the_one_before_gets_its_end() {
    let (node, vault) = (node(None).await, OneField::default());
    let Delivered { key, before } = node.delivers(&vault, 0).await;
    assert_eq!((&*key.id, &*key.created_by, key.expires, before), ("acme-1", SCHEDULE, None, None));
    assert_eq!(node.finds(&vault, 0).unwrap().id, key.id);
    assert_eq!(node.rotation.next(&key), Some(at(1 + EVERY)));
    node.does_nothing(&vault, &[2, DAY, EVERY]).await;

    // It is stored, but not yet in the vault: the first one is the only one, and has no end.
    node.does_nothing(&vault, &[EVERY + 1]).await;
    assert_eq!((node.keys().len(), node.key("acme-1").expires), (2, None));
    assert_eq!(&*node.finds(&vault, EVERY + 1).unwrap().id, "acme-1");
    let Delivered { key, before } = node.delivers(&vault, EVERY + 2).await;
    let end = at(EVERY + 2 + OVERLAP);
    assert_eq!((&*key.id, before), ("acme-2", Some(("acme-1".into(), end))));
    let first = node.key("acme-1");
    assert_eq!((first.expires, first.replaced_by.as_deref()), (Some(end), Some("acme-2")));
    assert_eq!((node.rotation.next(&first), node.rotation.next(&key)), (None, Some(at(2 * EVERY + 2))));
    assert_eq!(&*node.finds(&vault, EVERY + 2).unwrap().id, "acme-2");

    // Its end is noted once.
    let rotator = node.rotator(&vault);
    for (second, ended) in [(OVERLAP + 1, 0), (OVERLAP + 2, 1), (OVERLAP + 3, 0)] {
        assert_eq!(rotator.mark_ended(&node.keys(), at(EVERY + second)).await.len(), ended, "{second}");
    }
}

#[tokio::test]
async fn without_the_vault_no_key_is_made_and_the_one_before_stays() {
    let (node, vault) = (node(None).await, OneField::default());
    vault.down.set(true);
    let Outcome::Failed { streak: 1, .. } = node.advance(&vault, -100).await else { panic!("the failure is returned") };
    assert_eq!(node.keys().len(), 0);
    vault.down.set(false);
    node.delivers(&vault, 0).await;
    vault.down.set(true);
    let (mut failed, mut told) = (0, 0);
    for second in EVERY..EVERY + 3600 {
        match node.advance(&vault, second).await {
            Outcome::Failed { streak, .. } => (failed, told) = (failed + 1, told + u64::from(streak == 3)),
            outcome => assert!(matches!(outcome, Outcome::Nothing), "{outcome:?}"),
        }
    }
    assert!((60..80).contains(&failed) && told == 1, "{failed} {told}");
    assert_eq!((node.keys().len(), node.key("acme-1").expires), (1, None));
    let status = node.progress.status("acme");
    assert_eq!((status.error.as_deref(), status.failures), (Some("down"), failed + 1));
    vault.down.set(false);
    let late = EVERY + 2 * 3600;
    let Delivered { before, .. } = node.delivers(&vault, late).await;
    assert_eq!(before, Some(("acme-1".into(), at(late + 1 + OVERLAP))));
    assert_eq!(node.progress.status("acme").error, None);
}

#[tokio::test]
async fn a_vault_that_takes_no_writes_makes_no_growing_number_of_keys() {
    let (mut node, vault) = (node(None).await, OneField::default());
    node.delivers(&vault, 0).await;
    vault.read_only.set(true);
    for second in EVERY..EVERY + 3600 {
        node.advance(&vault, second).await;
        // The process ends again and again.
        if second % 300 == 0 {
            node.progress = Progress::default();
        }
        assert!(node.keys().len() <= 2, "{:?}", node.keys());
        assert_eq!(&*node.finds(&vault, second).unwrap().id, "acme-1");
    }
    vault.read_only.set(false);
    let key = node.delivers(&vault, EVERY + 3700).await.key;
    assert_eq!((node.keys().len(), node.finds(&vault, EVERY + 3800).unwrap().id.clone()), (2, key.id.clone()));
}

#[tokio::test]
async fn what_a_process_left_half_done_is_finished_by_the_next() {
    // It ended before it wrote to the vault: nobody knows that key, and another one is made.
    let (mut node, vault) = (node(None).await, OneField::default());
    node.does_nothing(&vault, &[0]).await;
    assert_eq!(&*node.key("acme-1").id, "acme-1");
    node.progress = Progress::default();
    assert_eq!(&*node.delivers(&vault, 1).await.key.id, "acme-2");
    assert_eq!(node.keys().len(), 1, "{:?}", node.keys());

    // It ended after it wrote to the vault, and before it could note so: no other key is made.
    vault.mute.set(true);
    let due = 10 + EVERY;
    node.does_nothing(&vault, &[due]).await;
    assert!(matches!(node.advance(&vault, due + 1).await, Outcome::Failed { .. }));
    assert_eq!(node.key("acme-2").expires, None);
    assert_eq!(&*node.finds(&vault, due + 1).unwrap().id, "acme-3", "it is accepted meanwhile");
    node.progress = Progress::default();
    vault.read_only.set(true);
    let Delivered { key, before } = node.delivers(&vault, due + 2).await;
    assert_eq!((&*key.id, before.unwrap().0), ("acme-3", "acme-2".into()));
    assert_eq!(node.keys().len(), 2);
}

#[tokio::test]
async fn what_the_vault_has_lost_is_replaced_and_what_others_wrote_is_not() {
    let (node, vault) = (node(None).await, OneField::default());
    node.delivers(&vault, 0).await;
    let first = vault.value.borrow().clone().unwrap();
    vault.value.replace(None);
    // Not at once: another store may have the same place.
    node.does_nothing(&vault, &[100, 200, 280]).await;
    assert_eq!(&*node.delivers(&vault, 400).await.key.id, "acme-2");
    // A backup brings back an older key, which is accepted for a while; and one that the store does not know.
    let foreign = api_key_of_another_store();
    for (value, second, id) in [(&first, 1000, "acme-3"), (&foreign, 2000, "acme-78")] {
        vault.put(value);
        assert_eq!(&*node.delivers(&vault, second).await.key.id, id);
    }
    vault.put("hunter2");
    let Outcome::Failed { why, streak: 1 } = node.advance(&vault, 3000).await else {
        panic!("the failure is returned")
    };
    assert!(why.contains("no key of `acme`") && !why.contains("hunter2"), "{why}");
    assert_eq!(vault.value.borrow().as_deref(), Some("hunter2"));
    // Only when its time has come.
    assert_eq!(&*node.delivers(&vault, 2 * EVERY).await.key.id, "acme-79");
    assert_eq!(node.progress.status("acme").error, None);
}

fn api_key_of_another_store() -> String {
    crate::stages::auth::api_key_format::mint("acme-77").unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn an_operator_may_want_the_next_one_at_once() {
    let (node, vault) = (node(None).await, OneField::default());
    node.delivers(&vault, 0).await;
    let first = node.key("acme-1");
    let asked = Some(AskedRotation { by: "ops".into(), end: Some(at(120)) });
    let rotation = first.rotation.clone().map(|rotation| Rotation { asked, ..rotation });
    node.puts(Key { rotation, ..Key::clone(&first) }).await;
    let Delivered { key, before } = node.delivers(&vault, 100).await;
    assert_eq!((&*key.created_by, before), ("ops", Some(("acme-1".into(), at(120)))));
    node.does_nothing(&vault, &[200, 300, DAY]).await;
    assert_eq!(node.delivers(&vault, 101 + EVERY).await.before.unwrap().1, at(102 + EVERY + OVERLAP));
}

#[tokio::test]
async fn a_revoked_key_is_replaced_unless_the_next_one_would_be_revoked_as_well() {
    let (node, vault) = (node(None).await, OneField::default());
    node.delivers(&vault, 0).await;
    let revoke = async |target: RevocationTarget| {
        let revocation = Revocation {
            target,
            issued_before: None,
            expires: None,
            reason: None,
            created: at(0),
            created_by: "ops".into(),
        };
        node.registry.change(vec![Change::Put(Entry::Revocation(revocation))]).await.unwrap();
    };
    revoke(RevocationTarget::Key("acme-1".into())).await;
    // An id that is revoked, for whatever reason, is no id for a new key.
    revoke(RevocationTarget::Key("acme-2".into())).await;
    assert_eq!(&*node.delivers(&vault, 100).await.key.id, "acme-3");
    revoke(RevocationTarget::Consumer("acme".into())).await;
    node.does_nothing(&vault, &[200, 300, EVERY, 2 * EVERY]).await;
    assert_eq!(node.keys().len(), 2);
}

#[tokio::test]
async fn a_key_that_an_operator_wrote_there_ends_like_one_of_ours() {
    let (node, vault) = (node(None).await, OneField::default());
    let sha256 = digest(&SHA256, b"by hand").as_ref().try_into().unwrap();
    let made = Key {
        id: "by-hand".into(),
        consumer: "acme".into(),
        sha256,
        scopes: None,
        from: None,
        not_before: None,
        expires: None,
        replaced_by: None,
        note: None,
        created: at(-100),
        created_by: "ops".into(),
        rotation: None,
        ends_for_good: false,
    };
    node.puts(made.clone()).await;
    node.puts(Key { id: "other".into(), sha256: [7; 32], ..made }).await;
    vault.put("by hand");
    let Delivered { before, .. } = node.delivers(&vault, 0).await;
    assert_eq!(before, Some(("by-hand".into(), at(1 + OVERLAP))));
    assert_eq!(node.key("by-hand").expires, Some(at(1 + OVERLAP)));
    assert_eq!(node.key("other").expires, None);
}

#[tokio::test]
async fn keys_that_have_ended_are_removed_after_a_while() {
    let (node, vault) = (node(None).await, OneField::default());
    for round in 0..40 {
        node.delivers(&vault, round * 2 * EVERY).await;
        node.rotator(&vault).mark_ended(&node.keys(), at(round * 2 * EVERY + EVERY)).await;
        assert!(node.keys().len() <= 12, "{}", node.keys().len());
    }
    assert_eq!((&*node.keys()[0].id, &*node.keys().last().unwrap().id), ("acme-29", "acme-40"));
}

/// The store of both nodes.
fn shared(server: &Server) -> Option<StoreConfig> {
    let (servers, prefix) = (server.servers(), "bartizan".into());
    Some(StoreConfig::Redis { servers, prefix, timeout: Duration::from_secs(30) })
}

#[tokio::test]
async fn of_two_nodes_one_makes_each_key() {
    let Some(server) = Server::start() else { return };
    let (one, two, vault) = (node(shared(&server)).await, node(shared(&server)).await, OneField::default());
    let mut delivered = Vec::new();
    for rotation in 0..20 {
        for second in 0..4 {
            let now = rotation * (EVERY + 10) + second;
            let both = tokio::join!(one.advance(&vault, now), two.advance(&vault, now));
            for outcome in [both.0, both.1] {
                match outcome {
                    Outcome::Delivered(Delivered { key, .. }) => delivered.push(key.id.clone()),
                    Outcome::Nothing => {}
                    Outcome::Failed { why, .. } => panic!("{why}"),
                }
            }
        }
        let found = one.finds(&vault, rotation * (EVERY + 10) + 4).unwrap();
        assert_eq!(Some(&found.id), delivered.last());
    }
    let expected: Vec<Box<str>> = (1..=20).map(|number| format!("acme-{number}").into()).collect();
    assert_eq!(delivered, expected);
}

#[tokio::test]
async fn a_key_that_another_node_makes_meanwhile_is_not_made_twice() {
    let (node, vault) = (node(None).await, OneField::default());
    let before = node.keys();
    node.does_nothing(&vault, &[0]).await;
    // That has come from the other one while this one was about to act on what it saw.
    let progress = Progress::default();
    let late = Rotator { progress: &progress, ..node.rotator(&vault) };
    assert!(matches!(late.advance(before, at(0)).await, Outcome::Nothing));
    let ids: Vec<_> = node.keys().iter().map(|key| key.id.clone()).collect();
    assert_eq!(ids, [Box::from("acme-1")]);
}

#[tokio::test]
async fn a_node_that_does_not_finish_is_replaced_and_comes_too_late() {
    let Some(server) = Server::start() else { return };
    let (one, two, vault) = (node(shared(&server)).await, node(shared(&server)).await, OneField::default());
    one.does_nothing(&vault, &[0]).await;
    two.does_nothing(&vault, &[0, 30, 59]).await;
    // The first one has read the vault, and then is stopped for long.
    let opened = vault.open(&one.rotation.deliver).await.unwrap();
    let late = one.progress.held("acme").unwrap().secret;
    assert_eq!(&*two.delivers(&vault, 60).await.key.id, "acme-2");
    assert_eq!(vault.write(&one.rotation.deliver, opened, &late).await, Ok(false));
    one.does_nothing(&vault, &[62, 63, 200]).await;
    assert_eq!((&*one.finds(&vault, 64).unwrap().id, one.keys().len()), ("acme-2", 1));

    // The other way round: it wakes up after the other one has made a key, and before that is written.
    let due = 61 + EVERY;
    one.does_nothing(&vault, &[due]).await;
    let opened = vault.open(&one.rotation.deliver).await.unwrap();
    let late = one.progress.held("acme").unwrap().secret;
    two.does_nothing(&vault, &[due, due + 60]).await;
    assert_eq!(vault.write(&one.rotation.deliver, opened, &late).await, Ok(true));
    assert_eq!(&*two.finds(&vault, due + 60).unwrap().id, "acme-3", "what the vault has is accepted");
    let Delivered { key, before } = two.delivers(&vault, due + 61).await;
    assert_eq!((&*key.id, before.unwrap().0), ("acme-3", "acme-2".into()));
    for node in [&one, &two] {
        node.does_nothing(&vault, &[due + 62, due + 200, due + DAY]).await;
    }
    assert_eq!(&*two.delivers(&vault, due + 61 + EVERY).await.key.id, "acme-5");
    assert_eq!(two.keys().iter().filter(|key| key.expires.is_none()).count(), 1, "{:#?}", two.keys());
}

#[tokio::test]
async fn others_may_write_to_the_same_secret_but_not_all_the_time() {
    let (node, vault) = (node(None).await, OneField::default());
    node.does_nothing(&vault, &[0]).await;
    vault.others.set(2);
    assert_eq!(&*node.delivers(&vault, 1).await.key.id, "acme-1");
    node.does_nothing(&vault, &[1 + EVERY]).await;
    vault.others.set(3);
    let Outcome::Failed { why, .. } = node.advance(&vault, 2 + EVERY).await else { panic!("the failure is returned") };
    assert!(why.contains("again and again"), "{why}");
    assert_eq!(&*node.delivers(&vault, 4 + EVERY).await.key.id, "acme-2");
}

#[tokio::test]
async fn a_key_that_is_removed_while_it_is_delivered_stays_removed() {
    let (node, vault, gate) = (node(None).await, OneField::default(), Arc::new(Notify::new()));
    node.does_nothing(&vault, &[0]).await;
    vault.gate.replace(Some(Arc::clone(&gate)));
    let removes = async {
        node.registry.change(vec![Change::Remove(Kind::Key, "acme-1".to_owned())]).await.unwrap();
        gate.notify_one();
    };
    let (outcome, ()) = tokio::join!(node.advance(&vault, 1), removes);
    assert!(matches!(outcome, Outcome::Nothing), "{outcome:?}");
    assert_eq!((node.keys().len(), node.finds(&vault, 1)), (0, None));
    assert_eq!(&*node.delivers(&vault, 2).await.key.id, "acme-2");
}

#[tokio::test]
async fn a_removed_key_is_made_again_under_another_number() {
    let (node, vault) = (node(None).await, OneField::default());
    node.delivers(&vault, 0).await;
    node.registry.change(vec![Change::Remove(Kind::Key, "acme-1".to_owned())]).await.unwrap();
    assert_eq!(&*node.delivers(&vault, 10).await.key.id, "acme-2");
}
