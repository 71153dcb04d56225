//! Loads a policy file: returns the document as written, and what the compiler needs to check it.
//!
//! Continues after a problem, unless there is no file or no YAML.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::decode::decode;
use super::diagnostic::Problems;
use super::document::Document;
use super::include;
use super::source::{Env, PolicyText, Sources};
use super::tree::Tree;
use super::yaml;

/// A policy file, before it is decoded: its references are resolved, except those to the vault.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The text with its places.
    pub(crate) tree: Tree,
    /// Everything read so far.
    pub(crate) sources: Sources,
    /// The problems found so far.
    pub(crate) problems: Problems,
}

/// Reads a policy file, resolving references with this environment, except those to the vault.
///
/// Fails if there is no file or no YAML; every other mistake is in [`Opened::problems`].
pub(crate) fn open(path: &Path, env: Env) -> Result<Opened, Problems> {
    match Sources::open_with(path, env) {
        Ok(sources) => opened(sources),
        Err(error) => {
            let mut problems = Problems::new();
            problems.error(None, error.to_string());
            Err(problems)
        }
    }
}

/// The same with texts that were read before.
pub(crate) fn open_text(path: &Path, texts: PolicyText, env: Env) -> Result<Opened, Problems> {
    opened(Sources::with_texts(path, texts, env))
}

/// The same with a text in place of that of the file.
pub(crate) fn open_edited(path: &Path, text: &str, env: Env) -> Result<Opened, Problems> {
    opened(Sources::with_edited(path, text, env))
}

fn opened(mut sources: Sources) -> Result<Opened, Problems> {
    let mut problems = Problems::new();
    let policy = Arc::clone(sources.policy());
    let Some(mut tree) = yaml::parse(&policy, &mut problems) else { return Err(problems) };
    include::add(&mut tree, &mut sources, &mut problems);
    tree.resolve(&mut sources, &mut problems);
    Ok(Opened { tree, sources, problems })
}

impl Opened {
    /// Decodes the parts that the vault is asked with.
    pub(crate) fn part<T: DeserializeOwned + Default>(&mut self) -> T {
        decode(&mut self.tree, &mut self.problems)
    }
}

/// Decodes all of it, once the references to the vault are resolved.
pub(crate) fn decoded(tree: &mut Tree, problems: &mut Problems) -> Document {
    decode(tree, problems)
}

#[cfg(test)]
mod tests {
    use std::env::VarError;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::policy::diagnostic::Problem;
    use crate::secrets::vault::VaultReference;

    const ENV: [(&str, &str); 4] = [("TOKEN", "hunter2"), ("NUMBER", "7"), ("FLAG", "true"), ("SPAN", "hunter3")];

    fn env(name: &str) -> Result<String, VarError> {
        let found = ENV.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
    }

    #[derive(Debug)]
    struct Loaded {
        document: Document,
        tree: Tree,
        sources: Sources,
        problems: Problems,
    }

