//! Elements: which declaration and type they have, and whether their content is what that says (XSD 1.0 Part 1, §3.3.4 and
//! §3.4.4).

use super::attributes::is_instance_attribute;
use super::value::Wanted;
use super::values::Number;
use super::{Attribute, Mode, Open, Start, Validator};
use crate::budget::Exhausted;
use crate::xsd::chars::split_qname;
use crate::xsd::components::model::{
    ConstraintId, Derivations, ElementDecl, ElementId, ParticleId, Process, Term, TypeId,
};
use crate::xsd::content::expected::elsewhere;
use crate::xsd::content::walk::{Incoming, Match, State};
use crate::xsd::datatypes::simple_type::{SimpleId, SimpleType};
use crate::xsd::datatypes::text::collapse;
use crate::xsd::document::namespaces::Scopes;
use crate::xsd::document::tokens::RawText;
use crate::xsd::names::{QName, Sym};
use crate::xsd::schema::ContentRule;

/// How an element is assessed.
enum Assessment {
    /// By this declaration.
    Declared(ElementId),
    /// By `xsi:type` or not at all; `strict` if that is a violation.
    Undeclared {
        strict: bool,
    },
    Skip,
}

impl<'s> Validator<'s> {
    /// An element begins.
    pub(crate) fn start(&mut self, start: Start<'_>, scopes: &Scopes) -> Result<(), Exhausted> {
        self.steps.take(1)?;
        if self.open.last().is_some_and(|open| open.mode == Mode::Skip) {
            return self.push_skipped(&start);
        }
        let assessment = self.assess(&start)?;
        self.open.push(Open::new(Mode::Skip, start.offset));
        let decl = match assessment {
            Assessment::Skip => {
                self.identity_enter(start.name, &[])?;
                return Ok(());
            }
            Assessment::Declared(id) => Some(id),
            Assessment::Undeclared { .. } => None,
        };
        let declared = decl.and_then(|id| self.schema.components.elements.get(id.index()));
        if declared.is_some_and(|declared| declared.is_abstract) {
            let message = || "the schema declares this element abstract; use one of its substitution group".to_owned();
            self.report("cvc-elt.2", None, message);
        }
        let named = self.instance_type(&start, declared, scopes)?;
        if let (Assessment::Undeclared { strict: true }, None) = (&assessment, named) {
            self.undeclared(start.name);
            self.identity_enter(start.name, &[])?;
            return Ok(());
        }
        let ty = named.or(declared.map(|declared| declared.ty)).unwrap_or(TypeId::ANY);
        let nil = self.nil(&start, declared, decl);
        let mode = self.mode_of(ty);
        if let Some(open) = self.open.last_mut() {
            *open = Open { decl, mode, nil, ..*open };
        }
        self.prepare(mode);
        self.identity_enter(start.name, declared.map_or(&[][..], |declared| &declared.constraints))?;
        self.attributes_of(ty, start.attributes, scopes)
    }

    /// An element begins that is around what is judged: it is only on the way there.
    pub(crate) fn outside(&mut self, offset: usize) -> Result<(), Exhausted> {
        self.steps.take(1)?;
        self.open.push(Open::new(Mode::Outside, offset));
        Ok(())
    }

    fn push_skipped(&mut self, start: &Start<'_>) -> Result<(), Exhausted> {
        if let Some(open) = self.open.last().copied() {
            self.open.push(Open { offset: start.offset, wanted: false, ..open });
            self.identity_enter(start.name, &[])?;
        }
        Ok(())
    }

    /// Readies the place where the content is.
    fn prepare(&mut self, mode: Mode) {
        let depth = self.open.len();
        match mode {
            Mode::Elements { ambiguous: true, .. } => self.several.push((depth, vec![State::default()])),
            Mode::Elements { .. } => {
                while self.states.len() <= depth {
                    self.states.push(State::default());
                }
                if let Some(state) = self.states.get_mut(depth) {
                    state.clear();
                }
            }
            _ => {}
        }
        self.clear_text();
    }

