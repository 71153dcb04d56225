//! Kong's consumers, with their keys by digest and the keys of their tokens. No key and no secret leaves this file.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aws_lc_rs::digest::{SHA256, digest};

use super::limits::Windows;
use super::node::{Node, Notes};
use super::plugins::{self, Origin};
use crate::cli::init::yaml;

/// Signatures of tokens that both know.
const ALGORITHMS: [&str; 12] =
    ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// A consumer of the policy.
pub(super) struct Consumer<'t> {
    /// Its name in the policy.
    pub(super) name: String,
    /// Its groups, for `acl`.
    pub(super) groups: BTreeSet<&'t str>,
    pub(super) keys: Vec<Key>,
    pub(super) issuers: Vec<Issuer>,
    /// Its own limits.
    pub(super) windows: Option<Windows>,
    /// Networks; empty: any.
    pub(super) from: Vec<String>,
}

/// An API key.
pub(super) struct Key {
    pub(super) id: String,
    /// SHA-256 in hexadecimal.
    pub(super) digest: String,
}

/// A credential for tokens: in Kong each one is found by its `iss`, so here each one is an issuer.
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) iss: String,
    pub(super) algorithm: &'static str,
    pub(super) verifier: Verifier,
}

/// What verifies tokens.
pub(super) enum Verifier {
    /// A public key in PEM, for a file beside the policy.
    Pem(String),
    /// The name of the variable that has the secret.
    Variable(String),
}

/// What must be unique among all consumers.
#[derive(Default)]
pub(super) struct Taken {
    names: HashSet<String>,
    digests: HashSet<String>,
    issuers: HashSet<String>,
}

impl Taken {
    /// Returns the name, or one with a number after it if it is taken.
    pub(super) fn name(&mut self, name: &str) -> String {
        let numbered = (2_usize..).map(|number| format!("{name}-{number}"));
        let mut free = std::iter::once(name.to_owned()).chain(numbered);
        free.find(|name| self.names.insert(name.clone())).unwrap_or_default()
    }
}

/// Reads all consumers.
pub(super) fn read<'t>(root: Node<'t>, notes: &mut Notes) -> Vec<Consumer<'t>> {
    let mut consumers: Vec<Consumer<'t>> = Vec::new();
    let (mut taken, mut names) = (Taken::default(), HashSet::new());
    let mut elsewhere: BTreeMap<(&str, &str), Vec<Node<'t>>> = BTreeMap::new();
    for kind in ["keyauth_credentials", "jwt_secrets", "acls", "plugins"] {
        for node in root.items(kind) {
            if let Some(consumer) = node.reference("consumer") {
                elsewhere.entry((kind, consumer)).or_default().push(node);
            }
        }
    }
    for node in root.items("consumers") {
        let Some(name) = node.text("username").or_else(|| node.text("custom_id")) else {
            notes.add(node, "this consumer has no `username`, so it is left out");
            continue;
        };
        if node.placeholder().is_some() {
            notes.add(node, "this consumer is left out: it has a value that only decK or Kong knows; write the value, then run it again");
            continue;
        }
        if !names.insert(name) {
            notes.add(node, "this consumer is left out: another one has its name");
            continue;
        }
        let all = |kind: &'static str| {
            let mut all = node.items(kind);
            let others = node.names().into_iter().flat_map(|name| elsewhere.get(&(kind, name)).into_iter().flatten());
            all.extend(others.copied());
            all
        };
        const KNOWN: [&str; 6] = ["username", "custom_id", "keyauth_credentials", "jwt_secrets", "acls", "plugins"];
        node.only(&KNOWN, "consumers", notes);
        let mut consumer = Consumer {
            name: taken.name(&plain_name(name)),
            groups: all("acls").into_iter().filter_map(|acl| acl.text("group")).collect(),
            keys: Vec::new(),
            issuers: Vec::new(),
            windows: None,
            from: Vec::new(),
        };
        if consumer.name != name {
            notes.add(node, format!("this consumer is called {} here", yaml::value(&consumer.name)));
        }
        if !add_plugins(&mut consumer, &all("plugins"), notes) {
            continue;
        }
        for key in all("keyauth_credentials") {
            add_key(&mut consumer, key, &mut taken, notes);
        }
        for secret in all("jwt_secrets") {
            add_issuer(&mut consumer, secret, &mut taken, notes);
        }
        consumers.push(consumer);
    }
    consumers
}

