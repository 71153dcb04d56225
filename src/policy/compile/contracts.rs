//! `request` and `response` of routes: the contracts that messages are validated against.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde_json::{Value, json};

use super::context::Context;
use super::names::check_scopes;
use super::schemas::{SchemaFile, Schemas};
use crate::policy::document;
use crate::policy::router::PathName;
use crate::policy::source::quote;
use crate::policy::tree::At;
use crate::policy::units::Size;
use crate::stages::mask::{Mask, Replacement, Rule as MaskRule};
use crate::stages::schema::content::{Content, Contents};
use crate::stages::schema::fields::{Field, Style};
use crate::stages::schema::form::{Form, Multipart};
use crate::stages::schema::json::JsonSchema;
use crate::stages::schema::media_type::MediaRange;
use crate::stages::schema::object::Fields;
use crate::stages::schema::parameters::{Group, Parameters};
use crate::stages::schema::response::{Requirement as ResponseRequirement, Statuses, Undescribed};
use crate::stages::schema::xml::Soap;
use crate::stages::schema::{Bounds, Requirement};

/// Default of `request.max_size` and `response.max_size`.
pub(super) const MAX_CHECKED_BODY: u64 = 1024 * 1024;

/// Statuses that SOAP faults have (SOAP 1.1 §6.2; SOAP 1.2 part 2 §7.5.2.2).
const FAULTS: [u16; 2] = [400, 500];

/// Defaults of routes.
pub(super) struct Defaults {
    /// Largest body that is not validated.
    pub(super) body: u64,
    /// Deadline of any body.
    pub(super) deadline: Duration,
}

/// The contract of a route's requests in its OpenAPI description.
#[derive(Default)]
pub(super) struct DescribedRequest {
    /// Contracts of path, query, headers and cookies.
    pub(super) parameters: Parameters,
    /// Contracts of bodies, by media type.
    pub(super) contents: Vec<(MediaRange, Content)>,
    /// Whether a body is required.
    pub(super) required: bool,
    /// Largest body, if the description limits it.
    pub(super) max_size: Option<u64>,
}

/// Compiles the contract of a route's requests: the policy's, and for what it leaves out, the description's. `names` are
/// those of the path.
pub(super) fn request(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    route: &document::Route,
    described: DescribedRequest,
    names: &[PathName],
    defaults: &Defaults,
    at: At<'_>,
) -> Option<Requirement> {
    let inner = at.key("request");
    let nothing = document::Request::default();
    let request = route.request.as_ref().unwrap_or(&nothing);
    let deadline = context.period(inner.key("timeout"), request.timeout, defaults.deadline);
    let own = parameters(context, schemas, request, names, inner)?;
    let contents = bodies(context, schemas, request, inner)?;
    let bounded = request.max_size.is_some() || request.timeout.is_some();
    if route.request.is_some() && contents.is_empty() && own.is_none() && (!bounded || request.strict.is_some()) {
        context.missing(
            inner,
            "`request` is empty",
            "write `json:` (or `xml:`, `soap:`, `form:`, `multipart:`) with a schema file for the body, or `query:`, `path:`, `headers:`, `cookies:` for the rest, or `max_size:`, `timeout:` for any body",
        );
        return None;
    }
    let required = !contents.is_empty() || described.required;
    // The policy's apply to all media types that they have, even where the description is more specific.
    let contents = Contents::new(contents).or(Contents::new(described.contents));
    let default = if contents.is_checked() { MAX_CHECKED_BODY } else { defaults.body };
    let written = request.max_size.map(|Size(bytes)| bytes);
    let max_size = written.or(described.max_size).unwrap_or(default);
    let bounds = Bounds { max_size, outer_size: max_size.max(defaults.body), deadline };
    let mut requirement = Requirement::new(bounds);
    if !contents.is_empty() {
        requirement = requirement.body(contents, required);
    }
    let parameters = own.unwrap_or_default().or(described.parameters);
    Some(if parameters.is_empty() { requirement } else { requirement.parameters(parameters) })
}

