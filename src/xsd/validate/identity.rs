//! Identity constraints (XSD 1.0 Part 1, §3.11.4), while the document goes by.
//!
//! The paths of fields are followed from each selected element as a set of bits, one for each number of
//! steps that lead to the open element.

use super::keys::{Kept, KeyReference, Keys, MOVE, Origin, SIZE, Tables};
use super::selectors::{Selector, Selectors};
use super::values::{Number, Values, take};
use crate::budget::{Exhausted, Steps};
use crate::xsd::components::model::{Components, ConstraintId, ConstraintKind, IdentityConstraint, Path};
use crate::xsd::datatypes::value::Value;
use crate::xsd::names::{FastMap, QName};

/// A path of a field that is followed from an element on.
#[derive(Debug)]
struct Run<'s> {
    path: &'s Path,
    /// For each element from the first on: how many steps lead to it.
    bits: Vec<u64>,
}

impl<'s> Run<'s> {
    fn begin(path: &'s Path) -> Self {
        Self { path, bits: vec![1] }
    }

    fn enter(&mut self, name: QName) {
        let before = self.bits.last().copied().unwrap_or(0);
        let mut now = u64::from(self.path.anywhere);
        if before != 0 {
            for (index, step) in self.path.steps.iter().enumerate() {
                if before >> index & 1 == 1 && step.matches(name) {
                    now |= 2 << index;
                }
            }
        }
        self.bits.push(now);
    }

    fn leave(&mut self) {
        self.bits.pop();
    }

    /// Whether the steps lead to the open element.
    fn is_there(&self) -> bool {
        self.bits.last().is_some_and(|bits| bits >> self.path.steps.len() & 1 == 1)
    }
}

/// A field of a selected element.
#[derive(Debug)]
struct Field<'s> {
    runs: Vec<Run<'s>>,
    found: u32,
    value: Option<Number>,
    /// The depth of the element whose value it is, until that ends.
    pending: Option<usize>,
    /// The element's value cannot be a key, as the element is nillable.
    nillable: bool,
    /// The element has no simple type.
    complex: bool,
}

/// An element that a selector leads to.
#[derive(Debug)]
struct Selection<'s> {
    scope: u64,
    depth: usize,
    fields: Vec<Field<'s>>,
}

impl Selection<'_> {
    fn runs(&self) -> usize {
        self.fields.iter().map(|field| field.runs.len()).sum()
    }

    /// Steps of paths that are compared with each element.
    fn width(&self) -> u64 {
        let paths = self.fields.iter().flat_map(|field| &field.runs).map(|run| run.path.steps.len() as u64);
        paths.fold(0, |width, steps| width.saturating_add(steps).saturating_add(1))
    }

    /// How many bytes it takes, about, while no element is in it.
    fn size(&self) -> usize {
        let fields = self.fields.len().saturating_mul(size_of::<Field<'_>>());
        let runs = self.runs().saturating_mul(size_of::<Run<'_>>() + 4 * BITS);
        size_of::<Self>().saturating_add(fields).saturating_add(runs)
    }
}

/// Steps of paths that are compared with an element in a step.
const COMPARED: u64 = 8;
/// Bytes that a run takes for each element.
const BITS: usize = size_of::<u64>();

/// A constraint that holds within an element.
#[derive(Debug)]
struct Scope {
    number: u64,
    constraint: ConstraintId,
    depth: usize,
    keys: Keys,
    references: Vec<KeyReference>,
}

/// All identity constraints at work.
#[derive(Debug, Default)]
pub(super) struct Identity<'s> {
    /// Their numbers grow.
    scopes: Vec<Scope>,
    selectors: Selectors<'s>,
    /// The names of the open elements, from the first on that has a constraint.
    open: Vec<QName>,
    selections: Vec<Selection<'s>>,
    /// How many paths of fields are followed.
    runs: usize,
    /// Steps of these paths.
    width: u64,
    /// The keys of elements that have ended, by the depth of the element around them.
    kept: Vec<Kept>,
    /// How many open elements have references to the keys of a constraint.
    referred: FastMap<ConstraintId, usize>,
    values: Values,
    count: u64,
}

