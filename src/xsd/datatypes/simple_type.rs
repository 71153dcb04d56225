//! Simple type definitions (XSD 1.0 Part 2, §4.1.1).

use std::sync::Arc;

use super::facets::Facets;
use super::text::WhiteSpace;
use super::value::Primitive;
use crate::xsd::names::QName;

/// The number of a simple type in its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SimpleId(pub(crate) u32);

impl SimpleId {
    /// `xs:anySimpleType`.
    pub(crate) const ANY: Self = Self(0);

    /// As an index.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How values of a type are made up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Variety {
    /// `xs:anySimpleType`: any text.
    Any,
    /// One value.
    Atomic(Primitive),
    /// Values of this type.
    List(SimpleId),
    /// A value of the first of these types that has it.
    Union(Arc<[SimpleId]>),
}

/// A lexical form that a built-in type derived from a primitive one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// That of the primitive type.
    Primitive,
    /// Digits and a sign.
    Integer,
    /// A language tag.
    Language,
    /// `Nmtoken` of XML.
    Nmtoken,
    /// `Name` of XML.
    Name,
    /// A name without a colon.
    NcName,
}

/// What a value means beyond its own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing.
    None,
    /// `xs:ID`
    Id,
    /// `xs:IDREF`
    IdRef,
    /// `xs:ENTITY`
    Entity,
}

/// A simple type.
#[derive(Debug, Clone)]
pub(crate) struct SimpleType {
    /// The name, unless it is anonymous.
    pub(crate) name: Option<QName>,
    /// The type that it is derived from by restriction; `xs:anySimpleType` for lists and unions.
    pub(crate) base: SimpleId,
    pub(crate) variety: Variety,
    pub(crate) form: Form,
    pub(crate) role: Role,
    /// Whether a value, or an item of it, may have a role.
    pub(crate) has_roles: bool,
    pub(crate) white_space: WhiteSpace,
    pub(crate) facets: Facets,
    /// Whether there is a facet to check.
    pub(crate) constrained: bool,
    /// How many lists and unions are in each other.
    pub(crate) nesting: u32,
}

impl SimpleType {
    /// Whether it does not matter how the ends of lines in a text are written.
    pub(crate) fn ignores_line_ends(&self) -> bool {
        self.white_space == WhiteSpace::Collapse && !matches!(self.variety, Variety::Union(_))
    }

    /// The primitive type of an atomic type.
    pub(crate) fn primitive(&self) -> Option<Primitive> {
        match self.variety {
            Variety::Atomic(primitive) => Some(primitive),
            _ => None,
        }
    }
}