/// Compiles the contracts of bodies, by media type.
fn bodies(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    request: &document::Request,
    at: At<'_>,
) -> Option<Vec<(MediaRange, Content)>> {
    let mut contents = Vec::new();
    if let Some(path) = &request.json {
        contents.extend(Contents::json(&schemas.json(context, path, at.key("json"))?.schema));
    }
    if let Some(path) = &request.xml {
        contents.extend(Contents::xml(&schemas.xml(context, path, None, at.key("xml"))?));
    }
    if let Some(written) = &request.soap {
        contents.extend(soap(context, schemas, written, Soap::REQUEST, at.key("soap"))?);
    }
    if request.xml.is_some() && request.soap.is_some() {
        context.error(at.key("soap"), "a route has `xml` or `soap`, not both");
    }
    if let Some(path) = &request.form {
        let SchemaFile { value, schema, .. } = schemas.json(context, path, at.key("form"))?;
        contents.extend(Contents::form(&Arc::new(Form::new(form_fields(&*value?), schema))));
    }
    if let Some(path) = &request.multipart {
        let SchemaFile { value, schema, .. } = schemas.json(context, path, at.key("multipart"))?;
        contents.extend(Contents::multipart(&Arc::new(Multipart::new(form_fields(&*value?), schema))));
    }
    Some(contents)
}

/// Compiles the contract of SOAP messages.
fn soap(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    written: &document::SoapContract,
    messages: Soap,
    at: At<'_>,
) -> Option<Vec<(MediaRange, Content)>> {
    let Some(file) = &written.wsdl else {
        context.missing(at, "`soap` has no `wsdl`", "write `wsdl:` with a WSDL file");
        return None;
    };
    if written.short {
        return Some(Contents::soap(&schemas.xml(context, file, Some(messages), at)?));
    }
    let schema = schemas.xml(context, file, Some(messages), at.key("wsdl"))?;
    let Some(service) = schema.description() else {
        context
            .error(at.key("wsdl"), "this is an XSD, which has no operations")
            .help("write `soap:` with the file alone");
        return None;
    };
    let Some(names) = &written.operations else { return Some(Contents::soap(&schema)) };
    let at = at.key("operations");
    if names.is_empty() {
        context.error(at, "`operations` is empty").help("name those that are allowed, or leave it out to allow all");
    }
    for (position, name) in names.iter().enumerate() {
        if !service.operations.iter().any(|operation| *operation.name == **name) {
            context.unknown(at.index(position), "operation", name, service.names(|_| true));
        }
    }
    let allowed = |name: &str| names.iter().any(|allowed| allowed == name);
    let allowed: Vec<bool> = service.operations.iter().map(|operation| allowed(&operation.name)).collect();
    Some(Contents::soap(&schema.only(&allowed)))
}

/// The fields of a form: texts, lists that repeat a name, and objects in JSON.
fn form_fields(schema: &Value) -> Fields {
    Fields::of(schema, Style::Form, true).json_objects()
}

/// Compiles the contracts of path, query, headers and cookies. The outer `None`: problems were reported.
fn parameters(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    request: &document::Request,
    names: &[PathName],
    at: At<'_>,
) -> Option<Option<Parameters>> {
    let mut parameters = Parameters::default();
    if let Some(path) = &request.path {
        let SchemaFile { value, schema, .. } = schemas.json(context, path, at.key("path"))?;
        let value = value?;
        let fields: Vec<Field> = Fields::of(&value, Style::Simple, false).into_iter().collect();
        for field in &fields {
            if !names.iter().any(|name| *name.name == *field.name()) {
                let shown = field.name();
                context.error(
                    at.key("path"),
                    format!("the route's path has no `{{{shown}}}`, which this schema has a property for"),
                );
            }
        }
        let place = |field: Field| {
            let name = names.iter().find(|name| *name.name == *field.name())?;
            Some((field, name.place.clone()))
        };
        parameters.path = Some(Group { fields: fields.into_iter().filter_map(place).collect(), schema });
    }
    parameters.query = query(context, schemas, request, at.key("query"))?;
    if let Some(path) = &request.headers {
        let SchemaFile { value, schema, .. } = schemas.json(context, path, at.key("headers"))?;
        let value = value?;
        let mut fields = Vec::new();
        for field in Fields::of(&value, Style::Simple, false) {
            match HeaderName::from_bytes(field.name().as_bytes()) {
                Ok(name) => fields.push((field, name)),
                Err(_) => {
                    let shown = field.name();
                    context.error(
                        at.key("headers"),
                        format!("this schema has a property `{shown}`, which is not the name of a header"),
                    );
                }
            }
        }
        parameters.headers = Some(Group { fields, schema });
    }
    if let Some(path) = &request.cookies {
        let SchemaFile { value, schema, .. } = schemas.json(context, path, at.key("cookies"))?;
        let value = value?;
        parameters.cookies = Some(Group { fields: Fields::of(&value, Style::Form, false), schema });
    }
    let some = request.path.is_some() || parameters.query.is_some() || request.headers.is_some();
    Some((some || request.cookies.is_some()).then_some(parameters))
}

