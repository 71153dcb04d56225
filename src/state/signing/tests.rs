use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::state::epoch::Epoch;
use crate::state::ledger::Ledger;
use crate::state::registry::StoreConfig;

const DAY: i64 = 24 * 3600;
const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

async fn registry(folder: &TempDir) -> Arc<Registry> {
    let config = StoreConfig::Embedded { folder: folder.path().to_owned() };
    let clock = Ledger::new(Instant::now()).clock();
    let registry = Arc::new(Registry::new(Some(config), Epoch::default(), clock));
    registry.open().await.unwrap();
    registry
}

fn signing(registry: &Arc<Registry>, seal: &str) -> Signing {
    sealing(registry, seal, &[])
}

fn sealing(registry: &Arc<Registry>, seal: &str, before: &[&str]) -> Signing {
    let settings = SigningSettings {
        algorithm: SigningAlgorithm::Es256,
        rotate: Duration::from_secs(30 * DAY as u64),
        lifetime: Duration::from_secs(600),
        seal: SealSource::Secret(seal.into()),
        seals_before: before.iter().map(|seal| SecretString::from(*seal)).collect(),
    };
    Signing::new(settings, Arc::clone(registry))
}

/// The `kid` that signs at this time.
fn signer(signing: &Signing, now: Timestamp) -> Box<str> {
    signing.active(now).unwrap().key.kid.clone()
}

