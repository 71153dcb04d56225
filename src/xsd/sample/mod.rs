//! Makes an instance of an element: what its declaration demands, and nothing more.

mod values;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use super::components::model::{ElementId, GroupKind, Namespaces, ParticleId, Process, Term, TypeId, Wildcard};
use super::datatypes::simple_type::SimpleId;
use super::document::tokens::Accepts;
use super::instance::{Bounds, Outer, Surroundings, Verdict, judge};
use super::names::{QName, Sym};
use super::schema::{ContentRule, Preset, Schema, TypeRule};
use super::validate::Limits;
use crate::budget::Steps;

/// Most elements and groups that are tried.
const MAX_PARTS: u32 = 2_000;
/// Most elements and groups within each other: what contains itself by choice ends soon where it can.
const DEPTHS: [u32; 4] = [4, 8, 16, 64];
/// Most bytes of an instance.
const MAX_SIZE: usize = 32 << 10;
/// Most steps for all instances of a schema.
const MAX_STEPS: u64 = 5_000_000;
/// Steps of a value, of which many are tried; each element that may stand for another is one.
const VALUE: u64 = 50;
/// The namespace of what stands for anything.
const OTHER: &str = "urn:example:any";

/// Makes instances of a schema's elements, all together with a bounded amount of work.
pub(crate) struct Samples<'s> {
    schema: &'s Schema,
    /// The global elements, in the order of the schema.
    globals: Vec<ElementId>,
    /// Those that can stand for a head, in the same order.
    members: BTreeMap<ElementId, Vec<ElementId>>,
    steps: Steps,
}

impl<'s> Samples<'s> {
    pub(crate) fn new(schema: &'s Schema) -> Self {
        Self::within(schema, MAX_STEPS)
    }

    fn within(schema: &'s Schema, steps: u64) -> Self {
        let mut globals: Vec<ElementId> = schema.components.globals.elements.values().copied().collect();
        globals.sort_unstable();
        let mut members: BTreeMap<ElementId, Vec<ElementId>> = BTreeMap::new();
        for id in &globals {
            let declared = schema.components.elements.get(id.index());
            for head in declared.map_or(&[][..], |declared| schema.heads(declared.name)) {
                members.entry(*head).or_default().push(*id);
            }
        }
        Self { schema, globals, members, steps: Steps::new(steps) }
    }

    /// Returns a valid instance of an element declaration; `None` if none was found.
    pub(crate) fn of(&mut self, element: ElementId) -> Option<String> {
        DEPTHS.into_iter().find_map(|deepest| {
            let Self { schema, globals, members, steps } = self;
            let text = String::new();
            let mut writer = Writer { schema, globals, members, steps, text, deepest, left: MAX_PARTS, number: 0 };
            writer.element(element, Sym::NONE, 0)?;
            is_valid(schema, element, &writer.text).then_some(writer.text)
        })
    }
}

/// Whether a text is a valid instance of an element declaration.
pub(crate) fn is_valid(schema: &Schema, element: ElementId, text: &str) -> bool {
    let markup = Accepts { doctype: false, attributes: 128, name: 1 << 10 };
    let bounds = Bounds { markup, instructions: false, depth: 256, namespaces: 64 };
    let limits = Limits { steps: Steps::new(1_000_000), memory: 1 << 20, violations: 1 };
    judge(schema, text, &mut Only(element), (bounds, limits), HashSet::new()).is_ok()
}

/// The root has this declaration.
struct Only(ElementId);

impl Surroundings for Only {
    fn begins(&mut self, _: Outer<'_>) -> Verdict {
        Verdict::By(self.0)
    }

    fn text(&mut self, _: &str, _: usize, _: usize) {}
    fn blank(&mut self, _: &str, _: usize, _: usize) {}
}

/// Writes an instance. What fails leaves a text that is to be cut off.
struct Writer<'s> {
    schema: &'s Schema,
    globals: &'s [ElementId],
    members: &'s BTreeMap<ElementId, Vec<ElementId>>,
    steps: &'s mut Steps,
    text: String,
    deepest: u32,
    left: u32,
    /// Of the next value.
    number: u32,
}

