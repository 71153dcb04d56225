//! Secrets come from a vault or from files.

use crate::cli::output::counted;
use crate::cli::ready::facts::Facts;
use crate::cli::ready::item::{Check, Finding, Item};
use crate::secrets;

const SOURCES: Check = Check("secrets", "Secrets come from a vault or from files, and none is written in the policy");

/// What a secret setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A secret.
    Secret,
    /// A private key as PEM, or the path of its file.
    Pem,
    /// A URL, in which there may be a password.
    Url,
    /// A header field, which is a secret if its name says so.
    Header,
    /// Nothing secret: a name that is not printed.
    Name,
}

/// Every setting that holds a secret; `*` is any name, or any position in a list. A test compares them with the document.
const SETTINGS: [(&[&str], Holds); 28] = [
    (&["admin", "token"], Holds::Secret),
    (&["admin", "tokens", "*", "token"], Holds::Secret),
    (&["admin", "tls", "key"], Holds::Pem),
    (&["admin", "tls", "certificates", "*", "key"], Holds::Pem),
    (&["listen", "*", "tls", "key"], Holds::Pem),
    (&["listen", "*", "tls", "certificates", "*", "key"], Holds::Pem),
    (&["secrets", "vault", "login", "token"], Holds::Secret),
    (&["secrets", "vault", "login", "approle", "secret_id"], Holds::Secret),
    (&["secrets", "vault", "login", "certificate", "key"], Holds::Pem),
    (&["egress", "proxy"], Holds::Url),
    (&["store", "redis"], Holds::Url),
    (&["store", "redis", "cluster", "*"], Holds::Url),
    (&["store", "redis", "sentinel", "*"], Holds::Url),
    (&["store", "redis", "master"], Holds::Url),
    (&["auth", "issuers", "*", "secret"], Holds::Secret),
    (&["auth", "introspection", "*", "client_secret"], Holds::Secret),
    (&["auth", "introspection", "*", "private_key"], Holds::Pem),
    (&["token_service", "keys", "seal"], Holds::Secret),
    (&["token_service", "keys", "seal_before", "*"], Holds::Secret),
    (&["apis", "*", "upstream", "tls", "key"], Holds::Pem),
    (&["telemetry", "otlp", "key"], Holds::Pem),
    (&["telemetry", "otlp", "headers", "*"], Holds::Header),
    (&["audit", "chain", "key"], Holds::Pem),
    (&["audit", "to", "*", "*", "key"], Holds::Pem),
    (&["audit", "to", "*", "*", "api_key"], Holds::Secret),
    (&["audit", "to", "*", "*", "password"], Holds::Secret),
    (&["audit", "to", "*", "*", "headers", "*"], Holds::Header),
    (&["secrets", "vault", "login", "approle", "role_id"], Holds::Name),
];

/// Where a secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A vault or a file.
    Kept,
    /// An environment variable.
    Environment,
    /// The text of the policy.
    Policy,
    /// The setting holds no secret.
    None,
}

/// Other processes of a user can read the environment of a process, and reports of crashes contain it.
pub(super) fn sources(facts: &Facts<'_>) -> Item {
    let (mut count, mut findings) = (0, Vec::new());
    facts.at.each_scalar(&mut |path, at| {
        let Some((_, holds)) = SETTINGS.iter().find(|(pattern, _)| fits(pattern, path)) else { return };
        let source = source(*holds, path.last().copied().unwrap_or_default(), at.written().unwrap_or_default());
        count += usize::from(source != Source::None);
        let setting = path.join(".");
        let message = match source {
            Source::Kept | Source::None => return,
            Source::Environment => format!("the secret `{setting}` comes from an environment variable"),
            Source::Policy => format!("the secret `{setting}` is written in the policy"),
        };
        findings.push(Finding::new(message, "write `${file:PATH}` or `${vault:MOUNT/PATH#FIELD}`").at(at.place()));
    });
    if count == 0 {
        return SOURCES.not_applicable("the policy needs no secrets");
    }
    SOURCES.judged(counted(count, "secret"), findings)
}

fn fits(pattern: &[&str], path: &[&str]) -> bool {
    // A list of sinks is short for a map with `to`.
    if let (["audit", "to", pattern @ ..], ["audit", "*", ..]) = (pattern, path) {
        return path.get(1..).is_some_and(|path| fits(pattern, path));
    }
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(one, step)| *one == "*" || one == step)
}

