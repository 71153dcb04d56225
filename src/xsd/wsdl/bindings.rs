//! Reads the SOAP bindings of a WSDL (WSDL 1.1 §2 and §3; SOAP 1.2 by its "WSDL 1.1 Binding Extension for SOAP 1.2").

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::reader::{ATTRIBUTES, MAX_LOOKED, Parts, Reader};
use super::{Address, BodyElement, Description, Direction, Messages, Operation, SoapVersion};
use crate::xsd::components::context::Builder;
use crate::xsd::components::model::{ElementId, Particle, RawContent, Term, TypeId};
use crate::xsd::components::work::At;
use crate::xsd::datatypes::text::words;
use crate::xsd::document::tree::NodeId;
use crate::xsd::names::{FastMap, QName, Sym};

/// The versions of SOAP: the namespace of their bindings, and the transports that are HTTP.
const VERSIONS: [(SoapVersion, &str); 2] = [
    (SoapVersion::V11, "http://schemas.xmlsoap.org/wsdl/soap/"),
    (SoapVersion::V12, "http://schemas.xmlsoap.org/wsdl/soap12/"),
];
/// What bindings call HTTP; the second is what the extension for SOAP 1.2 says, and few write.
const HTTP: [&str; 2] = ["http://schemas.xmlsoap.org/soap/http", "http://www.w3.org/2003/05/soap/bindings/HTTP/"];
/// The namespaces of the attribute that says an action of WS-Addressing.
const ADDRESSING: [&str; 2] =
    ["http://www.w3.org/2007/05/addressing/metadata", "http://www.w3.org/2006/05/addressing/wsdl"];
/// Most operations of all bindings.
const MAX_OPERATIONS: usize = 10_000;

impl Builder {
    /// Reads what the WSDLs among the documents say of operations, and builds the components that only messages have.
    pub(in crate::xsd) fn describe(&mut self) {
        let numbers = (0_u32..).zip(&self.documents);
        let wsdls: Vec<u32> = numbers
            .filter(|(_, document)| document.wsdl && document.copy_of.is_none())
            .map(|(number, _)| number)
            .collect();
        let roots: Vec<At> = wsdls.into_iter().map(|document| At { document, node: NodeId::ROOT }).collect();
        let Some(first) = roots.first().copied() else { return };
        self.open_wsdls(&roots);
        let mut reader = Reader {
            builder: self,
            messages: FastMap::default(),
            parts: FastMap::default(),
            port_types: FastMap::default(),
            bindings: FastMap::default(),
            wrappers: FastMap::default(),
            description: Description::default(),
            looked: Cell::new(0),
        };
        reader.read(&roots);
        let (description, looked) = (reader.description, reader.looked.get());
        if looked > MAX_LOOKED {
            let message = "the WSDL is too large: its operations share messages and operations of port types with too many parts or \
                 attributes";
            self.problem(first, "WSDL 1.1 §3", message);
        }
        if description.operations.is_empty() && self.problems.is_empty() && !self.room.is_short() {
            let bound = roots.iter().any(|root| !self.wsdl_children(*root, "binding").is_empty());
            let message = if bound {
                "the WSDL has no SOAP binding over HTTP with an operation"
            } else {
                "the WSDL has no binding; name the one that imports it and binds its operations to SOAP"
            };
            self.problem(first, "WSDL 1.1 §3.3", message);
        }
        self.description = Some(description);
    }

    /// The names in a WSDL may be of all documents: it imports them, or contains them.
    fn open_wsdls(&mut self, roots: &[At]) {
        let mut targets: Vec<Sym> = self.documents.iter().map(|document| document.target).collect();
        targets.sort_unstable();
        targets.dedup();
        for root in roots {
            let document = self.documents.get_mut(root.document as usize).and_then(std::rc::Rc::get_mut);
            if let Some(document) = document {
                document.imports.clone_from(&targets);
            }
        }
    }
}

/// A binding that is being read.
#[derive(Clone, Copy)]
struct Binding {
    version: SoapVersion,
    number: usize,
    /// The namespace of its elements.
    soap: Sym,
    port_type: At,
    /// The name of the port type.
    of: QName,
    /// Whether operations are `rpc` that do not say otherwise.
    rpc: bool,
}

/// One message of an operation.
#[derive(Clone, Copy)]
struct Half {
    /// What the binding says of it.
    bound: Option<At>,
    /// What the port type says of it.
    declared: At,
    rpc: bool,
    soap: Sym,
    direction: Direction,
}

