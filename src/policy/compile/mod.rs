//! Compiles a document into a [`Policy`], and reports every problem instead of stopping at the first.
//!
//! Each top-level key has a file of its own; all share one [`Context`]. Nothing here opens a socket or starts anything, so checking
//! a policy and running it is the same code.

mod admin;
mod admin_listener;
mod apis;
mod attributes;
mod audit;
mod auth;
mod catalog;
mod clients;
mod consumers;
mod context;
mod contracts;
mod egress;
mod forward_claims;
mod headers;
mod issue;
mod issuing;
mod json_groups;
mod json_schemas;
mod key_rotations;
mod limits;
mod lint;
mod listen;
mod names;
mod networks;
mod own_addresses;
mod plans;
mod powerful_scopes;
mod schemas;
mod secrets;
mod self_service;
mod server_tls;
mod stand_ins;
mod store;
mod telemetry;
mod token_service;
mod watch;
mod xml_schemas;

pub(crate) use self::admin_listener::admin_listener;
pub(crate) use self::xml_schemas::read_wsdl;

use std::path::Path;
use std::sync::Arc;

use self::context::Context;
use self::secrets::Access;
pub(crate) use self::stand_ins::StandIns;
use super::Policy;
use super::api::ApiFacts;
use super::auth_digest;
use super::diagnostic::Problems;
use super::document::Document;
use super::load::{self, Opened};
use super::secret_uses::PolicyVault;
use super::source::{PolicyText, environment};
use super::tree::{At, Tree};
use super::written::WrittenPolicy;
use crate::exchange::networks::Networks;
use crate::secrets::vault::Vaults;

/// Reads a policy file and compiles it. There is a policy exactly when there are no errors; warnings come with it.
///
/// It may ask the vault, but uses nothing up that a daemon needs.
pub(crate) fn compile(path: &Path) -> (Option<Policy>, Problems) {
    compile_with(load::open(path, environment()), Access::Once, None)
}

/// The same, with the policy as written, for commands that judge what it says.
pub(crate) fn compile_written(path: &Path) -> (Option<(Policy, WrittenPolicy)>, Problems) {
    written_with(load::open(path, environment()), Access::Once, None)
}

/// The same for a daemon, with its vaults. With `text`, that of a policy of this file, the file itself is not read.
pub(crate) fn for_daemon(path: &Path, text: Option<PolicyText>, vaults: &Vaults) -> (Option<Policy>, Problems) {
    let opened = match text {
        Some(text) => load::open_text(path, text, environment()),
        None => load::open(path, environment()),
    };
    compile_with(opened, Access::Daemon(vaults), None)
}

/// The same, with the text as a tree: for those who compare what is written.
///
/// # Errors
/// The policy has errors.
pub(crate) fn with_tree(path: &Path) -> Result<(Policy, Tree), Problems> {
    let (compiled, problems) = written_with(load::open(path, environment()), Access::Once, None);
    compiled.map(|(policy, written)| (policy, written.tree)).ok_or(problems)
}

/// The same with a text in place of the file's. What it includes is read.
///
/// # Errors
/// The policy has errors.
pub(crate) fn with_tree_of(path: &Path, text: &str) -> Result<(Policy, Tree), Problems> {
    let (compiled, problems) = written_with(load::open_edited(path, text, environment()), Access::Once, None);
    compiled.map(|(policy, written)| (policy, written.tree)).ok_or(problems)
}

/// The same, with stand-ins for the outside world: for rehearsals, never for serving.
pub(crate) fn rehearsed(path: &Path, stand_ins: &dyn StandIns) -> (Option<Policy>, Problems) {
    let given = stand_ins.env();
    let env = move |name: &str| given.get(name).cloned().map_or_else(|| std::env::var(name), Ok);
    let access = stand_ins.secrets().map_or(Access::Once, Access::Given);
    compile_with(load::open(path, Box::new(env)), access, Some(stand_ins))
}

fn compile_with(
    opened: Result<Opened, Problems>,
    access: Access<'_>,
    stand_ins: Option<&dyn StandIns>,
) -> (Option<Policy>, Problems) {
    let (policy, problems) = written_with(opened, access, stand_ins);
    (policy.map(|(policy, _)| policy), problems)
}

