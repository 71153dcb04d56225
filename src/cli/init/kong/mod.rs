//! `bartizan init --from kong`: generates a policy, and tests of it, from Kong's declarative configuration.
//!
//! The policy is never more open than Kong was: what has no counterpart and might refuse a request takes its routes, or its
//! consumer, with it. All that is not taken over is reported at its place. Names and values of the file are text in the
//! policy, and never references. Neither keys nor secrets are written or printed.

mod consumers;
mod limits;
mod node;
mod paths;
mod plugins;
mod policy_tests;
mod routes;
mod services;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::consumers::Verifier;
use self::limits::Windows;
use self::node::{Node, Notes};
use self::plugins::{Origin, Plugins};
use self::routes::World;
use super::new_file::create_all;
use super::yaml;
use crate::cli::exit_code::{DONE, FAILED, INVALID};
use crate::cli::output;
use crate::policy::diagnostic::Problems;
use crate::policy::yaml_file::{self, Anything};

/// What is taken over of the file.
const KNOWN: [&str; 11] = [
    "_format_version",
    "_info",
    "_transform",
    "services",
    "routes",
    "consumers",
    "plugins",
    "upstreams",
    "keyauth_credentials",
    "jwt_secrets",
    "acls",
];

/// What is written: each file with its text; the policy comes last, so that it exists only with all the others.
struct Outcome {
    files: Vec<(PathBuf, String)>,
    /// What is not taken over, as `FILE:LINE:COLUMN: TEXT`.
    notes: Vec<String>,
}

/// Reads Kong's file and writes the policy to `out`, with its tests and public keys beside it.
pub(super) fn run(file: &Path, out: &Path) -> u8 {
    let outcome = match yaml_file::file::<BTreeMap<String, Anything>>(file) {
        Ok(written) if !written.problems.has_errors() => {
            let name = file.display().to_string();
            let root = Node::root(written.at()).ok_or_else(|| format!("{name} is empty"));
            root.and_then(|root| convert(root, &name, out))
        }
        Ok(written) => Err(without_excerpts(file, &written.problems)),
        Err(problems) => Err(without_excerpts(file, &problems)),
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            output::message(format_args!("error: {error}"));
            return INVALID;
        }
    };
    outcome.notes.iter().for_each(|note| output::message(format_args!("{note}")));
    if let Err(error) = create_all(&outcome.files) {
        output::message(format_args!("error: {error}"));
        return FAILED;
    }
    let places = output::counted(outcome.notes.len(), "note");
    output::message(format_args!("{} was written, with {places} above and at its head", out.display()));
    DONE
}

