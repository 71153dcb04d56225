//! What a WSDL 1.1 says of its operations, by their SOAP bindings: which elements the messages of each have.
//!
//! Only what goes over HTTP as literal XML: `document/literal`, where the Body contains an element of the schemas, and
//! `rpc/literal`, where it contains one that is named after the operation and has the parts of the message as children.
//! `encoded` messages have no schema, and are an error.

mod bindings;
mod reader;

use super::components::model::ElementId;
use super::names::{FastMap, QName};

/// Most names that a message lists.
const MAX_NAMES: usize = 50;

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
    /// What it is called in WS-Addressing: as the port type says, or by the rule for those that say nothing.
    pub(crate) addressing: Box<str>,
    /// The number of its binding: those of one have the same.
    pub(crate) binding: usize,
    /// The name of its port type.
    pub(crate) port_type: QName,
}

/// Where a service is.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// A URL, or what is written there before it is deployed.
    pub(crate) location: Box<str>,
    /// The number of the binding of its port (WSDL 1.1 §2.6), as of [`Operation::binding`]; `None`: it has none that is known.
    pub(crate) binding: Option<usize>,
}

impl Operation {
    /// Whether this is its action, of SOAP or of WS-Addressing.
    fn has_action(&self, action: &str) -> bool {
        action == &*self.action || action == &*self.addressing
    }

    /// Whether a server may find it by this action although its binding names none: by the name that WS-Addressing derives, of which some
    /// leave out the end, or by its own at the end of a URI.
    fn may_have_action(&self, action: &str) -> bool {
        let last = action.rsplit(['/', '#', ':']).next();
        self.action.is_empty() && (self.addressing.strip_suffix("Request") == Some(action) || last == Some(&*self.name))
    }
}

/// What a WSDL knows of an action.
enum Known {
    /// Operations have it.
    Named,
    /// None has it, but it may be that of some.
    Derived,
    /// Servers do not go by it.
    Ignored,
    No,
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
    /// Where the services are, as the WSDL says.
    pub(crate) addresses: Vec<Address>,
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

    /// What a request for this operation has in its Body, and in which version of SOAP.
    pub(crate) fn request(&self, operation: usize) -> Option<(SoapVersion, Option<ElementId>)> {
        let mut requests = self.messages.iter().filter(|((direction, ..), _)| *direction == Direction::Request);
        let found = requests.find(|(_, messages)| messages.operations.contains(&operation));
        found.map(|((_, version, _), messages)| (*version, messages.element))
    }

    /// Whether a server may run an operation for a request that is sent with this action.
    pub(crate) fn is_called_by(&self, operation: usize, action: &str) -> bool {
        let mut requests = self.messages.iter().filter(|((direction, ..), _)| *direction == Direction::Request);
        requests.any(|(_, messages)| {
            messages.operations.contains(&operation) && !self.called(messages, &[action]).is_empty()
        })
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

    /// The operations that a server may run for one of these messages, sent with these actions, by position: those that each action
    /// is of.
    pub(crate) fn called(&self, messages: &Messages, actions: &[&str]) -> Vec<usize> {
        let known: Vec<Known> = actions.iter().map(|action| self.known(action)).collect();
        let runs = |operation: &Operation| {
            actions.iter().zip(&known).all(|(action, known)| match known {
                Known::Named => operation.has_action(action),
                Known::Derived => operation.may_have_action(action),
                Known::Ignored => true,
                Known::No => false,
            })
        };
        let positions = messages.operations.iter().copied();
        positions.filter(|position| self.operations.get(*position).is_some_and(runs)).collect()
    }

    /// What is known of an action. If no binding names any, one that is not even derived is nothing that a server goes by.
    fn known(&self, action: &str) -> Known {
        if self.operations.iter().any(|operation| operation.has_action(action)) {
            Known::Named
        } else if self.operations.iter().any(|operation| operation.may_have_action(action)) {
            Known::Derived
        } else if self.operations.iter().all(|operation| operation.action.is_empty()) {
            Known::Ignored
        } else {
            Known::No
        }
    }

    /// Whether an operation has no response (WSDL 1.1 §2.4.1).
    pub(crate) fn is_one_way(&self, operation: usize) -> bool {
        let mut responses = self.messages.iter().filter(|((direction, ..), _)| *direction == Direction::Response);
        !responses.any(|(_, messages)| messages.operations.contains(&operation))
    }

    /// The names of operations, for messages: of those that are `chosen`, by position.
    pub(crate) fn names(&self, chosen: impl Fn(usize) -> bool) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (position, operation) in self.operations.iter().enumerate() {
            if chosen(position) && !names.contains(&&*operation.name) && names.len() < MAX_NAMES {
                names.push(&operation.name);
            }
        }
        names
    }
}
