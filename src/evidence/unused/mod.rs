//! `bartizan report unused`: what the policy grants and nobody used, and the policy without it.
//!
//! `use_of` collects what was used; `edit` takes the rest out of the text. The text without it must load, and allow nobody more:
//! a route that goes may leave its requests to a wider one, and then it stays.

mod edit;
mod use_of;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use self::edit::Edit;
use self::use_of::UseOf;
use crate::evidence::diff::{self, Side, Verdict};
use crate::evidence::record::Record;
use crate::evidence::window::Window;
use crate::policy::compile;
use crate::policy::diagnostic::Problems;
use crate::policy::tree::Tree;

/// Most edits that are tried one by one, where they do not go together.
const MOST_TRIED: usize = 200;

/// What is granted and was not used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finding {
    /// A scope of a role that nobody who has the role used.
    Scope { role: String, scope: String },
    /// A scope that a consumer has by its roles and did not use.
    ConsumerScope { consumer: String, scope: String },
    /// A route that nobody asked for.
    Route { api: String, route: String },
    /// A consumer that did not call.
    Consumer(String),
    /// A key that was not sent.
    Key { consumer: String, key: String },
    /// A client that was not seen at the token service.
    Client { consumer: String, client: String },
    /// An issuer or an introspection endpoint of which no token was accepted.
    Issuer(String),
}

/// The policy without what was not used.
#[derive(Debug)]
pub(crate) struct Patch {
    /// As a unified diff; empty if it takes nothing out.
    pub(crate) text: String,
    /// Findings that it leaves: without them the policy would not load, or would allow somebody more, or they are behind an alias.
    pub(crate) left: usize,
    /// Findings that it leaves because more are not tried one by one.
    pub(crate) not_tried: usize,
}

/// Compares a policy with the record of what was used.
pub(crate) struct Unused {
    path: PathBuf,
    text: String,
    tree: Tree,
    side: Side,
    used: UseOf,
    /// Requests that were read.
    pub(crate) requests: u64,
    /// The time that they cover.
    pub(crate) window: Window,
    /// Records that were dropped when they could not be kept.
    pub(crate) dropped: u64,
}

impl Unused {
    /// Reads a policy.
    ///
    /// # Errors
    /// It has errors.
    pub(crate) fn of(path: &Path) -> Result<Self, Problems> {
        let (policy, tree) = compile::with_tree(path)?;
        let text = tree.at().place().source().text.clone();
        let side = Side::of(path, policy, &tree);
        let mut credentials = BTreeSet::new();
        for (_, consumer) in side.written().get("consumers").into_iter().flat_map(diff::Value::entries) {
            credentials.extend(ids(consumer, "keys").into_iter().chain(ids(consumer, "clients")).map(Box::from));
        }
        let used = UseOf::new(side.policy(), credentials.into_iter());
        Ok(Self { path: path.to_owned(), text, tree, side, used, requests: 0, window: Window::default(), dropped: 0 })
    }

