//! A digest of what a policy says about authentication and revocation, to see whether it has changed since a drill.

use aws_lc_rs::digest::{Context, SHA256};

use super::tree::{At, Kind, NodeId, Tree};

/// What decides how credentials are checked, and how a revocation reaches every node. Consumers, roles and routes come and go every
/// day, and change neither.
const KEYS: [&str; 3] = ["auth", "store", "token_service"];

/// SHA-256, in hexadecimal, of these parts as they are written: references are not resolved; comments, layout and the order of
/// keys do not count.
pub(super) fn of(at: At<'_>) -> String {
    let mut context = Context::new(&SHA256);
    for key in KEYS {
        absorb(&mut context, b'k', key);
        match at.key(key).node() {
            Some((tree, id)) => node(&mut context, tree, id),
            None => context.update(b"-"),
        }
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn node(context: &mut Context, tree: &Tree, id: NodeId) {
    match tree.kind(id) {
        Kind::Scalar(scalar) => absorb(context, b's', scalar.written()),
        Kind::Sequence(items) => {
            context.update(b"[");
            items.iter().for_each(|item| node(context, tree, *item));
            context.update(b"]");
        }
        Kind::Mapping(entries) => {
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (tree.key_text(*key), *value)).collect();
            entries.sort_by_key(|(key, _)| *key);
            context.update(b"{");
            for (key, value) in entries {
                absorb(context, b'k', key);
                node(context, tree, value);
            }
            context.update(b"}");
        }
    }
}

/// Texts have their length before them, so that no two policies are the same bytes.
fn absorb(context: &mut Context, kind: u8, text: &str) {
    context.update(&[kind]);
    context.update(&(text.len() as u64).to_be_bytes());
    context.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::yaml_file::{self, Anything};

    fn digest(text: &str) -> String {
        of(yaml_file::text::<Anything>("p", text.to_owned()).unwrap().at())
    }

    #[test]
    fn only_a_change_of_authentication_changes_it() {
        let policy =
            "auth:\n  issuers: { a: { issuer: x, audience: [o] } }\n  failed_attempts: 5/s\nstore: state/\nroles: {}\n";
        let before = digest(policy);
        assert_eq!(before.len(), 64);
        for (same, text) in [
            (true, policy.replace("roles: {}", "roles: { clerk: [a] }")),
            (true, policy.replace("store: state/", "# moved\nstore:   state/")),
            (
                true,
                "store: state/\nauth: { failed_attempts: 5/s, issuers: { a: { audience: [o], issuer: x } } }"
                    .to_owned(),
            ),
            (false, policy.replace("5/s", "6/s")),
            (false, policy.replace("[o]", "[o, p]")),
            (false, policy.replace("store: state/\n", "")),
            (false, policy.replace("state/", "other/")),
            (false, format!("{policy}token_service: {{}}\n")),
        ] {
            assert_eq!(digest(&text) == before, same, "{text}");
        }
    }
}
