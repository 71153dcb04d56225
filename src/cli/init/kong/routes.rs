//! Kong's routes, as the routes of APIs. A route that cannot be written as closed as it was is left out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::consumers::{Consumer, Taken};
use super::limits::Windows;
use super::node::{Node, Notes};
use super::paths::{self, Template};
use super::plugins::{self, Acl, Credentials, Effect, Origin, Plugins};
use super::services::{self, Service};
use crate::cli::init::yaml;

/// The methods of a route that names none. HEAD goes with GET.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// What is taken over of a route, or leaves it out.
const KNOWN: [&str; 17] = [
    "name",
    "service",
    "hosts",
    "paths",
    "methods",
    "protocols",
    "strip_path",
    "preserve_host",
    "plugins",
    "regex_priority",
    "path_handling",
    "https_redirect_status_code",
    "request_buffering",
    "response_buffering",
    "headers",
    "snis",
    "expression",
];
/// Most routes of a policy that is written.
const MOST_ROUTES: usize = 20_000;

/// A service, as far as its routes have the same hosts, credentials and pages.
pub(super) struct Api {
    pub(super) name: String,
    pub(super) upstream: String,
    /// `host` of the upstream.
    pub(super) host: Option<String>,
    /// Empty: any.
    pub(super) hosts: Vec<String>,
    pub(super) credentials: Credentials,
    /// The lines below `cors`.
    pub(super) cors: String,
    pub(super) routes: Vec<Route>,
}

/// A route of the policy.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) rewrite: Option<String>,
    pub(super) access: Access,
    /// The class of limits that it counts against.
    pub(super) class: Option<String>,
    /// Of a public route.
    pub(super) rate: Option<String>,
    pub(super) from: Vec<String>,
    /// In bytes.
    pub(super) max_size: Option<u64>,
}

/// Who may call a route.
#[derive(Clone)]
pub(super) enum Access {
    Public,
    /// Every consumer.
    Any,
    /// Consumers with the scope of this `acl`.
    Scope(String, Acl),
    /// These consumers: tokens of Kong have no scopes.
    Only(Vec<String>),
}

/// What is read for all routes.
pub(super) struct World<'t> {
    pub(super) root: Node<'t>,
    pub(super) consumers: Vec<Consumer<'t>>,
    pub(super) upstreams: BTreeMap<&'t str, Node<'t>>,
    pub(super) global: Plugins<'t>,
    /// The limits of consumers without their own.
    pub(super) standard: Option<Windows>,
    /// The header or parameter that keys are in.
    pub(super) key_in: &'t str,
    /// Whether paths without `~` may be regular expressions, as before version 3.
    pub(super) is_old: bool,
}

/// What the routes come to.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) apis: Vec<Api>,
    /// The scope of each `acl`.
    pub(super) scopes: BTreeMap<Acl, String>,
    /// The limits of services and routes.
    pub(super) classes: BTreeMap<String, Windows>,
    taken: Taken,
    /// Hosts, methods and paths.
    matched: HashSet<(String, &'static str, String)>,
    count: usize,
    /// The class of each plugin, by its place.
    class_of: BTreeMap<(usize, usize), String>,
}

