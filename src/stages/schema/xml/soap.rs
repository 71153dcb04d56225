//! SOAP envelopes, 1.1 and 1.2: checks the envelope, and finds the element that the schema judges.
//!
//! An Envelope contains an optional Header, then a Body, and nothing else. The Body contains one element, which the schema
//! judges, or a Fault if the message is a response.
//!
//! With a WSDL, the element is one that an operation has in such a message, and the action that comes with it is none of
//! another operation: servers choose what they do by either. A response is that of an operation that the request is for. Header blocks and details of Faults that the WSDL declares are
//! judged; others pass, `mustUnderstand` or not, because that is for the node that is meant (SOAP 1.1 §4.2.3, SOAP 1.2 part 1
//! §2.4), which a proxy is not.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderName;
use mediatype::{MediaType, ReadParams};

use crate::refusal::Refusal;
use crate::stages::schema::malformed::malformed;
use crate::xsd::components::model::ElementId;
use crate::xsd::instance::{Outer, Surroundings, Verdict};
use crate::xsd::schema::Schema;
use crate::xsd::wsdl::{Description, Direction, Messages, SoapVersion};

/// SOAP 1.1 §4, SOAP 1.2 part 1 §5.
const ENVELOPES: [&str; 2] = ["http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"];
/// Longest Action of WS-Addressing, in bytes.
const MAX_ACTION: usize = 8 << 10;
/// Children of a Fault: name, and whether it is required (SOAP 1.1 §4.4, unqualified; SOAP 1.2 part 1 §5.4).
const FAULTS: [&[(&str, bool)]; 2] = [
    &[("faultcode", true), ("faultstring", true), ("faultactor", false), ("detail", false)],
    &[("Code", true), ("Reason", true), ("Node", false), ("Role", false), ("Detail", false)],
];

/// SOAP 1.1 §6.1.1.
static SOAP_ACTION: HeaderName = HeaderName::from_static("soapaction");

/// How the namespaces of WS-Addressing end: 1.0, and what was before it (2003/03, 2004/03, 2004/08), of which some servers still take
/// the header block `Action`.
const ADDRESSING: &str = "/addressing";

/// The operations of a WSDL that a server may run for a request.
#[derive(Debug)]
pub(crate) struct Called {
    /// Of the WSDL.
    pub(super) schema: Arc<Schema>,
    /// Positions in the WSDL's operations.
    pub(super) operations: Vec<usize>,
}

impl Called {
    /// Whether nothing is sent in answer, whichever of them it is.
    pub(crate) fn is_one_way(&self) -> bool {
        let wsdl = self.schema.description.as_ref();
        wsdl.is_some_and(|wsdl| self.operations.iter().all(|operation| wsdl.is_one_way(*operation)))
    }
}

/// The body is a SOAP message, 1.1 or 1.2.
#[derive(Debug, Clone)]
pub(crate) struct Soap {
    /// Whether it may be a Fault, which the schema does not judge: true for responses.
    fault: bool,
    /// What the sender says that the message is for.
    actions: Actions,
    /// By position in the WSDL's operations: whether it is allowed. `None`: all are.
    only: Option<Arc<[bool]>>,
    /// What a response answers, if its request was judged by the same WSDL.
    answers: Option<Arc<Called>>,
}

/// The values of `SOAPAction` and of the parameter `action`, without quotes; empty ones say nothing.
type Actions = Option<Arc<[Box<str>]>>;

impl Soap {
    /// A request, which may not be a Fault.
    pub(crate) const REQUEST: Self = Self { fault: false, actions: None, only: None, answers: None };
    /// A response.
    pub(crate) const RESPONSE: Self = Self { fault: true, actions: None, only: None, answers: None };

    /// The same for these operations of the WSDL only.
    pub(super) fn only(&self, allowed: Arc<[bool]>) -> Self {
        Self { only: Some(allowed), ..self.clone() }
    }

    /// Whether an operation is allowed.
    fn allows(&self, operation: usize) -> bool {
        self.only.as_ref().is_none_or(|only| only.get(operation).is_some_and(|allowed| *allowed))
    }

    /// Whether it is for responses.
    pub(super) fn is_response(&self) -> bool {
        self.fault
    }

