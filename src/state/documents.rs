//! Documents that are made for callers, kept for as long as their policy is in force. They are bounded in bytes, and those that are not
//! asked for make room.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

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

/// The documents of a policy. Nothing is allocated before there is one.
#[derive(Default)]
pub(crate) struct Documents(OnceLock<Mutex<Kept>>);

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Documents")
    }
}

impl Documents {
    /// The document with this key, which is made if it is not there. Several requests may make it at the same time.
    pub(crate) fn get_or_make(&self, key: DocumentKey, make: impl FnOnce() -> Bytes) -> Bytes {
        if let Some(kept) = self.0.get()
            && let Some(known) = kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
        {
            return known.clone();
        }
        let made = make();
        let kept = self.0.get_or_init(|| {
            let state = RandomState::new();
            Mutex::new(Cache::with(ESTIMATED, CAPACITY, ByteWeigher, state, DefaultLifecycle::default()))
        });
        kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
        made
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
        let kept = documents.0.get().unwrap().lock().unwrap();
        assert!(kept.weight() <= CAPACITY && kept.len() > 100, "{} in {}", kept.weight(), kept.len());
    }
}
