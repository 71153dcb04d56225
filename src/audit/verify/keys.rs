//! Which keys may sign a stream.

/// The keys of a stream, and of those that it follows.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// Id of the key that signed last, or of the one that has replaced it since.
    current: Option<Box<str>>,
    /// A checkpoint of this stream has named it, so no other may sign.
    named: bool,
    /// Ids of the keys that others have replaced.
    replaced: Vec<Box<str>>,
}

impl Keys {
    /// Those of a stream that follows. A key that changes while the process is stopped is named by nobody.
    pub(super) fn inherited(&self) -> Self {
        Self { named: false, ..self.clone() }
    }

    /// Whether the key with this id has not been replaced.
    pub(super) fn may_sign(&self, key: &str) -> bool {
        let is_replaced = || self.named || self.replaced.iter().any(|replaced| **replaced == *key);
        self.current.as_deref() == Some(key) || !is_replaced()
    }

    /// A checkpoint is signed with this key, and may name the next one.
    pub(super) fn signed(&mut self, key: &str, next: Option<&str>) {
        self.replace(key);
        if let Some(next) = next {
            self.replace(next);
            self.named = true;
        }
    }

    fn replace(&mut self, key: &str) {
        if self.current.as_deref() == Some(key) {
            return;
        }
        // The key in force may name one again that was replaced.
        self.replaced.retain(|replaced| **replaced != *key);
        self.replaced.extend(self.current.replace(key.into()));
    }
}