/// What a new element is to the constraints.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entered {
    /// Its value is one of a field.
    pub(super) wanted: bool,
    /// A field has a value already.
    pub(super) repeated: bool,
}

/// An element that ends.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) depth: usize,
    pub(super) value: Option<Number>,
    /// Whether it can have a value.
    pub(super) simple: bool,
    pub(super) nillable: bool,
    pub(super) offset: usize,
}

/// A violation.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) constraint: ConstraintId,
    pub(super) kind: FaultKind,
    pub(super) offset: usize,
}

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    Twice,
    Missing,
    Nillable,
    Complex,
    NoKey,
}

impl FaultKind {
    /// The name of the constraint in the specification, and what is wrong.
    pub(super) fn explain(self, name: &str) -> (&'static str, String) {
        match self {
            Self::Twice => {
                ("cvc-identity-constraint.4.1", format!("the value occurs twice, and must be unique (`{name}`)"))
            }
            Self::Missing => {
                ("cvc-identity-constraint.4.2.1", format!("a value that is part of a key is missing (`{name}`)"))
            }
            Self::Nillable => (
                "cvc-identity-constraint.4.2.3",
                format!("a value that is part of a key is of a nillable element (`{name}`)"),
            ),
            Self::Complex => ("cvc-identity-constraint.3", format!("a part of a key has no simple value (`{name}`)")),
            Self::NoKey => {
                ("cvc-identity-constraint.4.3", format!("this refers to a key that does not exist (`{name}`)"))
            }
        }
    }
}

impl<'s> Identity<'s> {
    /// Whether a constraint holds at the open element.
    pub(super) fn is_active(&self) -> bool {
        !self.scopes.is_empty()
    }

    /// How much each attribute and element is compared with: the fields of the selected elements that are open.
    pub(super) fn width(&self) -> u64 {
        (self.selections.len() as u64).saturating_add(self.width / COMPARED)
    }