impl Reader<'_> {
    fn read(&mut self, roots: &[At]) {
        let mut bindings = Vec::new();
        for root in roots {
            for at in self.children(*root, "message") {
                let name = self.builder.own_name(at);
                if self.messages.insert(name, at).is_some() {
                    self.twice(at, "message", name);
                }
            }
            for at in self.children(*root, "portType") {
                let name = self.builder.own_name(at);
                if self.port_types.insert(name, at).is_some() {
                    self.twice(at, "portType", name);
                }
            }
            bindings.extend(self.children(*root, "binding"));
        }
        for at in bindings {
            let (name, next) = (self.builder.own_name(at), self.bindings.len());
            self.bindings.entry(name).or_insert(next);
            for (version, namespace) in VERSIONS {
                let soap = self.builder.names.find(namespace);
                if let Some(style) = self.soap_child(at, soap, "binding") {
                    self.binding(at, style, (version, soap));
                }
            }
        }
        for root in roots {
            for service in self.children(*root, "service") {
                self.addresses(service);
            }
        }
    }

    fn binding(&mut self, at: At, style: At, (version, soap): (SoapVersion, Sym)) {
        let transport = self.builder.attribute(style, "transport");
        if transport.is_some_and(|transport| !HTTP.contains(&&*transport)) {
            return;
        }
        let Some(port_type) = self.find(at, "type") else { return };
        let (name, of) = (self.builder.own_name(at), self.name_of(port_type));
        let of = QName::new(self.builder.target(port_type), self.builder.intern(&of));
        let number = self.bindings.get(&name).copied().unwrap_or_default();
        let rpc = self.builder.attribute(style, "style").as_deref() == Some("rpc");
        let mut declared: HashMap<String, Vec<At>> = HashMap::new();
        for operation in self.children(port_type, "operation") {
            declared.entry(self.name_of(operation)).or_default().push(operation);
        }
        for operation in self.children(at, "operation") {
            if !self.goes_on() {
                return;
            }
            if self.description.operations.len() >= MAX_OPERATIONS {
                let message = format!("a WSDL can have at most {MAX_OPERATIONS} operations");
                return self.builder.problem(operation, "WSDL 1.1 §2.5", message);
            }
            let declared = declared.get(&self.name_of(operation)).map_or(&[][..], Vec::as_slice);
            self.operation(operation, declared, Binding { version, number, soap, port_type, of, rpc });
        }
    }

    /// Reads an operation; `declared` are those of its name in the port type.
    fn operation(&mut self, at: At, declared: &[At], binding: Binding) {
        let Binding { version, number, soap, port_type, of, rpc } = binding;
        let name = self.name_of(at);
        let [declared] = *declared else {
            let how = if declared.is_empty() { "is not in the portType" } else { "is in the portType more than once" };
            return self.builder.problem(at, "WSDL 1.1 §2.5", format!("the operation `{name}` {how}"));
        };
        let details = self.soap_child(at, soap, "operation");
        let style = details.and_then(|details| self.builder.attribute(details, "style"));
        let rpc = style.map_or(rpc, |style| style == "rpc");
        let action = details.and_then(|details| self.builder.attribute(details, "soapAction")).unwrap_or_default();
        let half = |reader: &Self, kind, direction| {
            let bound = reader.children(at, kind).first().copied();
            let declared = reader.children(declared, kind).first().copied()?;
            Some(Half { bound, declared, rpc, soap, direction })
        };
        // Without an input, it is the service that would call.
        let Some(input) = half(self, "input", Direction::Request) else { return };
        let position = self.description.operations.len();
        let mut bodies = vec![(Direction::Request, self.body(at, input, &name))];
        if let Some(output) = half(self, "output", Direction::Response) {
            bodies.push((Direction::Response, self.body(at, output, &format!("{name}Response"))));
        }
        for (direction, body) in bodies {
            if let Some(body) = body {
                self.add_body(at, (direction, version), body, position);
            }
        }
        self.faults(at, declared, soap);
        let addressing: Box<str> = self.addressing(port_type, input.declared, &name).into();
        if self.builder.room.take(addressing.len()).is_err() {
            return;
        }
        let (name, action) = (name.into(), action.into());
        self.description.operations.push(Operation { name, action, addressing, binding: number, port_type: of });
    }

    /// The action of a request in WS-Addressing (WS-Addressing 1.0 Metadata §4.4; 1.0 WSDL Binding for the older attribute).
    fn addressing(&self, port_type: At, input: At, operation: &str) -> String {
        let document = self.builder.document(input);
        let attributes = document.as_ref().map_or(&[][..], |document| document.tree.attributes(input.node));
        let names = &self.builder.names;
        let is_action = |name: QName| names.text(name.local) == "Action" && ADDRESSING.contains(&names.text(name.ns));
        self.look(attributes.len() / ATTRIBUTES);
        if let Some(written) = attributes.iter().find(|attribute| is_action(attribute.name)) {
            return written.value.trim().to_owned();
        }
        let target = names.text(self.builder.target(port_type));
        let between = if target.starts_with("urn:") { ":" } else { "/" };
        let target = target.strip_suffix(between).unwrap_or(target);
        let port_type = self.name_of(port_type);
        let message = self.attribute(input, "name").unwrap_or_else(|| format!("{operation}Request"));
        format!("{target}{between}{port_type}{between}{message}")
    }

    fn add_body(
        &mut self,
        at: At,
        (direction, version): (Direction, SoapVersion),
        body: BodyElement,
        operation: usize,
    ) {
        let (name, element) = body.unzip();
        let new = || Messages { element, operations: Vec::new() };
        let messages = self.description.messages.entry((direction, version, name)).or_insert_with(new);
        messages.operations.push(operation);
        if messages.element != element {
            let shown = name.map_or_else(String::new, |name| self.builder.show(name));
            let message = format!("another operation has a message with the element `{shown}` and other content");
            self.builder.problem(at, "WS-I BP 1.1 R2710", message);
        }
    }

    /// Reads what the Body of a message contains; `None`: problems were reported.
    fn body(&mut self, at: At, half: Half, wrapper: &str) -> Option<BodyElement> {
        let message = self.find(half.declared, "message")?;
        let headers = self.headers(half);
        let all = self.parts(message)?;
        let Some(body) = half.bound.and_then(|bound| self.soap_child(bound, half.soap, "body")) else {
            let message = "the binding of this operation has no `soap:body`; attachments are not supported";
            self.builder.problem(half.bound.unwrap_or(at), "WSDL 1.1 §3.5", message);
            return None;
        };
        self.check_literal(body);
        let parts = match self.builder.attribute(body, "parts") {
            Some(chosen) => self.chosen(body, &all, &chosen)?,
            None => all.all.iter().filter(|(part, _)| !headers.contains(part)).copied().collect(),
        };
        if half.rpc {
            let namespace = self.builder.attribute(body, "namespace").unwrap_or_default();
            let name = QName::new(self.builder.names.intern(&namespace), self.builder.names.intern(wrapper));
            return Some(Some((name, self.wrapper(name, message, &parts)?)));
        }
        match parts[..] {
            [] => Some(None),
            [(part, _)] => self.element_of(part).map(Some),
            [_, (second, _), ..] => {
                let message = "the Body of a `document` message has only one part; name it with `parts` in `soap:body`";
                self.builder.problem(second, "WS-I BP 1.1 R2201", message);
                None
            }
        }
    }

    /// The parts that a `soap:body` names, in the order of the message; `None`: it has no such part.
    fn chosen(&mut self, body: At, parts: &Parts, written: &str) -> Option<Vec<(At, Sym)>> {
        let mut chosen: HashSet<Sym> = HashSet::new();
        for word in words(written) {
            let name = self.builder.names.find(word);
            if !parts.named.contains_key(&name) {
                self.no_part(body, "WSDL 1.1 §3.5", word);
                return None;
            }
            chosen.insert(name);
        }
        Some(parts.all.iter().filter(|(_, name)| chosen.contains(name)).copied().collect())
    }

    fn check_literal(&mut self, at: At) {
        if self.builder.attribute(at, "use").as_deref() == Some("encoded") {
            let message = "`use=\"encoded\"` is not supported: no schema says what an encoded message is; \
                           write `literal` if the service takes that";
            self.builder.problem(at, "WS-I BP 1.1 R2706", message);
        }
    }

    /// The element that a part is.
    fn element_of(&mut self, part: At) -> Option<(QName, ElementId)> {
        let Some(name) = self.attribute(part, "element") else {
            if self.goes_on() {
                let message = "this part needs `element`, the name of a global element";
                self.builder.problem(part, "WS-I BP 1.1 R2204", message);
            }
            return None;
        };
        let id = self.builder.find_element(part, &name)?;
        let element = self.builder.components.elements.get(id.index())?;
        Some((element.name, id))
    }

    /// Builds the element of an `rpc` message: its children are the parts, in their order and without a namespace.
    /// `None` once there is no room for more.
    fn wrapper(&mut self, name: QName, message: At, parts: &[(At, Sym)]) -> Option<ElementId> {
        let key = (name, message.document, message.node, parts.iter().map(|(part, _)| part.node).collect());
        if let Some(known) = self.wrappers.get(&key) {
            return Some(*known);
        }
        let mut particles = Vec::new();
        for (part, local) in parts {
            let written = self.attribute(*part, "type");
            if !self.goes_on() {
                return None;
            }
            let builder = &mut *self.builder;
            let Some(written) = written else {
                builder.problem(*part, "WS-I BP 1.1 R2203", "a part of an `rpc` message needs `type`");
                continue;
            };
            let element = builder.new_element(QName::new(Sym::NONE, *local), *part);
            let ty = builder.find_type(*part, &written).unwrap_or(TypeId::ANY);
            if let Some(declared) = builder.components.elements.get_mut(element.index()) {
                declared.ty = ty;
            }
            let place = builder.place(*part);
            let particle = Particle { min: 1, max: Some(1), term: Term::Element(element), place };
            particles.push(builder.add_particle(particle));
        }
        let builder = &mut *self.builder;
        let place = builder.place(message);
        let content = (!particles.is_empty()).then(|| {
            let group = builder.new_group();
            if let Some(group) = builder.components.groups.get_mut(group.index()) {
                group.particles = particles;
            }
            builder.add_particle(Particle { min: 1, max: Some(1), term: Term::Group(group), place })
        });
        let ty = builder.new_complex(None, message);
        if let Some(ty) = builder.components.complex.get_mut(ty.index()) {
            ty.raw = RawContent::Elements { particle: content, mixed: false };
        }
        let element = builder.new_element(name, message);
        if let Some(declared) = builder.components.elements.get_mut(element.index()) {
            declared.ty = TypeId::Complex(ty);
        }
        builder.room.keep(size_of_val(&*key.3));
        self.wrappers.insert(key, element);
        Some(element)
    }

    /// Reads the header blocks of a message, and returns the parts that they are.
    fn headers(&mut self, half: Half) -> HashSet<At> {
        let mut parts = HashSet::new();
        let Some(bound) = half.bound else { return parts };
        let name = QName::new(half.soap, self.builder.names.find("header"));
        let of_faults = QName::new(half.soap, self.builder.names.find("headerfault"));
        for header in self.named(bound, name) {
            parts.extend(self.header(header, half.direction));
            for fault in self.named(header, of_faults) {
                self.header(fault, Direction::Response);
            }
        }
        parts
    }

    fn header(&mut self, at: At, direction: Direction) -> Option<At> {
        self.check_literal(at);
        let message = self.find(at, "message")?;
        let wanted = self.builder.attribute(at, "part").unwrap_or_default();
        let parts = self.parts(message)?;
        let Some(part) = parts.named.get(&self.builder.names.find(&wanted)).copied() else {
            self.no_part(at, "WSDL 1.1 §3.7", &wanted);
            return None;
        };
        let (name, element) = self.element_of(part)?;
        self.description.headers.insert((direction, name), element);
        Some(part)
    }

    /// Reads the faults of an operation.
    fn faults(&mut self, at: At, declared: At, soap: Sym) {
        for bound in self.children(at, "fault") {
            if let Some(details) = self.soap_child(bound, soap, "fault") {
                self.check_literal(details);
            }
        }
        for fault in self.children(declared, "fault") {
            let Some(message) = self.find(fault, "message") else { continue };
            let Some(parts) = self.parts(message) else { return };
            for (part, _) in parts.all.iter().copied() {
                if let Some((name, element)) = self.element_of(part) {
                    self.description.faults.insert(name, element);
                }
            }
        }
    }

    fn addresses(&mut self, service: At) {
        let name = self.builder.attribute(service, "name").map(Box::from);
        self.description.service = self.description.service.take().or(name);
        for port in self.children(service, "port") {
            for (_, namespace) in VERSIONS {
                let address = self.soap_child(port, self.builder.names.find(namespace), "address");
                let location = address.and_then(|address| self.builder.attribute(address, "location"));
                let binding = self.binding_of(port);
                let address = |location: String| Address { location: location.into(), binding };
                self.description.addresses.extend(location.map(address));
            }
        }
    }
}