    fn mode_of(&self, ty: TypeId) -> Mode {
        match ty {
            TypeId::Simple(id) => Mode::Simple(id),
            ty => match self.schema.rule(ty).map(|rule| rule.content) {
                Some(ContentRule::Simple(id)) => Mode::Simple(id),
                Some(ContentRule::Elements { particle, mixed, ambiguous }) => {
                    Mode::Elements { particle, mixed, ambiguous }
                }
                Some(ContentRule::Empty) => Mode::Empty,
                None => Mode::Skip,
            },
        }
    }

    fn attributes_of(&mut self, ty: TypeId, attributes: &[Attribute<'_>], scopes: &Scopes) -> Result<(), Exhausted> {
        if let Some(rule) = self.schema.rule(ty) {
            if rule.is_abstract {
                let message = || "the type of this element is abstract; name a derived type with `xsi:type`".to_owned();
                self.report("cvc-type.2", None, message);
            }
            return self.attributes(rule, attributes, scopes);
        }
        for attribute in attributes.iter().filter(|attribute| !is_instance_attribute(attribute)) {
            let message = || "attributes are not allowed on this element, which has a simple type".to_owned();
            self.report("cvc-type.3.1.1", Some(attribute.local), message);
        }
        Ok(())
    }

    /// Finds out how an element is assessed, and moves on in the content that it is in.
    fn assess(&mut self, start: &Start<'_>) -> Result<Assessment, Exhausted> {
        let schema = self.schema;
        let depth = self.open.len();
        let Some(parent) = self.open.last_mut().filter(|parent| parent.mode != Mode::Outside) else {
            return Ok(match start.by.or_else(|| schema.global_element(start.name)) {
                Some(id) => Assessment::Declared(id),
                None => Assessment::Undeclared { strict: true },
            });
        };
        parent.children = true;
        if parent.failed {
            return Ok(Assessment::Skip);
        }
        let parent = *parent;
        if parent.nil {
            self.fail_content("cvc-elt.3.2.1", "the element is nil, so it must be empty");
            return Ok(Assessment::Skip);
        }
        let Mode::Elements { particle, mixed, ambiguous } = parent.mode else {
            match parent.mode {
                Mode::Empty => self.fail_content("cvc-complex-type.2.1", "this element must be empty"),
                _ => {
                    self.fail_content(
                        "cvc-type.3.1.2",
                        "elements are not allowed in this one, which has a simple type",
                    );
                }
            }
            return Ok(Assessment::Skip);
        };
        let fixed = |id| schema.presets.get(&id).is_some_and(|preset: &crate::xsd::schema::Preset| preset.fixed);
        if mixed && parent.decl.is_some_and(fixed) {
            self.fail_content("cvc-elt.5.2.2.1", "elements are not allowed in this one, whose value is fixed");
            return Ok(Assessment::Skip);
        }
        let incoming = Incoming { name: start.name, heads: schema.heads(start.name) };
        let matched = if ambiguous {
            let states = self.several.last_mut().map(|(_, states)| states);
            states.map(|states| schema.models().advance_all(states, particle, incoming, &mut self.steps))
        } else {
            let state = self.states.get_mut(depth);
            state.map(|state| schema.models().advance(state, particle, incoming, 0, &mut self.steps))
        };
        Ok(match matched.transpose()?.flatten() {
            Some(Match::Element(id))
                if schema.components.elements.get(id.index()).is_some_and(|found| found.name == start.name) =>
            {
                Assessment::Declared(id)
            }
            Some(Match::Element(id)) => Assessment::Declared(schema.global_element(start.name).unwrap_or(id)),
            Some(Match::Wildcard(id)) => self.by_wildcard(id, schema.global_element(start.name)),
            None => {
                self.unexpected(start, particle)?;
                Assessment::Skip
            }
        })
    }

    fn by_wildcard(&self, id: ParticleId, global: Option<ElementId>) -> Assessment {
        let process = match self.schema.components.particles.get(id.index()).map(|particle| &particle.term) {
            Some(Term::Wildcard(wildcard)) => wildcard.process,
            _ => Process::Lax,
        };
        match (process, global) {
            (Process::Skip, _) => Assessment::Skip,
            (_, Some(id)) => Assessment::Declared(id),
            (process, None) => Assessment::Undeclared { strict: process == Process::Strict },
        }
    }

    fn undeclared(&mut self, name: QName) {
        let schema = self.schema;
        let outer = self.open.len().checked_sub(2).and_then(|index| self.open.get(index));
        let root = outer.is_none_or(|outer| outer.mode == Mode::Outside);
        // Who sends many of them has them looked up no more than are reported.
        let known = || {
            let mut elements = schema.components.globals.elements.keys();
            elements.find(|other| other.local == name.local && name.local != Sym::UNKNOWN).map(|other| other.ns)
        };
        let message = || match (root, known()) {
            (_, Some(Sym::NONE)) => "this element is expected in no namespace".to_owned(),
            (_, Some(ns)) => format!("this element is expected in the namespace `{}`", schema.names.text(ns)),
            (true, None) => "the schema has no root element with this name and namespace".to_owned(),
            (false, None) => {
                "the schema has no element with this name and namespace, and only declared ones are allowed here"
                    .to_owned()
            }
        };
        self.report("cvc-elt.1", None, message);
        if let Some(open) = self.open.last_mut() {
            open.failed = true;
        }
    }

    /// Reports an element that the content model does not have here; the element is about to be opened.
    fn unexpected(&mut self, start: &Start<'_>, particle: ParticleId) -> Result<(), Exhausted> {
        let schema = self.schema;
        let depth = self.open.len();
        let full = self.is_full();
        let Some(parent) = self.open.last_mut() else { return Ok(()) };
        parent.failed = true;
        if full {
            return Ok(());
        }
        let expected = match (self.states.get(depth), parent.mode) {
            (Some(state), Mode::Elements { ambiguous: false, .. }) => {
                schema.models().expected(state, particle, &mut self.steps)?
            }
            _ => crate::xsd::content::expected::Expected::default(),
        };
        let shown = expected.show(&schema.names);
        let message = match elsewhere(&expected, start.name) {
            Some(Sym::NONE) => "this element is expected in no namespace".to_owned(),
            Some(ns) => format!("this element is expected in the namespace `{}`", schema.names.text(ns)),
            None if shown.is_empty() => "this element is not expected here".to_owned(),
            None => format!("this element is not expected here; expected: {shown}"),
        };
        // It is reported at the element itself, which is not open yet.
        self.report_at(start.offset, "cvc-complex-type.2.4", None, || message);
        Ok(())
    }

    /// The type that `xsi:type` names, if it may be used here.
    fn instance_type(
        &mut self,
        start: &Start<'_>,
        declared: Option<&ElementDecl>,
        scopes: &Scopes,
    ) -> Result<Option<TypeId>, Exhausted> {
        let is_type = |attribute: &&Attribute<'_>| attribute.name.ns == Sym::XSI && attribute.local == "type";
        let Some(named) = start.attributes.iter().find(is_type) else { return Ok(None) };
        let schema = self.schema;
        let text = collapse(named.value);
        let ty = split_qname(&text).and_then(|(prefix, local)| {
            let (_, ns) = scopes.find(prefix)?;
            let name = QName::new(ns, schema.names.find(local));
            schema.components.globals.types.get(&name).copied()
        });
        let Some(ty) = ty else {
            let message = || "`xsi:type` does not name a type of the schema".to_owned();
            self.report("cvc-elt.4.2", Some("type"), message);
            return Ok(None);
        };
        let Some(declared) = declared else { return Ok(Some(ty)) };
        let mut blocked = declared.block;
        if let TypeId::Complex(id) = declared.ty {
            let block = schema.components.complex.get(id.index()).map_or_else(Derivations::default, |ty| ty.block);
            blocked = blocked.with(block);
        }
        if schema.types().derived(ty, declared.ty, blocked, &mut self.steps)? {
            return Ok(Some(ty));
        }
        let message = || {
            "the type that `xsi:type` names is not allowed here: it is blocked, or not derived from the declared type"
                .to_owned()
        };
        self.report("cvc-elt.4.3", Some("type"), message);
        Ok(None)
    }

    /// Whether `xsi:nil` says that the element is empty.
    fn nil(&mut self, start: &Start<'_>, declared: Option<&ElementDecl>, decl: Option<ElementId>) -> bool {
        let found = start.attributes.iter().find(|attribute| attribute.name.ns == Sym::XSI && attribute.local == "nil");
        let Some(attribute) = found else { return false };
        let value = match &*collapse(attribute.value) {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => {
                self.report("cvc-datatype-valid.1", Some("nil"), || "`xsi:nil` must be `true` or `false`".to_owned());
                return false;
            }
        };
        let Some(declared) = declared else { return value };
        if !declared.nillable {
            let message = || "`xsi:nil` is not allowed here: the element is not nillable".to_owned();
            self.report("cvc-elt.3.1", Some("nil"), message);
            return false;
        }
        let fixed = decl.and_then(|id| self.schema.presets.get(&id)).is_some_and(|preset| preset.fixed);
        if value && fixed {
            let message = || "the element cannot be nil, because its value is fixed".to_owned();
            self.report("cvc-elt.3.2.2", Some("nil"), message);
        }
        value
    }

    #[inline]
    fn identity_enter(&mut self, name: QName, constraints: &'s [ConstraintId]) -> Result<(), Exhausted> {
        if constraints.is_empty() && !self.identity.is_active() {
            return Ok(());
        }
        self.identity_entered(name, constraints)
    }

    fn identity_entered(&mut self, name: QName, constraints: &'s [ConstraintId]) -> Result<(), Exhausted> {
        let depth = self.open.len();
        let left = (&mut self.steps, &mut self.memory);
        let entered = self.identity.enter(&self.schema.components, name, depth, constraints, left)?;
        if let Some(open) = self.open.last_mut() {
            open.wanted = entered.wanted;
        }
        if entered.repeated {
            let message = || "a field of a key is there more than once".to_owned();
            self.report("cvc-identity-constraint.3", None, message);
        }
        Ok(())
    }

    /// The open element ends, after this text.
    pub(crate) fn last_text(&mut self, text: RawText<'_>, scopes: &Scopes) -> Result<(), Exhausted> {
        if let Some(Open { nil: false, mode: Mode::Simple(ty), .. }) = self.open.last()
            && self.text.is_empty()
        {
            // The usual case: a value in one piece, which is not copied.
            self.steps.take(text.written().len() as u64 / 256)?;
            let ty = self.schema.simple.get(ty.index());
            return match ty.is_some_and(SimpleType::ignores_line_ends) {
                true => self.end_with(text.written(), scopes),
                false => self.end_with(&text.text(), scopes),
            };
        }
        self.text(&text.text(), text.is_blank())?;
        self.end(scopes)
    }

    /// The open element ends.
    pub(crate) fn end(&mut self, scopes: &Scopes) -> Result<(), Exhausted> {
        let text = std::mem::take(&mut self.text);
        let ended = self.end_with(&text, scopes);
        self.text = text;
        self.clear_text();
        ended
    }

    /// The open element ends, whose text this is as far as it matters.
    fn end_with(&mut self, text: &str, scopes: &Scopes) -> Result<(), Exhausted> {
        let Some(open) = self.open.last().copied() else { return Ok(()) };
        self.steps.take(1)?;
        let mut value = None;
        match open.mode {
            Mode::Outside | Mode::Skip | Mode::Empty => {}
            Mode::Simple(ty) if !open.nil && !open.failed => {
                value = self.end_simple(&open, ty, text, scopes)?;
            }
            Mode::Simple(_) => {}
            Mode::Elements { particle, mixed, ambiguous } => {
                self.end_elements(&open, particle, text, mixed, ambiguous)?;
            }
        }
        if let Mode::Elements { ambiguous: true, .. } = open.mode {
            self.several.pop();
        }
        if self.identity.is_active() {
            self.identity_leave(&open, value)?;
        }
        self.open.pop();
        self.count_kept()
    }

    fn end_simple(
        &mut self,
        open: &Open,
        ty: SimpleId,
        text: &str,
        scopes: &Scopes,
    ) -> Result<Option<Number>, Exhausted> {
        let schema = self.schema;
        let preset = open.decl.and_then(|id| schema.presets.get(&id));
        let wanted = Wanted { value: open.wanted, preset, attribute: None };
        let value = match preset.filter(|_| text.is_empty()) {
            Some(preset) => {
                if let Some(value) = preset.value_in(ty) {
                    let left = (&mut self.steps, &mut self.memory);
                    return open.wanted.then(|| self.identity.of_preset(value, left)).transpose();
                }
                // The declared type has the value; another one is asked for.
                self.value(ty, &preset.text, wanted, scopes)?
            }
            None => self.value(ty, text, wanted, scopes)?,
        };
        // A fixed value is known even if no field asks for it.
        let value = value.filter(|_| open.wanted);
        value.map(|value| self.identity.number(value, (&mut self.steps, &mut self.memory))).transpose()
    }

    fn end_elements(
        &mut self,
        open: &Open,
        particle: ParticleId,
        text: &str,
        mixed: bool,
        ambiguous: bool,
    ) -> Result<(), Exhausted> {
        let schema = self.schema;
        let depth = self.open.len();
        if open.nil || open.failed {
            return Ok(());
        }
        let models = schema.models();
        let states: &[State] = if ambiguous {
            self.several.last().map_or(&[], |(_, states)| states)
        } else {
            self.states.get(depth).map_or(&[], std::slice::from_ref)
        };
        self.steps.take(states.iter().map(State::cost).fold(0, u64::saturating_add))?;
        let missing = !states.iter().any(|state| models.may_end(state, particle));
        if missing && !self.is_full() {
            let expected = states.first().map(|state| models.expected(state, particle, &mut self.steps));
            let expected = expected.transpose()?.unwrap_or_default();
            let shown = expected.show(&schema.names);
            let message = || match shown.is_empty() {
                true => "elements are missing in this one".to_owned(),
                false => format!("elements are missing in this one; the next can be {shown}"),
            };
            self.report("cvc-complex-type.2.4", None, message);
        }
        let preset = open.decl.and_then(|id| schema.presets.get(&id)).filter(|preset| preset.fixed && mixed);
        if let Some(preset) = preset.filter(|preset| !open.children && !text.is_empty() && *preset.text != *text) {
            let message = || format!("the value is not the fixed value, `{}`", preset.text);
            self.report("cvc-elt.5.2.2.2.1", None, message);
        }
        Ok(())
    }

    fn identity_leave(&mut self, open: &Open, value: Option<Number>) -> Result<(), Exhausted> {
        let depth = self.open.len();
        let simple = matches!(open.mode, Mode::Simple(_));
        let nillable = open
            .decl
            .and_then(|id| self.schema.components.elements.get(id.index()))
            .is_some_and(|found| found.nillable);
        let ending = super::identity::Ending {
            depth,
            value,
            simple: simple || open.mode == Mode::Skip,
            nillable,
            offset: open.offset,
        };
        let faults = self.identity.leave(&self.schema.components, &ending, &mut self.steps, &mut self.memory)?;
        for fault in faults {
            if self.is_full() {
                break;
            }
            let name = self.schema.components.constraints.get(fault.constraint.index()).map(|found| found.name.local);
            let name = name.map_or("", |name| self.schema.names.text(name));
            let (constraint, message) = fault.kind.explain(name);
            self.violations.push(crate::xsd::violation::Violation {
                offset: fault.offset,
                attribute: None,
                constraint,
                message,
            });
        }
        Ok(())
    }
}
