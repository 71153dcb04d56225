//! SOAP envelopes, 1.1 and 1.2: checks the envelope, and finds the element that the schema judges.
//!
//! An Envelope contains an optional Header, then a Body, and nothing else. The Body contains one element, which the schema
//! judges, or a Fault if the message is a response. The content of the Header is not checked.

use crate::xsd::instance::{Outer, Surroundings};

/// SOAP 1.1 §4, SOAP 1.2 part 1 §5.
const ENVELOPES: [&str; 2] = ["http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"];
/// Children of a Fault: name, and whether it is required (SOAP 1.1 §4.4, unqualified; SOAP 1.2 part 1 §5.4).
const FAULTS: [&[(&str, bool)]; 2] = [
    &[("faultcode", true), ("faultstring", true), ("faultactor", false), ("detail", false)],
    &[("Code", true), ("Reason", true), ("Node", false), ("Role", false), ("Detail", false)],
];

/// The body is a SOAP message, 1.1 or 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Soap {
    /// Whether it may be a Fault, which the schema does not judge: true for responses.
    pub(crate) fault: bool,
}

/// What is wrong with an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EnvelopeError {
    /// The path of the element.
    pub(super) path: &'static str,
    /// Of the element or the text, in bytes.
    pub(super) offset: usize,
    pub(super) message: &'static str,
}

/// The envelope of a message that is being read.
#[derive(Debug)]
pub(super) struct Envelope {
    soap: Soap,
    /// Position in [`ENVELOPES`].
    version: usize,
    /// Children of the Envelope.
    parts: usize,
    /// The offset of the Body, once it has begun.
    body: Option<usize>,
    /// Children of the Body.
    children: usize,
    /// The Body holds a Fault.
    fault: bool,
    /// Position in [`FAULTS`] of the next child that the Fault may have.
    next: usize,
    /// The first thing that is wrong.
    error: Option<EnvelopeError>,
}

type Step<T> = Result<T, EnvelopeError>;

fn reject<T>(path: &'static str, offset: usize, message: &'static str) -> Step<T> {
    Err(EnvelopeError { path, offset, message })
}

impl Surroundings for Envelope {
    fn begins(&mut self, element: Outer<'_>) -> bool {
        if self.error.is_some() {
            return false;
        }
        self.element(element).unwrap_or_else(|error| {
            self.error = Some(error);
            false
        })
    }

    fn text(&mut self, depth: usize, offset: usize) {
        let path = match depth {
            1 => "/Envelope",
            2 if self.body.is_some() => "/Envelope/Body",
            _ => return,
        };
        let message = "there is text between the elements";
        self.error.get_or_insert(EnvelopeError { path, offset, message });
    }
}

impl Envelope {
    /// Begins with a message.
    pub(super) fn new(soap: Soap) -> Self {
        Self { soap, version: 0, parts: 0, body: None, children: 0, fault: false, next: 0, error: None }
    }

    /// Takes an element, and returns whether the schema judges it.
    fn element(&mut self, Outer { depth, namespace, local: name, offset }: Outer<'_>) -> Step<bool> {
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
                return Ok(!self.fault);
            }
            (4, Some(_)) if self.fault && !self.fault_child(name, namespace, envelope) => {
                return reject("/Envelope/Body/Fault", offset, "this element is not expected here in a Fault");
            }
            _ => {}
        }
        Ok(false)
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

    /// Checks at the end of the message that nothing was wrong, and that nothing is missing.
    pub(super) fn finish(&self) -> Step<()> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let Some(body) = self.body else { return reject("/Envelope", 0, "there is no Body") };
        if self.children == 0 {
            return reject("/Envelope/Body", body, "the Body is empty");
        }
        if self.fault && self.fault_children().iter().skip(self.next).any(|(_, required)| *required) {
            return reject("/Envelope/Body/Fault", body, "the Fault lacks a required element");
        }
        Ok(())
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
        let schema = XmlSchema::new(main, &mut |_| Ok(None)).unwrap().in_envelope(Soap { fault });
        let result = schema.check_at_once(text.as_bytes(), None, &MemoryBudget::new(0)).unwrap();
        result.map_err(|refusal| refusal.violations().first().map_or("malformed".to_owned(), |v| v.pointer.clone()))
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
