//! What a policy was read from: files and environment variables, and how their content is recognized again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

/// How many uses of one input are listed.
const MOST_USES: usize = 16;

/// SHA-256 of a content. It may be that of a secret, so it is compared and never shown; see [`Input::version`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// That of a content.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self(digest(&SHA256, content).as_ref().try_into().unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InputKind {
    /// The policy file.
    Policy,
    /// A file that it includes.
    Included,
    /// Which files a pattern of `include` finds.
    Listing,
    /// An environment variable.
    Variable,
    /// A file that holds a secret.
    Secret,
    /// A file of certificates or revocation lists, which everybody may see.
    Certificates,
    /// Any other file: a schema, a description, the keys of an issuer.
    File,
}

impl InputKind {
    /// Whether it is a part of the policy itself.
    pub(crate) fn is_policy(self) -> bool {
        matches!(self, Self::Policy | Self::Included | Self::Listing)
    }

    /// Whether operators see it among the secrets.
    pub(crate) fn is_listed(self) -> bool {
        matches!(self, Self::Variable | Self::Secret | Self::Certificates)
    }
}

/// A place where the policy refers to an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputUse {
    /// As written: `${env:NAME}`, `${file:PATH}` or a path.
    pub(crate) reference: Box<str>,
    /// `FILE:LINE:COLUMN`.
    pub(crate) place: Box<str>,
}

/// A file or an environment variable that a policy was read from.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// What it is.
    pub(crate) kind: InputKind,
    /// `env:` and the variable, or the file as messages show it.
    pub(crate) name: Box<str>,
    /// The file.
    pub(crate) path: Option<PathBuf>,
    /// Its content when it was read.
    pub(crate) digest: Digest,
    /// When the file was last written.
    pub(crate) modified: Option<Timestamp>,
    /// Where the policy refers to it, in its order; the first ones.
    pub(crate) uses: Vec<InputUse>,
}

impl Input {
    /// How the policy writes it.
    pub(crate) fn reference(&self) -> &str {
        self.uses.first().map_or(&self.name, |first| &first.reference)
    }

    /// What tells one content from the next. For a secret it is when its file was written: nothing here comes from its value.
    pub(crate) fn version(&self) -> Option<String> {
        match self.kind {
            InputKind::Variable => None,
            InputKind::Secret => self.modified.map(|at| at.to_string()),
            InputKind::Policy
            | InputKind::Included
            | InputKind::Listing
            | InputKind::Certificates
            | InputKind::File => {
                let Digest(bytes) = self.digest;
                let start: String = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                Some(format!("sha256:{start}"))
            }
        }
    }

    /// Notes a use, unless there are many already.
    pub(crate) fn used(&mut self, reference: &str, place: impl FnOnce() -> String) {
        if self.uses.len() >= MOST_USES {
            return;
        }
        let one = InputUse { reference: reference.into(), place: place().into() };
        if !self.uses.contains(&one) {
            self.uses.push(one);
        }
    }
}

/// The inputs of a policy while it is read.
#[derive(Debug, Default)]
pub(crate) struct Inputs(BTreeMap<(bool, Box<str>), Input>);

impl Inputs {
    /// Adds what was read. A file that is read both as a secret and as another file is two inputs.
    pub(crate) fn add(&mut self, kind: InputKind, name: &str, path: Option<&Path>, content: &[u8]) -> &mut Input {
        let input = Input {
            kind,
            name: name.into(),
            path: path.map(Path::to_path_buf),
            digest: Digest::of(content),
            modified: None,
            uses: Vec::new(),
        };
        let key = (kind == InputKind::Secret, input.name.clone());
        self.0.entry(key).or_insert(input)
    }

    /// What was read under this name.
    pub(crate) fn find(&mut self, is_secret: bool, name: &str) -> Option<&mut Input> {
        self.0.get_mut(&(is_secret, name.into()))
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<Input> {
        self.0.values().cloned().collect()
    }
}

impl Input {
    /// Sets when the file was last written.
    pub(crate) fn written(&mut self, at: Option<SystemTime>) {
        self.modified = at.and_then(|at| Timestamp::try_from(at).ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest of a short secret could be searched for the secret.
    #[test]
    fn only_what_everybody_may_see_has_a_version_of_its_content() {
        let written = Timestamp::from_second(1_800_000_000).unwrap();
        for (kind, version) in [
            (InputKind::Variable, None),
            (InputKind::Secret, Some("2027-01-15T08:00:00Z")),
            (InputKind::Certificates, Some("sha256:2cf24dba5fb0a30e")),
        ] {
            let (name, path, uses) = ("a".into(), None, Vec::new());
            let input = Input { kind, name, path, digest: Digest::of(b"hello"), modified: Some(written), uses };
            assert_eq!(input.version().as_deref(), version, "{kind:?}");
            assert!(!format!("{input:?}").contains("2c"), "{input:?}");
        }
    }

    #[test]
    fn the_uses_of_one_input_are_bounded() {
        let (name, path, digest) = ("A".into(), None, Digest::of(b""));
        let mut input = Input { kind: InputKind::Variable, name, path, digest, modified: None, uses: Vec::new() };
        for line in 0..1000 {
            input.used("${env:A}", || format!("policy.yaml:{line}:1"));
            input.used("${env:A}", || format!("policy.yaml:{line}:1"));
        }
        assert_eq!((input.uses.len(), input.reference()), (MOST_USES, "${env:A}"));
    }
}
