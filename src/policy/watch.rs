//! `secrets.watch`: which files are compared with what is in force, and how often.

use std::time::Duration;

use secrecy::zeroize::Zeroize;

use super::included;
use super::read_file::{FILE_LIMIT, POLICY_LIMIT, ReadError, ReadErrorKind, SECRET_LIMIT, read_text};
use crate::secrets::inputs::{Digest, Input, InputKind};

/// How files are watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    /// How often they are read.
    pub(crate) every: Duration,
    /// Whether the policy file is watched, too.
    pub(crate) policy: bool,
}

/// Reads the file of an input again, within the bounds of its kind; absent if it has none.
pub(crate) fn digest_again(input: &Input) -> Option<Result<Digest, ReadError>> {
    let path = input.path.as_ref()?;
    if input.kind == InputKind::Listing {
        return Some(match included::find(path, &input.name) {
            Ok(found) => Ok(Digest::of(included::names(&found).as_bytes())),
            // That it finds nothing any more is a change, too.
            Err(ReadErrorKind::NoneFound) => Ok(Digest::of(b"")),
            Err(kind) => Err(ReadError { name: input.name.to_string(), kind }),
        });
    }
    let limit = match input.kind {
        InputKind::Policy | InputKind::Included => POLICY_LIMIT,
        InputKind::Secret => SECRET_LIMIT,
        InputKind::Variable | InputKind::Certificates | InputKind::File | InputKind::Listing => FILE_LIMIT,
    };
    match read_text(path, &input.name, limit) {
        Ok((mut text, _)) => {
            let digest = Digest::of(text.as_bytes());
            text.zeroize();
            Some(Ok(digest))
        }
        // It may have been removed on purpose: what a pattern does not find is no part of the policy any more.
        Err(ReadError { kind: ReadErrorKind::NotFound, .. }) if input.kind == InputKind::Included => {
            Some(Ok(Digest::of(b"")))
        }
        Err(error) => Some(Err(error)),
    }
}

/// A file whose content is another than when it was read before.
pub(crate) fn changed_file<'a>(now: &'a [Input], before: &[Input]) -> Option<&'a str> {
    let is_same = |input: &Input| {
        let is_it = |known: &&Input| known.name == input.name && known.kind == input.kind;
        before.iter().find(is_it).is_some_and(|known| known.digest == input.digest)
    };
    now.iter().find(|input| input.path.is_some() && !is_same(input)).map(|input| &*input.name)
}