fn written_with(
    opened: Result<Opened, Problems>,
    access: Access<'_>,
    stand_ins: Option<&dyn StandIns>,
) -> (Option<(Policy, WrittenPolicy)>, Problems) {
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(problems) => return (None, problems),
    };
    let before = opened.part();
    let Opened { mut tree, sources, problems } = opened;
    let mut context = Context { stand_ins, ..Context::new(sources, problems) };
    let vault = secrets::resolve(&mut context, &mut tree, &before, access);
    for (id, reference) in tree.references() {
        context.sources.used(reference, &tree.place(id));
    }
    let document = load::decoded(&mut tree, &mut context.problems);
    let mut policy = whole(&mut context, &document, tree.at());
    let certificates = std::mem::take(&mut context.certificates);
    let keys = std::mem::take(&mut context.vault_keys);
    policy.vault = vault.map(|vault| PolicyVault { certificates, keys, ..vault });
    // What changes by itself must not bring along an edit of the policy that nobody has asked to put in force.
    let is_reread = policy.watch.map_or(policy.vault.is_none(), |watch| watch.policy);
    policy.text = (!is_reread).then(|| context.sources.texts());
    if document.strict == Some(true) {
        context.problems.make_strict();
    }
    let written = WrittenPolicy { document, tree };
    (Some((policy, written)).filter(|_| !context.problems.has_errors()), context.problems)
}

/// Compiles all parts, even if earlier ones have errors.
fn whole(context: &mut Context<'_>, document: &Document, at: At<'_>) -> Policy {
    check_version(context, document.version, at.key("version"));
    context.egress = Arc::new(egress::compile(context, &document.egress, at.key("egress")));
    let timeouts = limits::timeouts(context, &document.timeouts, at.key("timeouts"));
    let limits = limits::limits(context, &document.limits, at.key("limits"));
    let listeners = listen::listeners(context, document, at);
    let admin = admin::compile(context, document.admin.as_ref(), at.key("admin"));
    own_addresses::listeners(context, document, at);
    let trusted_proxies = listen::trusted_proxies(context, &document.trusted_proxies, at.key("trusted_proxies"));
    context.trusted_proxies = Networks::new(trusted_proxies.clone());
    let audit = audit::compile(context, document.audit.as_ref(), at.key("audit"));
    let locations = auth::locations::compile(context, document, at.key("auth"));
    let (rules, store) = auth::compile(context, document, &listeners, &locations, at);
    let shared_limits = store::shared_limits(context, document.store.as_ref(), at.key("store"));
    let mut apis = apis::compile(context, document, &locations, at);
    let of_service = (store.as_ref(), &rules.clients);
    let token_service = token_service::compile(context, document, of_service, &mut apis, at);
    let self_service = self_service::compile(context, document, &locations, &mut apis, at);
    limits::memory_suffices(context, limits, &apis.routes, at.key("limits"));
    plans::admit_routes(context, &rules.directory, &apis.routes, at.key("plans"));
    let parts = (&*apis.apis, &*apis.routes);
    let headers = headers::compile(context, document, &locations, parts, at);
    lint::check(context, document, apis.routes.iter().map(|route| &**route), apis.catalog(), at);
    let traces = telemetry::compile(context, &document.telemetry, &headers, at.key("telemetry"));

    Policy {
        digest: context.sources.digest().into(),
        auth_digest: auth_digest::of(at).into(),
        fingerprint: context.sources.fingerprint(),
        inputs: context.sources.inputs(),
        text: None,
        watch: watch::compile(context, document.secrets.watch.as_ref(), at.key("secrets").key("watch")),
        workers: limits::workers(document),
        timeouts,
        limits,
        listeners,
        trusted_proxies,
        headers: Arc::new(headers),
        admin,
        auth: Arc::new(rules),
        api_facts: ApiFacts::of(&apis.apis, &apis.routes),
        apis: apis.apis,
        routes: apis.routes,
        router: apis.router,
        servers: apis.servers,
        token_service,
        self_service,
        audit,
        traces,
        vault: None,
        has_store: document.store.is_some(),
        store,
        shared_limits,
    }
}

fn check_version(context: &mut Context<'_>, version: Option<u32>, at: At<'_>) {
    match version {
        Some(1) => {}
        Some(_) => {
            context.error(at, "this version of the policy language is unknown").help("write `version: 1`");
        }
        None => context.missing(at, "`version` is missing", "write `version: 1`"),
    }
}

#[cfg(test)]
mod tests;
