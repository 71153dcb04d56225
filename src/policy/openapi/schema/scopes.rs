//! How evaluation comes to a schema, as far as dynamic references depend on it.

use std::collections::HashMap;

use crate::policy::openapi::files::{Node, Resource};

/// Most scopes of a description. Each may need a definition of every schema.
const MOST: usize = 1000;

/// The position of a dynamic scope.
pub(super) type ScopeId = usize;

/// The outermost resources that have dynamic anchors, by their names: of all that evaluation has passed, a dynamic reference
/// takes the outermost one (2020-12 core, §7.1). Nothing else of the way matters, so most schemas have one scope.
type Scope = Vec<(String, Resource)>;

/// All scopes. The first one is that of evaluation which has passed no dynamic anchor.
#[derive(Debug, Clone)]
pub(super) struct Scopes {
    all: Vec<Scope>,
    known: HashMap<Scope, ScopeId>,
    /// Whether there are more than are kept, so that dynamic references may lead to the wrong schema.
    pub(super) full: bool,
}

impl Default for Scopes {
    fn default() -> Self {
        Self { all: vec![Scope::new()], known: HashMap::from([(Scope::new(), 0)]), full: false }
    }
}

impl Scopes {
    /// The scope after evaluation has come to a node.
    pub(super) fn passing(&mut self, scope: ScopeId, node: &Node<'_>) -> ScopeId {
        let Some(resource) = node.resource_with_dynamic_anchors() else { return scope };
        let mut passed = self.all.get(scope).cloned().unwrap_or_default();
        let before = passed.len();
        for name in node.dynamic_anchors() {
            if !passed.iter().any(|(known, _)| known == name) {
                passed.push((name.to_owned(), resource.clone()));
            }
        }
        if passed.len() == before {
            return scope;
        }
        passed.sort_unstable();
        let next = self.all.len();
        if next >= MOST && !self.known.contains_key(&passed) {
            self.full = true;
            return scope;
        }
        let found = *self.known.entry(passed.clone()).or_insert(next);
        if found == next {
            self.all.push(passed);
        }
        found
    }

    /// The outermost resource that evaluation has passed and that has a dynamic anchor of this name.
    pub(super) fn outermost(&self, scope: ScopeId, name: &str) -> Option<&Resource> {
        self.all.get(scope)?.iter().find(|(known, _)| known == name).map(|(_, resource)| resource)
    }
}