/// Problems with their places only: the lines of the file may have secrets in them.
fn without_excerpts(file: &Path, problems: &Problems) -> String {
    let lines = problems.iter().map(|problem| match &problem.place {
        Some(place) => {
            let (line, column) = place.start();
            format!("{}:{line}:{column}: {}", file.display(), problem.message)
        }
        None => problem.message.clone(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn convert(root: Node<'_>, file: &str, out: &Path) -> Result<Outcome, String> {
    let version = root.text("_format_version").unwrap_or_default();
    if !["1", "2", "3"].contains(&version.split('.').next().unwrap_or_default()) {
        return Err(format!(
            "{file} is not a declarative configuration of Kong: its `_format_version` is not 1.1 to 3.0"
        ));
    }
    if let Some(node) = root.repeated_key() {
        let (line, column) = node.place();
        return Err(format!("{file}:{line}:{column}: this key occurs twice in its map; keep the one that counts"));
    }
    let mut notes = Notes::default();
    check_groups(root, file, &mut notes)?;
    root.only(&KNOWN, "the file", &mut notes);
    let global: Vec<Node<'_>> = root.items("plugins").into_iter().filter(|plugin| is_global(*plugin)).collect();
    let global = plugins::read(&global, Origin::Global, &mut notes);
    let (keys, key_in) = key_place(root, &mut notes);
    let world = World {
        root,
        consumers: consumers::read(root, &mut notes),
        upstreams: root.items("upstreams").into_iter().filter_map(|node| Some((node.text("name")?, node))).collect(),
        standard: standard(&global, &mut notes),
        global,
        key_in,
        is_old: !version.starts_with('3'),
    };
    let draft = routes::draft(&world, &mut notes);
    let notes = notes.lines(file);
    if draft.apis.is_empty() {
        let head = format!("{file} has no route that can be taken over, so nothing is written");
        return Err(notes.into_iter().chain([head]).collect::<Vec<_>>().join("\n"));
    }
    let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let given = write::Given {
        file,
        notes: &notes,
        draft: &draft,
        consumers: &world.consumers,
        standard: world.standard,
        keys: &keys,
        stem: &stem,
    };
    let policy = write::policy(&given);
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let tests = policy_tests::text(&name, &draft, &world.consumers);
    let mut files = vec![(out.with_file_name(format!("{stem}.test.yaml")), tests)];
    for issuer in world.consumers.iter().flat_map(|one| &one.issuers) {
        if let Verifier::Pem(pem) = &issuer.verifier {
            files.push((out.with_file_name(write::pem_file(&stem, &issuer.name)), pem.clone()));
        }
    }
    files.push((out.to_path_buf(), policy));
    Ok(Outcome { files, notes })
}

/// Plugins of consumer groups have no counterpart. The error names one without which the policy might be more open.
fn check_groups(root: Node<'_>, file: &str, notes: &mut Notes) -> Result<(), String> {
    let of_groups = root.items("consumer_groups").into_iter().flat_map(|group| group.items("plugins"));
    let referring = root.items("plugins").into_iter().filter(|plugin| plugin.get("consumer_group").is_some());
    for plugin in of_groups.chain(referring).filter(|plugin| !plugin.is("enabled", "false")) {
        let name = plugin.text("name").unwrap_or_default();
        if !plugins::HARMLESS.contains(&name) && !name.starts_with("rate-limiting") {
            let (line, column) = plugin.place();
            return Err(format!(
                "{file}:{line}:{column}: without this plugin of a consumer group, the policy might be more open, so nothing is written; \
                 set it on services or routes, then run it again"
            ));
        }
        notes.add(plugin, "a plugin of a consumer group is not taken over; write a plan for its consumers");
    }
    Ok(())
}

fn is_global(plugin: Node<'_>) -> bool {
    ["service", "route", "consumer", "consumer_group"].into_iter().all(|key| plugin.get(key).is_none())
}

/// The limits that count for all consumers.
fn standard(global: &Plugins<'_>, notes: &mut Notes) -> Option<Windows> {
    let plugin = global.get("rate-limiting").filter(|plugin| plugin.node.placeholder().is_none())?;
    Windows::read(plugin.node, notes)
}

/// Where API keys are, as the policy writes it, and the name of the header or parameter. There is one place for all.
fn key_place<'t>(root: Node<'t>, notes: &mut Notes) -> (String, &'t str) {
    const DEFAULT: &str = "apikey";
    let below = |node: Node<'t>| node.items("plugins");
    let services = root.items("services");
    let routes = services.iter().flat_map(|service| service.items("routes")).chain(root.items("routes"));
    let plugins =
        root.items("plugins").into_iter().chain(services.iter().copied().flat_map(below)).chain(routes.flat_map(below));
    let mut place: Option<(&'t str, bool)> = None;
    for plugin in plugins.filter(|plugin| plugin.is("name", "key-auth") && !plugin.is("enabled", "false")) {
        let config = plugin.get("config");
        let mut names = config.map(|config| config.texts("key_names")).unwrap_or_default();
        if names.is_empty() {
            names.push(DEFAULT);
        }
        let by_query = config.is_some_and(|config| config.is("key_in_header", "false"));
        let usable = |name: &&&str| !yaml::is_reference(name) && is_plain(name);
        let Some(first) = names.iter().find(usable) else {
            notes.add(
                plugin,
                "none of its `key_names` can be the name of a header; keys are in `apikey`, so write the header",
            );
            continue;
        };
        let counts = *place.get_or_insert((first, by_query));
        if counts != (*first, by_query) || names.len() > 1 {
            let name = counts.0;
            notes.add(plugin, format!("keys are in one place here, which is `{name}` for all APIs; consumers that send them elsewhere need to change that"));
        }
        if !by_query && !config.is_some_and(|config| config.is("key_in_query", "false")) {
            notes.add(plugin, "keys in the query are not taken, because they end in logs; send them in the header");
        }
    }
    let (name, by_query) = place.unwrap_or((DEFAULT, false));
    (format!("{}: {}", if by_query { "query" } else { "header" }, yaml::value(name)), name)
}

/// Whether keys can be in a header, or a parameter, of this name.
fn is_plain(name: &str) -> bool {
    const TAKEN: [&str; 5] = ["authorization", "connection", "content-length", "cookie", "host"];
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        && !TAKEN.contains(&name.to_ascii_lowercase().as_str())
}
