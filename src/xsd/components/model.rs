//! Components as data. They refer to each other by number, so that circles and sharing cost nothing.

use std::sync::Arc;

use crate::xsd::datatypes::facets::Facet;
use crate::xsd::datatypes::simple_type::SimpleId;
use crate::xsd::names::{FastMap, QName, Sym};
use crate::xsd::problem::Place;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub(crate) struct $name(pub(crate) u32);

            impl $name {
                /// As an index.
                pub(crate) fn index(self) -> usize {
                    self.0 as usize
                }
            }
        )+
    };
}

numbers! {
    /// The number of a complex type.
    ComplexId;
    /// The number of an element declaration.
    ElementId;
    /// The number of an attribute declaration.
    AttributeId;
    /// The number of an attribute group.
    AttributeGroupId;
    /// The number of a model group.
    GroupId;
    /// The number of a particle.
    ParticleId;
    /// The number of an identity constraint.
    ConstraintId;
}

impl ComplexId {
    /// `xs:anyType`.
    pub(crate) const ANY: Self = Self(0);
}

/// A type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TypeId {
    Simple(SimpleId),
    Complex(ComplexId),
}

impl TypeId {
    /// `xs:anyType`.
    pub(crate) const ANY: Self = Self::Complex(ComplexId::ANY);
}

/// A set of ways to derive a type, or to stand for an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Derivations(pub(crate) u8);

impl Derivations {
    pub(crate) const EXTENSION: Self = Self(1);
    pub(crate) const RESTRICTION: Self = Self(2);
    pub(crate) const SUBSTITUTION: Self = Self(4);
    pub(crate) const LIST: Self = Self(8);
    pub(crate) const UNION: Self = Self(16);

    /// Both sets.
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the sets have something in common.
    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A default or fixed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueConstraint {
    pub(crate) fixed: bool,
    pub(crate) text: Arc<str>,
    /// What the prefixes in the text mean, if its type needs them: pairs of prefix and namespace, in the order of the prefixes.
    pub(crate) prefixes: Vec<(Box<str>, Sym)>,
}

/// An element declaration (§3.3.1).
#[derive(Debug, Clone)]
pub(crate) struct ElementDecl {
    pub(crate) name: QName,
    pub(crate) place: Place,
    pub(crate) ty: TypeId,
    pub(crate) nillable: bool,
    pub(crate) is_abstract: bool,
    pub(crate) value: Option<Arc<ValueConstraint>>,
    pub(crate) block: Derivations,
    pub(crate) final_: Derivations,
    /// The head of its substitution group.
    pub(crate) head: Option<ElementId>,
    pub(crate) constraints: Vec<ConstraintId>,
    /// Whether the type is the head's, as none is written.
    pub(crate) type_of_head: bool,
}

/// An attribute declaration (§3.2.1).
#[derive(Debug, Clone)]
pub(crate) struct AttributeDecl {
    pub(crate) name: QName,
    pub(crate) place: Place,
    pub(crate) ty: SimpleId,
    pub(crate) value: Option<Arc<ValueConstraint>>,
}

/// The use of an attribute (§3.5.1).
#[derive(Debug, Clone)]
pub(crate) struct AttributeUse {
    pub(crate) decl: AttributeId,
    pub(crate) name: QName,
    pub(crate) place: Place,
    pub(crate) required: bool,
    /// Its own, not the declaration's.
    pub(crate) value: Option<Arc<ValueConstraint>>,
}

/// Which namespaces a wildcard allows (§3.10.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Namespaces {
    Any,
    /// Any but this one and none.
    Not(Sym),
    /// These, sorted; [`Sym::NONE`] is none.
    These(Arc<[Sym]>),
}

/// What is done with what a wildcard lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Process {
    Skip,
    Lax,
    Strict,
}

/// A wildcard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wildcard {
    pub(crate) namespaces: Namespaces,
    pub(crate) process: Process,
    pub(crate) place: Place,
}

/// The attributes that a type or group declares itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttributeSet {
    pub(crate) uses: Vec<AttributeUse>,
    pub(crate) prohibited: Vec<QName>,
    pub(crate) groups: Vec<(AttributeGroupId, Place)>,
    pub(crate) wildcard: Option<Wildcard>,
}

/// An attribute group (§3.6.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct AttributeGroup {
    pub(crate) place: Place,
    pub(crate) own: AttributeSet,
    /// With those of the groups in it.
    pub(crate) uses: Vec<AttributeUse>,
    pub(crate) wildcard: Option<Wildcard>,
}

/// How the children of a group follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GroupKind {
    Sequence,
    Choice,
    All,
}

/// A model group (§3.8.1), which may be the one of a group definition.
#[derive(Debug, Clone)]
pub(crate) struct ModelGroup {
    pub(crate) kind: GroupKind,
    pub(crate) particles: Vec<ParticleId>,
}

