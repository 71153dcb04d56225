//! What a WSDL 1.1 says of its operations, by their SOAP bindings: which elements the messages of each have.
//!
//! Only what goes over HTTP as literal XML: `document/literal`, where the Body contains an element of the schemas, and
//! `rpc/literal`, where it contains one that is named after the operation and has the parts of the message as children.
//! `encoded` messages have no schema, and are an error.

mod bindings;

use super::components::model::ElementId;
use super::names::{FastMap, QName};

/// A version of SOAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SoapVersion {
    V11,
    V12,
}

/// Whether a message is a request or its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// The element in the Body of a message, and the declaration that judges it; `None`: the Body is empty.
pub(crate) type BodyElement = Option<(QName, ElementId)>;

/// An operation of a SOAP binding.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) name: Box<str>,
    /// `soapAction`; empty if the binding names none.
    pub(crate) action: Box<str>,
}

/// The messages that can have some element in their Body.
#[derive(Debug)]
pub(crate) struct Messages {
    /// Judges the element; `None`: the Body is empty.
    pub(crate) element: Option<ElementId>,
    /// Positions in [`Description::operations`].
    operations: Vec<usize>,
}

/// The operations of a WSDL.
#[derive(Debug, Default)]
pub(crate) struct Description {
    pub(crate) operations: Vec<Operation>,
    /// By the name of the element in the Body; `None` if it is empty.
    messages: FastMap<(Direction, SoapVersion, Option<QName>), Messages>,
    /// Header blocks that are declared.
    headers: FastMap<(Direction, QName), ElementId>,
    /// What the detail of a Fault may contain.
    faults: FastMap<QName, ElementId>,
    /// The name of the first service.
    pub(crate) service: Option<Box<str>>,
    /// Where the services are, as the WSDL says: URLs, or what stands there before it is deployed.
    pub(crate) addresses: Vec<Box<str>>,
}

impl Description {
    /// The messages with this element in their Body, or with an empty one; `None` if there are none.
    pub(crate) fn messages(
        &self,
        direction: Direction,
        version: SoapVersion,
        element: Option<QName>,
    ) -> Option<&Messages> {
        self.messages.get(&(direction, version, element))
    }

    /// Whether there is an operation for this version of SOAP.
    pub(crate) fn has_version(&self, version: SoapVersion) -> bool {
        self.messages.keys().any(|(_, known, _)| *known == version)
    }

    /// The declaration of a header block.
    pub(crate) fn header(&self, direction: Direction, name: QName) -> Option<ElementId> {
        self.headers.get(&(direction, name)).copied()
    }

    /// The declaration of an element in the detail of a Fault.
    pub(crate) fn fault(&self, name: QName) -> Option<ElementId> {
        self.faults.get(&name).copied()
    }

    /// Whether these messages may be sent with this action: it is that of one of their operations, or one of them has none
    /// and it is not that of any other. A server that goes by the action must not find another operation than was judged.
    pub(crate) fn has_action(&self, messages: &Messages, action: &str) -> bool {
        let mut operations = messages.operations.iter().filter_map(|index| self.operations.get(*index));
        operations.clone().any(|operation| &*operation.action == action)
            || operations.any(|operation| operation.action.is_empty())
                && !self.operations.iter().any(|operation| &*operation.action == action)
    }

    /// The names of the operations, for messages.
    pub(crate) fn names(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for operation in &self.operations {
            if !names.contains(&&*operation.name) && names.len() < 50 {
                names.push(&operation.name);
            }
        }
        names.join(", ")
    }
}