    /// The same for a message with these headers, which answers this if it is a response.
    pub(super) fn of(
        &self,
        media: &MediaType<'_>,
        headers: &HeaderMap,
        answers: Option<Arc<Called>>,
    ) -> Result<Self, Refusal> {
        if self.fault {
            return Ok(Self { answers, ..self.clone() });
        }
        let mut actions: Vec<Box<str>> = Vec::new();
        let mut fields = headers.get_all(&SOAP_ACTION).iter();
        if let Some(field) = fields.next() {
            let text = field.to_str().ok().filter(|_| fields.next().is_none());
            let action = text.and_then(|text| action_of(text.trim()));
            actions.push(action.ok_or_else(|| malformed("send one `SOAPAction`, a URI in quotes"))?.into());
        }
        for (name, value) in media.params() {
            let value = value.unquoted_str();
            if name.as_str().eq_ignore_ascii_case("action") {
                let action = Some(&*value).filter(|value| is_plain(value));
                actions.push(action.ok_or_else(|| malformed("the parameter `action` is no URI"))?.into());
            } else if has_action(name.as_str()) || has_action(&value) {
                // Some servers take `action*` (RFC 2231), or the first `action=` that is anywhere in the field.
                return Err(malformed("send the action in a parameter `action`, and in no other"));
            }
        }
        actions.retain(|action| !action.is_empty());
        if actions.len() > 2 {
            return Err(malformed("send the parameter `action` once"));
        }
        Ok(Self { actions: (!actions.is_empty()).then(|| actions.into()), ..self.clone() })
    }
}

/// The URI in a `SOAPAction`. Servers do not agree about one with another quote, or with blanks.
fn action_of(text: &str) -> Option<&str> {
    let action = match text.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => text,
    };
    Some(action).filter(|action| is_plain(action))
}

fn is_plain(action: &str) -> bool {
    !action.contains(['"', ' ', '\t']) && !action.starts_with('\'') && !action.ends_with('\'')
}

fn has_action(text: &str) -> bool {
    text.to_ascii_lowercase().contains("action")
}

/// What is wrong with an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvelopeError {
    /// The path of the element.
    pub(super) path: &'static str,
    /// Of the element or the text, in bytes.
    pub(super) offset: usize,
    pub(super) message: Cow<'static, str>,
}

/// The envelope of a message that is being read.
#[derive(Debug)]
pub(super) struct Envelope<'s> {
    soap: Soap,
    /// If present, only its messages are allowed.
    wsdl: Option<&'s Description>,
    /// Position in [`ENVELOPES`].
    version: usize,
    /// Children of the Envelope.
    parts: usize,
    /// The offset of the Body, once it has begun.
    body: Option<usize>,
    /// Children of the Body.
    children: usize,
    /// The action in the Header, once it has begun.
    addressing: Option<String>,
    /// It is open.
    in_action: bool,
    /// The Body holds a Fault.
    fault: bool,
    /// Position in [`FAULTS`] of the next child that the Fault may have.
    next: usize,
    /// The operations that the element in the Body is for, by position.
    called: Vec<usize>,
    /// The first thing that is wrong.
    error: Option<EnvelopeError>,
}

type Step<T> = Result<T, EnvelopeError>;

fn reject<T>(path: &'static str, offset: usize, message: impl Into<Cow<'static, str>>) -> Step<T> {
    Err(EnvelopeError { path, offset, message: message.into() })
}

impl Surroundings for Envelope<'_> {
    fn begins(&mut self, element: Outer<'_>) -> Verdict {
        if self.error.is_some() {
            return Verdict::Around;
        }
        self.element(element).unwrap_or_else(|error| {
            self.error = Some(error);
            Verdict::Around
        })
    }

    fn text(&mut self, text: &str, depth: usize, offset: usize) {
        self.add_to_action(text, depth, offset);
        let path = match depth {
            1 => "/Envelope",
            2 if self.body.is_some() => "/Envelope/Body",
            _ => return,
        };
        let message = "there is text between the elements".into();
        self.error.get_or_insert(EnvelopeError { path, offset, message });
    }

    fn blank(&mut self, text: &str, depth: usize, offset: usize) {
        self.add_to_action(text, depth, offset);
    }
}

impl<'s> Envelope<'s> {
    /// Begins with a message.
    pub(super) fn new(soap: Soap, wsdl: Option<&'s Description>) -> Self {
        Self {
            soap,
            wsdl,
            version: 0,
            parts: 0,
            body: None,
            children: 0,
            addressing: None,
            in_action: false,
            fault: false,
            next: 0,
            called: Vec::new(),
            error: None,
        }
    }

