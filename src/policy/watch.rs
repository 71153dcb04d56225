//! `secrets.watch`: which files are compared with what is in force, and how often.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::zeroize::Zeroize;

use super::read_file::{FILE_LIMIT, POLICY_LIMIT, ReadError, SECRET_LIMIT, read_text};
use super::source::SourceText;
use crate::secrets::inputs::{Digest, Input, InputKind};

/// How files are watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    /// How often they are read.
    pub(crate) every: Duration,
    /// Whether the policy file is watched, too.
    pub(crate) policy: bool,
}

/// The text of a policy; it may hold secrets.
#[derive(Clone)]
pub(crate) struct PolicyText(pub(super) Arc<SourceText>);

impl fmt::Debug for PolicyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyText")
    }
}

/// Reads the file of an input again, within the bounds of its kind; absent if it has none.
pub(crate) fn digest_again(input: &Input) -> Option<Result<Digest, ReadError>> {
    let path = input.path.as_ref()?;
    let limit = match input.kind {
        InputKind::Policy => POLICY_LIMIT,
        InputKind::Secret => SECRET_LIMIT,
        InputKind::Variable | InputKind::Certificates | InputKind::File => FILE_LIMIT,
    };
    Some(read_text(path, &input.name, limit).map(|(mut text, _)| {
        let digest = Digest::of(text.as_bytes());
        text.zeroize();
        digest
    }))
}

/// A file whose content is another than when it was read before.
pub(crate) fn changed_file<'a>(now: &'a [Input], before: &[Input]) -> Option<&'a str> {
    let is_same = |input: &Input| {
        let is_it = |known: &&Input| known.name == input.name && known.kind == input.kind;
        before.iter().find(is_it).is_some_and(|known| known.digest == input.digest)
    };
    now.iter().find(|input| input.path.is_some() && !is_same(input)).map(|input| &*input.name)
}