    /// An element begins, which has these constraints.
    pub(super) fn enter(
        &mut self,
        components: &'s Components,
        name: QName,
        depth: usize,
        constraints: &'s [ConstraintId],
        (steps, memory): (&mut Steps, &mut usize),
    ) -> Result<Entered, Exhausted> {
        let mut entered = Entered::default();
        steps.take(1_u64.saturating_add(self.width()))?;
        take(memory, self.runs.saturating_mul(BITS))?;
        self.open.push(name);
        for field in self.selections.iter_mut().flat_map(|selection| &mut selection.fields) {
            for run in &mut field.runs {
                run.enter(name);
            }
            note(field, depth, &mut entered);
        }
        for id in constraints {
            let Some(constraint) = components.constraints.get(id.index()) else { continue };
            steps.take(constraint.selector.len() as u64)?;
            take(memory, scope_size(constraint))?;
            self.begin(constraint, *id, depth);
        }
        let selected = self.selectors.selected(&self.open, depth, steps)?;
        for (scope, id) in selected {
            let Some(constraint) = components.constraints.get(id.index()) else { continue };
            // Each path is followed from here on.
            let paths = constraint.fields.iter().map(|paths| 1 + paths.len() as u64);
            steps.take(paths.fold(0, u64::saturating_add))?;
            let field = |paths: &'s Vec<Path>| Field {
                runs: paths.iter().map(Run::begin).collect(),
                found: 0,
                value: None,
                pending: None,
                nillable: false,
                complex: false,
            };
            let mut fields: Vec<Field<'s>> = constraint.fields.iter().map(field).collect();
            for field in &mut fields {
                note(field, depth, &mut entered);
            }
            let selection = Selection { scope, depth, fields };
            take(memory, selection.size())?;
            self.runs = self.runs.saturating_add(selection.runs());
            self.width = self.width.saturating_add(selection.width());
            self.selections.push(selection);
        }
        Ok(entered)
    }

    /// The open element has this constraint.
    fn begin(&mut self, constraint: &'s IdentityConstraint, id: ConstraintId, depth: usize) {
        self.count = self.count.saturating_add(1);
        for path in &constraint.selector {
            self.selectors.add(Selector { scope: self.count, constraint: id, depth, path });
        }
        if let ConstraintKind::KeyRef(key) = constraint.kind {
            *self.referred.entry(key).or_default() += 1;
        }
        let (keys, references) = (Keys::default(), Vec::new());
        self.scopes.push(Scope { number: self.count, constraint: id, depth, keys, references });
    }

    /// Whether an attribute of the open element is a field.
    pub(super) fn wants_attribute(&self, name: QName) -> bool {
        let fields = self.selections.iter().flat_map(|selection| &selection.fields);
        fields.flat_map(|field| &field.runs).any(|run| leads_to(run, name))
    }

    /// The number of a value that is one of a field.
    pub(super) fn number(&mut self, value: Value, left: (&mut Steps, &mut usize)) -> Result<Number, Exhausted> {
        self.values.number(value, left)
    }

    /// The same for a value that the schema has.
    pub(super) fn of_preset(&mut self, value: &'s Value, left: (&mut Steps, &mut usize)) -> Result<Number, Exhausted> {
        self.values.of_preset(value, left)
    }

    /// The value of an attribute of the open element, if it is sound. Returns whether a field had one already.
    pub(super) fn attribute(&mut self, name: QName, value: Option<Number>) -> bool {
        let mut repeated = false;
        for field in self.selections.iter_mut().flat_map(|selection| &mut selection.fields) {
            if field.runs.iter().any(|run| leads_to(run, name)) {
                repeated |= field.found > 0;
                field.found = field.found.saturating_add(1);
                field.value = value;
            }
        }
        repeated
    }

    /// The open element ends.
    pub(super) fn leave(
        &mut self,
        components: &Components,
        ending: &Ending,
        steps: &mut Steps,
        memory: &mut usize,
    ) -> Result<Vec<Fault>, Exhausted> {
        let depth = ending.depth;
        steps.take(1_u64.saturating_add(self.width()))?;
        for field in self.selections.iter_mut().flat_map(|selection| &mut selection.fields) {
            if field.pending == Some(depth) {
                field.pending = None;
                field.nillable = ending.nillable;
                field.complex = !ending.simple;
                field.value = ending.value;
            }
            for run in &mut field.runs {
                run.leave();
            }
        }
        self.open.pop();
        let mut faults = Vec::new();
        while let Some(selection) = self.selections.pop_if(|selection| selection.depth == depth) {
            self.runs = self.runs.saturating_sub(selection.runs());
            self.width = self.width.saturating_sub(selection.width());
            *memory = memory.saturating_add(selection.size());
            self.select(components, &selection, ending, (steps, memory), &mut faults)?;
        }
        *memory = memory.saturating_add(self.runs.saturating_mul(BITS));
        self.close(components, depth, (steps, memory), &mut faults)?;
        Ok(faults)
    }

    /// All fields of a selected element are known.
    fn select(
        &mut self,
        components: &Components,
        selection: &Selection<'s>,
        ending: &Ending,
        (steps, memory): (&mut Steps, &mut usize),
        faults: &mut Vec<Fault>,
    ) -> Result<(), Exhausted> {
        let position = self.scopes.partition_point(|scope| scope.number < selection.scope);
        let Some(scope) = self.scopes.get_mut(position).filter(|scope| scope.number == selection.scope) else {
            return Ok(());
        };
        let Some(constraint) = components.constraints.get(scope.constraint.index()) else { return Ok(()) };
        let mut fault = |kind| faults.push(Fault { constraint: scope.constraint, kind, offset: ending.offset });
        let is_key = constraint.kind == ConstraintKind::Key;
        if selection.fields.iter().any(|field| field.complex) {
            fault(FaultKind::Complex);
            return Ok(());
        }
        if is_key && selection.fields.iter().any(|field| field.nillable) {
            fault(FaultKind::Nillable);
            return Ok(());
        }
        let known = selection.fields.iter().all(|field| field.value.is_some());
        if !known {
            if is_key {
                fault(FaultKind::Missing);
            }
            return Ok(());
        }
        let numbers = selection.fields.iter().filter_map(|field| field.value);
        let Some(key) = self.values.together(numbers, (&mut *steps, &mut *memory))? else { return Ok(()) };
        steps.take(1)?;
        take(memory, SIZE)?;
        if let ConstraintKind::KeyRef(_) = constraint.kind {
            scope.references.push(KeyReference { key, offset: ending.offset });
        } else if scope.keys.known.insert(key, Origin::Own).is_some() {
            fault(FaultKind::Twice);
        }
        Ok(())
    }

    /// The constraints of the element at this depth end.
    fn close(
        &mut self,
        components: &Components,
        depth: usize,
        (steps, memory): (&mut Steps, &mut usize),
        faults: &mut Vec<Fault>,
    ) -> Result<(), Exhausted> {
        // Keys of the element itself first, then those of elements within.
        let mut tables = Tables::default();
        let mut references: Vec<(ConstraintId, ConstraintId, Vec<KeyReference>)> = Vec::new();
        while let Some(scope) = self.scopes.pop_if(|scope| scope.depth == depth) {
            let Some(constraint) = components.constraints.get(scope.constraint.index()) else { continue };
            self.selectors.remove(constraint, scope.number);
            *memory = memory.saturating_add(scope_size(constraint));
            if let ConstraintKind::KeyRef(key) = constraint.kind {
                self.refers_no_more(key);
                references.push((scope.constraint, key, scope.references));
            } else if !scope.keys.known.is_empty() {
                tables.insert(scope.constraint, scope.keys);
            }
        }
        while let Some(kept) = self.kept.pop_if(|kept| kept.depth >= depth) {
            *memory = memory.saturating_add(kept.size());
            for (constraint, keys) in kept.tables {
                steps.take(MOVE)?;
                if let Some(own) = tables.get_mut(&constraint) {
                    steps.take(keys.cost())?;
                    own.absorb(keys);
                } else {
                    tables.insert(constraint, keys);
                }
            }
        }
        for (constraint, key, references) in references {
            steps.take((references.len() as u64).saturating_add(1))?;
            find_keys(constraint, references, tables.get(&key), faults);
        }
        // References further out still need them.
        tables.retain(|constraint, _| self.referred.contains_key(constraint));
        self.keep(tables, depth.saturating_sub(1), (steps, memory))
    }

    /// Keeps keys for the element at this depth, beside those of others in it.
    fn keep(
        &mut self,
        tables: Tables,
        depth: usize,
        (steps, memory): (&mut Steps, &mut usize),
    ) -> Result<(), Exhausted> {
        if tables.is_empty() {
            return Ok(());
        }
        if self.kept.last().is_none_or(|kept| kept.depth < depth) {
            let kept = Kept { depth, tables: Tables::default() };
            take(memory, kept.size())?;
            self.kept.push(kept);
        }
        let Some(kept) = self.kept.last_mut() else { return Ok(()) };
        let before = kept.size();
        for (constraint, keys) in tables {
            steps.take(keys.cost().saturating_add(MOVE))?;
            kept.tables.entry(constraint).or_default().absorb(keys);
        }
        take(memory, kept.size().saturating_sub(before))
    }

    fn refers_no_more(&mut self, key: ConstraintId) {
        if let Some(count) = self.referred.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.referred.remove(&key);
            }
        }
    }
}

