//! Writes the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::consumers::{Consumer, Taken, Verifier};
use super::limits::Windows;
use super::plugins::{Acl, Credentials};
use super::routes::{Access, Api, Draft, Route};
use crate::cli::init::yaml;

/// Most notes in the head of the policy; standard error has all.
const MOST_NOTES: usize = 200;
/// The rate of a plan where Kong had none.
const NO_LIMIT: &str = "rate: 1000/s";

/// What the policy is written from.
pub(super) struct Given<'a, 't> {
    /// Kong's file.
    pub(super) file: &'a str,
    pub(super) notes: &'a [String],
    pub(super) draft: &'a Draft,
    pub(super) consumers: &'a [Consumer<'t>],
    /// The limits of consumers without their own.
    pub(super) standard: Option<Windows>,
    /// Where keys are, as `header: apikey`.
    pub(super) keys: &'a str,
    /// What the names of files beside the policy begin with.
    pub(super) stem: &'a str,
}

/// The text of the policy.
pub(super) fn policy(given: &Given<'_, '_>) -> String {
    let mut text = format!(
        "# yaml-language-server: $schema=./bartizan.schema.json\n# A policy, generated from {}. What is not in it is \
         refused. A prefix of Kong ends at a segment here: `/orders` takes `/orders/7`, but not `/orders7`.\n",
        yaml::comment(given.file)
    );
    if !given.notes.is_empty() {
        text.push_str("#\n# TODO: what it does not take over, or in another way, at its place in that file:\n");
    }
    for note in given.notes.iter().take(MOST_NOTES) {
        let _ = writeln!(text, "#   {}", one_line(note));
    }
    if given.notes.len() > MOST_NOTES {
        let _ = writeln!(text, "#   and {} more, on standard error", given.notes.len() - MOST_NOTES);
    }
    text.push_str(
        "version: 1\n\nlisten:\n  - address: 127.0.0.1:8080    # TODO: add `tls` before you open it to other hosts\n",
    );
    let quotas = given.consumers.iter().filter_map(|one| one.windows).chain(given.standard);
    if quotas.chain(given.draft.classes.values().copied()).any(|windows| windows.has_quotas()) {
        text.push_str("\n# Quotas are kept here; create the folder, or write `store: { redis: … }`.\nstore: state/\n");
    }
    auth(&mut text, given);
    let roles = roles(given.draft, given.consumers);
    if !roles.is_empty() {
        text.push_str("\n# A role is a group of Kong, with the scopes of what its `acl`s admit it to.\nroles:\n");
    }
    for (role, (_, scopes)) in &roles {
        let _ = writeln!(text, "  {}: {}", yaml::value(role), yaml::list(&scopes.iter().collect::<Vec<_>>()));
    }
    let plans = plans(&mut text, given);
    consumers(&mut text, given, &roles, &plans);
    text.push_str("\napis:\n");
    given.draft.apis.iter().for_each(|api| self::api(&mut text, api));
    text.push_str("\naudit: [stdout]\n");
    text
}

/// A note as a comment; the length of a note is that of its words here.
fn one_line(note: &str) -> String {
    note.chars().filter(|c| matches!(c, ' '..='~')).collect()
}

fn auth(text: &mut String, given: &Given<'_, '_>) {
    let _ = write!(text, "\nauth:\n  api_keys: {{ {} }}\n", given.keys);
    let issuers: Vec<_> = given.consumers.iter().flat_map(|one| &one.issuers).collect();
    if issuers.is_empty() {
        return;
    }
    text.push_str("  issuers:\n");
    for issuer in issuers {
        let verifier = match &issuer.verifier {
            Verifier::Pem(_) => format!("public_key: {}", yaml::value(&pem_file(given.stem, &issuer.name))),
            // The name of the variable is made of letters, digits and `_`.
            Verifier::Variable(variable) => format!("secret: \"${{env:{variable}}}\""),
        };
        let _ = write!(
            text,
            "    {}:\n      issuer: {}\n      audience: [not-set]    # TODO: the `aud` of its tokens; Kong did not look at it\n      \
             {verifier}\n      algorithms: [{}]\n      consumer_claim: iss\n",
            yaml::value(&issuer.name),
            yaml::value(&issuer.iss),
            issuer.algorithm,
        );
    }
}

/// The file of a public key, beside the policy.
pub(super) fn pem_file(stem: &str, issuer: &str) -> String {
    format!("{stem}.{issuer}.pem")
}

/// The roles: by name, the test of who has it, and its scopes.
type Roles<'d> = BTreeMap<String, (Acl, BTreeSet<&'d str>)>;