    /// A whole policy in which nothing is wrong.
    const VALID: &str = r#"
version: 1
workers: auto
listen:
  - address: 127.0.0.1:8080
  - { address: "0.0.0.0:8443", tls: { certificate: tls/server.crt, key: "${file:key.pem}" } }
trusted_proxies: [10.0.0.0/8]
admin: { address: 127.0.0.1:9901, token: "${env:TOKEN}" }
timeouts: { request_headers: 10s, idle: 1m15s }
limits: { header_size: 32KiB, headers: "${env:NUMBER}", connections: 10000 }
auth:
  issuers:
    corp: { issuer: "https://é.example", audience: &aud [orders-api], public_key: keys.pem, max_lifetime: 1h }
    other: { issuer: "https://o.example", audience: *aud }
  api_keys: { header: x-api-key }
roles: { clerk: [orders:read], "123": [true, 0x10, null-ish] }
plans: { free: { rate: 5/s, burst: 10 } }
consumers:
  acme:
    roles: []
    plan: free
    identities: [{ issuer: corp, id: 123 }]
    keys: [{ id: k, sha256: "00", expires: 2027-02-28T00:00:00Z }]
  guest: {}
apis:
  short: { upstream: http://127.0.0.1:9000, routes: {} }
  orders:
    hosts: [api.example.com]
    upstream: { servers: [http://10.1.0.7:9000], forward_credentials: "${env:FLAG}" }
    routes:
      GET /v1/orders/{id}: { scopes: [orders:read] }
      POST /v1/orders: { scopes: [], rate: 20/s, request: { json: a.json, max_size: 64KiB } }
audit: [stdout, file: { path: /var/log/a.jsonl }]
"#;

    fn load(text: &str) -> Result<Loaded, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("key.pem"), "PEM\n").unwrap();
        let mut opened = open(&path, Box::new(env))?;
        opened.tree.resolve_vault(&mut opened.sources, &mut opened.problems);
        let document = decoded(&mut opened.tree, &mut opened.problems);
        let Opened { tree, sources, problems } = opened;
        Ok(Loaded { document, tree, sources, problems })
    }

    /// `line:column message` of every problem.
    fn problems(text: &str) -> Vec<String> {
        let problems = load(text).map_or_else(|problems| problems, |loaded| loaded.problems);
        let line = |problem: &super::super::diagnostic::Problem| {
            let (line, column) = problem.place.as_ref().map_or((0, 0), |place| place.start());
            format!("{line}:{column} {}", problem.message)
        };
        problems.iter().map(line).collect()
    }

    #[test]
    fn a_valid_policy_is_read_whole() {
        assert_eq!(problems(VALID), [""; 0]);
        let Loaded { document, tree, sources, problems } = load(VALID).unwrap();
        assert!(problems.is_empty() && !tree.at().damaged() && sources.digest().len() == 64);
        assert_eq!(document.version, Some(1));
        assert_eq!(document.limits.headers, Some(7));
        assert_eq!(document.admin.unwrap().token.unwrap().expose_secret(), "hunter2");
        let tls = document.listen.into_iter().nth(1).unwrap().tls.unwrap();
        assert_eq!(tls.key.unwrap().expose_secret(), "PEM");
        assert_eq!(document.auth.issuers["other"].audience, ["orders-api"]);
        assert_eq!(document.roles["123"], ["true", "0x10", "null-ish"]);
        assert_eq!(document.consumers["acme"].roles, Some(vec![]));
        assert_eq!(document.consumers["acme"].identities[0].id.as_deref(), Some("123"));
        assert!(document.apis["short"].upstream.as_ref().unwrap().short);
        assert_eq!(document.apis["orders"].upstream.as_ref().unwrap().settings.forward_credentials, Some(true));
        assert_eq!(document.apis["orders"].routes.len(), 2);
        assert!(!format!("{tree:?}{sources:?}").contains("hunter2"));
    }

    #[test]
    fn every_mistake_is_reported_in_one_pass() {
        let text = r#"version: "1"
workers: many
listen:
  - adress: 127.0.0.1:8080
  - address: é ${env:NOPE} ${HOME}
    tls: { key: "ß${vault:a/b#c}", client_ca: x }
timeouts: { idle: 75, drain: , request_body: "10 s" }
limits: { headers: -5, body_size: 10MB, per_client: 010 }
store: state/
auth:
  issuers:
    corp: { audience: orders-api, clock_skew: ~ }
roles: { clerk: orders:read }
plans:
  gold: { rate: 5, rate: 6/s }
consumers:
  acme:
apis:
  orders:
    upstream: { server: "http://x" }
    routes:
      GET /x: { public: yes, max_age: 5m }
audit:
  - stduot
  - file
  - file: 5
  - file: { path: x, on_failure: 1 }
  - file:
    path: /x
  - kafka: {}
!custom x: 1
limts: 2
"#;
        let expected = [
            "1:10 expected a whole number from 0 to 4294967295, found text in quotes",
            "2:10 `workers` is `auto` or a number from 1 to 1024",
            "4:5 unknown key `adress` in `listen`",
            "5:16 the environment variable `NOPE` is not set",
            "5:28 `${HOME}` does not say where its value comes from",
            "6:19 the policy does not say where the vault is",
            "7:19 `75` has no unit",
            "7:23 `drain` has no value",
            "7:46 `10 s` contains a space",
            "8:20 expected a whole number from 0 to 4294967295, found `-5`",
            "8:35 `MB` is not a unit of size",
            "8:53 expected a whole number from 0 to 4294967295, found `010`",
            "12:23 expected a list, found `orders-api`",
            "12:35 `clock_skew` has no value",
            "13:17 expected a list, found `orders:read`",
            "15:17 `5` has no unit of time",
            "15:20 `rate` is defined twice; the first is on line 15",
            "17:3 `acme` has no value",
            "20:17 unknown key `server` in `upstream`",
            "22:25 expected `true` or `false`, found `yes`",
            "24:5 `stduot` is not known in `audit`",
            "25:5 `file` needs its settings",
            "26:11 expected a map, found `5`",
            "27:22 `on_failure` is part of the policy language, but not supported yet",
            "28:5 one entry has both `file` and `path`",
            "30:5 `kafka` is not known in `audit`",
            "31:1 the tag `!custom` is not part of the policy language",
            "32:1 unknown key `limts` at the top level",
        ];
        let reported = problems(text);
        for (reported, expected) in reported.iter().zip(expected) {
            assert_eq!(reported, expected);
        }
        assert_eq!(reported.len(), expected.len(), "{reported:#?}");
        // What is right survives.
        let document = load(text).unwrap().document;
        assert!(matches!(document.audit, Some(super::super::document::Audit::Sinks(sinks)) if sinks.len() == 1));
        assert_eq!(document.listen.len(), 2);
    }

    #[test]
    fn the_cursor_finds_places_after_decoding() {
        let text = "listen:\n  - 5\n  - { address: x, tls: {} }\nadmin: { adress: y }\nlimits: { headers: 5 }\napis:\n  a:\n    routes: []\n";
        let loaded = load(text).unwrap();
        let root = loaded.tree.at();
        let start = |at: super::super::tree::At<'_>| at.place().start();
        assert_eq!(loaded.document.listen.len(), 1);
        // The void first element is skipped, as it was in decoding.
        let first = root.key("listen").index(0);
        assert_eq!((start(first.key("address")), first.key("address").key_place().start()), ((3, 16), (3, 7)));
        assert!(first.present() && !first.damaged() && root.key("listen").damaged());
        assert!(!first.key("tls").key("key").present() && !first.key("tls").key("key").damaged());
        assert_eq!(start(first.key("tls").key("key")), (3, 19), "absent: at the key of its map");
        // `address` may be what `adress` was meant to be.
        let address = root.key("admin").key("address");
        assert!(!address.present() && address.damaged());
        assert!(!root.key("limits").damaged() && !root.key("limits").key("body_size").damaged());
        assert!(root.key("apis").key("a").key("routes").damaged());
        assert!(root.key("apis").key("a").key("routes").key("GET /").damaged());
        assert_eq!(root.key("limits").key("headers").written(), Some("5"));
    }

    #[test]
    fn a_former_name_of_a_key_gets_its_new_name() {
        for (text, new) in [
            ("limits: { body: 10MiB }\n", "body_size"),
            ("apis: { a: { routes: { GET /: { response: { on_invalid: block } } } } }\n", "mode"),
            ("apis: { a: { routes: { POST /: { timeout: 1m } } } }\n", "request.timeout"),
            ("apis: { a: { routes: { POST /: { max_body: 1MiB } } } }\n", "request.max_size"),
            ("auth: { failures: 3/h }\n", "failed_attempts"),
            ("apis: { a: { routes: { GET /: { strong: [dpop] } } } }\n", "proof_of_possession"),
            ("auth: { issuers: { corp: { keys: discover } } }\n", "jwks` or `public_key"),
        ] {
            let problems = load(text).unwrap().problems;
            let help = format!("did you mean `{new}`?");
            let helps = |problem: &Problem| problem.help.as_ref().is_some_and(|said| said.starts_with(&help));
            assert!(problems.iter().any(helps), "{}", problems.text(false));
        }
    }

    #[test]
    fn what_a_reference_stands_for_is_never_shown() {
        let text = "timeouts: { idle: \"${env:SPAN}\" }\nlimits: { headers: \"${env:TOKEN}\", body_size: \"${env:TOKEN}\" }\n\
            workers: ${env:TOKEN}\naudit: ${env:TOKEN}\nroles: ${env:TOKEN}\nlisten: [\"${env:TOKEN}\"]\nplans: { a: { rate: \"${env:SPAN}x\" } }\n\
            apis: { a: { upstream: { forward_credentials: \"${env:TOKEN}\" } } }\nadmin: { ${env:TOKEN}: x }\n";
        // The last line is no YAML: braces need quotes.
        let broken = load(text).unwrap_err();
        assert_eq!(broken.len(), 1);
        assert!(broken.text(false).contains("a reference needs quotes"), "{}", broken.text(false));
        let text = text.replace("{ ${env:TOKEN}: x }", "\n  ${env:TOKEN}: x\n  address: x\naudit2: [\"${env:TOKEN}\"]");
        let loaded = load(&text).unwrap();
        let printed = format!("{}{}", loaded.problems.text(false), loaded.problems.json("policy.yaml"));
        assert!(!printed.contains("hunter"), "{printed}");
        assert_eq!(loaded.problems.len(), 11, "{printed}");
    }

    #[test]
    fn a_file_that_is_not_there_is_one_problem() {
        let problems = open(Path::new("/nowhere/policy.yaml"), Box::new(env)).unwrap_err();
        assert_eq!(problems.text(false), "error: there is no file `/nowhere/policy.yaml`\n");
    }

    #[test]
    fn large_policies_are_searched_and_judged_in_time() {
        let mut text = "consumers:\n".to_owned();
        for consumer in 0..10_000 {
            text.push_str(&format!("  c{consumer}: {{ plan: free, roles: [a] }}\n"));
        }
        text.push_str(&"  c7: { plan: free }\n".repeat(20));
        for consumer in 0..300 {
            text.push_str(&format!("  wrong{consumer}: {{ plam: free, plan: [] }}\n"));
        }
        let loaded = load(&text).unwrap();
        assert_eq!(loaded.problems.len(), 100);
        let consumers = loaded.tree.at().key("consumers");
        for consumer in 0..10_000 {
            assert_eq!(consumers.key(&format!("c{consumer}")).key_place().start(), (consumer + 2, 3));
        }
        assert!(!consumers.key("d").present());
    }

    /// A small generator (xorshift), so that every run tries the same texts.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % (bound as u64)).unwrap()
        }
    }

    #[test]
    fn mutated_policies_are_answered_within_bounds() {
        const PIECES: [&str; 40] = [
            "\n",
            "  ",
            "\t",
            ":",
            ": ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            "\"",
            "'",
            "#",
            "&a ",
            "*a",
            "!t ",
            "${env:TOKEN}",
            "${",
            "é",
            "\u{feff}",
            "\r\n",
            "---\n",
            "|\n",
            ">",
            "?",
            "? ",
            "null",
            "~",
            "true",
            "5",
            "<<",
            "%",
            "@",
            ",",
            "file",
            "\u{0}",
            "\u{2028}",
            "listen",
            "\u{1b}",
            "\\",
        ];
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for round in 0..4000 {
            let mut text = if round % 4 == 0 { String::new() } else { VALID.to_owned() };
            for _ in 0..=random.below(if text.is_empty() { 40 } else { 6 }) {
                let from = text.floor_char_boundary(random.below(text.len() + 1));
                let to = text.floor_char_boundary((from + random.below(12)).min(text.len())).max(from);
                let piece = PIECES[random.below(PIECES.len())];
                if random.below(3) == 0 {
                    text.replace_range(from..to, piece);
                } else {
                    text.insert_str(from, piece);
                }
            }
            let source = Arc::new(super::super::source::SourceText::new("p".to_owned(), text.clone(), 0));
            let mut problems = Problems::new();
            if let Some(mut tree) = yaml::parse(&source, &mut problems) {
                tree.resolve(&mut Fixed, &mut problems);
                let _: Document = decode(&mut tree, &mut problems);
            } else {
                assert!(problems.has_errors(), "no tree and no reason: {text:?}");
            }
            let printed = problems.text(false);
            assert!(!printed.contains("hunter") && !printed.contains('\u{1b}') && problems.len() <= 300, "{printed}");
            let _ = problems.json("p");
        }
    }

    /// References without files.
    struct Fixed;

    impl crate::secrets::Lookup for Fixed {
        fn env(&mut self, name: &str) -> Result<secrecy::SecretString, VarError> {
            env(name).map(Into::into)
        }

        fn file(&mut self, _: &str) -> Result<secrecy::SecretString, (String, Option<&'static str>)> {
            Ok("PEM\n".into())
        }

        fn vault(&mut self, _: &VaultReference) -> Result<secrecy::SecretString, (String, Option<String>)> {
            Ok("hunter4".into())
        }
    }
}
