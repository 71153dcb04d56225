//! Documents, places in them, and what has to be built from them.

use std::rc::Rc;
use std::sync::Arc;

use super::model::{AttributeGroupId, AttributeId, ComplexId, ConstraintId, ElementId, GroupId, TypeId};
use crate::xsd::datatypes::simple_type::SimpleId;
use crate::xsd::document::tree::{NodeId, Tree};
use crate::xsd::names::{QName, Sym};

/// A schema document.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) file: Arc<str>,
    pub(crate) tree: Rc<Tree>,
    /// The namespace of its components; with `chameleon`, that of the document that includes it.
    pub(crate) target: Sym,
    /// Names without a prefix or a default namespace mean the target namespace.
    pub(crate) chameleon: bool,
    /// It is a WSDL, and has no components of its own but those that its messages need.
    pub(crate) wsdl: bool,
    /// Namespaces that it imports, sorted.
    pub(crate) imports: Vec<Sym>,
    /// The document that has the same bytes, and the components of both.
    pub(crate) copy_of: Option<u32>,
}

/// An element of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct At {
    pub(crate) document: u32,
    pub(crate) node: NodeId,
}

/// A component that has a number and has to be built from an element.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    Simple(SimpleId),
    Complex(ComplexId),
    Element(ElementId),
    Attribute(AttributeId),
    /// A group definition.
    Group(GroupId),
    /// A model group.
    Model(GroupId),
    AttributeGroup(AttributeGroupId),
    Constraint(ConstraintId),
}

/// What is redefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    Type(TypeId),
    Group(GroupId),
    AttributeGroup(AttributeGroupId),
}

/// A definition within `redefine`.
#[derive(Debug, Clone)]
pub(crate) struct Redefinition {
    pub(crate) name: QName,
    pub(crate) at: At,
    /// The first element after the definition.
    pub(crate) end: Option<NodeId>,
    pub(crate) old: Old,
    pub(crate) new: Old,
}
