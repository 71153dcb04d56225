//! Compares all settings of two policies, each by its rule.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::change::{Change, Subject};
use super::order::{self, Absent, Verdict};
use super::rules::{self, Rule, rule_of};
use super::value::{Kind, Value, are_same};

/// Two policies as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) old: &'a Value,
    pub(super) new: &'a Value,
}

/// Two values of one setting; absent where the policy does not have it.
type Pair<'a> = (Option<&'a Value>, Option<&'a Value>);

/// Compares settings, and collects what has changed.
pub(super) struct Settings<'a> {
    written: Written<'a>,
    /// What a setting is about, if that is not what its path says.
    subject: Option<Subject>,
    changes: Vec<Change>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(written: Written<'a>) -> Self {
        Self { written, subject: None, changes: Vec::new() }
    }

    /// Everything that was found.
    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Compares two whole policies, without the routes of their APIs.
    pub(super) fn compare_all(&mut self) {
        self.compare(&[], (Some(self.written.old), Some(self.written.new)));
    }

    /// Compares what is written at two routes.
    pub(super) fn compare_routes(&mut self, (api, name): (&str, &str), pair: Pair<'a>, subject: Subject) {
        self.subject = Some(subject);
        self.compare_map(&["apis", api, "routes", name], pair);
        self.subject = None;
    }

    /// Compares what is written at two APIs that are not of one name.
    pub(super) fn compare_apis(&mut self, api: &str, pair: Pair<'a>, subject: Subject) {
        self.subject = Some(subject);
        self.compare_map(&["apis", api], pair);
        self.subject = None;
    }

    fn compare(&mut self, path: &[&str], (old, new): Pair<'a>) {
        if are_same(old, new) {
            return;
        }
        // Without the key, the description may say more or less than its default.
        if (old.is_none() || new.is_none())
            && self.may_be_described(path)
            && !matches!(rule_of(path), Rule::ByRoute | Rule::Other)
        {
            return self.add(Verdict::Unjudged, path, (old, new));
        }
        if let Some((_, key)) = rules::SHORT.iter().find(|(rule, _)| rules::is_at(rule, path))
            && [old, new].into_iter().flatten().any(|value| value.text().is_some())
        {
            return self.compare_short(path, key, (old, new));
        }
        let verdict = match rule_of(path) {
            Rule::Map => return self.compare_map(path, (old, new)),
            Rule::ByRoute => return,
            Rule::Contract => return self.compare_contracts(path, (old, new)),
            Rule::Entries => return self.compare_entries(path, (old, new), Verdict::Gain),
            Rule::Conditions => return self.compare_entries(path, (old, new), Verdict::Loss),
            Rule::Definitions => return self.compare_entries(path, (old, new), Verdict::Other),
            Rule::Guard | Rule::Opening | Rule::Unordered
                if rules::has_below(path) && old.is_some() && new.is_some() && are_maps(old, new) =>
            {
                return self.compare_map(path, (old, new));
            }
            rule => self.judge(rule, path, (old, new)),
        };
        if let Some(verdict) = verdict {
            self.add(verdict, path, (old, new));
        }
    }

    /// Compares a short form with a long one.
    fn compare_short(&mut self, path: &[&str], key: &str, (old, new): Pair<'a>) {
        let long = |value: &Value| match value.text() {
            Some(_) => value.clone().in_map(key),
            None => value.clone(),
        };
        let (old, new) = (old.map(long), new.map(long));
        let mut inner = Settings { written: self.written, subject: self.subject.clone(), changes: Vec::new() };
        inner.compare(path, (old.as_ref(), new.as_ref()));
        self.changes.append(&mut inner.changes);
    }

    /// Compares each setting of a map.
    fn compare_map(&mut self, path: &[&str], (old, new): Pair<'a>) {
        if !are_maps(old, new) {
            return self.add(Verdict::Unjudged, path, (old, new));
        }
        for key in keys(old, new) {
            let pair = (old.and_then(|old| old.get(key)), new.and_then(|new| new.get(key)));
            self.compare(&[path, &[key]].concat(), pair);
        }
    }

    /// Compares entries by their names; `added` is what a further one means.
    fn compare_entries(&mut self, path: &[&str], (old, new): Pair<'a>, added: Verdict) {
        let (old, new) = (entries(path, old), entries(path, new));
        let names: BTreeSet<&str> = old.keys().chain(new.keys()).map(String::as_str).collect();
        for name in names {
            let inner = [path, &[name]].concat();
            match (old.get(name).copied(), new.get(name).copied()) {
                (Some(one), Some(other)) => self.compare(&inner, (Some(one), Some(other))),
                (None, other) if added == Verdict::Other => self.compare_definition(&inner, (None, other)),
                (one, None) if added == Verdict::Other => self.compare_definition(&inner, (one, None)),
                (None, other) => self.add(added, &inner, (None, other)),
                (one, None) => {
                    let verdict = if added == Verdict::Gain { self.removed(&inner, one) } else { Verdict::Gain };
                    self.add(verdict, &inner, (one, None));
                }
            }
        }
    }

    /// A role that is only in one policy counts like its scopes; an API shows in its routes, and a plan in those who have it.
    fn compare_definition(&mut self, path: &[&str], pair: Pair<'a>) {
        match rule_of(path) {
            Rule::Role => self.compare(path, pair),
            _ => self.add(Verdict::Other, path, pair),
        }
    }

    /// What it means that an entry is gone: less, unless something wider takes what it took.
    fn removed(&self, path: &[&str], entry: Option<&Value>) -> Verdict {
        let new = self.written.new;
        let opens = |issuer: &str| {
            let opens = |part| new.at(&["auth", part, issuer, "default_plan"]).is_some();
            opens("issuers") || opens("introspection")
        };
        // Without its consumer, a token of an issuer with `default_plan` has no ceiling.
        let is_open = |identity: &Value| {
            let issuer = identity.get("issuer").and_then(Value::text);
            issuer.is_some_and(opens) || (identity.get("certificate_san").is_some() && self.has_wildcard())
        };
        let widens = match *path {
            // What is no token of a known issuer is introspected.
            ["auth", "issuers", _] => new.at(&["auth", "introspection"]).is_some(),
            ["consumers", _] => {
                let identities = entry.and_then(|entry| entry.get("identities"));
                identities.is_some_and(|identities| identities.items().iter().any(is_open))
            }
            ["consumers", _, "identities", _] => entry.is_some_and(is_open),
            _ => false,
        };
        if widens { Verdict::Unjudged } else { Verdict::Loss }
    }

    /// Whether a consumer of the new policy has a name with a wildcard, which takes the names that another one gives up.
    fn has_wildcard(&self) -> bool {
        let consumers = self.written.new.get("consumers");
        let identities = consumers.into_iter().flat_map(Value::entries).filter_map(|(_, one)| one.get("identities"));
        let mut names = identities.flat_map(Value::items).filter_map(|one| one.get("certificate_san")?.text());
        names.any(|name| name.contains('*'))
    }

    /// What the change of a single setting means.
    fn judge(&self, rule: Rule, path: &[&str], (old, new): Pair<'_>) -> Option<Verdict> {
        let (greater, less) = (Ordering::Greater, Ordering::Less);
        match rule {
            Rule::Other => Some(Verdict::Other),
            Rule::Wider(absent) => order::sets(old, new, absent, greater),
            Rule::Narrower(absent) => order::sets(old, new, absent, less),
            Rule::Networks(absent) => order::networks(old, new, absent),
            Rule::Proxies => order::networks(old, new, Absent::Nothing).map(|verdict| match verdict {
                Verdict::Loss => Verdict::Unjudged,
                other => other,
            }),
            Rule::Larger(absent) => order::quantities(old, new, absent, greater),
            Rule::Smaller(absent) => order::quantities(old, new, absent, less),
            Rule::Quotas => order::quotas(old, new),
            Rule::Counted(absent) => order::counted(old, new, absent),
            Rule::Servers => order::servers(old, new),
            Rule::Ranked(words, default) => order::ranked(old, new, words, default),
            Rule::Replacement => order::replacements(old, new),
            Rule::Guard => Some(presence(old, new, Verdict::Loss)),
            Rule::Opening => Some(presence(old, new, Verdict::Gain)),
            Rule::Plan => Some(self.plans(path, (old, new))),
            // Compared consumer by consumer, unless others may have the role.
            Rule::Role if ![self.written.old, self.written.new].iter().any(|policy| policy.gives_roles()) => {
                Some(Verdict::Other)
            }
            Rule::Role => order::sets(old, new, Absent::Nothing, greater),
            Rule::Roles => self.roles((old, new)),
            Rule::Attribute if self.is_claimed(path) => Some(Verdict::Unjudged),
            Rule::Attribute => order::sets(old, new, Absent::Nothing, greater),
            _ => Some(Verdict::Unjudged),
        }
    }

    /// Whether a key of a route that the policy leaves out may be one of a description: its `x-bartizan`, or a contract.
    fn may_be_described(&self, path: &[&str]) -> bool {
        matches!(path, [_, _, "routes", _, _] | [_, _, "routes", _, "request" | "response", ..])
            && self.is_described(path)
    }

    /// Whether the routes of this API may come from a description, of which the policy replaces what it writes.
    fn is_described(&self, path: &[&str]) -> bool {
        let [api, name, "routes", ..] = path else { return false };
        [self.written.old, self.written.new].iter().any(|policy| policy.at(&[api, name, "openapi"]).is_some())
    }

    /// Compares the plans that two names are of. Without a plan, there is no limit; without a default plan, there are no callers.
    fn plans(&self, path: &[&str], (old, new): Pair<'_>) -> Verdict {
        let is_default = path.last() == Some(&"default_plan");
        let (Some(one), Some(other)) = (old, new) else {
            return presence(old, new, if is_default { Verdict::Gain } else { Verdict::Loss });
        };
        let plan = |policy: &'a Value, name: &Value| policy.get("plans")?.get(name.text()?);
        let (Some(one), Some(other)) = (plan(self.written.old, one), plan(self.written.new, other)) else {
            return Verdict::Unjudged;
        };
        let mut inner = Settings::new(self.written);
        inner.compare_map(&["plans", ""], (Some(one), Some(other)));
        Verdict::together(inner.changes.iter().map(|change| change.verdict)).unwrap_or(Verdict::Other)
    }

    /// Compares the scopes that roles have in their policies. Without `roles`, tokens have no ceiling.
    fn roles(&self, (old, new): Pair<'_>) -> Option<Verdict> {
        let scopes = |policy: &'a Value, roles: &Value| -> BTreeSet<&'a str> {
            let roles = roles.texts().into_iter().filter_map(|role| policy.get("roles")?.get(role));
            roles.flat_map(Value::texts).collect()
        };
        let (Some(one), Some(other)) = (old, new) else { return Some(Verdict::Unjudged) };
        match order::subsets(&scopes(self.written.old, one), &scopes(self.written.new, other)) {
            Some(Ordering::Equal) => Some(Verdict::Other),
            Some(Ordering::Greater) => Some(Verdict::Gain),
            Some(Ordering::Less) => Some(Verdict::Loss),
            None => Some(Verdict::Unjudged),
        }
    }

    /// Whether tokens have this attribute, too: then both decide, and one more value may be less.
    fn is_claimed(&self, path: &[&str]) -> bool {
        let name = path.last().copied().unwrap_or_default();
        [self.written.old, self.written.new].into_iter().any(|policy| {
            let parts = ["issuers", "introspection"].into_iter().filter_map(|part| policy.at(&["auth", part]));
            let mut issuers = parts.flat_map(Value::entries);
            issuers.any(|(_, issuer)| issuer.at(&["attributes", name]).is_some())
        })
    }

    /// Compares the contracts of bodies as one, and each other setting by its rule.
    fn compare_contracts(&mut self, path: &[&str], (old, new): Pair<'a>) {
        let is_body = |key: &str| !rules::RULES.iter().any(|(rule, _)| rules::is_at(rule, &[path, &[key]].concat()));
        let bodies = |value: Option<&'a Value>| -> BTreeMap<&'a str, &'a Value> {
            value.into_iter().flat_map(Value::entries).filter(|(key, _)| is_body(key)).collect()
        };
        let (before, after) = (bodies(old), bodies(new));
        let contains = |one: &BTreeMap<&str, &Value>, other: &BTreeMap<&str, &Value>| {
            other.iter().all(|(key, value)| one.get(key).is_some_and(|own| own.is_same(value)))
        };
        // A further kind of request body is accepted, but a further status of a response is checked.
        let is_request = path.last() == Some(&"request");
        let verdict = match (contains(&after, &before), contains(&before, &after)) {
            (true, true) => None,
            _ if self.is_described(path) => Some(Verdict::Unjudged),
            _ if before.is_empty() => Some(Verdict::Loss),
            _ if after.is_empty() => Some(Verdict::Gain),
            (true, false) if is_request => Some(Verdict::Gain),
            (false, true) if is_request => Some(Verdict::Loss),
            _ => Some(Verdict::Unjudged),
        };
        if let Some(verdict) = verdict {
            self.add(verdict, path, (old, new));
        }
        for key in keys(old, new).into_iter().filter(|key| !is_body(key)) {
            let pair = (old.and_then(|old| old.get(key)), new.and_then(|new| new.get(key)));
            self.compare(&[path, &[key]].concat(), pair);
        }
    }

    fn add(&mut self, verdict: Verdict, path: &[&str], (old, new): Pair<'_>) {
        let shows = rule_of(path).shows_values();
        let shown = |value: Option<&Value>| value.filter(|_| shows).map(Value::shown);
        self.changes.push(Change {
            verdict,
            subject: self.subject.clone().unwrap_or_else(|| Subject::of_path(path)),
            setting: path.join("."),
            place: new.or(old).map(|value| value.place.to_string()),
            what: match (old, new) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            },
            old: shown(old),
            new: shown(new),
        });
    }
}