/// The `kid`s that are published at this time.
fn published(signing: &Signing, now: Timestamp) -> Vec<String> {
    let set = signing.key_set(now);
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Verifiers that keep the key set for as long as they may, and fetch it at other times than each other, accept every token
/// until its last second.
#[tokio::test]
async fn a_hundred_rotations_refuse_nobody() {
    let folder = TempDir::new().unwrap();
    let registry = registry(&folder).await;
    let signing = signing(&registry, SECRET);
    let mut verifiers: Vec<(i64, Vec<String>)> = vec![(0, Vec::new()); 3];
    let (mut tokens, mut signers) = (Vec::new(), std::collections::BTreeSet::new());
    let (mut second, mut refused, mut checked) = (0, 0, 0);
    while signers.len() <= 100 {
        let now = at(second);
        signing.maintain(now).await.unwrap();
        for (number, (fetched, set)) in verifiers.iter_mut().enumerate() {
            if set.is_empty() || second - *fetched >= KEY_SET_AGE + number as i64 * 7 - 20 {
                (*fetched, *set) = (second, published(&signing, now));
            }
        }
        let kid = signer(&signing, now).to_string();
        signers.insert(kid.clone());
        tokens.push((kid, second + 600));
        tokens.retain(|(_, end)| *end >= second);
        for (kid, _) in &tokens {
            checked += verifiers.len();
            refused += verifiers.iter().filter(|(_, set)| !set.contains(kid)).count();
        }
        // In the hour around a rotation it is looked at often, and otherwise there is nothing to see.
        let near = signing.registry.signing_keys().last().is_some_and(|last| {
            let next = last.active.as_second() + 30 * DAY;
            last.active > now || (now.as_second() - last.active.as_second()) < 1800 || next - now.as_second() < 1800
        });
        second += if near { 29 } else { 1500 };
        if !near {
            (tokens, verifiers) = (Vec::new(), vec![(0, Vec::new()); 3]);
        }
        let ended: Vec<_> = registry.signing_keys().iter().filter(|key| !key.is_accepted(now)).cloned().collect();
        for key in ended {
            let id = super::super::registry::entry::signing_key_id(key.number);
            registry.change(vec![Change::Remove(super::super::registry::entry::Kind::SigningKey, id)]).await.unwrap();
        }
    }
    assert!(checked > 100_000, "{checked}");
    assert_eq!(refused, 0, "of {checked}");
}

#[tokio::test]
async fn the_next_key_is_published_before_it_signs_and_the_last_after() {
    let folder = TempDir::new().unwrap();
    let registry = registry(&folder).await;
    let signing = signing(&registry, SECRET);
    assert_eq!(signing.active(at(0)).err(), Some(SigningError::Store("there is no signing key yet".to_owned())));
    let first = signing.maintain(at(0)).await.unwrap().unwrap();
    assert_eq!((first.active, first.until), (at(0), None));
    let due = 30 * DAY;
    for (second, made) in [(1, false), (due - 601, false), (due - 600, true), (due - 599, false), (due + 1000, false)] {
        assert_eq!(signing.maintain(at(second)).await.unwrap().is_some(), made, "{second}");
    }
    let keys = registry.signing_keys();
    let [first, second] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!((second.active, first.until), (at(due), Some(at(due + 600 + 300))));
    for (time, signs, number) in [
        (due - 600, &first.kid, 2),
        (due - 1, &first.kid, 2),
        (due, &second.kid, 2),
        (due + 899, &second.kid, 2),
        (due + 900, &second.kid, 1),
    ] {
        assert_eq!((&signer(&signing, at(time)), published(&signing, at(time)).len()), (signs, number), "{time}");
    }
    // A process that was down for long catches up, without a time in which nobody can sign.
    let late = due + 90 * DAY;
    let third = signing.maintain(at(late)).await.unwrap().unwrap();
    assert_eq!(third.active, at(late + 600));
    assert_eq!(signer(&signing, at(late + 599)), second.kid);
}

#[tokio::test]
async fn two_nodes_make_one_key_and_a_node_with_another_seal_makes_none() {
    let folder = TempDir::new().unwrap();
    let registry = registry(&folder).await;
    let (one, two) = (signing(&registry, SECRET), signing(&registry, SECRET));
    let (first, second) = tokio::join!(one.create(&[], at(0), at(0), "one"), two.create(&[], at(0), at(0), "two"));
    assert_eq!(first.unwrap().is_some(), second.unwrap().is_none());
    assert_eq!(signer(&one, at(0)), signer(&two, at(0)));

    let stranger = signing(&registry, "another seal, which is as long as the first");
    assert!(matches!(stranger.active(at(0)), Err(SigningError::Seal(_))));
    assert!(matches!(stranger.maintain(at(0)).await, Err(SigningError::Seal(_))));
    assert!(matches!(stranger.maintain(at(31 * DAY)).await, Err(SigningError::Seal(_))));
    assert_eq!(registry.signing_keys().len(), 1);
    // What an operator says counts: the keys of the old seal are gone.
    stranger.rotate(at(1), true, "ops").await.unwrap().unwrap();
    assert!(stranger.active(at(1)).is_ok() && matches!(one.active(at(1)), Err(SigningError::Seal(_))));
}

#[tokio::test]
async fn another_algorithm_takes_its_turn() {
    let folder = TempDir::new().unwrap();
    let registry = registry(&folder).await;
    let mut signing = signing(&registry, SECRET);
    signing.maintain(at(0)).await.unwrap();
    signing.settings.algorithm = SigningAlgorithm::Es384;
    let next = signing.maintain(at(10)).await.unwrap().unwrap();
    assert_eq!((&*next.algorithm, next.active), ("ES384", at(610)));
    assert!(signing.maintain(at(20)).await.unwrap().is_none());
    let token = signing.active(at(610)).unwrap().sign("at+jwt", &json!({"a": 1})).unwrap();
    assert!(token.starts_with(&URL_SAFE_NO_PAD.encode(r#"{"alg":"ES384""#)[..18]), "{token}");
}

/// A new seal opens what the one before has sealed, and recognises what was derived from it, until it has replaced it.
#[tokio::test]
async fn a_seal_is_replaced_without_a_gap() {
    const NEXT: &str = "1f2e3d4c5b6a79887968574635241302";
    let folder = TempDir::new().unwrap();
    let registry = registry(&folder).await;
    let old = signing(&registry, SECRET);
    old.maintain(at(0)).await.unwrap();
    let bits = old.derive(&[b"a"]).unwrap();
    let first = signer(&old, at(0));

    let new = sealing(&registry, NEXT, &[SECRET]);
    assert_eq!(signer(&new, at(10)), first);
    assert_eq!((new.has_derived(&[b"a"], &bits), new.has_derived(&[b"b"], &bits)), (Ok(true), Ok(false)));
    assert_ne!(new.derive(&[b"a"]).unwrap(), bits);
    let key = new.maintain(at(10)).await.unwrap().expect("a key with the new seal");
    assert_eq!(key.active, at(10 + 600));
    assert!(new.maintain(at(11)).await.unwrap().is_none());
    assert_eq!((signer(&new, at(609)), signer(&new, at(610))), (first, key.kid.clone()));
    // Once the new key signs, the old seal is needed for nothing but refresh tokens.
    let alone = signing(&registry, NEXT);
    assert_eq!(signer(&alone, at(610)), key.kid);
    assert_eq!(alone.has_derived(&[b"a"], &bits), Ok(false));
}