/// Compiles the contract of the query. The outer `None`: problems were reported.
fn query(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    request: &document::Request,
    at: At<'_>,
) -> Option<Option<Group<Fields>>> {
    Some(match (&request.query, request.strict.unwrap_or(false)) {
        (Some(path), strict) => {
            let SchemaFile { value, schema, closed } = schemas.json(context, path, at)?;
            let value = value?;
            let open = ["additionalProperties", "unevaluatedProperties"].iter().all(|key| value.get(key).is_none());
            let schema = if strict && open { closed? } else { schema };
            let fields = Fields::of(&value, Style::Form, true);
            for collision in fields.collisions() {
                context.warning(at, collision).help("rename one of them");
            }
            Some(Group { fields, schema })
        }
        (None, true) => {
            let nothing = JsonSchema::new(&json!({"additionalProperties": false})).ok()?;
            Some(Group { fields: Fields::default(), schema: Arc::new(nothing) })
        }
        (None, false) => None,
    })
}

/// Compiles the contract of a route's responses.
pub(super) fn response(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    written: &document::Response,
    at: At<'_>,
) -> Option<ResponseRequirement> {
    let mut statuses = Vec::new();
    if let Some(content) = &written.successful {
        if !written.statuses.is_empty() {
            context
                .error(at, "`response` has contracts both for all successful responses and by status")
                .help("write one contract per status, such as `200: { json: … }`");
        }
        statuses.push((Statuses::Class(2), answer(context, schemas, content, at)?));
        if let Some(written) = &content.soap {
            let faults = Contents::new(faults(context, schemas, written, at.key("soap"))?);
            statuses.extend(FAULTS.map(|status| (Statuses::One(status), faults.clone())));
        }
    }
    for (text, content) in &written.statuses {
        let at = at.key(text);
        let Some(parsed) = Statuses::parse(text) else {
            context
                .problems
                .error(at.key_place(), "this is not a status")
                .help("write a status such as `200`, a class such as `2XX`, or `default`");
            continue;
        };
        if statuses.iter().any(|(known, _)| *known == parsed) {
            context.problems.error(at.key_place(), "this status is listed twice");
        }
        if let Some(contents) = answer(context, schemas, content, at) {
            statuses.push((parsed, contents));
        }
    }
    if statuses.is_empty() && written.mask.is_empty() && !at.damaged() {
        context
            .error(at, "`response` is empty")
            .help("write `json:`, `xml:` or `soap:` with a schema file, or one such contract per status");
    }
    let max_size = written.max_size.map_or(MAX_CHECKED_BODY, |Size(bytes)| bytes);
    // Successful responses are what a contract is for: one with another status is none of them.
    // A mask alone says nothing of statuses.
    let undescribed = (!statuses.is_empty()).then_some(Undescribed::Refused);
    Some(ResponseRequirement::new(statuses, max_size).handling_undescribed(undescribed, 300))
}

/// The contract of a route's responses with what is hidden of them: by its description, and by its own `response`.
pub(super) fn masked(
    context: &mut Context<'_>,
    (contract, described): (Option<ResponseRequirement>, &[MaskRule]),
    written: Option<&document::Response>,
    at: At<'_>,
) -> Option<ResponseRequirement> {
    let mut rules = described.to_vec();
    if let Some(written) = written {
        rules.extend(mask(context, written, at));
        of_json_alone(context, written, rules.is_empty(), at);
    }
    if rules.is_empty() {
        return contract;
    }
    let max_size = written.and_then(|written| written.max_size).map_or(MAX_CHECKED_BODY, |Size(bytes)| bytes);
    let contract = contract.unwrap_or_else(|| ResponseRequirement::new(Vec::new(), max_size));
    Some(contract.masked_by(Mask::new(rules)))
}