impl Rule {
    /// Whether the values may be shown: those of other rules may be secrets, or long.
    fn shows_values(self) -> bool {
        !matches!(
            self,
            Self::Other
                | Self::Unordered
                | Self::Servers
                | Self::Map
                | Self::Entries
                | Self::Guard
                | Self::Opening
                | Self::Contract
        )
    }
}

/// What it means that something came or went; `present` is what it means that it came.
fn presence(old: Option<&Value>, new: Option<&Value>, present: Verdict) -> Verdict {
    match (old, new, present) {
        (None, Some(_), present) => present,
        (Some(_), None, Verdict::Gain) => Verdict::Loss,
        (Some(_), None, _) => Verdict::Gain,
        _ => Verdict::Unjudged,
    }
}

fn are_maps(old: Option<&Value>, new: Option<&Value>) -> bool {
    [old, new].into_iter().flatten().all(|value| matches!(value.kind, Kind::Map(_)))
}

/// The keys of both.
fn keys<'a>(old: Option<&'a Value>, new: Option<&'a Value>) -> BTreeSet<&'a str> {
    [old, new].into_iter().flatten().flat_map(Value::entries).map(|(key, _)| key).collect()
}

/// The entries of a map, or of a list by what identifies each.
fn entries<'a>(path: &[&str], value: Option<&'a Value>) -> BTreeMap<String, &'a Value> {
    let Some(value) = value else { return BTreeMap::new() };
    if let Kind::Map(entries) = &value.kind {
        return entries.iter().map(|(key, value)| (key.clone(), value)).collect();
    }
    let named = rules::NAMED.iter().find(|(rule, _)| rules::is_at(rule, path)).map(|(_, keys)| *keys);
    let mut found: BTreeMap<String, &Value> = BTreeMap::new();
    for item in value.items() {
        let parts = named.unwrap_or_default().iter().filter_map(|key| item.get(key)).map(Value::shown);
        let name = parts.collect::<Vec<_>>().join(" ");
        // Two of one name, such as a client's two secrets, are distinguished by their order.
        let second = found.contains_key(&name).then(|| format!("{name} ({})", found.len() + 1));
        found.insert(second.unwrap_or(name), item);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::diagnostic::Problems;
    use crate::policy::source::SourceText;
    use crate::policy::tree::{Kind as Node, NodeId, Tree};
    use crate::policy::yaml;

    const WHOLE: &str = include_str!("../../../tests/cases/every-key.yaml");

    fn tree(text: &str) -> Tree {
        let source = Arc::new(SourceText::new("p".to_owned(), text.to_owned(), 0));
        yaml::parse(&source, &mut Problems::new()).unwrap()
    }

    /// Every value that is no list and no map.
    fn leaves(tree: &Tree, id: NodeId, found: &mut Vec<NodeId>) {
        match tree.kind(id) {
            Node::Scalar(_) => found.push(id),
            Node::Sequence(items) => items.iter().for_each(|item| leaves(tree, *item, found)),
            Node::Mapping(entries) => entries.iter().for_each(|(_, value)| leaves(tree, *value, found)),
        }
    }

    #[test]
    fn no_value_of_a_policy_changes_without_a_word() {
        let (whole, mut all) = (tree(WHOLE), Vec::new());
        leaves(&whole, whole.root(), &mut all);
        assert!(all.len() > 300, "{}", all.len());
        let old = Value::of(&whole);
        for leaf in all {
            let span = whole.place(leaf).span();
            let new = Value::of(&tree(&format!("{}another{}", &WHOLE[..span.start], &WHOLE[span.end..])));
            let mut settings = Settings::new(Written { old: &old, new: &new });
            settings.compare_all();
            let apis = (old.get("apis"), new.get("apis"));
            for (name, api) in apis.0.unwrap().entries() {
                for (route, old) in api.get("routes").unwrap().entries() {
                    let new = apis.1.unwrap().at(&[name, "routes", route]);
                    settings.compare_routes((name, route), (Some(old), new), Subject::default());
                }
            }
            let path: Vec<_> = whole.path(leaf).into_iter().map(|step| format!("{step:?}")).collect();
            // The compiled policies say these.
            let by_route = ["scopes", "public", "mode", "hosts"].map(|key| format!("Key({key:?})"));
            let is_by_route = path.first().is_some_and(|first| first == "Key(\"apis\")")
                && path.iter().any(|step| by_route.contains(step));
            assert!(is_by_route || !settings.into_changes().is_empty(), "{path:?}");
        }
    }
}