/// What a particle repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Term {
    Element(ElementId),
    Wildcard(Wildcard),
    Group(GroupId),
}

/// A particle (§3.9.1).
#[derive(Debug, Clone)]
pub(crate) struct Particle {
    pub(crate) min: u32,
    /// `None` for `unbounded`.
    pub(crate) max: Option<u32>,
    pub(crate) term: Term,
    pub(crate) place: Place,
}

/// The content of a complex type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    Simple(SimpleId),
    Elements { particle: ParticleId, mixed: bool },
}

/// A facet as written.
#[derive(Debug, Clone)]
pub(crate) struct RawFacet {
    pub(crate) facet: Facet,
    pub(crate) value: Box<str>,
    pub(crate) fixed: bool,
    pub(crate) place: Place,
    /// What the prefixes in the value mean, if its type needs them, in the order of the prefixes.
    pub(crate) prefixes: Vec<(Box<str>, Sym)>,
}

/// The content of a complex type as written.
#[derive(Debug, Clone)]
pub(crate) enum RawContent {
    /// `simpleContent`; with the type and the facets of a restriction, and the number kept for what they make.
    Simple { inner: Option<SimpleId>, facets: Vec<RawFacet>, reserved: SimpleId },
    /// `complexContent`, or none.
    Elements { particle: Option<ParticleId>, mixed: bool },
}

/// A complex type (§3.4.1).
#[derive(Debug, Clone)]
pub(crate) struct ComplexType {
    pub(crate) name: Option<QName>,
    pub(crate) place: Place,
    pub(crate) base: TypeId,
    /// By extension; by restriction otherwise.
    pub(crate) extends: bool,
    pub(crate) is_abstract: bool,
    pub(crate) block: Derivations,
    pub(crate) final_: Derivations,
    pub(crate) raw: RawContent,
    pub(crate) own: AttributeSet,
    /// With what the base has.
    pub(crate) content: Content,
    pub(crate) uses: Vec<AttributeUse>,
    pub(crate) wildcard: Option<Wildcard>,
}

/// How a simple type is derived, as written.
#[derive(Debug, Clone)]
pub(crate) enum RawDerivation {
    Restriction {
        base: SimpleId,
        facets: Vec<RawFacet>,
    },
    List(SimpleId),
    Union(Vec<SimpleId>),
    /// Made with the complex type whose content it is.
    OfContent,
}

/// A simple type as written.
#[derive(Debug, Clone)]
pub(crate) struct RawSimple {
    pub(crate) name: Option<QName>,
    pub(crate) place: Place,
    pub(crate) derivation: RawDerivation,
    pub(crate) final_: Derivations,
}

/// What an identity constraint asks for (§3.11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConstraintKind {
    Unique,
    Key,
    KeyRef(ConstraintId),
}

/// A test of a name in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameTest {
    Any,
    Namespace(Sym),
    Name(QName),
}

impl NameTest {
    /// Whether a name passes.
    pub(crate) fn matches(self, name: QName) -> bool {
        match self {
            Self::Any => true,
            Self::Namespace(ns) => name.ns == ns,
            Self::Name(expected) => name == expected,
        }
    }
}

/// A path of the subset of XPath that selectors and fields use (§3.11.6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Path {
    /// Whether it begins with `.//`.
    pub(crate) anywhere: bool,
    pub(crate) steps: Vec<NameTest>,
    /// The attribute that a field ends with.
    pub(crate) attribute: Option<NameTest>,
}

/// An identity constraint.
#[derive(Debug, Clone)]
pub(crate) struct IdentityConstraint {
    pub(crate) name: QName,
    pub(crate) kind: ConstraintKind,
    pub(crate) selector: Vec<Path>,
    pub(crate) fields: Vec<Vec<Path>>,
}

/// What is global in a schema, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Globals {
    pub(crate) types: FastMap<QName, TypeId>,
    pub(crate) elements: FastMap<QName, ElementId>,
    pub(crate) attributes: FastMap<QName, AttributeId>,
    pub(crate) groups: FastMap<QName, GroupId>,
    pub(crate) attribute_groups: FastMap<QName, AttributeGroupId>,
    pub(crate) constraints: FastMap<QName, ConstraintId>,
    pub(crate) notations: FastMap<QName, Place>,
}

/// All components of a schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct Components {
    pub(crate) globals: Globals,
    pub(crate) complex: Vec<ComplexType>,
    /// Those after the built-in ones.
    pub(crate) raw_simple: Vec<RawSimple>,
    pub(crate) elements: Vec<ElementDecl>,
    pub(crate) attributes: Vec<AttributeDecl>,
    pub(crate) attribute_groups: Vec<AttributeGroup>,
    pub(crate) groups: Vec<ModelGroup>,
    pub(crate) particles: Vec<Particle>,
    pub(crate) constraints: Vec<IdentityConstraint>,
}