/// `mask` of a response.
fn mask(context: &mut Context<'_>, written: &document::Response, at: At<'_>) -> Vec<MaskRule> {
    let mut rules = Vec::new();
    for (path, rule) in &written.mask {
        let at = at.key("mask").key(path);
        if rule.visible_to.is_none() {
            let help = "write the scopes whose holders see it: `visible_to: [customers:iban]`; `[]`: nobody does";
            context.missing(at.key("visible_to"), "`visible_to` is missing", help);
        }
        let scopes = rule.visible_to.clone().unwrap_or_default();
        check_scopes(context, &scopes, at.key("visible_to"));
        let otherwise = rule.otherwise.as_deref().unwrap_or("remove");
        let Some(replacement) = Replacement::read(otherwise) else {
            let help = "write `remove`, `null`, `\"***\"`, or `keep_last 4`";
            context
                .error(at.key("else"), format!("{} is nothing that can stand in place of a value", quote(otherwise)))
                .help(help);
            continue;
        };
        match MaskRule::new(path, scopes.into_iter().map(String::into_boxed_str).collect(), replacement) {
            Ok(rule) => rules.push(rule),
            Err(problem) => drop(context.problems.error(at.key_place(), problem)),
        }
    }
    rules
}

/// Reports responses that cannot be masked, if something is hidden.
fn of_json_alone(context: &mut Context<'_>, written: &document::Response, hides_nothing: bool, at: At<'_>) {
    let of_statuses = written.statuses.iter().map(|(status, content)| (at.key(status), content));
    for (at, content) in written.successful.iter().map(|content| (at, content)).chain(of_statuses) {
        let others = [
            ("xml", content.xml.is_some()),
            ("soap", content.soap.is_some()),
            ("unchecked", !content.unchecked.is_empty()),
        ];
        for (key, _) in others.into_iter().filter(|(_, written)| *written && !hides_nothing) {
            context
                .error(at.key(key), "`mask` hides fields of JSON that is read whole, and this is none")
                .help("give these responses a route of their own, without `mask`");
        }
    }
}

/// What an error may be where successful responses are SOAP messages: a fault, or anything that does not say that it is one.
fn faults(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    written: &document::SoapContract,
    at: At<'_>,
) -> Option<Vec<(MediaRange, Content)>> {
    let mut contents = soap(context, schemas, written, Soap::RESPONSE, at)?;
    contents.extend(MediaRange::parse("*/*").map(|others| (others, Content::Unchecked)));
    Some(contents)
}

fn answer(
    context: &mut Context<'_>,
    schemas: &mut Schemas,
    content: &document::Content,
    at: At<'_>,
) -> Option<Contents> {
    let mut contents = Vec::new();
    if let Some(path) = &content.json {
        contents.extend(Contents::json(&schemas.json(context, path, at.key("json"))?.schema));
    }
    if let Some(path) = &content.xml {
        contents.extend(Contents::xml(&schemas.xml(context, path, None, at.key("xml"))?));
    }
    if let Some(written) = &content.soap {
        contents.extend(soap(context, schemas, written, Soap::RESPONSE, at.key("soap"))?);
    }
    for (position, text) in content.unchecked.iter().enumerate() {
        match MediaRange::parse(text) {
            Some(range) => contents.push((range, Content::Unchecked)),
            None => {
                let message = format!("{} is not a media type", quote(text));
                context.error(at.key("unchecked").index(position), message).help("write one such as `text/csv`");
            }
        }
    }
    if contents.is_empty() {
        let help = "write `json:` with a JSON Schema file, or `xml:` or `soap:` with an XSD file";
        context.missing(at, "this response has no contract", help);
        return None;
    }
    Some(Contents::new(contents))
}

/// Whether a response that violates its contract is only reported.
pub(super) fn only_reports(context: &mut Context<'_>, response: &document::Response, at: At<'_>) -> bool {
    match response.mode.as_deref() {
        None | Some("block") => false,
        Some("report") => true,
        Some(other) => {
            context.unknown(at.key("response").key("mode"), "way to handle responses", other, ["block", "report"]);
            false
        }
    }
}