/// Where the secret in a text comes from, as the policy writes it.
fn source(holds: Holds, name: &str, written: &str) -> Source {
    let secret = match holds {
        Holds::Name => return Source::None,
        Holds::Secret => written,
        // The path of a file, unless the whole text is one reference, or a key.
        Holds::Pem if written.contains("-----BEGIN") || written.starts_with("${") && written.ends_with('}') => written,
        Holds::Pem => return Source::Kept,
        Holds::Url => match written.split_once("://") {
            Some((_, rest)) => password(rest),
            // The whole URL comes from somewhere else.
            None => written,
        },
        Holds::Header => {
            let name = name.to_ascii_lowercase();
            let is_secret = ["authorization", "key", "token", "secret"].iter().any(|end| name.ends_with(end));
            if is_secret { written } else { "" }
        }
    };
    let references: Vec<&str> = secrets::references(secret).collect();
    match references.as_slice() {
        _ if secret.is_empty() => Source::None,
        [] => Source::Policy,
        all if all.iter().any(|inside| inside.starts_with("env:")) => Source::Environment,
        _ => Source::Kept,
    }
}

/// The password in a URL, after its scheme; empty if there is none.
fn password(rest: &str) -> &str {
    // References have slashes and colons, too: the last `@` ends the user, the first `:` the name.
    let user = rest.rsplit_once('@').map(|(user, _)| user);
    user.and_then(|user| user.split_once(':')).map(|(_, password)| password).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_secret_setting_of_the_language_is_looked_at() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy/document");
        let mut found = 0;
        for entry in folder.read_dir().unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let mut is_next = false;
            for line in text.lines() {
                is_next |= line.contains("deserialize_with = \"secret\"");
                let Some(field) = line.trim().strip_prefix("pub(crate) ") else { continue };
                let (name, kind) = field.split_once(": ").unwrap_or((field, ""));
                if is_next || kind.contains("<Secret>") || kind.contains(", Secret>") {
                    found += 1;
                    let is_known = SETTINGS.iter().any(|(path, _)| path.contains(&name));
                    assert!(is_known, "say in SETTINGS where `{name}` is");
                }
                is_next = false;
            }
        }
        assert!(found > 25, "{found}");
    }

    #[test]
    fn a_secret_comes_from_where_it_is_written() {
        for (holds, name, written, expected) in [
            (Holds::Secret, "token", "hunter2", Source::Policy),
            (Holds::Secret, "token", "${env:TOKEN}", Source::Environment),
            (Holds::Secret, "token", "${file:token}", Source::Kept),
            (Holds::Secret, "token", "${vault:kv/a#b}", Source::Kept),
            (Holds::Secret, "api_key", "id:${env:KEY}", Source::Environment),
            (Holds::Pem, "key", "tls/server.key", Source::Kept),
            (Holds::Pem, "key", "${env:FOLDER}/server.key", Source::Kept),
            (Holds::Pem, "key", "${env:PEM}", Source::Environment),
            (Holds::Pem, "key", "-----BEGIN PRIVATE KEY-----\nMC4C", Source::Policy),
            (Holds::Url, "redis", "redis://10.0.0.1:6379/0", Source::None),
            (Holds::Url, "redis", "rediss://:hunter2@10.0.0.1", Source::Policy),
            (Holds::Url, "redis", "rediss://:${file:run/password}@10.0.0.1", Source::Kept),
            (Holds::Url, "redis", "redis://${env:HOST}:6379", Source::None),
            (Holds::Url, "redis", "${env:REDIS_URL}", Source::Environment),
            (Holds::Name, "role_id", "orders", Source::None),
            (Holds::Header, "authorization", "Bearer hunter2", Source::Policy),
            (Holds::Header, "X-Api-Key", "hunter2", Source::Policy),
            (Holds::Header, "x-scope-orgid", "team", Source::None),
        ] {
            assert_eq!(source(holds, name, written), expected, "{holds:?} {written}");
        }
    }

    #[test]
    fn patterns_fit_whole_paths() {
        let token: &[&str] = &["admin", "tokens", "*", "token"];
        assert!(fits(token, &["admin", "tokens", "*", "token"]));
        assert!(!fits(token, &["admin", "tokens", "*"]) && !fits(token, &["admin", "tokens", "*", "name"]));
        let sink: &[&str] = &["audit", "to", "*", "*", "password"];
        assert!(fits(sink, &["audit", "to", "*", "elasticsearch", "password"]));
        assert!(fits(sink, &["audit", "*", "elasticsearch", "password"]));
    }
}