/// Drafts all services and their routes.
pub(super) fn draft(world: &World<'_>, notes: &mut Notes) -> Draft {
    let mut draft = Draft::default();
    let elsewhere: Vec<Node<'_>> = world.root.items("routes");
    for node in world.root.items("services") {
        let names = node.names();
        let Some(service) = services::read(node, &world.upstreams, notes) else { continue };
        let mut of_service = world.global.clone();
        of_service.extend(plugins_of(world, "service", node, Origin::Service, notes));
        let refers = |route: &&Node<'_>| route.reference("service").is_some_and(|name| names.contains(&name));
        let routes: Vec<Node<'_>> =
            node.items("routes").into_iter().chain(elsewhere.iter().filter(refers).copied()).collect();
        let name = yaml::name(names.first().copied().unwrap_or_default(), "service");
        let mut apis = BTreeMap::new();
        for route in routes {
            let scope = Scope { world, service: &service, name: &name, plugins: &of_service };
            add_route(&mut draft, &scope, route, &mut apis, notes);
        }
        let known = draft.apis.len();
        draft.apis.extend(apis.into_values());
        for position in known..draft.apis.len() {
            let free = draft.taken.name(&name);
            if let Some(api) = draft.apis.get_mut(position) {
                api.name = free;
            }
        }
        if known == draft.apis.len() {
            notes.add(node, "no route of this service is left, so the service is left out");
        }
    }
    let known: BTreeSet<&str> = world.root.items("services").into_iter().flat_map(Node::names).collect();
    for route in elsewhere {
        if !route.reference("service").is_some_and(|name| known.contains(name)) {
            notes.add(route, "this route is left out: its service is not in the file");
        }
    }
    draft
}

/// The service of a route.
struct Scope<'s, 't> {
    world: &'s World<'t>,
    service: &'s Service,
    name: &'s str,
    plugins: &'s Plugins<'t>,
}

/// The plugins on an entity: those in it, and those that refer to it from the top.
fn plugins_of<'t>(world: &World<'t>, kind: &str, node: Node<'t>, origin: Origin, notes: &mut Notes) -> Plugins<'t> {
    let names = node.names();
    let mut nodes = node.items("plugins");
    for plugin in world.root.items("plugins") {
        if plugin.reference(kind).is_some_and(|name| names.contains(&name)) {
            nodes.push(plugin);
        }
    }
    nodes.retain(|plugin| {
        let is_combined = plugin.get("consumer").or(plugin.get("consumer_group")).is_some() || (kind == "service" && plugin.get("route").is_some());
        if is_combined && plugin.get("consumer").is_some() {
            notes.add(*plugin, "a plugin for a consumer at one service or route is not taken over; write `only`, `from` or a class for it");
        }
        !is_combined
    });
    plugins::read(&nodes, origin, notes)
}

/// What an API is made for: hosts, whether the client's is kept, credentials and `cors`.
type ApiKey = (Vec<String>, bool, Credentials, String);

fn add_route(
    draft: &mut Draft,
    scope: &Scope<'_, '_>,
    node: Node<'_>,
    apis: &mut BTreeMap<ApiKey, Api>,
    notes: &mut Notes,
) {
    let Some(hosts) = matches(node, notes) else { return };
    let mut all = scope.plugins.clone();
    all.extend(plugins_of(scope.world, "route", node, Origin::Route, notes));
    let Some(effect) = plugins::effect(&all, scope.world.key_in, notes) else { return };
    let Some(access) = access(draft, scope.world, &effect, node, notes) else { return };
    let templates = templates(scope.world, node, notes);
    let methods = methods(node, notes);
    let keeps_host = node.is("preserve_host", "true");
    let limits = limits(draft, scope, &effect, node, notes);
    let mut routes = Vec::new();
    for template in &templates {
        for method in &methods {
            if !draft.claim(&hosts, method, &template.path) {
                notes.add(
                    node,
                    format!(
                        "`{method} {}` is left out: another route has the same requests, or there are too many routes",
                        template.path
                    ),
                );
                continue;
            }
            routes.push(Route {
                method,
                path: template.path.clone(),
                rewrite: rewrite(&scope.service.base, template, node),
                access: access.clone(),
                class: limits.0.clone(),
                rate: limits.1.clone(),
                from: effect.from.clone(),
                max_size: effect.max_size,
            });
        }
    }
    if routes.is_empty() {
        return;
    }
    let api = apis.entry((hosts.clone(), keeps_host, effect.credentials, effect.cors.clone())).or_insert_with(|| Api {
        name: String::new(),
        upstream: scope.service.upstream.clone(),
        host: if keeps_host { Some("preserve".to_owned()) } else { scope.service.host.clone() },
        hosts,
        credentials: effect.credentials,
        cors: effect.cors,
        routes: Vec::new(),
    });
    api.routes.extend(routes);
}