fn roles<'d>(draft: &'d Draft, consumers: &[Consumer<'_>]) -> Roles<'d> {
    let (mut roles, mut taken, mut of_groups) = (Roles::new(), Taken::default(), BTreeMap::new());
    let groups: BTreeSet<&str> = consumers.iter().flat_map(|one| one.groups.iter().copied()).collect();
    for (acl, scope) in &draft.scopes {
        if !acl.allows {
            let role = taken.name(scope);
            roles.insert(role, (acl.clone(), BTreeSet::from([&**scope])));
            continue;
        }
        // Groups that nobody is in have a role, too, if no other gets in.
        let anyone = acl.groups.iter().any(|group| groups.contains(&**group));
        for group in acl.groups.iter().filter(|group| !anyone || groups.contains(&***group)) {
            let name = of_groups.entry(group.clone()).or_insert_with(|| taken.name(&yaml::name(group, "group")));
            let of_group = Acl { allows: true, groups: vec![group.clone()] };
            roles.entry(name.clone()).or_insert_with(|| (of_group, BTreeSet::new())).1.insert(scope);
        }
    }
    roles
}

/// Writes the plans; returns the name of each consumer's own.
fn plans<'c>(text: &mut String, given: &'c Given<'_, '_>) -> BTreeMap<&'c str, String> {
    let (mut own, mut taken) = (BTreeMap::new(), Taken::default());
    let has_own = given.consumers.iter().any(|one| one.windows.is_some());
    if !has_own && given.standard.is_none() && given.draft.classes.is_empty() {
        return own;
    }
    let standard = taken.name("standard");
    let todo = if given.standard.is_none() {
        "    # TODO: Kong had no limit in all: set what the APIs can handle"
    } else {
        ""
    };
    let members = given.standard.map_or_else(|| NO_LIMIT.to_owned(), |windows| windows.members());
    let _ = write!(
        text,
        "\n# Limits of each consumer; those of services and routes are classes.\nplans:\n  {standard}:{todo}\n"
    );
    for member in members_of(&members) {
        let _ = writeln!(text, "    {member}");
    }
    if !given.draft.classes.is_empty() {
        text.push_str("    classes:\n");
    }
    for (class, windows) in &given.draft.classes {
        let _ = writeln!(text, "      {}: {{ {} }}", yaml::value(class), windows.members());
    }
    for one in given.consumers {
        let name = match one.windows {
            None => standard.clone(),
            // In Kong, too, the limits of a consumer count in place of those of services and routes.
            Some(windows) => {
                let name = taken.name(&yaml::name(&one.name, "consumer"));
                let _ = writeln!(text, "  {}: {{ {} }}", yaml::value(&name), windows.members());
                name
            }
        };
        own.insert(one.name.as_str(), name);
    }
    own
}

/// The members of a map on one line, each for a line of its own.
fn members_of(members: &str) -> Vec<&str> {
    let (members, quota) = members.split_at(members.find(", quota").unwrap_or(members.len()));
    members.split(", ").chain(quota.strip_prefix(", ")).collect()
}

fn consumers(text: &mut String, given: &Given<'_, '_>, roles: &Roles<'_>, plans: &BTreeMap<&str, String>) {
    if given.consumers.is_empty() {
        return;
    }
    text.push_str("\n# Keys are here by digest: consumers keep those that they have.\nconsumers:\n");
    for one in given.consumers {
        let groups: Vec<&str> = one.groups.iter().copied().collect();
        let roles: Vec<&String> =
            roles.iter().filter(|(_, (acl, _))| acl.admits(&groups)).map(|(role, _)| role).collect();
        let _ = write!(text, "  {}:\n    roles: {}\n", yaml::value(&one.name), yaml::list(&roles));
        if let Some(plan) = plans.get(&*one.name) {
            let _ = writeln!(text, "    plan: {}", yaml::value(plan));
        }
        if !one.from.is_empty() {
            let _ = writeln!(text, "    from: {}", yaml::list(&one.from));
        }
        if !one.issuers.is_empty() {
            text.push_str("    identities:\n");
        }
        for issuer in &one.issuers {
            let _ =
                writeln!(text, "      - {{ issuer: {}, id: {} }}", yaml::value(&issuer.name), yaml::value(&issuer.iss));
        }
        if !one.keys.is_empty() {
            text.push_str("    keys:\n");
        }
        for key in &one.keys {
            let _ = writeln!(text, "      - {{ id: {}, sha256: \"{}\" }}", yaml::value(&key.id), key.digest);
        }
    }
}

fn api(text: &mut String, api: &Api) {
    let _ = writeln!(text, "  {}:", yaml::value(&api.name));
    if !api.hosts.is_empty() {
        let _ = writeln!(text, "    hosts: {}", yaml::list(&api.hosts));
    }
    match api.credentials {
        Credentials::None => {}
        Credentials::Key => text.push_str("    authenticate_by: [api_key]\n"),
        Credentials::Token => text.push_str("    authenticate_by: [token]\n"),
        Credentials::Either => text.push_str("    authenticate_by: [token, api_key]\n"),
    }
    let _ = write!(text, "    upstream:\n{}", api.upstream);
    if let Some(host) = &api.host {
        let _ = writeln!(text, "      host: {}", yaml::value(host));
    }
    if !api.cors.is_empty() {
        let _ = write!(text, "    cors:\n{}", api.cors);
    }
    text.push_str("    routes:\n");
    api.routes.iter().for_each(|route| self::route(text, route));
}

fn route(text: &mut String, route: &Route) {
    let access = match &route.access {
        Access::Public => "public: true".to_owned(),
        Access::Any => "scopes: []".to_owned(),
        Access::Scope(scope, _) => format!("scopes: [{}]", yaml::value(scope)),
        Access::Only(consumers) => format!("scopes: [], only: {}", yaml::list(consumers)),
    };
    let mut members = vec![access];
    members.extend(route.rewrite.as_ref().map(|path| format!("rewrite: {}", yaml::value(path))));
    members.extend(route.class.as_ref().map(|class| format!("class: {}", yaml::value(class))));
    members.extend(route.rate.as_ref().map(|rate| format!("rate: {rate}")));
    if !route.from.is_empty() {
        members.push(format!("from: {}", yaml::list(&route.from)));
    }
    members.extend(route.max_size.map(|size| format!("request: {{ max_size: {} }}", size_of(size))));
    let _ = writeln!(text, "      {} {}: {{ {} }}", route.method, route.path, members.join(", "));
}

fn size_of(bytes: u64) -> String {
    match bytes {
        bytes if bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}
