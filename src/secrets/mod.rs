//! Resolves references to secrets inside text: `${env:NAME}`, `${file:PATH}`, `${vault:MOUNT/PATH#FIELD}`. [`vault`]: secrets of a
//! vault; [`stale`]: what may not go on without them. [`inputs`], [`ages`]: what a policy was read from, and since when it
//! is in force.
//!
//! A value is never searched for references again, never printed, and never empty. The caller's [`Lookup`] provides the
//! values, and the caller knows where in a file a reference is.

pub(crate) mod ages;
pub(crate) mod inputs;
pub(crate) mod stale;
pub(crate) mod vault;

use std::env::VarError;
use std::ops::Range;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use self::vault::VaultReference;

/// The accepted forms, for help texts.
const FORMS: &str = "references are `${env:NAME}`, `${file:PATH}` and `${vault:MOUNT/PATH#FIELD}`";
/// Longest text after its references are resolved.
const RESOLVED_LIMIT: usize = 4 << 20;

/// Where the values of references come from.
pub(crate) trait Lookup {
    /// Value of an environment variable.
    fn env(&mut self, name: &str) -> Result<SecretString, VarError>;
    /// Text of a file; on failure, what is wrong and, if known, how to fix it.
    fn file(&mut self, path: &str) -> Result<SecretString, (String, Option<&'static str>)>;
    /// Field of a secret in the vault; on failure, what is wrong and, if known, how to fix it.
    fn vault(&mut self, reference: &VaultReference) -> Result<SecretString, (String, Option<String>)>;
}

/// A reference that has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// Byte range in the text.
    pub(crate) range: Range<usize>,
    /// What is wrong; quotes the reference, never a value.
    pub(crate) message: String,
    /// How to fix it.
    pub(crate) help: Option<String>,
}

/// Whether `text` holds a reference, well formed or not.
pub(crate) fn has_reference(text: &str) -> bool {
    text.contains("${")
}

/// The references in a text, without `${` and `}`.
pub(crate) fn references(text: &str) -> impl Iterator<Item = &str> {
    let inside = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    inside.map(|(inside, _)| inside)
}

/// The well-formed references to the vault in a text.
pub(crate) fn vault_references(text: &str) -> impl Iterator<Item = VaultReference> {
    references(text).filter_map(|inside| VaultReference::parse(inside.strip_prefix("vault:")?).ok())
}

/// Whether a text refers to the vault, in any form.
pub(crate) fn has_vault_reference(text: &str) -> bool {
    text.contains("${vault:")
}

/// Replaces every reference in the text by its value.
///
/// Errors: all references that have no value.
pub(crate) fn resolve(text: &str, lookup: &mut impl Lookup) -> Result<SecretString, Vec<Unresolved>> {
    let mut resolved = Zeroizing::new(String::new());
    let mut missing = Vec::new();
    let mut at = 0;
    while let Some((before, rest)) = text.get(at..).and_then(|tail| tail.split_once("${")) {
        resolved.push_str(before);
        let start = at + before.len();
        let Some((inside, _)) = rest.split_once('}') else {
            missing.push(Unresolved {
                range: start..text.len(),
                message: "a reference is not closed: `${` has no `}` after it".to_owned(),
                help: Some(FORMS.to_owned()),
            });
            return Err(missing);
        };
        at = start + 2 + inside.len() + 1;
        match value(inside, lookup) {
            Ok(value) if resolved.len() + value.expose_secret().len() > RESOLVED_LIMIT => missing.push(Unresolved {
                range: start..at,
                message: "the text is too long once its references are resolved".to_owned(),
                help: None,
            }),
            Ok(value) => resolved.push_str(value.expose_secret()),
            Err((message, help)) => missing.push(Unresolved { range: start..at, message, help }),
        }
    }
    resolved.push_str(text.get(at..).unwrap_or(""));
    if missing.is_empty() { Ok(SecretString::from(resolved.as_str())) } else { Err(missing) }
}