/// How many bytes a constraint takes while it holds, about, beside its keys.
fn scope_size(constraint: &IdentityConstraint) -> usize {
    let selectors = constraint.selector.len().saturating_mul(2 * size_of::<Selector<'_>>());
    (2 * size_of::<Scope>()).saturating_add(selectors)
}

/// Looks for the keys that the references of a constraint are to.
fn find_keys(constraint: ConstraintId, references: Vec<KeyReference>, keys: Option<&Keys>, faults: &mut Vec<Fault>) {
    for KeyReference { key, offset } in references {
        if !keys.is_some_and(|keys| keys.contains(key)) {
            faults.push(Fault { constraint, kind: FaultKind::NoKey, offset });
        }
    }
}

/// Whether the open element has an attribute that a path ends with.
fn leads_to(run: &Run<'_>, name: QName) -> bool {
    run.path.attribute.is_some_and(|test| test.matches(name)) && run.is_there()
}

/// Notes that the open element is a field, if it is.
fn note(field: &mut Field<'_>, depth: usize, entered: &mut Entered) {
    if field.runs.iter().any(|run| run.path.attribute.is_none() && run.is_there()) {
        entered.wanted = true;
        entered.repeated |= field.found > 0;
        field.found = field.found.saturating_add(1);
        field.pending = Some(depth);
    }
}