impl Writer<'_> {
    /// Takes one of the parts that are left.
    fn part(&mut self, depth: u32) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        (depth < self.deepest && self.text.len() < MAX_SIZE).then_some(())
    }

    /// Writes an element where this is the default namespace.
    fn element(&mut self, id: ElementId, outside: Sym, depth: u32) -> Option<()> {
        self.part(depth)?;
        let schema = self.schema;
        let declared = schema.components.elements.get(id.index())?;
        if declared.is_abstract {
            let members = self.members.get(&id).map_or(&[][..], Vec::as_slice);
            return self.first(members.iter().copied(), |writer, member| {
                writer.element(member, outside, depth.saturating_add(1))
            });
        }
        let QName { ns, local } = declared.name;
        let local = schema.names.text(local);
        self.text.push('<');
        self.text.push_str(local);
        if ns != outside {
            self.attribute("xmlns", schema.names.text(ns));
        }
        let preset = schema.presets.get(&id);
        match declared.ty {
            TypeId::Simple(ty) => {
                self.text.push('>');
                self.value(ty, preset)?;
            }
            TypeId::Complex(ty) => {
                if schema.components.complex.get(ty.index())?.is_abstract {
                    return None;
                }
                let rule = schema.rule(declared.ty)?;
                self.attributes(rule)?;
                self.text.push('>');
                match (rule.content, preset) {
                    (ContentRule::Empty, _) => {}
                    (ContentRule::Simple(ty), preset) => self.value(ty, preset)?,
                    (ContentRule::Elements { .. }, Some(preset)) => escape(&mut self.text, &preset.text),
                    (ContentRule::Elements { particle, .. }, None) => {
                        self.particle(particle, ns, depth.saturating_add(1))?;
                    }
                }
            }
        }
        let _ = write!(self.text, "</{local}>");
        Some(())
    }

    /// Writes the first of several that can be written.
    fn first<T>(
        &mut self,
        mut several: impl Iterator<Item = T>,
        write: impl Fn(&mut Self, T) -> Option<()>,
    ) -> Option<()> {
        let before = self.text.len();
        let mut written = None;
        while written.is_none() {
            let one = several.next()?;
            self.steps.take(1).ok()?;
            self.text.truncate(before);
            written = write(self, one);
        }
        written
    }

    /// Writes the attributes that are required.
    fn attributes(&mut self, rule: &TypeRule) -> Option<()> {
        let schema = self.schema;
        let mut prefixes = 0_u32;
        for attribute in rule.attributes.iter().filter(|attribute| attribute.required) {
            let local = schema.names.text(attribute.name.local);
            let name = match attribute.name.ns {
                Sym::NONE => local.to_owned(),
                Sym::XML => format!("xml:{local}"),
                ns => {
                    prefixes = prefixes.saturating_add(1);
                    self.attribute(&format!("xmlns:a{prefixes}"), schema.names.text(ns));
                    format!("a{prefixes}:{local}")
                }
            };
            let value = self.value_of(attribute.ty, attribute.preset.as_deref())?;
            self.attribute(&name, &value);
        }
        Some(())
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let _ = write!(self.text, " {name}=\"");
        escape(&mut self.text, value);
        self.text.push('"');
    }

    fn value_of(&mut self, ty: SimpleId, preset: Option<&Preset>) -> Option<String> {
        self.number = self.number.saturating_add(1);
        match preset {
            Some(preset) => Some(preset.text.to_string()),
            None => {
                self.steps.take(VALUE).ok()?;
                values::value(self.schema, ty, self.number)
            }
        }
    }

    fn value(&mut self, ty: SimpleId, preset: Option<&Preset>) -> Option<()> {
        let value = self.value_of(ty, preset)?;
        escape(&mut self.text, &value);
        Some(())
    }

    /// Writes what a particle demands where this is the default namespace.
    fn particle(&mut self, id: ParticleId, outside: Sym, depth: u32) -> Option<()> {
        let schema = self.schema;
        let particle = schema.components.particles.get(id.index())?;
        for _ in 0..particle.min {
            self.part(depth)?;
            match &particle.term {
                Term::Element(element) => self.element(*element, outside, depth)?,
                Term::Wildcard(wildcard) => self.wildcard(wildcard, outside, depth)?,
                Term::Group(group) => {
                    let group = schema.components.groups.get(group.index())?;
                    let mut parts = group.particles.iter().copied();
                    let depth = depth.saturating_add(1);
                    match group.kind {
                        GroupKind::Choice => self.first(parts, |writer, part| writer.particle(part, outside, depth))?,
                        GroupKind::Sequence | GroupKind::All => {
                            parts.try_for_each(|part| self.particle(part, outside, depth))?;
                        }
                    }
                }
            }
        }
        Some(())
    }

    /// Writes an element that a wildcard lets through.
    fn wildcard(&mut self, wildcard: &Wildcard, outside: Sym, depth: u32) -> Option<()> {
        let schema = self.schema;
        if wildcard.process == Process::Strict {
            let allowed = |id: ElementId| {
                let declared = schema.components.elements.get(id.index());
                declared.is_some_and(|declared| match &wildcard.namespaces {
                    Namespaces::Any => true,
                    Namespaces::Not(ns) => declared.name.ns != *ns && declared.name.ns != Sym::NONE,
                    Namespaces::These(several) => several.contains(&declared.name.ns),
                })
            };
            return self.first(self.globals.iter().copied(), |writer, id| {
                allowed(id).then(|| writer.element(id, outside, depth.saturating_add(1)))?
            });
        }
        let ns = match &wildcard.namespaces {
            Namespaces::Any | Namespaces::Not(_) => OTHER,
            Namespaces::These(several) => schema.names.text(*several.first()?),
        };
        self.text.push_str("<any");
        self.attribute("xmlns", ns);
        self.text.push_str("/>");
        Some(())
    }
}

