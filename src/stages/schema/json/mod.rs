//! JSON bodies: parses them strictly and validates them against a compiled JSON Schema.
//!
//! Each schema of a policy is compiled once, together with all that it refers to: files are resources of one whole
//! ([`Documents`]), references lead from one to another, and what several schemas use is there once. Formats are asserted,
//! patterns run within the budget, and numbers are judged as they are written ([`crate::stages::decimal`]). A violation names
//! the location and the constraint, never the value.
//!
//! Most bodies are valid, and most schemas are simple: for those, [`FastPath`] runs first, which builds no tree. All
//! others are evaluated on a [`graph`]. The `jsonschema` crate judges the keywords that have no subschemas; the way
//! through the schema is ours, so that it has a budget and never depends on how the schema branches.

mod bundle;
mod compile;
mod contradictions;
mod documents;
mod evaluate;
mod evaluated;
mod exact;
mod form;
mod graph;
mod index;
pub(crate) mod keywords;
mod leaf;
pub(crate) mod lint;
mod metaschemas;
mod misuse;
mod order;
mod problem;
mod references;
mod report;
mod scan;
mod unique;
pub(crate) mod uri;

use std::sync::Arc;

use jsonschema::Draft;
use serde_json::Value;

pub(crate) use self::bundle::bundles;
pub(crate) use self::compile::Shared;
use self::compile::{Compiled, Compiler};
pub(crate) use self::documents::{DocumentId, Documents, Outline, Wanted};
use self::evaluate::Evaluation;
pub(crate) use self::form::Form;
use self::graph::{Graph, NodeId};
pub(crate) use self::metaschemas::draft as draft_of;
pub(crate) use self::problem::SchemaProblem;
use self::report::cut;
use super::ecma_regex::Pattern;
use super::fast_path::FastPath;
use super::malformed::malformed;
use crate::budget::Steps;
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::stages::decimal::{self, Written};
use crate::stages::strict_json::{self, Intake, Unparsed};

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
        let mut documents = Documents::default();
        let document = documents.add("", Arc::new(schema.clone()), Draft::default());
        documents.add_all_built_in();
        let (mut schemas, problems) =
            Self::all(&documents, &[Root { document, closed: false }], &mut Shared::default());
        match (problems.into_iter().next(), schemas.pop().flatten()) {
            (None, Some(schema)) => Ok(schema),
            (problem, _) => Err(problem.unwrap_or_else(|| SchemaProblem::at("", "it has no root".to_owned()))),
        }
    }

    /// Compiles some documents, with all that they refer to. The schemas are of use only if there is no problem.
    pub(crate) fn all(
        documents: &Documents,
        roots: &[Root],
        shared: &mut Shared,
    ) -> (Vec<Option<Self>>, Vec<SchemaProblem>) {
        let mut compiler = Compiler::new(documents, shared);
        let nodes: Vec<Option<(NodeId, Draft)>> = roots.iter().map(|root| compiler.root(root.document, "")).collect();
        let pairs = || roots.iter().zip(&nodes);
        let closing = pairs().filter(|(root, _)| root.closed).filter_map(|(_, node)| Some((*node)?.0));
        let closing: Vec<NodeId> = closing.collect();
        let Compiled { graph, closed, problems } = compiler.finish(&closing);
        let graph = Arc::new(graph);
        let mut closed = closed.into_iter();
        let one = |(root, node): (&Root, &Option<(NodeId, Draft)>)| {
            let (node, draft) = (*node)?;
            if root.closed {
                return Some(Self { graph: Arc::clone(&graph), root: closed.next()?, draft, fast_path: None });
            }
            let fast_path = documents.value(root.document).and_then(|schema| FastPath::new(schema, draft));
            Some(Self { graph: Arc::clone(&graph), root: node, draft, fast_path })
        };
        (pairs().map(one).collect(), problems)
    }

    /// Compiles the definitions with these names of a document in JSON Schema 2020-12 (`{"$defs": …}`), all at once, so
    /// that what they share is compiled only once. The schemas are of use only if there is no problem.
    pub(crate) fn definitions(
        documents: &Documents,
        document: DocumentId,
        names: &[&str],
        shared: &mut Shared,
    ) -> (Vec<Self>, Vec<SchemaProblem>) {
        let mut compiler = Compiler::new(documents, shared);
        let root = |name: &&str| compiler.root(document, &format!("/$defs/{}", uri::escaped(name)));
        let roots: Vec<Option<(NodeId, Draft)>> = names.iter().map(root).collect();
        let Compiled { graph, problems, .. } = compiler.finish(&[]);
        let (graph, draft) = (Arc::new(graph), Draft::Draft202012);
        let fast_paths = documents.value(document).map(|value| FastPath::of_definitions(value, draft, names));
        let schemas = roots.into_iter().flatten().zip(fast_paths.into_iter().flatten());
        let one = |((root, draft), fast_path)| Self { graph: Arc::clone(&graph), root, draft, fast_path };
        (schemas.map(one).collect(), problems)
    }

    /// Compiles the definitions of a document that refers to no other.
    #[cfg(test)]
    pub(crate) fn definitions_alone(document: &Arc<Value>, names: &[&str]) -> Result<Vec<Self>, SchemaProblem> {
        let mut documents = Documents::default();
        let id = documents.add("", Arc::clone(document), Draft::Draft202012);
        let (schemas, problems) = Self::definitions(&documents, id, names, &mut Shared::default());
        problems.into_iter().next().map_or(Ok(schemas), Err)
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
        let intake = Intake::new(MAX_TREE, steps);
        let violations = match strict_json::parse_in(&intake, body) {
            Ok(mut value) => {
                let (numbers, steps) = intake.finish().ok()?;
                self.violations_within(steps, &numbers, &mut value, "")?
            }
            Err(Unparsed::TooLarge) => vec![too_complex("")],
            Err(Unparsed::TooLong) => return None,
            Err(Unparsed::Malformed(error)) => {
                return Some(Err(malformed(format!("the body is not acceptable JSON: {error}"))));
            }
        };
        Some(if violations.is_empty() { Ok(()) } else { Err(violated("the body", violations)) })
    }

    /// Returns the first violations of a value, with `prefix` before their pointers.
    #[cfg(test)]
    fn violations(&self, value: &Value, prefix: &str) -> Vec<Violation> {
        let found = self.violations_as_written(Steps::new(MAX_STEPS), &[], value, prefix);
        found.unwrap_or_else(|| vec![too_complex(prefix)])
    }

    /// Returns the first violations of a body whose numbers nobody rounds.
    #[cfg(test)]
    fn violations_of_written(&self, body: &str) -> Vec<Violation> {
        let intake = Intake::new(MAX_TREE, Steps::new(MAX_STEPS));
        let value = strict_json::parse_in(&intake, body.as_bytes()).unwrap();
        let (numbers, steps) = intake.finish().unwrap();
        let found = self.violations_as_written(steps, &numbers, &value, "");
        found.unwrap_or_else(|| vec![too_complex("")])
    }

    /// Returns the first violations of a value, with `prefix` before their pointers; `None` if that takes more steps. `numbers`
    /// are those in the value that were rounded when they were read: it must be valid as it is written, and as it is rounded,
    /// because nearly all readers behind round it (RFC 8259 §6). The value is rounded then.
    pub(super) fn violations_within(
        &self,
        steps: Steps,
        numbers: &[Written],
        value: &mut Value,
        prefix: &str,
    ) -> Option<Vec<Violation>> {
        let found = self.violations_as_written(steps, numbers, value, prefix)?;
        if !found.is_empty() || numbers.is_empty() {
            return Some(found);
        }
        let mut numbers = numbers.to_vec();
        decimal::round(&numbers, value);
        decimal::round_list(&mut numbers);
        self.violations_as_written(steps, &numbers, value, prefix)
    }

    fn violations_as_written(
        &self,
        steps: Steps,
        numbers: &[Written],
        value: &Value,
        prefix: &str,
    ) -> Option<Vec<Violation>> {
        let evaluation = || Evaluation::new(&self.graph, numbers, steps);
        if evaluation().valid(self.root, value).ok()? {
            return Some(Vec::new());
        }
        let found = report::report(evaluation(), self.root, value, prefix, MAX_VIOLATIONS);
        // None if the report ran out of steps before it came to a violation.
        Some(found).filter(|found| !found.is_empty())
    }
}

/// A document that is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Root {
    pub(crate) document: DocumentId,
    /// Whether members that the schema does not name are refused.
    pub(crate) closed: bool,
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

/// Why a text is not a pattern.
pub(crate) fn pattern_problem(pattern: &str) -> Option<String> {
    Pattern::new(pattern).err().map(|problem| cut(problem.to_string()))
}

#[cfg(test)]
pub(super) mod tests;
