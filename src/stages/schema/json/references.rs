//! Places in the documents, and how evaluation comes from one to another.

use std::collections::HashMap;

use jsonschema::Draft;
use serde_json::Value;

use super::documents::{DocumentId, Documents};
use super::index::{Index, Lost, ResourceId, Target};
use super::problem::SchemaProblem;
use super::uri;

/// The position of a dynamic scope.
pub(super) type ScopeId = usize;
/// The name under which a scope keeps the outermost resource with `$recursiveAnchor`.
const RECURSIVE: &str = "";

/// A schema in the documents.
#[derive(Debug, Clone)]
pub(super) struct Place<'d> {
    pub(super) schema: &'d Value,
    pub(super) draft: Draft,
    pub(super) resource: ResourceId,
    /// A JSON pointer in its document.
    pub(super) pointer: String,
    /// How evaluation came here, as far as it matters.
    pub(super) scope: ScopeId,
}

/// The outermost resources that have dynamic anchors, by their names: of all that evaluation has passed, a dynamic reference
/// takes the outermost one (2020-12 core, §7.1). Nothing else of the way matters, so most schemas have one scope.
type Scope<'d> = Vec<(&'d str, ResourceId)>;

/// All documents, and how to get around in them.
pub(super) struct Places<'d> {
    pub(super) documents: &'d Documents,
    pub(super) index: Index<'d>,
    scopes: Vec<Scope<'d>>,
    known: HashMap<Scope<'d>, ScopeId>,
}

impl<'d> Places<'d> {
    pub(super) fn new(documents: &'d Documents) -> Self {
        let known = HashMap::from([(Vec::new(), 0)]);
        Self { documents, index: Index::new(documents), scopes: vec![Vec::new()], known }
    }

