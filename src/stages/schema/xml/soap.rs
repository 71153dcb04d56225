//! SOAP envelopes, 1.1 and 1.2: checks the envelope, and finds the element that the schema validates.
//!
//! An Envelope contains an optional Header, then a Body, and nothing else. The Body contains one element, which the schema
//! validates, or a Fault if the message is a response. The content of the Header is not checked.

use super::guard::{Guard, GuardError, Step};
use super::settings::Soap;

/// SOAP 1.1 §4, SOAP 1.2 part 1 §5.
const ENVELOPES: [&str; 2] = ["http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"];
/// Children of a Fault: name, and whether it is required (SOAP 1.1 §4.4, unqualified; SOAP 1.2 part 1 §5.4).
const FAULTS: [&[(&str, bool)]; 2] = [
    &[("faultcode", true), ("faultstring", true), ("faultactor", false), ("detail", false)],
    &[("Code", true), ("Reason", true), ("Node", false), ("Role", false), ("Detail", false)],
];

/// Why a message is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SoapError {
    /// It is not acceptable XML.
    Xml(GuardError),
    /// It is not a valid envelope: the path of the element, and what is wrong there.
    Envelope(&'static str, GuardError),
}

impl From<GuardError> for SoapError {
    fn from(error: GuardError) -> Self {
        Self::Xml(error)
    }
}

/// The part of a message that the schema validates.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// The only element in the Body, which is the Envelope's child at this position.
    InBody(usize),
    /// Nothing: it is a Fault.
    Fault,
}

/// Checks the envelope of a message, and finds its payload.
pub(super) fn find_payload(mut guard: Guard<'_>, soap: &Soap) -> Result<Payload, SoapError> {
    let mut envelope = Envelope::default();
    // Malformed XML takes precedence, so an envelope error is only returned once the whole message has been read.
    let mut error = None;
    while let Some(step) = guard.step()? {
        if error.is_some() {
            continue;
        }
        error = envelope.step(&guard, soap, step).err();
    }
    match error.map_or_else(|| envelope.finish(), Err) {
        Ok(payload) => Ok(payload),
        Err((path, error)) => Err(SoapError::Envelope(path, error)),
    }
}

/// The state of the check.
#[derive(Default)]
struct Envelope {
    /// Position in [`ENVELOPES`].
    version: usize,
    /// Children of the Envelope.
    parts: usize,
    /// Position of the Body among the Envelope's children, once it has begun.
    body: Option<usize>,
    /// Offset of the Body.
    offset: usize,
    /// Children of the Body.
    children: usize,
    /// The Body holds a Fault.
    fault: bool,
    /// Position in [`FAULTS`] of the next child that the Fault may have.
    next: usize,
    depth: usize,
}