    /// Takes an element, and returns how the schema judges it.
    fn element(&mut self, outer: Outer<'_>) -> Step<Verdict> {
        let Outer { depth, namespace, local: name, offset, .. } = outer;
        let envelope = ENVELOPES.get(self.version).copied().unwrap_or_default();
        match (depth, self.body) {
            (1, _) => {
                let version = ENVELOPES.iter().position(|known| *known == namespace);
                let (Some(version), "Envelope") = (version, name) else {
                    return reject("/", offset, "the root is not an Envelope of SOAP 1.1 or 1.2");
                };
                self.version = version;
            }
            (2, None) => {
                if namespace == envelope && name == "Body" {
                    self.body = Some(offset);
                } else if !(namespace == envelope && name == "Header" && self.parts == 0) {
                    return reject("/Envelope", offset, "an Envelope contains an optional Header, and then a Body");
                }
                self.parts = self.parts.saturating_add(1);
            }
            (2, Some(_)) => return reject("/Envelope", offset, "nothing may come after the Body"),
            (3, Some(_)) => {
                self.children = self.children.saturating_add(1);
                if self.children > 1 {
                    let message = "a Body contains only one element, and this is a second one";
                    return reject("/Envelope/Body", offset, message);
                }
                self.fault = namespace == envelope && name == "Fault";
                if self.fault && !self.soap.fault {
                    let message = "a Fault is a response, and this is a request";
                    return reject("/Envelope/Body/Fault", offset, message);
                }
                return if self.fault { Ok(Verdict::Around) } else { self.content(outer) };
            }
            (4, Some(_)) if self.fault && !self.fault_child(name, namespace, envelope) => {
                return reject("/Envelope/Body/Fault", offset, "this element is not expected here in a Fault");
            }
            // The Header, and the detail of a Fault, which is the last that a fault can have.
            (3, None) if name == "Action" && namespace.ends_with(ADDRESSING) => self.begin_action(offset)?,
            (3, None) => {
                self.in_action = false;
                return Ok(self.declared(|wsdl| wsdl.header(self.direction(), outer.name)));
            }
            (4, None) if self.in_action => {
                return reject("/Envelope/Header/Action", offset, "an Action contains only a URI");
            }
            (5, Some(_)) if self.fault && self.next == self.fault_children().len() => {
                return Ok(self.declared(|wsdl| wsdl.fault(outer.name)));
            }
            _ => {}
        }
        Ok(Verdict::Around)
    }

    /// An action begins in the Header, which servers may go by as they do by the SOAPAction.
    fn begin_action(&mut self, offset: usize) -> Step<()> {
        if self.wsdl.is_none() || self.soap.fault {
            return Ok(());
        }
        if self.addressing.is_some() {
            return reject("/Envelope/Header/Action", offset, "a Header contains only one Action");
        }
        self.addressing = Some(String::new());
        self.in_action = true;
        Ok(())
    }

    /// Adds a piece of text to the action, if that is open.
    fn add_to_action(&mut self, text: &str, depth: usize, offset: usize) {
        let Some(action) = self.addressing.as_mut().filter(|_| self.in_action && depth == 3) else { return };
        if action.len().saturating_add(text.len()) > MAX_ACTION {
            let message = format!("an Action is longer than {MAX_ACTION} bytes").into();
            self.error.get_or_insert(EnvelopeError { path: "/Envelope/Header/Action", offset, message });
            return;
        }
        action.push_str(text);
    }

    /// How an element is judged that the WSDL may declare.
    fn declared(&self, find: impl FnOnce(&Description) -> Option<ElementId>) -> Verdict {
        self.wsdl.and_then(find).map_or(Verdict::Around, Verdict::By)
    }

    fn direction(&self) -> Direction {
        if self.soap.fault { Direction::Response } else { Direction::Request }
    }

    fn soap_version(&self) -> SoapVersion {
        if self.version == 0 { SoapVersion::V11 } else { SoapVersion::V12 }
    }

    /// How the element in the Body is judged.
    fn content(&mut self, Outer { name, offset, .. }: Outer<'_>) -> Step<Verdict> {
        let Some(wsdl) = self.wsdl else { return Ok(Verdict::Global) };
        let Some(messages) = wsdl.messages(self.direction(), self.soap_version(), Some(name)) else {
            return reject(
                "/Envelope/Body",
                offset,
                self.no_operation(wsdl, "this element is not that of an operation"),
            );
        };
        self.called = self.check_operation(wsdl, messages, offset)?;
        Ok(messages.element.map_or(Verdict::Global, Verdict::By))
    }

