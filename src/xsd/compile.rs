//! Schema documents to a schema: all problems, or what instances are judged by.

use std::collections::VecDeque;
use std::sync::Arc;

use super::components::context::Builder;
use super::components::documents::{Found, Resolver};
use super::components::model::{Components, TypeId};
use super::components::work::Task;
use super::datatypes::builtin;
use super::datatypes::work::{TOO_MUCH, ValuesWork};
use super::document::entities::Work;
use super::names::{FastMap, Names, QName, Sym, TextMap};
use super::problem::{Place, Problem, Problems};
use super::room::{Room, TOO_LARGE};
use crate::budget::{Exhausted, Steps};

/// What the checks of one schema may take, in steps of some tens of nanoseconds.
const STEPS: u64 = 200_000_000;

/// Compiles the schema that begins with these documents.
pub(crate) fn compile(first: Vec<Found>, resolve: &mut Resolver<'_>) -> Result<super::schema::Schema, Vec<Problem>> {
    compile_within((Steps::new(STEPS), Room::default()), first, resolve)
}

/// Like [`compile`], with so many steps and so much room.
pub(super) fn compile_within(
    (steps, room): (Steps, Room),
    first: Vec<Found>,
    resolve: &mut Resolver<'_>,
) -> Result<super::schema::Schema, Vec<Problem>> {
    let mut builder = Builder::new(steps, room);
    builder.load(first, resolve);
    for phase in [Builder::build, Builder::derive, Builder::check] {
        if builder.problems.is_empty() {
            phase(&mut builder);
        }
        builder.check_room();
    }
    let files: Vec<Arc<str>> = std::mem::take(&mut builder.files);
    if builder.problems.is_empty() {
        super::schema::Schema::new(builder).map_err(|builder| builder.problems.finish(&files))
    } else {
        Err(builder.problems.finish(&files))
    }
}

impl Builder {
    /// Begins with what is built in.
    pub(super) fn new(steps: Steps, room: Room) -> Self {
        let mut names = Names::new();
        let simple = builtin::types(&mut names);
        let mut components = Components::default();
        for (index, ty) in simple.iter().enumerate() {
            let id = super::datatypes::simple_type::SimpleId(u32::try_from(index).unwrap_or(u32::MAX));
            if let Some(name) = ty.name {
                components.globals.types.insert(name, TypeId::Simple(id));
            }
        }
        let builtin = u32::try_from(simple.len()).unwrap_or(u32::MAX);
        let mut builder = Self {
            names,
            documents: Vec::new(),
            files: Vec::new(),
            components,
            simple,
            builtin,
            tasks: VecDeque::new(),
            problems: Problems::default(),
            redefinitions: Vec::new(),
            redefined: FastMap::default(),
            keyrefs: Vec::new(),
            seen_documents: TextMap::default(),
            included: Vec::new(),
            declared_in_files: TextMap::default(),
            seen_contents: TextMap::default(),
            declared_targets: TextMap::default(),
            entities: Work::default(),
            ranges: FastMap::default(),
            members: FastMap::default(),
            description: None,
            patterns: TextMap::default(),
            defaults: FastMap::default(),
            steps,
            room,
            tables: super::pattern::tables(),
            values: ValuesWork::default(),
        };
        builder.add_any_type();
        builder.add_xsi();
        builder
    }

    /// The attributes of `xsi:type` and its kind, which may be referred to.
    fn add_xsi(&mut self) {
        let at = super::components::work::At { document: u32::MAX, node: super::document::tree::NodeId::ROOT };
        for (local, ty) in [
            ("type", "QName"),
            ("nil", "boolean"),
            ("schemaLocation", "anyURI"),
            ("noNamespaceSchemaLocation", "anyURI"),
        ] {
            let name = QName::new(Sym::XSI, self.names.intern(local));
            let id = self.new_attribute(name, at);
            let ty = QName::new(Sym::XSD, self.names.intern(ty));
            let ty = self.components.globals.types.get(&ty).copied();
            if let (Some(attribute), Some(TypeId::Simple(ty))) = (self.components.attributes.get_mut(id.index()), ty) {
                attribute.ty = ty;
            }
            self.components.globals.attributes.insert(name, id);
        }
    }

    /// Builds all components from their elements.
    fn build(&mut self) {
        self.register();
        while let Some((task, at)) = self.tasks.pop_front() {
            if self.room.is_short() {
                return;
            }
            match task {
                Task::Simple(id) => self.build_simple(id, at),
                Task::Complex(id) => self.build_complex(id, at),
                Task::Element(id) => self.build_element(id, at),
                Task::Attribute(id) => self.build_attribute(id, at),
                Task::Group(id) => self.build_group(id, at),
                Task::Model(id) => self.build_model(id, at),
                Task::AttributeGroup(id) => self.build_attribute_group(id, at),
                Task::Constraint(id) => self.build_constraint(id, at),
            }
        }
        self.describe();
        self.resolve_keyrefs();
        self.check_redefinitions();
        self.resolve_heads();
    }

    /// Gives components what they have from others.
    fn derive(&mut self) {
        self.check_group_circles();
        self.derive_attribute_groups();
        self.make_room();
        for id in self.order() {
            if self.room.is_short() {
                return;
            }
            match id {
                TypeId::Simple(id) => self.derive_simple(id),
                TypeId::Complex(id) => self.derive_complex(id),
            }
        }
    }

    /// Checks components against each other.
    fn check(&mut self) {
        for redefinition in self.redefinitions.clone() {
            if !self.contains_itself(&redefinition) {
                self.check_redefined_attributes(&redefinition);
            }
        }
        self.check_all_groups();
        self.check_elements();
        self.check_attributes();
        self.check_heads();
        self.find_members();
        for check in [Self::check_consistent, Self::check_unique_particles, Self::check_restrictions] {
            if let Err((place, Exhausted)) = check(self) {
                self.check_room();
                let message = "the content is too complex to be checked: its groups contain each other too often";
                self.problems.add(place, "cos-nonambig", message);
            }
        }
        self.check_work();
    }

    /// What there was no room for is missing, so that nothing else is known of the schema.
    pub(super) fn check_room(&mut self) {
        if self.room.is_short() {
            self.problems = Problems::default();
            self.problems.add(Place::default(), "schema_reference", TOO_LARGE);
        }
    }

    /// Values that there was too little work for may not be what they have to be.
    pub(super) fn check_work(&mut self) {
        if self.values.is_short() {
            self.problems.add(Place::default(), "cos-valid-default", TOO_MUCH);
        }
    }
}