    /// Adds a record.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        self.dropped = self.dropped.saturating_add(record.dropped());
        if record.is_request() {
            self.requests += 1;
            self.window.add(record.at_text());
            self.used.add(record);
        }
    }

    /// How many policies have decided these requests, and whether this one is among them.
    pub(crate) fn policies(&self) -> (usize, bool) {
        self.used.policies(self.side.policy().digest())
    }

    /// What was not used.
    pub(crate) fn findings(&self) -> BTreeSet<Finding> {
        let mut findings = self.scopes();
        for route in self.side.policy().routes() {
            if route.own.is_none() && !self.used.is_asked(route) {
                findings
                    .insert(Finding::Route { api: route.api().name().to_string(), route: route.name().to_string() });
            }
        }
        for (name, consumer) in self.side.written().get("consumers").into_iter().flat_map(diff::Value::entries) {
            if !self.used.by(name).is_some_and(use_of::Used::is_any) {
                findings.insert(Finding::Consumer(name.to_owned()));
            }
            let unsent =
                |key: &str| ids(consumer, key).into_iter().filter(|id| !self.used.is_sent(id)).collect::<Vec<_>>();
            let owner = || name.to_owned();
            findings
                .extend(unsent("keys").into_iter().map(|key| Finding::Key { consumer: owner(), key: key.to_owned() }));
            let clients = unsent("clients").into_iter();
            findings.extend(clients.map(|client| Finding::Client { consumer: owner(), client: client.to_owned() }));
        }
        let unused = self.used.unused_issuers().filter(|name| !self.may_be_exchanged(name));
        findings.extend(unused.map(|name| Finding::Issuer(name.to_owned())));
        findings
    }

    /// Whether clients of the token service may exchange tokens of this issuer: that is not on record.
    fn may_be_exchanged(&self, issuer: &str) -> bool {
        let written = self.side.written();
        let consumers = written.get("consumers").into_iter().flat_map(diff::Value::entries);
        let mut clients = consumers.flat_map(|(_, one)| one.get("clients").map(diff::Value::items).unwrap_or_default());
        let has_others = written.get("token_service").is_some() && written.get("store").is_some();
        has_others || clients.any(|one| one.get("exchange").is_some_and(|issuers| issuers.texts().contains(&issuer)))
    }

    /// Scopes of roles and of consumers that were not used.
    fn scopes(&self) -> BTreeSet<Finding> {
        let written = self.side.written();
        let mut holders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, consumer) in written.get("consumers").into_iter().flat_map(diff::Value::entries) {
            for role in consumer.get("roles").map(diff::Value::texts).unwrap_or_default() {
                holders.entry(role).or_default().push(name);
            }
        }
        // Roles in tokens, and consumers that operators add, are not told apart: what anybody used counts.
        let is_open = written.gives_roles();
        let has_used =
            |consumer: &str, scope: &str| self.used.by(consumer).is_some_and(|used| used.scopes.contains(scope));
        let mut findings = BTreeSet::new();
        for (role, scopes) in written.get("roles").into_iter().flat_map(diff::Value::entries) {
            let holders = holders.get(role).map(Vec::as_slice).unwrap_or_default();
            for scope in scopes.texts() {
                let is_used = holders.iter().any(|consumer| has_used(consumer, scope));
                if !(is_used || (is_open && self.used.is_used(scope))) {
                    findings.insert(Finding::Scope { role: role.to_owned(), scope: scope.to_owned() });
                    continue;
                }
                // A consumer that did not call at all is a finding of its own.
                let idle = holders.iter().filter(|name| !has_used(name, scope));
                let called = idle.filter(|name| self.used.by(name).is_some_and(use_of::Used::is_any));
                findings.extend(called.map(|consumer| Finding::ConsumerScope {
                    consumer: (*consumer).to_owned(),
                    scope: scope.to_owned(),
                }));
            }
        }
        findings
    }

    /// The policy without unused scopes of roles, routes and keys, and what of them it leaves.
    pub(crate) fn patch(&self, findings: &BTreeSet<Finding>) -> Patch {
        let edits: Vec<Edit> = findings.iter().filter_map(|finding| self.edit(finding)).collect();
        let kept = match self.without(&edits) {
            Some(text) => return Patch { text: self.unified(&text), left: 0, not_tried: 0 },
            None => edits.iter().take(MOST_TRIED).fold(Vec::new(), |mut kept: Vec<Edit>, edit| {
                kept.push(edit.clone());
                if self.without(&kept).is_none() {
                    kept.pop();
                }
                kept
            }),
        };
        let text = self.without(&kept).unwrap_or_else(|| self.text.clone());
        let not_tried = edits.len().saturating_sub(MOST_TRIED);
        Patch { text: self.unified(&text), left: edits.len() - kept.len() - not_tried, not_tried }
    }

    fn unified(&self, text: &str) -> String {
        edit::unified(&self.path.display().to_string(), &self.text, text)
    }

    /// The entry that a finding would take out.
    fn edit(&self, finding: &Finding) -> Option<Edit> {
        let (path, position) = match finding {
            Finding::Scope { role, scope } => {
                let path = vec!["roles".to_owned(), role.clone()];
                (path, self.position(&["roles", role], |item| item.text() == Some(scope))?)
            }
            Finding::Route { api, route } => {
                let path: Vec<String> = ["apis", api, "routes"].map(str::to_owned).to_vec();
                let at = self.tree.at().key("apis").key(api).key("routes");
                (path, at.position_of_key(route)?)
            }
            Finding::Key { consumer, key } => {
                let path: Vec<String> = ["consumers", consumer, "keys"].map(str::to_owned).to_vec();
                let is_key = |item: &diff::Value| item.get("id").and_then(diff::Value::text) == Some(key);
                (path, self.position(&["consumers", consumer, "keys"], is_key)?)
            }
            // For people to decide: others may need them.
            Finding::ConsumerScope { .. } | Finding::Consumer(_) | Finding::Client { .. } | Finding::Issuer(_) => {
                return None;
            }
        };
        Some(Edit { path, drop: BTreeSet::from([position]) })
    }

    fn position(&self, path: &[&str], is: impl Fn(&diff::Value) -> bool) -> Option<usize> {
        self.side.written().at(path)?.items().iter().position(is)
    }

    /// The text without these entries, if it loads and allows nobody more.
    fn without(&self, edits: &[Edit]) -> Option<String> {
        let mut joined: BTreeMap<&[String], BTreeSet<usize>> = BTreeMap::new();
        for edit in edits {
            joined.entry(&edit.path).or_default().extend(&edit.drop);
        }
        let joined: Vec<Edit> = joined.into_iter().map(|(path, drop)| Edit { path: path.to_vec(), drop }).collect();
        let text = edit::apply(&self.text, &self.tree, &joined)?;
        let (policy, tree) = compile::with_tree_of(&self.path, &text).ok()?;
        let changes = diff::compare(&self.side, &Side::of(&self.path, policy, &tree));
        let is_more = |verdict| matches!(verdict, Verdict::Gain | Verdict::Unjudged);
        (!changes.iter().any(|change| is_more(change.verdict))).then_some(text)
    }
}

/// The ids of keys or clients of a consumer; those of keys that rotate are made as they are.
fn ids<'a>(consumer: &'a diff::Value, list: &str) -> Vec<&'a str> {
    let items = consumer.get(list).map(diff::Value::items).unwrap_or_default();
    items.iter().filter(|item| item.get("rotate").is_none()).filter_map(|item| item.get("id")?.text()).collect()
}