    fn no_operation(&self, wsdl: &Description, what: &str) -> String {
        if !wsdl.has_version(self.soap_version()) {
            let version = if self.version == 0 { "1.1" } else { "1.2" };
            return format!("the WSDL has no binding of SOAP {version}; send the envelope of another version");
        }
        format!("{what}; the operations are {}", wsdl.names(|operation| self.soap.allows(operation)).join(", "))
    }

    /// Checks that the message is for an operation that its sender says, and that is allowed; returns all that it is for.
    fn check_operation(&self, wsdl: &Description, messages: &Messages, offset: usize) -> Step<Vec<usize>> {
        let addressing = self.addressing.as_deref().map(str::trim).filter(|action| !action.is_empty());
        let actions = self.soap.actions.iter().flat_map(|actions| actions.iter()).map(|action| &**action);
        let actions: Vec<&str> = actions.chain(addressing).collect();
        let called = wsdl.called(messages, &actions);
        if called.is_empty() {
            let message =
                "the SOAPAction is not that of the operation in the Body; send the one that the WSDL names for it";
            return reject("/Envelope/Body", offset, message);
        }
        if let Some(answers) = &self.soap.answers
            && !called.iter().any(|operation| answers.operations.contains(operation))
        {
            let asked = wsdl.names(|operation| answers.operations.contains(&operation)).join(", ");
            let message = format!("this is not the response of the operation in the request, which is {asked}");
            return reject("/Envelope/Body", offset, message);
        }
        let mut allowed = called.iter().map(|operation| self.soap.allows(*operation));
        // A server may run any of those that a request fits; a response is good if one of them has it.
        let good = if self.soap.fault { allowed.any(|allowed| allowed) } else { allowed.all(|allowed| allowed) };
        if good {
            return Ok(called);
        }
        reject("/Envelope/Body", offset, self.no_operation(wsdl, "this operation is not allowed here"))
    }

    /// Advances to a child of the Fault; returns whether it is expected here.
    fn fault_child(&mut self, name: &str, namespace: &str, envelope: &str) -> bool {
        let qualified = if self.version == 0 { "" } else { envelope };
        let mut expected = self.fault_children().iter().skip(self.next);
        let Some(found) = expected.clone().position(|(known, _)| *known == name) else { return false };
        let skips_required = expected.by_ref().take(found).any(|(_, required)| *required);
        if skips_required || namespace != qualified {
            return false;
        }
        self.next = self.next.saturating_add(found).saturating_add(1);
        true
    }