/// Writes a text as content, or between quotes.
fn escape(to: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '"' | '\t' | '\n' | '\r' => drop(write!(to, "&#{};", u32::from(c))),
            c => to.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::xsd::components::model::ElementId;
    use crate::xsd::sample::{Samples, VALUE};
    use crate::xsd::schema::Schema;
    use crate::xsd::tests::schema;

    fn element(schema: &Schema, name: &str) -> ElementId {
        let name = schema.names.find(name);
        *schema.components.globals.elements.iter().find(|(found, _)| found.local == name).unwrap().1
    }

    #[test]
    fn what_may_stand_for_others_is_paid_for() {
        let others: String =
            (0..100).map(|n| format!(r#"<xs:element name="m{n}" substitutionGroup="h" abstract="true"/>"#)).collect();
        for content in [r#"<xs:any processContents="strict" namespace="urn:none"/>"#, r#"<xs:element ref="h"/>"#] {
            let schema = schema(&format!(
                r#"<xs:element name="r"><xs:complexType><xs:choice><xs:sequence>{content}</xs:sequence><xs:element name="end"/></xs:choice></xs:complexType></xs:element><xs:element name="h" abstract="true"/>{others}"#
            ));
            let within = |steps: u64| Samples::within(&schema, steps).of(element(&schema, "r"));
            assert_eq!(within(500).as_deref(), Some("<r><end></end></r>"));
            assert_eq!(within(90), None, "{content}");
        }
    }

    #[test]
    fn all_instances_together_have_one_bound() {
        let schema = schema(r#"<xs:element name="r" type="xs:int"/>"#);
        let mut samples = Samples::within(&schema, VALUE);
        assert_eq!(samples.of(element(&schema, "r")).as_deref(), Some("<r>1</r>"));
        assert_eq!(samples.of(element(&schema, "r")), None);
    }

    #[test]
    fn an_instance_has_what_its_declaration_demands() {
        for (content, expected) in [
            (
                r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element name="a" type="xs:int" minOccurs="2" maxOccurs="9"/><xs:element name="b" minOccurs="0"/></xs:sequence><xs:attribute name="i" use="required" type="xs:date"/><xs:attribute name="j"/></xs:complexType></xs:element>"#,
                Some(r#"<r i="2026-01-15"><a>1</a><a>1</a></r>"#),
            ),
            (
                r#"<xs:element name="r"><xs:complexType><xs:choice><xs:element ref="h"/><xs:element name="z"/></xs:choice></xs:complexType></xs:element><xs:element name="h" abstract="true"/><xs:element name="m" type="xs:boolean" substitutionGroup="h"/>"#,
                Some("<r><m>true</m></r>"),
            ),
            (
                r#"<xs:element name="r"><xs:complexType><xs:choice><xs:element ref="r"/><xs:element name="end" fixed="&lt;"/></xs:choice></xs:complexType></xs:element>"#,
                Some("<r><end>&#60;</end></r>"),
            ),
            (
                r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:any processContents="lax"/></xs:sequence></xs:complexType></xs:element>"#,
                Some(r#"<r><any xmlns="urn:example:any"/></r>"#),
            ),
            (
                r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element ref="r"/></xs:sequence></xs:complexType></xs:element>"#,
                None,
            ),
            (r#"<xs:element name="r" type="t"/><xs:complexType name="t" abstract="true"/>"#, None),
        ] {
            let schema = schema(content);
            let element = element(&schema, "r");
            assert_eq!(Samples::new(&schema).of(element).as_deref(), expected, "{content}");
        }
    }
}