/// The name as it is, if it is plain; else what is plain of it.
fn plain_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    let plain = (1..=100).contains(&name.len()) && name.chars().all(is_plain);
    if plain { name.to_owned() } else { yaml::name(name, "consumer") }
}

/// Returns false if the consumer must be left out.
fn add_plugins(consumer: &mut Consumer<'_>, nodes: &[Node<'_>], notes: &mut Notes) -> bool {
    for (name, plugin) in plugins::read(nodes, Origin::Consumer, notes) {
        let node = plugin.node;
        if node.get("service").or(node.get("route")).is_some() {
            notes.add(node, "a plugin for a consumer at one service or route has no counterpart; the consumer is left out, so write it yourself");
            return false;
        }
        match name {
            "rate-limiting" if node.placeholder().is_none() => consumer.windows = Windows::read(node, notes),
            "ip-restriction" if node.placeholder().is_none() => match plugins::networks(node, notes) {
                Some(from) => consumer.from = from,
                None => return false,
            },
            name if plugins::HARMLESS.contains(&name) => {
                notes.add(node, format!("`{name}` of a consumer is not taken over"));
            }
            name => {
                notes.add(
                    node,
                    format!("the consumer with `{}` is left out: without it, it might get more", yaml::comment(name)),
                );
                return false;
            }
        }
    }
    true
}

fn add_key(consumer: &mut Consumer<'_>, node: Node<'_>, taken: &mut Taken, notes: &mut Notes) {
    let Some(key) = node.text("key").filter(|_| node.placeholder().is_none()) else {
        notes.add(
            node,
            "this key is not in the file, so it is left out; write its digest, or give the consumer a new key",
        );
        return;
    };
    if node.get("ttl").is_some() {
        notes.add(
            node,
            "this key has a `ttl`, and the file does not say since when; it is left out, so write it with `expires`",
        );
        return;
    }
    let bytes = digest(&SHA256, key.as_bytes());
    let digest: String = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if !taken.digests.insert(digest.clone()) {
        notes.add(node, "this key is in the file twice; the first one counts");
        return;
    }
    if key.len() < 16 {
        notes.add(node, "this key can be guessed: it has less than 16 characters; replace it soon");
    }
    let id = taken.name(&format!("{}-key", yaml::name(&consumer.name, "consumer")));
    consumer.keys.push(Key { id, digest });
}

fn add_issuer(consumer: &mut Consumer<'_>, node: Node<'_>, taken: &mut Taken, notes: &mut Notes) {
    let algorithm = node.text("algorithm").unwrap_or("HS256");
    let Some(algorithm) = ALGORITHMS.iter().find(|known| **known == algorithm) else {
        notes.add(
            node,
            format!(
                "tokens with this `algorithm` are not verified here; the credential is left out, so use one of {}",
                ALGORITHMS.join(", ")
            ),
        );
        return;
    };
    let usable = |iss: &&str| !yaml::is_reference(iss) && !iss.contains(['{', '}']);
    let Some(iss) = node.text("key").filter(usable) else {
        notes.add(node, "the `key` of this credential is not in the file; it is left out, so write the issuer with the `iss` of its tokens");
        return;
    };
    if !taken.issuers.insert(iss.to_owned()) {
        notes.add(node, "another credential has this `key`; the first one counts");
        return;
    }
    let pem = node.text("rsa_public_key").map(str::trim);
    let is_public = |pem: &&str| {
        let is_begun =
            pem.starts_with("-----BEGIN PUBLIC KEY-----") || pem.starts_with("-----BEGIN RSA PUBLIC KEY-----");
        is_begun && !pem.contains("PRIVATE")
    };
    let name = taken.name(&format!("{}-tokens", yaml::name(&consumer.name, "consumer")));
    let verifier = if algorithm.starts_with("HS") {
        let variable = format!("KONG_JWT_{}", name.to_ascii_uppercase().replace('-', "_"));
        notes.add(
            node,
            format!(
                "the secret is not written; set the variable {variable} to it (at least 32 bytes) where the proxy runs"
            ),
        );
        Verifier::Variable(variable)
    } else if let Some(pem) = pem.filter(is_public) {
        Verifier::Pem(format!("{pem}\n"))
    } else {
        notes.add(node, "the public key of this credential is not in the file; it is left out, so write the issuer with `public_key`");
        return;
    };
    notes.add(node, format!("Kong did not look at the audience of tokens; write it as `audience` of the issuer `{name}`, which refuses all until then. Tokens without `exp` are refused, too"));
    consumer.issuers.push(Issuer { name, iss: iss.to_owned(), algorithm, verifier });
}