    fn fault_children(&self) -> &'static [(&'static str, bool)] {
        FAULTS.get(self.version).copied().unwrap_or_default()
    }

    /// Checks at the end of the message that nothing was wrong, and that nothing is missing. Returns the operations of the WSDL
    /// that it is for, by position.
    pub(super) fn finish(&self) -> Step<Vec<usize>> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let Some(body) = self.body else { return reject("/Envelope", 0, "there is no Body") };
        if let (0, Some(wsdl)) = (self.children, self.wsdl) {
            return match wsdl.messages(self.direction(), self.soap_version(), None) {
                Some(messages) => self.check_operation(wsdl, messages, body),
                None => reject("/Envelope/Body", body, self.no_operation(wsdl, "the Body is empty")),
            };
        }
        if self.children == 0 {
            return reject("/Envelope/Body", body, "the Body is empty");
        }
        if self.fault && self.fault_children().iter().skip(self.next).any(|(_, required)| *required) {
            return reject("/Envelope/Body/Fault", body, "the Fault lacks a required element");
        }
        Ok(self.called.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::MemoryBudget;
    use crate::stages::schema::xml::XmlSchema;
    use crate::xsd::components::documents::Found;

    /// Judges a message by a schema that allows everything that is in a namespace of its own, or none.
    fn opened(text: &str, fault: bool) -> Result<(), String> {
        let schema = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a"/><xs:element name="Fault"/></xs:schema>"#;
        let main = Found { file: "main.xsd".into(), bytes: schema.as_bytes().into() };
        let schema = XmlSchema::new(main, &mut |_| Ok(None)).unwrap().in_envelope(if fault {
            Soap::RESPONSE
        } else {
            Soap::REQUEST
        });
        let result = schema.check_at_once(text.as_bytes(), None, &MemoryBudget::new(0)).unwrap();
        result
            .map(drop)
            .map_err(|refusal| refusal.violations().first().map_or("malformed".to_owned(), |v| v.pointer.clone()))
    }

    #[test]
    fn envelopes() {
        for (message, expected) in [
            ("<e:Envelope><e:Body><a/></e:Body></e:Envelope>", Ok(())),
            ("<e:Envelope><e:Header/><e:Body><a/></e:Body></e:Envelope>", Ok(())),
            (
                "<e:Envelope> <e:Header>x<e:Body/></e:Header>\n<e:Body>\n<a><e:Body/>x</a> </e:Body></e:Envelope>",
                Ok(()),
            ),
            ("<e:Envelope><e:Body><Fault/></e:Body></e:Envelope>", Ok(())),
            ("<e:Envelope><e:Body/></e:Envelope>", Err("/Envelope/Body")),
            ("<e:Envelope><e:Body> </e:Body></e:Envelope>", Err("/Envelope/Body")),
            ("<e:Envelope><e:Body><a/><a/></e:Body></e:Envelope>", Err("/Envelope/Body")),
            ("<e:Envelope><e:Body>x<a/></e:Body></e:Envelope>", Err("/Envelope/Body")),
            ("<e:Envelope><e:Body><a/></e:Body><e:Body><b/></e:Body></e:Envelope>", Err("/Envelope")),
            ("<e:Envelope><e:Body><a/></e:Body><a/></e:Envelope>", Err("/Envelope")),
            ("<e:Envelope><e:Body><a/></e:Body>x</e:Envelope>", Err("/Envelope")),
            ("<e:Envelope><e:Header/><e:Header/><e:Body><a/></e:Body></e:Envelope>", Err("/Envelope")),
            ("<e:Envelope><Header/><e:Body><a/></e:Body></e:Envelope>", Err("/Envelope")),
            ("<e:Envelope><e:Header/></e:Envelope>", Err("/Envelope")),
            ("<e:Envelope/>", Err("/Envelope")),
            ("<e:envelope><e:Body><a/></e:Body></e:envelope>", Err("/")),
            ("<Envelope><Body><a/></Body></Envelope>", Err("/")),
            ("<a/>", Err("/")),
            ("<a>", Err("malformed")),
            ("<e:Envelope><e:Body/><e:Body/>", Err("malformed")),
            ("<e:Envelope><e:Body><e:Fault/></e:Body></e:Envelope>", Err("/Envelope/Body/Fault")),
        ] {
            for namespace in ENVELOPES {
                let declared = format!(" xmlns:e='{namespace}'");
                let name = message.find(['>', '/']).unwrap();
                let message = [&message[..name], &declared, &message[name..]].concat();
                assert_eq!(opened(&message, false), expected.map_err(str::to_owned), "{message}");
            }
        }
        let other = "<e:Envelope xmlns:e='urn:soap'><e:Body><a/></e:Body></e:Envelope>";
        assert_eq!(opened(other, false), Err("/".to_owned()));
        let mixed = format!(
            "<e:Envelope xmlns:e='{}' xmlns:f='{}'><f:Body><a/></f:Body></e:Envelope>",
            ENVELOPES[0], ENVELOPES[1]
        );
        assert_eq!(opened(&mixed, false), Err("/Envelope".to_owned()));
    }

    #[test]
    fn faults() {
        for (version, children, good) in [
            (0, "<faultcode>e:Client</faultcode><faultstring>no</faultstring>", true),
            (0, "<faultcode/><faultstring/><faultactor/><detail><a/></detail>", true),
            (0, "<faultcode/><faultstring/><detail/>", true),
            (0, "<faultstring/><faultcode/>", false),
            (0, "<faultcode/>", false),
            (0, "<faultcode/><faultcode/><faultstring/>", false),
            (0, "<faultcode/><faultstring/><detail/><detail/>", false),
            (0, "<e:faultcode/><e:faultstring/>", false),
            (0, "", false),
            (1, "<e:Code><e:Value>e:Sender</e:Value></e:Code><e:Reason/>", true),
            (1, "<e:Code/><e:Reason/><e:Detail/>", true),
            (1, "<e:Code/><e:Reason/><e:Other/>", false),
            (1, "<Code/><Reason/>", false),
            (1, "<faultcode/><faultstring/>", false),
        ] {
            let message = format!(
                "<e:Envelope xmlns:e='{}'><e:Body><e:Fault>{children}</e:Fault></e:Body></e:Envelope>",
                ENVELOPES[version]
            );
            let wrong = || Err("/Envelope/Body/Fault".to_owned());
            let expected = if good { Ok(()) } else { wrong() };
            assert_eq!(opened(&message, true), expected, "{message}");
            assert_eq!(opened(&message, false), wrong(), "{message}");
        }
    }
}
