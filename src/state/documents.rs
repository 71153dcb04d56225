//! Documents that are made for callers, kept while their policy is in force. They are bounded in bytes, and those that are not asked for
//! make room.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use ahash::RandomState;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

/// Most bytes of all documents.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// Bytes of an entry in addition to the document.
const OVERHEAD: u64 = 256;
/// How many documents there are about, if they fill the cache.
const ESTIMATED: usize = 1024;

/// What a document is known by: a digest of all that it depends on, beside the policy.
pub(crate) type DocumentKey = [u8; 32];

#[derive(Clone)]
struct ByteWeigher;

impl Weighter<DocumentKey, Bytes> for ByteWeigher {
    fn weight(&self, _: &DocumentKey, document: &Bytes) -> u64 {
        OVERHEAD.saturating_add(document.len() as u64)
    }
}

type Kept = Cache<DocumentKey, Bytes, ByteWeigher, RandomState, DefaultLifecycle<DocumentKey, Bytes>>;

/// The documents of a policy.
#[derive(Default)]
pub(crate) struct Documents(Mutex<State>);

#[derive(Default)]
enum State {
    /// Nothing is allocated before there is one.
    #[default]
    Empty,
    Kept(Box<Kept>),
    /// Another policy is in force: nothing is kept for the requests that still have this one.
    Retired,
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Documents")
    }
}

impl Documents {
    /// The document with this key, which is made if it is not there. Several requests may make it at the same time.
    pub(crate) fn get_or_make(&self, key: DocumentKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let state = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Kept(kept) = &mut *state()
            && let Some(known) = kept.get(&key)
        {
            return known.clone();
        }
        let made = make();
        let mut state = state();
        if matches!(*state, State::Empty) {
            let (hasher, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
            *state = State::Kept(Box::new(Cache::with(ESTIMATED, CAPACITY, ByteWeigher, hasher, lifecycle)));
        }
        if let State::Kept(kept) = &mut *state {
            kept.insert(key, made.clone());
        }
        made
    }

    /// Forgets all of them, and keeps none any more: a policy may live on for as long as a request that began with it.
    pub(crate) fn retire(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::Retired;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_made_once_and_all_are_bounded() {
        let documents = Documents::default();
        let mut made = 0;
        let mut get = |key: u64, bytes: usize| {
            let mut whole = DocumentKey::default();
            whole[..8].copy_from_slice(&key.to_be_bytes());
            documents.get_or_make(whole, || {
                made += 1;
                Bytes::from(vec![0; bytes])
            });
            made
        };
        assert_eq!([get(1, 10), get(1, 10), get(2, 10)], [1, 1, 2]);
        // A caller that asks for many different ones takes no more memory than that.
        for key in 0..1000 {
            get(key, 100_000);
        }
        {
            let state = documents.0.lock().unwrap();
            let State::Kept(kept) = &*state else { panic!("nothing is kept") };
            assert!(kept.weight() <= CAPACITY && kept.len() > 100, "{} in {}", kept.weight(), kept.len());
        }
        // Those of a policy that was replaced are made, and not kept.
        documents.retire();
        let made = [0, 1].map(|_| documents.get_or_make(DocumentKey::default(), || Bytes::from_static(b"made")));
        assert_eq!(made, ["made", "made"]);
        assert!(matches!(*documents.0.lock().unwrap(), State::Retired));
    }
}