    /// The root of a document.
    pub(super) fn root(&mut self, document: DocumentId) -> Option<Place<'d>> {
        let resource = self.index.root(document)?;
        let root = self.index.resources.get(resource)?;
        let (schema, draft) = (root.schema, root.draft);
        let scope = self.passing(0, resource);
        Some(Place { schema, draft, resource, pointer: String::new(), scope })
    }

    pub(super) fn document(&self, place: &Place<'d>) -> DocumentId {
        self.index.resources.get(place.resource).map_or(0, |resource| resource.document)
    }

    /// A problem of a schema, at a pointer that begins there.
    pub(super) fn problem(&self, place: &Place<'d>, below: &str, message: impl Into<String>) -> SchemaProblem {
        let file = self.documents.name(self.document(place));
        SchemaProblem { file, pointer: format!("{}{below}", place.pointer), message: message.into(), help: None }
    }

    /// The place of a subschema at a pointer in its document, which may identify itself.
    pub(super) fn enter(
        &mut self,
        from: &Place<'d>,
        schema: &'d Value,
        pointer: String,
    ) -> Result<Place<'d>, SchemaProblem> {
        let mut place = Place { schema, pointer, ..*from };
        if let Some(resource) = self.index.resource_at(schema) {
            place.resource = resource;
            place.draft = self.index.resources.get(resource).map_or(place.draft, |resource| resource.draft);
            place.scope = self.passing(from.scope, resource);
        }
        if let Some(Value::String(named)) = schema.get("$schema") {
            let Some(draft) = self.index.draft_of(named, place.resource) else {
                return Err(self.unknown_draft(&place, named));
            };
            place.draft = draft;
        }
        Ok(place)
    }

    /// The problem of a schema whose `$schema` is not known.
    pub(super) fn unknown_draft(&self, place: &Place<'d>, named: &str) -> SchemaProblem {
        let message =
            format!("`$schema` names neither a draft of JSON Schema nor a meta-schema that is known: {named}");
        let help = match uri::has_scheme(named) {
            true => format!("remove it for 2020-12, or say where it is: {}", uri::catalog(named)),
            false => "write the URI of a draft, such as `https://json-schema.org/draft/2020-12/schema`".to_owned(),
        };
        self.problem(place, "/$schema", message).helped(help)
    }

    /// The place that a `$ref` or `$dynamicRef` leads to.
    pub(super) fn follow(&mut self, from: &Place<'d>, key: &str, reference: &str) -> Result<Place<'d>, SchemaProblem> {
        let mut target =
            self.index.follow(from.resource, reference).map_err(|lost| self.lost(from, key, reference, lost))?;
        if let Some(name) = target.dynamic.as_deref().filter(|_| key == "$dynamicRef")
            && let Some(outer) = self.outermost(from.scope, name)
            && let Some(dynamic) = self.index.dynamic(outer, name)
        {
            target = dynamic;
        }
        Ok(self.arrive(from, target))
    }

    /// The place that `$recursiveRef` leads to (2019-09 core, §8.2.4.2.1).
    pub(super) fn recurse(&mut self, from: &Place<'d>, reference: &str) -> Result<Place<'d>, SchemaProblem> {
        let key = "$recursiveRef";
        let mut target =
            self.index.follow(from.resource, reference).map_err(|lost| self.lost(from, key, reference, lost))?;
        if self.index.resources.get(target.resource).is_some_and(|resource| resource.recursive)
            && let Some(outer) = self.outermost(from.scope, RECURSIVE)
            && let Some(resource) = self.index.resources.get(outer)
        {
            target =
                Target { schema: resource.schema, resource: outer, pointer: resource.pointer.clone(), dynamic: None };
        }
        Ok(self.arrive(from, target))
    }

    fn arrive(&mut self, from: &Place<'d>, target: Target<'d>) -> Place<'d> {
        let Target { schema, resource, pointer, .. } = target;
        let draft = self.index.resources.get(resource).map_or(from.draft, |resource| resource.draft);
        Place { schema, draft, resource, pointer, scope: self.passing(from.scope, resource) }
    }

    fn outermost(&self, scope: ScopeId, name: &str) -> Option<ResourceId> {
        self.scopes.get(scope)?.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
    }

    /// The scope after evaluation has come into a resource.
    fn passing(&mut self, scope: ScopeId, resource: ResourceId) -> ScopeId {
        let names = self.index.dynamic_anchors(resource);
        let recursive = self.index.resources.get(resource).is_some_and(|resource| resource.recursive);
        if names.is_empty() && !recursive {
            return scope;
        }
        let mut passed = self.scopes.get(scope).cloned().unwrap_or_default();
        let before = passed.len();
        for name in names.iter().copied().chain(recursive.then_some(RECURSIVE)) {
            if !passed.iter().any(|(known, _)| *known == name) {
                passed.push((name, resource));
            }
        }
        if passed.len() == before {
            return scope;
        }
        passed.sort_unstable();
        if let Some(known) = self.known.get(&passed) {
            return *known;
        }
        self.scopes.push(passed.clone());
        self.known.insert(passed, self.scopes.len() - 1);
        self.scopes.len() - 1
    }

    fn lost(&self, from: &Place<'d>, key: &str, reference: &str, lost: Lost) -> SchemaProblem {
        let (message, help) = match lost {
            Lost::Document(uri) => {
                let refused = self.documents.refused.get(&(self.document(from), uri.clone()));
                let help = match uri::file_of(&uri) {
                    Some(_) => "a path is relative to the file that has the reference; it stays in the policy's folder"
                        .to_owned(),
                    None => say_where(&uri),
                };
                let path = uri::file_of(&uri);
                let message = match (refused, path) {
                    (Some(why), _) => format!("`{reference}` cannot be read: {why}"),
                    (None, Some(path)) => format!("`{reference}` leads to `{path}`, and there is no such file"),
                    (None, None) => format!(
                        "`{reference}` is not known: no schema has the `$id` {uri}, no entry of `catalog` leads to it, and no file beside this one"
                    ),
                };
                (message, help)
            }
            Lost::Ambiguous(uri, one, other) => {
                let (one, other) = (self.documents.name(one), self.documents.name(other));
                (format!("`{one}` and `{other}` both have the `$id` {uri}"), say_where(&uri))
            }
            Lost::Place(resource, place) => {
                let document = self.index.resources.get(resource).map(|resource| resource.document);
                let file = document.map(|document| self.documents.name(document)).unwrap_or_default();
                let whose =
                    if document == Some(self.document(from)) { "this file".to_owned() } else { format!("`{file}`") };
                (
                    format!("`{reference}` leads nowhere: {whose} has no `#{place}`"),
                    "correct the part after `#`".to_owned(),
                )
            }
        };
        self.problem(from, &format!("/{key}"), message).helped(help)
    }
}

fn say_where(uri: &str) -> String {
    format!("say where it is: {}", uri::catalog(uri))
}