/// Returns the value of one reference; `inside` is the text between the braces.
fn value(inside: &str, lookup: &mut impl Lookup) -> Result<SecretString, (String, Option<String>)> {
    let shown: String = inside.chars().take(80).flat_map(char::escape_debug).collect();
    let Some((scheme, name)) = inside.split_once(':') else {
        let help = if is_variable_name(inside) { format!("write `${{env:{shown}}}`") } else { FORMS.to_owned() };
        return Err((format!("`${{{shown}}}` does not say where its value comes from"), Some(help)));
    };
    match scheme {
        "env" if !is_variable_name(name) => Err((
            format!("`${{{shown}}}` does not name an environment variable"),
            Some("a name is made of letters, digits and `_`, such as `${env:ADMIN_TOKEN}`".to_owned()),
        )),
        "env" => match lookup.env(name) {
            Ok(value) if value.expose_secret().is_empty() => {
                Err((format!("the environment variable `{name}` is empty"), None))
            }
            Ok(value) => Ok(value),
            Err(VarError::NotPresent) => Err((
                format!("the environment variable `{name}` is not set"),
                Some("set it in the environment of this process, or refer to a file with `${file:PATH}`".to_owned()),
            )),
            Err(VarError::NotUnicode(_)) => Err((format!("the environment variable `{name}` is not UTF-8 text"), None)),
        },
        "file" if name.is_empty() => Err(("`${file:}` does not name a file".to_owned(), Some(FORMS.to_owned()))),
        "file" => {
            let text = lookup.file(name).map_err(|(message, help)| (message, help.map(str::to_owned)))?;
            let whole = text.expose_secret();
            // Editors and `echo` end a file with a line break that is not part of the secret.
            let cut = whole.strip_suffix('\n').map_or(whole, |line| line.strip_suffix('\r').unwrap_or(line));
            if cut.is_empty() {
                return Err((format!("the file of `${{{shown}}}` is empty"), None));
            }
            Ok(SecretString::from(cut))
        }
        "vault" => {
            let parsed = VaultReference::parse(name);
            let parsed = parsed
                .map_err(|help| (format!("`${{{shown}}}` does not name a field of a secret"), Some(help.to_owned())))?;
            lookup.vault(&parsed)
        }
        other => {
            let other: String = other.chars().take(40).flat_map(char::escape_debug).collect();
            Err((format!("`{other}` is not a source of references"), Some(FORMS.to_owned())))
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Lookup for Fixed {
        fn env(&mut self, name: &str) -> Result<SecretString, VarError> {
            match name {
                "USER" => Ok("ann".into()),
                "EMPTY" => Ok("".into()),
                "TRICKY" => Ok("${env:USER}: [x]".into()),
                _ => Err(VarError::NotPresent),
            }
        }

        fn file(&mut self, path: &str) -> Result<SecretString, (String, Option<&'static str>)> {
            match path {
                "/one" => Ok("hush\n".into()),
                "/two" => Ok("hush\n\n".into()),
                "/dos" => Ok("hush\r\n".into()),
                "/blank" => Ok("\n".into()),
                _ => Err((format!("there is no file `{path}`"), None)),
            }
        }

        fn vault(&mut self, reference: &VaultReference) -> Result<SecretString, (String, Option<String>)> {
            match (&*reference.secret.path, reference.secret.version, &*reference.field) {
                ("kv/a", None, "b") => Ok("${env:USER}".into()),
                ("kv/a", Some(2), "b") => Ok("old".into()),
                _ => Err((format!("there is no {reference}"), None)),
            }
        }
    }

    #[test]
    fn references_become_their_values_once() {
        for (text, value) in [
            ("${env:USER}", "ann"),
            ("a-${env:USER}-${file:/one}!", "a-ann-hush!"),
            ("${file:/two}", "hush\n"),
            ("${file:/dos}", "hush"),
            ("${env:TRICKY}", "${env:USER}: [x]"),
            ("${vault:kv/a#b}, ${vault:kv/a@2#b}", "${env:USER}, old"),
            ("$${env:USER}}", "$ann}"),
            ("no $reference {at} all$", "no $reference {at} all$"),
            ("é${env:USER}é", "éanné"),
        ] {
            assert_eq!(resolve(text, &mut Fixed).unwrap().expose_secret(), value, "{text}");
        }
    }

    #[test]
    fn every_reference_without_a_value_is_reported_with_its_range() {
        for (text, expected) in [
            ("${env:NOPE} and ${env:EMPTY}", vec![(0..11, "`NOPE` is not set"), (16..28, "`EMPTY` is empty")]),
            ("x${file:/gone}", vec![(1..14, "there is no file `/gone`")]),
            ("${file:/blank}", vec![(0..14, "is empty")]),
            ("${file:}", vec![(0..8, "does not name a file")]),
            ("${vault:kv/a#c}", vec![(0..15, "there is no vault:kv/a#c")]),
            ("${vault:kv/a}", vec![(0..13, "does not name a field")]),
            ("${ENV:USER}", vec![(0..11, "`ENV` is not a source")]),
            ("${USER}", vec![(0..7, "does not say where")]),
            ("${}", vec![(0..3, "does not say where")]),
            ("${env: USER}", vec![(0..12, "does not name an environment variable")]),
            ("${env:USER", vec![(0..10, "not closed")]),
            ("${env:NOPE}${", vec![(0..11, "not set"), (11..13, "not closed")]),
        ] {
            let found = resolve(text, &mut Fixed).unwrap_err();
            assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
            for (found, (range, message)) in found.iter().zip(expected) {
                assert!(found.range == range && found.message.contains(message), "{text}: {found:?}");
            }
        }
    }
}
