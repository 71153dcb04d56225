//! What callers are shown of a route: what is enforced, from the description or from the policy's own schema files.

use crate::policy::compile::schemas::Schemas;
use crate::policy::document;
use crate::policy::openapi::{Content, Description, Location, Operation};
use crate::policy::shown::{Shown, ShownSchema, parameters};

/// What a description says of an operation.
pub(super) fn described(description: &Description, operation: &Operation) -> Shown {
    let (requests, responses) = (&description.requests.document, &description.responses.document);
    let fields = operation.parameters.iter().flat_map(|group| {
        let style = |name: &str| {
            let field = group.fields.iter().find(|field| field.name == name)?;
            Some((field.style.as_str(), field.explode))
        };
        let object = ShownSchema::definition(requests, &group.schema);
        parameters(&object, location(group.location), style).collect::<Vec<_>>()
    });
    let bodies = operation.request.iter().flat_map(|request| &request.contents).filter_map(|(range, content)| {
        Some((Box::from(range.to_string()), ShownSchema::definition(requests, name(content)?)))
    });
    let answers = operation.responses.iter().map(|response| {
        let contents = response.contents.iter().filter_map(|(range, content)| {
            Some((Box::from(range.to_string()), ShownSchema::definition(responses, name(content)?)))
        });
        (Box::from(response.status.as_str()), contents.collect())
    });
    Shown {
        summary: operation.summary.as_deref().map(Box::from),
        parameters: fields.collect(),
        bodies: bodies.collect(),
        responses: answers.collect(),
    }
}

/// What the policy's own schema files say comes in place of the description's.
pub(super) fn merged(schemas: &Schemas, settings: &document::Route, described: Option<Shown>) -> Shown {
    let mut shown = described.unwrap_or_default();
    let whole = |path: &Option<String>| Some(ShownSchema::whole(&schemas.value(path.as_deref()?)?));
    if let Some(request) = &settings.request {
        let bodies = [
            ("application/json", &request.json),
            ("application/x-www-form-urlencoded", &request.form),
            ("multipart/form-data", &request.multipart),
        ];
        for (media, schema) in bodies.into_iter().filter_map(|(media, path)| Some((media, whole(path)?))) {
            shown.bodies.retain(|(known, _)| **known != *media);
            shown.bodies.push((media.into(), schema));
        }
        let groups = [
            ("path", &request.path),
            ("query", &request.query),
            ("header", &request.headers),
            ("cookie", &request.cookies),
        ];
        for (location, object) in groups.into_iter().filter_map(|(location, path)| Some((location, whole(path)?))) {
            shown.parameters.retain(|parameter| parameter.location != location);
            shown.parameters.extend(parameters(&object, location, |_| None));
        }
    }
    if let Some(response) = settings.response.as_ref().filter(|response| response.has_contract()) {
        let successful = response.successful.iter().map(|content| ("2XX", content));
        let by_status = response.statuses.iter().map(|(status, content)| (status.as_str(), content));
        let answers = successful.chain(by_status).filter_map(|(status, content)| {
            Some((Box::from(status), vec![(Box::from("application/json"), whole(&content.json)?)]))
        });
        shown.responses = answers.collect();
    }
    shown
}

fn location(location: Location) -> &'static str {
    match location {
        Location::Path => "path",
        Location::Query => "query",
        Location::Header => "header",
        Location::Cookie => "cookie",
    }
}

fn name(content: &Content) -> Option<&str> {
    match content {
        Content::Json(name) => Some(name),
        Content::Form(form) | Content::Multipart(form) => Some(&form.schema),
        Content::Unchecked => None,
    }
}
