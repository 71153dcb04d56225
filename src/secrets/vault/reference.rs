//! References to fields of secrets: `MOUNT/PATH#FIELD`, or `MOUNT/PATH@VERSION#FIELD`.

use std::fmt;

/// Longest path and longest field, in bytes.
const LONGEST: usize = 512;

/// A secret of a key-value engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecretPath {
    /// Mount and path, as the command line of the vault writes them.
    pub(crate) path: Box<str>,
    /// Absent: the current version.
    pub(crate) version: Option<u64>,
}

/// A field of a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VaultReference {
    /// The secret.
    pub(crate) secret: SecretPath,
    /// The name of the field.
    pub(crate) field: Box<str>,
}

impl VaultReference {
    /// Parses what follows `vault:`. The error is the help for the one who wrote it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "write `${vault:MOUNT/PATH#FIELD}`, such as `${vault:kv/orders#client_secret}`";
        let (path, field) = text.split_once('#').ok_or(FORM)?;
        let (path, version) = match path.rsplit_once('@') {
            None => (path, None),
            Some((path, version)) => {
                const VERSION: &str = "write the version as a number from 1: `${vault:MOUNT/PATH@3#FIELD}`";
                (path, Some(version.parse().ok().filter(|version| *version > 0).ok_or(VERSION)?))
            }
        };
        if !is_path(path) || !path.contains('/') || field.is_empty() || field.len() > LONGEST {
            return Err(FORM);
        }
        Ok(Self { secret: SecretPath { path: path.into(), version }, field: field.into() })
    }
}

/// Whether this is a path of the vault: segments of visible characters. Nothing in it can lead elsewhere.
pub(crate) fn is_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..") && !segment.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    path.len() <= LONGEST && path.split('/').all(is_segment)
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

impl fmt::Display for VaultReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vault:{}#{}", self.secret, self.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_path_a_field_and_maybe_a_version() {
        for (text, expected) in [
            ("kv/a#b", Some(("kv/a", None, "b"))),
            ("team/kv/a/b@12#c.d", Some(("team/kv/a/b", Some(12), "c.d"))),
            ("kv/a@b.example@2#c", Some(("kv/a@b.example", Some(2), "c"))),
            ("kv/a#b#c", Some(("kv/a", None, "b#c"))),
            ("kv/a", None),
            ("kv#b", None),
            ("kv/#b", None),
            ("/kv/a#b", None),
            ("kv/../sys/raw#b", None),
            ("kv/a#", None),
            ("kv/a@0#b", None),
            ("kv/a@new#b", None),
            ("kv/a b#c", None),
            ("", None),
        ] {
            let parsed = VaultReference::parse(text);
            let parts = parsed.as_ref().ok().map(|one| (&*one.secret.path, one.secret.version, &*one.field));
            assert_eq!(parts, expected, "{text}");
            if let Ok(parsed) = parsed {
                assert_eq!(parsed.to_string(), format!("vault:{text}"));
            }
        }
    }
}