/// The hosts of a route; `None`, with a note, if it also matches by something that has no counterpart.
fn matches(node: Node<'_>, notes: &mut Notes) -> Option<Vec<String>> {
    if let Some(node) = node.placeholder() {
        notes.add(node, "the route with this value is left out, because only decK or Kong knows it; write the value, then run it again");
        return None;
    }
    node.only(&KNOWN, "routes", notes);
    if let Some(key) =
        ["headers", "snis", "sources", "destinations", "expression"].into_iter().find(|key| node.get(key).is_some())
    {
        notes.add(node, format!("this route is left out: `{key}` has no counterpart; write its routes under an API with `hosts` or `from`"));
        return None;
    }
    let protocols = node.texts("protocols");
    if protocols.iter().any(|one| !["http", "https"].contains(one)) {
        notes.add(node, "this route is left out: it is for other protocols than http and https");
        return None;
    }
    if protocols == ["https"] {
        notes.add(node, "this route was for https only; write `tls` under `listen`");
    }
    let mut hosts: Vec<String> = node.texts("hosts").into_iter().map(str::to_ascii_lowercase).collect();
    hosts.sort();
    hosts.dedup();
    let good = |host: &String| {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !name.is_empty()
            && name.bytes().all(is_plain)
            && !name.starts_with('.')
            && !name.ends_with('.')
            && (name.len() == host.len() || name.parse::<std::net::Ipv4Addr>().is_err())
    };
    if node.items("hosts").len() != node.texts("hosts").len() || !hosts.iter().all(good) {
        notes.add(node, "this route is left out: only hosts such as `api.example.com` and `*.example.com` have a counterpart, without ports");
        return None;
    }
    Some(hosts)
}

fn templates(world: &World<'_>, node: Node<'_>, notes: &mut Notes) -> Vec<Template> {
    if node.get("paths").is_none() {
        return paths::templates("/", false).unwrap_or_default();
    }
    let mut templates = Vec::new();
    for path in node.items("paths") {
        match paths::templates(path.scalar().unwrap_or_default(), world.is_old) {
            Ok(found) => {
                if found.iter().any(|one| one.path.contains('{') && !one.path.contains("...")) {
                    notes.add(
                        path,
                        "`{name}` takes any text of a segment here; write a schema under `request.path` to take less",
                    );
                }
                templates.extend(found);
            }
            Err(why) => notes.add(path, format!("this path is left out: {why}; write it as `/orders/{{id}}`")),
        }
    }
    templates
}