/// A path of elements, and what is wrong there.
type EnvelopeError = (&'static str, GuardError);

impl Envelope {
    fn step(&mut self, guard: &Guard<'_>, soap: &Soap, step: Step<'_>) -> Result<(), EnvelopeError> {
        let element = match step {
            Step::Open(element) => element,
            Step::Close => {
                self.depth = self.depth.saturating_sub(1);
                return Ok(());
            }
            Step::Text { offset } => {
                let path = match self.depth {
                    1 => "/Envelope",
                    2 if self.body.is_some() => "/Envelope/Body",
                    _ => return Ok(()),
                };
                return Err((path, GuardError::new(offset, "there is text between the elements")));
            }
        };
        self.depth = guard.depth();
        let (offset, name, namespace) = (element.offset, element.local_name(), guard.namespace(&element));
        let reject = |path, words: &'static str| Err((path, GuardError::new(offset, words)));
        let envelope = ENVELOPES.get(self.version).copied().unwrap_or_default();
        match (self.depth, self.body) {
            (1, _) => {
                let version = ENVELOPES.iter().position(|known| *known == namespace);
                let (Some(version), "Envelope") = (version, name) else {
                    return reject("/", "the root is not an Envelope of SOAP 1.1 or 1.2");
                };
                self.version = version;
            }
            (2, None) => {
                if namespace == envelope && name == "Body" {
                    (self.body, self.offset) = (Some(self.parts), offset);
                } else if !(namespace == envelope && name == "Header" && self.parts == 0) {
                    return reject("/Envelope", "an Envelope contains an optional Header, and then a Body");
                }
                self.parts += 1;
            }
            (2, Some(_)) => return reject("/Envelope", "nothing may come after the Body"),
            (3, Some(_)) => {
                self.children += 1;
                if self.children > 1 {
                    return reject("/Envelope/Body", "a Body contains only one element, and this is a second one");
                }
                self.fault = namespace == envelope && name == "Fault";
                if self.fault && !soap.fault {
                    return reject("/Envelope/Body/Fault", "a Fault is a response, and this is a request");
                }
            }
            (4, Some(_)) if self.fault && !self.fault_child(name, namespace, envelope) => {
                return reject("/Envelope/Body/Fault", "this element is not expected here in a Fault");
            }
            _ => {}
        }
        Ok(())
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
        self.next += found + 1;
        true
    }

    fn fault_children(&self) -> &'static [(&'static str, bool)] {
        FAULTS.get(self.version).copied().unwrap_or_default()
    }

    /// Checks that nothing is missing at the end of the message.
    fn finish(&self) -> Result<Payload, EnvelopeError> {
        let Some(body) = self.body else { return Err(("/Envelope", GuardError::new(0, "there is no Body"))) };
        if self.children == 0 {
            return Err(("/Envelope/Body", GuardError::new(self.offset, "the Body is empty")));
        }
        if !self.fault {
            return Ok(Payload::InBody(body));
        }
        if self.fault_children().iter().skip(self.next).any(|(_, required)| *required) {
            return Err(("/Envelope/Body/Fault", GuardError::new(self.offset, "the Fault lacks a required element")));
        }
        Ok(Payload::Fault)
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::XmlSettings;
    use super::*;

    fn opened(text: &str, fault: bool) -> Result<Payload, &'static str> {
        let settings = XmlSettings::default();
        find_payload(Guard::new(text, &settings), &Soap { fault }).map_err(|error| match error {
            SoapError::Xml(_) => "flaw",
            SoapError::Envelope(path, _) => path,
        })
    }

    #[test]
    fn envelopes() {
        for (message, expected) in [
            ("<e:Envelope><e:Body><a/></e:Body></e:Envelope>", Ok(Payload::InBody(0))),
            ("<e:Envelope><e:Header/><e:Body><a/></e:Body></e:Envelope>", Ok(Payload::InBody(1))),
            (
                "<e:Envelope> <e:Header>x<e:Body/></e:Header>\n<e:Body>\n<a><e:Body/>x</a> </e:Body></e:Envelope>",
                Ok(Payload::InBody(1)),
            ),
            ("<e:Envelope><e:Body><Fault/></e:Body></e:Envelope>", Ok(Payload::InBody(0))),
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
            ("<a>", Err("flaw")),
            ("<e:Envelope><e:Body/><e:Body/>", Err("flaw")),
            ("<e:Envelope><e:Body><e:Fault/></e:Body></e:Envelope>", Err("/Envelope/Body/Fault")),
        ] {
            for namespace in ENVELOPES {
                let declared = format!(" xmlns:e='{namespace}'");
                let name = message.find(['>', '/']).unwrap();
                let message = [&message[..name], &declared, &message[name..]].concat();
                assert_eq!(opened(&message, false), expected, "{message}");
            }
        }
        let other = "<e:Envelope xmlns:e='urn:soap'><e:Body><a/></e:Body></e:Envelope>";
        assert_eq!(opened(other, false), Err("/"));
        let mixed = format!(
            "<e:Envelope xmlns:e='{}' xmlns:f='{}'><f:Body><a/></f:Body></e:Envelope>",
            ENVELOPES[0], ENVELOPES[1]
        );
        assert_eq!(opened(&mixed, false), Err("/Envelope"));
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
            let expected = if good { Ok(Payload::Fault) } else { Err("/Envelope/Body/Fault") };
            assert_eq!(opened(&message, true), expected, "{message}");
            assert_eq!(opened(&message, false), Err("/Envelope/Body/Fault"), "{message}");
        }
    }
}
