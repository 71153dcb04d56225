//! JSON bodies: parses them strictly and validates them against a compiled JSON Schema.
//!
//! The schema is compiled once, with the policy: references resolve only within the document and its files, formats are
//! asserted, and patterns run in linear time. A violation names the location and the constraint, never the value.
//!
//! Most bodies are valid, and most schemas are simple: for those, [`FastPath`] runs first, which builds no tree. All
//! others are evaluated on a [`graph`]. The `jsonschema` crate judges the keywords that have no subschemas; the way
//! through the schema is ours, so that it has a budget and never depends on how the schema branches.

mod compile;
mod evaluate;
mod evaluated;
mod graph;
mod leaf;
mod order;
mod problem;
mod references;
mod report;

use std::cell::Cell;
use std::sync::Arc;

use jsonschema::{Draft, uri};
use referencing::ResourceRef;
use serde_json::{Value, json};

use self::compile::Compiler;
use self::evaluate::Evaluation;
use self::graph::{Graph, NodeId};
use self::leaf::options;
pub(crate) use self::problem::SchemaProblem;
pub(crate) use self::references::Files;
use self::references::Place;
use self::report::cut;
use super::fast_path::FastPath;
use super::malformed::malformed;
use crate::budget::Steps;
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::stages::strict_json::{self, Unparsed};

/// Most violations that one answer lists.
const MAX_VIOLATIONS: usize = 20;
/// Steps that one decision may take: some 40 ms. A report of what is wrong may take as many again.
pub(super) const MAX_STEPS: u64 = 1_000_000;
/// Steps that a decision may take on a worker, which has other requests to serve: some 2 ms.
pub(super) const STEPS_AT_ONCE: u64 = 50_000;
/// Memory that the tree of one body may take, in bytes.
const MAX_TREE: usize = 48 << 20;

/// A compiled schema.
pub(crate) struct JsonSchema {
    graph: Arc<Graph>,
    root: NodeId,
    draft: Draft,
    /// The path of its file, and the files that it may refer to.
    origin: (Arc<str>, Arc<Files>),
    /// Accepts most valid bodies without a tree, if the schema supports it.
    fast_path: Option<FastPath>,
}

impl std::fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JsonSchema({:?})", self.draft)
    }
}

impl JsonSchema {
    /// Compiles a schema in the draft named by its `$schema`; the default is 2020-12.
    pub(crate) fn new(schema: &Value) -> Result<Self, SchemaProblem> {
        Self::with_files(schema, "", Files::new())
    }

    /// Compiles a schema from the file at `path`, which may refer to the other `files`.
    pub(crate) fn with_files(schema: &Value, path: &str, files: Files) -> Result<Self, SchemaProblem> {
        Self::compile(schema, (path.into(), Arc::new(files)))
    }

    /// Compiles another schema as if it were in the same file as this one.
    pub(crate) fn sibling(&self, schema: &Value) -> Result<Self, SchemaProblem> {
        Self::compile(schema, self.origin.clone())
    }

    fn compile(schema: &Value, origin: (Arc<str>, Arc<Files>)) -> Result<Self, SchemaProblem> {
        let draft = Draft::default().detect(schema);
        let (graph, roots) = compiled(schema, draft, &origin, |place| Ok(vec![place.clone()]))?;
        let fast_path = FastPath::new(schema, draft);
        let root = roots.first().copied().unwrap_or_default();
        Ok(Self { graph, root, draft, origin, fast_path })
    }

    /// Compiles the definitions with these names of a document in JSON Schema 2020-12 (`{"$defs": …}`), all at once, so
    /// that what they share is compiled only once.
    pub(crate) fn definitions(document: &Value, names: &[&str]) -> Result<Vec<Self>, SchemaProblem> {
        let draft = Draft::Draft202012;
        let origin: (Arc<str>, Arc<Files>) = ("".into(), Arc::default());
        let (graph, roots) = compiled(document, draft, &origin, |place| {
            let one = |name: &&str| {
                let schema = place.schema.get("$defs").and_then(|definitions| definitions.get(*name));
                let pointer = format!("/$defs/{}", references::escaped(name));
                let missing = || SchemaProblem::at(&pointer, "there is no such definition".to_owned());
                place.enter(schema.ok_or_else(missing)?, &pointer)
            };
            names.iter().map(one).collect()
        })?;
        let fast_paths = FastPath::of_definitions(document, draft, names);
        let schemas = roots.into_iter().zip(fast_paths);
        let one =
            |(root, fast_path)| Self { graph: Arc::clone(&graph), root, draft, origin: origin.clone(), fast_path };
        Ok(schemas.map(one).collect())
    }

    /// Checks that a body parses and conforms to the schema.
    pub(crate) fn check(&self, body: &[u8]) -> Result<(), Refusal> {
        let undecided = || Err(violated("the body", vec![too_complex("")]));
        self.check_within(Steps::new(MAX_STEPS), body).unwrap_or_else(undecided)
    }