fn methods(node: Node<'_>, notes: &mut Notes) -> Vec<&'static str> {
    if node.get("methods").is_none() {
        notes.add(
            node,
            format!(
                "this route took every method; here it takes {}, so remove those that are not needed",
                METHODS.join(", ")
            ),
        );
        return METHODS.to_vec();
    }
    let given = node.texts("methods");
    let mut methods: Vec<&'static str> =
        METHODS.into_iter().chain(["HEAD", "OPTIONS"]).filter(|known| given.contains(known)).collect();
    // GET serves HEAD.
    if methods.contains(&"GET") {
        methods.retain(|method| *method != "HEAD");
    }
    if given.iter().any(|method| !METHODS.contains(method) && !["HEAD", "OPTIONS"].contains(method)) {
        notes.add(node, "methods other than GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS are left out");
    }
    methods
}

/// The path for the API, if it is another.
fn rewrite(base: &str, template: &Template, node: Node<'_>) -> Option<String> {
    let path = if node.is("strip_path", "false") { &template.path } else { &template.stripped };
    let whole = match &**path {
        "/" if !base.is_empty() => base.to_owned(),
        path => format!("{}{path}", base.trim_end_matches('/')),
    };
    (whole != template.path).then_some(whole)
}

/// Who may call; `None`, with a note, if nobody could.
fn access(draft: &mut Draft, world: &World<'_>, effect: &Effect, node: Node<'_>, notes: &mut Notes) -> Option<Access> {
    if effect.credentials == Credentials::None {
        notes.add(node, "OPEN TO EVERYONE: no plugin asks for a credential here, so the route is `public: true`; write `scopes` to close it");
        return Some(Access::Public);
    }
    if effect.credentials == Credentials::Token && world.consumers.iter().all(|one| one.issuers.is_empty()) {
        notes.add(
            node,
            "this route is left out: it takes tokens, and no consumer has a credential for them that is taken over",
        );
        return None;
    }
    let Some(acl) = &effect.acl else { return Some(Access::Any) };
    if !effect.credentials.token() {
        return Some(Access::Scope(draft.scope(acl), acl.clone()));
    }
    let admitted = |one: &&Consumer<'_>| acl.admits(&one.groups.iter().copied().collect::<Vec<_>>());
    let only: Vec<String> = world.consumers.iter().filter(admitted).map(|one| one.name.clone()).collect();
    if only.is_empty() {
        notes.add(node, "this route is left out: its `acl` admits no consumer of the file");
        return None;
    }
    notes.add(node, "tokens of Kong have no scopes, so this route lists the consumers that its `acl` admits: add new ones to `only`");
    Some(Access::Only(only))
}

/// The class of the route, and the rate of a public one.
fn limits(
    draft: &mut Draft,
    scope: &Scope<'_, '_>,
    effect: &Effect,
    node: Node<'_>,
    notes: &mut Notes,
) -> (Option<String>, Option<String>) {
    let Some((windows, origin, place)) = effect.limit else { return (None, None) };
    if effect.credentials == Credentials::None {
        notes.add(node, "this public route has one rate for each client address, without a burst or a quota");
        return (None, Some(windows.plain_rate()));
    }
    let name = match origin {
        // The plan has it.
        Origin::Global | Origin::Consumer => return (None, None),
        Origin::Service => scope.name.to_owned(),
        Origin::Route => yaml::name(node.names().first().copied().unwrap_or_default(), scope.name),
    };
    if let Some(class) = draft.class_of.get(&place) {
        return (Some(class.clone()), None);
    }
    let class = draft.taken.name(&format!("{name}-limit"));
    draft.class_of.insert(place, class.clone());
    draft.classes.insert(class.clone(), windows);
    (Some(class), None)
}

impl Draft {
    /// Claims the requests of a route; false if another route has them, or there are too many.
    fn claim(&mut self, hosts: &[String], method: &'static str, path: &str) -> bool {
        let mut plain = String::new();
        for part in path.split_inclusive(['{', '}']) {
            // Names do not matter: `/a/{x}` and `/a/{y}` have the same requests.
            let named = part.strip_suffix('}');
            plain.push_str(named.map_or(part, |name| if name.ends_with("...") { "...}" } else { "}" }));
        }
        let any = [String::new()];
        let hosts = if hosts.is_empty() { &any } else { hosts };
        let keys: Vec<_> = hosts.iter().map(|host| (host.clone(), method, plain.clone())).collect();
        if self.count >= MOST_ROUTES || keys.iter().any(|key| self.matched.contains(key)) {
            return false;
        }
        self.count += 1;
        self.matched.extend(keys);
        true
    }

    /// The scope of an `acl`.
    fn scope(&mut self, acl: &Acl) -> String {
        if let Some(scope) = self.scopes.get(acl) {
            return scope.clone();
        }
        let groups: Vec<String> = acl.groups.iter().take(3).map(|group| yaml::name(group, "group")).collect();
        let name = format!("{}{}", if acl.allows { "for-" } else { "not-for-" }, groups.join("-or-"));
        let scope = self.taken.name(&name);
        self.scopes.insert(acl.clone(), scope.clone());
        scope
    }
}
