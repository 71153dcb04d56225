//! Writes tests of the policy of a WSDL: a message of each operation, made from the schemas, and what is refused.

use std::collections::HashSet;
use std::fmt::Write;

use super::soap::Routes;
use super::yaml;
use crate::xsd::sample::{Samples, is_valid};
use crate::xsd::schema::Schema;
use crate::xsd::wsdl::{Description, Operation, SoapVersion};

/// Most operations that have tests.
const MOST: usize = 50;
/// What no schema has in this place, unless it has anything.
const STRANGE: &str = "<not-in-the-schema xmlns=\"urn:example:unknown\"/>";

/// A request in a test.
struct Request<'a> {
    path: &'a str,
    version: SoapVersion,
    action: &'a str,
    /// The content of the Body.
    body: &'a str,
}

/// The text of the tests of the policy in `file`, which has these routes for the WSDL.
pub(super) fn text(file: &str, routes: &Routes<'_>, service: &Description, schema: &Schema) -> String {
    let text = format!(
        "# What the policy takes and refuses, generated from the WSDL: bartizan test FILE\npolicy: {}\n\n\
         callers:\n  example: {{ key: example-1 }}\n\ntests:\n",
        yaml::value(file)
    );
    let mut seen: Vec<&str> = Vec::new();
    let mut maker = Maker { text, service, schema, samples: Samples::new(schema), actions: actions(service) };
    for (position, operation) in service.operations.iter().enumerate() {
        let Some(path) = routes.path_of(operation) else { continue };
        if seen.contains(&&*operation.name) {
            continue;
        }
        if seen.len() >= MOST {
            let _ = writeln!(maker.text, "  # The WSDL has more operations, which have no tests here.");
            break;
        }
        seen.push(&operation.name);
        maker.of_operation(path, (position, operation));
    }
    let (mut text, path) = (maker.text, routes.first_path());
    let version = if service.has_version(SoapVersion::V11) { SoapVersion::V11 } else { SoapVersion::V12 };
    let strange = Request { path, version, action: "", body: STRANGE };
    test(&mut text, "what is no operation is refused", Some("example"), &strange, VIOLATION);
    test(&mut text, "nobody calls it without a key", None, &strange, "status: 401, code: missing_credentials");
    text
}

const VIOLATION: &str = "status: 422, code: schema_violation";

/// The actions of all operations, each once.
fn actions(service: &Description) -> Vec<&str> {
    let mut seen = HashSet::new();
    let actions = service.operations.iter().map(|operation| &*operation.action);
    actions.filter(|action| !action.is_empty() && seen.insert(*action)).collect()
}

struct Maker<'a> {
    text: String,
    service: &'a Description,
    schema: &'a Schema,
    samples: Samples<'a>,
    actions: Vec<&'a str>,
}

impl Maker<'_> {
    fn of_operation(&mut self, path: &str, (position, operation): (usize, &Operation)) {
        let Some((version, element)) = self.service.request(position) else { return };
        let body = element.map_or_else(|| Some(String::new()), |element| self.samples.of(element));
        // A test file expands references as a policy does.
        let Some(body) = body.filter(|body| !yaml::is_reference(body) && !yaml::is_reference(&operation.action)) else {
            let name = yaml::comment(&operation.name);
            let _ = writeln!(
                self.text,
                "  # TODO: {name}: no message could be made from the schemas; write one into a test."
            );
            return;
        };
        let name = &operation.name;
        let good = Request { path, version, action: &operation.action, body: &body };
        test(
            &mut self.text,
            &format!("{name}: what the WSDL demands passes"),
            Some("example"),
            &good,
            "status: 200, consumer: example",
        );
        let spoiled = element.zip(body.rsplit_once("</")).and_then(|(element, (before, end))| {
            let spoiled = format!("{before}{STRANGE}</{end}");
            (!is_valid(self.schema, element, &spoiled)).then_some(spoiled)
        });
        if let Some(body) = &spoiled {
            let name = format!("{name}: what its schema does not have is refused");
            test(&mut self.text, &name, Some("example"), &Request { body, ..good }, VIOLATION);
        }
        let other = self.actions.iter().find(|action| !self.service.is_called_by(position, action));
        if let Some(action) = other.filter(|action| !yaml::is_reference(action)) {
            let name = format!("{name}: the action of another operation is refused");
            test(&mut self.text, &name, Some("example"), &Request { action, ..good }, VIOLATION);
        }
    }
}

fn test(text: &mut String, name: &str, who: Option<&str>, request: &Request<'_>, expect: &str) {
    let Request { path, version, action, body } = request;
    let (namespace, headers) = match version {
        SoapVersion::V11 => {
            let action = yaml::value(&format!("\"{action}\""));
            (
                "http://schemas.xmlsoap.org/soap/envelope/",
                format!("content-type: text/xml; charset=utf-8, soapaction: {action}"),
            )
        }
        SoapVersion::V12 => {
            let action = if action.is_empty() { String::new() } else { format!("; action=\"{action}\"") };
            let media = yaml::value(&format!("application/soap+xml; charset=utf-8{action}"));
            ("http://www.w3.org/2003/05/soap-envelope", format!("content-type: {media}"))
        }
    };
    let message = format!("<s:Envelope xmlns:s=\"{namespace}\"><s:Body>{body}</s:Body></s:Envelope>");
    let who = who.map(|who| format!("\n    as: {who}")).unwrap_or_default();
    let _ = write!(
        text,
        "  - name: {}{who}\n    request:\n      method: POST\n      path: {}\n      headers: {{ {headers} }}\n      \
         body_text: {}\n    expect: {{ {expect} }}\n",
        yaml::value(name),
        yaml::value(path),
        yaml::value(&message),
    );
}