    /// Like [`Self::check`], but decides only what takes little time; otherwise returns `None`.
    pub(crate) fn check_at_once(&self, body: &[u8]) -> Option<Result<(), Refusal>> {
        self.check_within(Steps::new(STEPS_AT_ONCE), body)
    }

    fn check_within(&self, steps: Steps, body: &[u8]) -> Option<Result<(), Refusal>> {
        if self.fast_path.as_ref().is_some_and(|fast_path| fast_path.accepts(body, steps)) {
            return Some(Ok(()));
        }
        let violations = match strict_json::parse_in(&Cell::new(MAX_TREE), body) {
            Ok(value) => self.violations_within(steps, &value, "")?,
            Err(Unparsed::TooLarge) => vec![too_complex("")],
            Err(Unparsed::Malformed(error)) => {
                return Some(Err(malformed(format!("the body is not acceptable JSON: {error}"))));
            }
        };
        Some(if violations.is_empty() { Ok(()) } else { Err(violated("the body", violations)) })
    }

    /// Returns the first violations of a value, with `prefix` before their pointers.
    #[cfg(test)]
    fn violations(&self, value: &Value, prefix: &str) -> Vec<Violation> {
        let found = self.violations_within(Steps::new(MAX_STEPS), value, prefix);
        found.unwrap_or_else(|| vec![too_complex(prefix)])
    }

    /// Returns the first violations of a value, with `prefix` before their pointers; `None` if that takes more steps.
    pub(super) fn violations_within(&self, steps: Steps, value: &Value, prefix: &str) -> Option<Vec<Violation>> {
        if Evaluation::new(&self.graph, steps).valid(self.root, value).ok()? {
            return Some(Vec::new());
        }
        let found = report::report(&self.graph, self.root, value, prefix, steps, MAX_VIOLATIONS);
        // None if the report ran out of steps before it came to a violation.
        Some(found).filter(|found| !found.is_empty())
    }
}

/// Compiles the schemas at the places that `roots` names, given the root of the document.
fn compiled(
    document: &Value,
    draft: Draft,
    (path, files): &(Arc<str>, Arc<Files>),
    roots: impl for<'r> FnOnce(&Place<'r>) -> Result<Vec<Place<'r>>, SchemaProblem>,
) -> Result<(Arc<Graph>, Vec<NodeId>), SchemaProblem> {
    jsonschema::meta::validate(document).map_err(|error| SchemaProblem::of(&error))?;
    if draft == Draft::Unknown {
        return Err(SchemaProblem::at("/$schema", "it names no draft of JSON Schema that is known here".to_owned()));
    }
    let resource = ResourceRef::new(document, draft);
    let base = match resource.id().filter(|id| files.is_empty() && !id.starts_with('#')) {
        Some(id) => id.to_owned(),
        None => references::uri_of(path),
    };
    let registry = references::registry(document, draft, &base, files)?;
    let base = uri::from_str(&base).map_err(|error| SchemaProblem::at("", error.to_string()))?;
    let resolver = registry.resolver(base);
    let found = resolver.lookup("").map_err(|error| SchemaProblem::at("", error.to_string()))?;
    let place = Place { schema: document, draft, resolver: found.resolver().clone(), pointer: String::new() };
    let mut documents: Vec<&Value> = files.values().collect();
    documents.push(document);
    let mut compiler = Compiler::new(&documents);
    let roots = roots(&place)?;
    let roots = roots.into_iter().map(|root| compiler.node(root)).collect::<Result<_, _>>()?;
    Ok((Arc::new(compiler.finish()?), roots))
}

/// The violation of a value that cannot be judged within the budget.
pub(super) fn too_complex(prefix: &str) -> Violation {
    let detail =
        "too complex to judge: the value is too large for a schema that branches this much; send less at a time";
    Violation { pointer: prefix.to_owned(), detail: detail.to_owned(), keyword: None, schema: None }
}

/// Refuses a message that parses but violates its schema. Pointers contain names chosen by the caller, so their length
/// and number are bounded here.
pub(super) fn violated(what: &str, mut errors: Vec<Violation>) -> Refusal {
    errors.truncate(MAX_VIOLATIONS);
    for violation in &mut errors {
        violation.pointer = cut(std::mem::take(&mut violation.pointer));
    }
    let detail = format!("{what} parses but violates the schema; `errors` lists where and how");
    Refusal::new(Stage::Schema, Reason::SchemaViolation, detail).members(Members { errors, ..Members::default() })
}

/// Why a pattern cannot be kept: it does not parse, or would not run in linear time.
pub(crate) fn pattern_problem(pattern: &str) -> Option<String> {
    let schema = json!({"pattern": pattern});
    options().offline().build(&schema).err().map(|error| cut(error.to_string()))
}

#[cfg(test)]
mod tests;
