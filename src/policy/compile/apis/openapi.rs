//! Routes from an OpenAPI description: compiles its schemas, and merges its operations with what the policy writes.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use http::HeaderName;
use serde_json::Value;

use super::merged_route::MergedRoute;
use crate::policy::compile::auth::KEY_HEADER;
use crate::policy::compile::context::Context;
use crate::policy::compile::contracts::{DescribedRequest, MAX_CHECKED_BODY};
use crate::policy::compile::names::check_scopes;
use crate::policy::document::{self, Document, Mode};
use crate::policy::openapi::{self, Alternative, Description, Extensions, Location, Name, Operation, Security};
use crate::policy::router::{PathName, Pattern};
use crate::policy::source::Place;
use crate::policy::tree::At;
use crate::policy::units::Size;
use crate::stages::schema::content::{Content, Contents};
use crate::stages::schema::fields::{Field, Fields};
use crate::stages::schema::form::{Form, Multipart};
use crate::stages::schema::json::{JsonSchema, SchemaProblem};
use crate::stages::schema::media_type::MediaRange;
use crate::stages::schema::parameters::{Group, Parameters};
use crate::stages::schema::response::{Requirement as ResponseRequirement, Statuses};
use crate::stages::scope::{self, By, ProofOfPossession};

/// A description with its compiled schemas.
pub(super) struct Described {
    description: Description,
    requests: HashMap<Name, Arc<JsonSchema>>,
    responses: HashMap<Name, Arc<JsonSchema>>,
    answers: Answers,
    /// Scopes of operations without `security`.
    scopes: Option<Vec<String>>,
}

/// How responses that violate the description are handled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Block,
    Report,
    Off,
}

/// Reads the description of an API, and compiles its schemas. Reports problems, and returns `None` if it is unusable.
pub(super) fn read(context: &mut Context<'_>, written: &document::OpenApi, at: At<'_>) -> Option<Described> {
    let answers = match written.responses.as_deref() {
        None | Some("block") => Answers::Block,
        Some("report") => Answers::Report,
        Some("off") => Answers::Off,
        Some(other) => {
            let known = ["block", "report", "off"];
            context.unknown(at.key("responses"), "way to handle responses", other, known);
            Answers::Block
        }
    };
    if let Some(scopes) = &written.scopes {
        check_scopes(context, scopes, at.key("scopes"));
    }
    let place = if written.short { at } else { at.key("document") };
    let Some(path) = &written.document else {
        context.missing(place, "`openapi` names no document", "write `document:` with an OpenAPI file");
        return None;
    };
    let source = context.read(place, path)?;
    let strict = written.strict.unwrap_or(false);
    let description = Description::read(&mut context.sources, source, path, strict, &mut context.problems)?;
    let requests = compiled(context, &description, &description.requests, &request_names(&description))?;
    let names = if answers == Answers::Off { BTreeSet::new() } else { response_names(&description) };
    let responses = compiled(context, &description, &description.responses, &names)?;
    Some(Described { description, requests, responses, answers, scopes: written.scopes.clone() })
}

fn request_names(description: &Description) -> BTreeSet<&str> {
    let parameters = description.operations.iter().flat_map(|operation| &operation.parameters);
    let bodies = description.operations.iter().filter_map(|operation| operation.request.as_ref());
    let contents = bodies.flat_map(|request| &request.contents).filter_map(|(_, content)| name(content));
    parameters.map(|parameters| &*parameters.schema).chain(contents).collect()
}

fn response_names(description: &Description) -> BTreeSet<&str> {
    let responses = description.operations.iter().flat_map(|operation| &operation.responses);
    responses.flat_map(|response| &response.contents).filter_map(|(_, content)| name(content)).collect()
}

fn name(content: &openapi::Content) -> Option<&str> {
    match content {
        openapi::Content::Json(name) => Some(name),
        openapi::Content::Form(form) | openapi::Content::Multipart(form) => Some(&form.schema),
        openapi::Content::Unchecked => None,
    }
}

fn compiled(
    context: &mut Context<'_>,
    description: &Description,
    document: &Value,
    names: &BTreeSet<&str>,
) -> Option<HashMap<Name, Arc<JsonSchema>>> {
    let names: Vec<&str> = names.iter().copied().collect();
    match JsonSchema::definitions(document, &names) {
        Ok(schemas) => {
            Some(names.iter().map(|name| Name::from(*name)).zip(schemas.into_iter().map(Arc::new)).collect())
        }
        Err(SchemaProblem { pointer, message }) => {
            let place = description.origin(&pointer);
            context.problems.error(place, format!("this schema cannot be enforced: {message}"));
            None
        }
    }
}

impl Described {
    /// Its operations, by the name of their route.
    pub(super) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.description.operations.iter()
    }

    /// The place of an operation.
    fn place(&self, operation: &Operation) -> Place {
        self.description.place(&operation.spot, true)
    }

    /// Merges an operation with the route of the policy, key by key; the policy takes precedence. `None` if problems were
    /// reported.
    pub(super) fn merge<'a>(
        &self,
        context: &mut Context<'_>,
        document: &Document,
        operation: &'a Operation,
        own: Option<&document::Route>,
        pattern: Option<&Pattern>,
        at: At<'a>,
    ) -> Option<MergedRoute<'a>> {
        let settings = self.settings(context, document, operation, own);
        let alternatives = match (&settings.scopes, settings.public) {
            (None, None | Some(false)) => Some(self.ways(context, document, operation, at)?),
            _ => None,
        };
        Some(MergedRoute {
            name: &operation.route,
            place: if own.is_some() { at.key_place() } else { self.place(operation) },
            at,
            alternatives,
            request: self.request(operation, pattern.map(Pattern::names).unwrap_or_default())?,
            response: if settings.response.is_none() { self.response(operation) } else { None },
            reports_responses: self.answers == Answers::Report,
            settings: Cow::Owned(settings),
        })
    }

    /// The settings of the policy, and for keys that it leaves out, those of the description's `x-bartizan`. Contracts are
    /// not merged: the policy's replaces the description's.
    fn settings(
        &self,
        context: &mut Context<'_>,
        document: &Document,
        operation: &Operation,
        own: Option<&document::Route>,
    ) -> document::Route {
        let extensions = &operation.extensions;
        // Problems of the extensions are reported in the description, and not again as problems of the policy.
        let good = self.check(context, document, extensions);
        let known =
            |own: Option<Option<Vec<String>>>, other: &Option<Vec<String>>| own.flatten().or_else(|| other.clone());
        let mode = || extensions.mode.clone().map(|all| Mode { all: Some(all), ..Mode::default() });
        let public = own.and_then(|own| own.public);
        // The description does not close what the policy opens.
        let scopes = if public == Some(true) { None } else { extensions.scopes.clone() };
        document::Route {
            scopes: own.and_then(|own| own.scopes.clone()).or(scopes),
            public,
            only: known(own.map(|own| own.only.clone()), &extensions.only).filter(|_| good),
            proof_of_possession: known(own.map(|own| own.proof_of_possession.clone()), &extensions.proof_of_possession)
                .filter(|_| good),
            max_age: own.and_then(|own| own.max_age).or(extensions.max_age),
            class: own.and_then(|own| own.class.clone()).or_else(|| extensions.class.clone().filter(|_| good)),
            rate: own.and_then(|own| own.rate).or(extensions.rate),
            mode: own.and_then(|own| own.mode.clone()).or_else(mode),
            request: own.and_then(|own| own.request.clone()),
            response: own.and_then(|own| own.response.clone()),
        }
    }

    /// Checks the names in `x-bartizan` that the policy must define, and reports unknown ones in the description. Returns
    /// whether all are known.
    fn check(&self, context: &mut Context<'_>, document: &Document, extensions: &Extensions) -> bool {
        let Some(spot) = &extensions.spot else { return true };
        let mut good = true;
        let mut tell = |message: String| {
            good = false;
            context.problems.error(self.description.place(spot, true), message);
        };
        for name in extensions.only.iter().flatten().filter(|name| !document.consumers.contains_key(*name)) {
            tell(format!("there is no consumer `{name}` in the policy"));
        }
        for name in extensions.proof_of_possession.iter().flatten() {
            if !ProofOfPossession::ALL.iter().any(|(known, _)| known == name) {
                tell(format!("there is no proof of possession `{name}`"));
            }
        }
        if let Some(class) = &extensions.class
            && !document.plans.values().any(|plan| plan.classes.contains_key(class))
        {
            tell(format!("no plan of the policy has a limit for the class `{class}`"));
        }
        good
    }

    /// The alternatives of an operation's `security`. Reports a problem and returns `None` if there are none.
    fn ways(
        &self,
        context: &mut Context<'_>,
        document: &Document,
        operation: &Operation,
        at: At<'_>,
    ) -> Option<Vec<scope::Alternative>> {
        let route = &operation.route;
        match (&operation.security, &self.scopes) {
            (Security::AnyOf(alternatives), _) => {
                let header = document.auth.api_keys.header.as_deref().unwrap_or(KEY_HEADER);
                for other in alternatives.iter().filter_map(|alternative| alternative.key_header.as_deref()) {
                    if !other.eq_ignore_ascii_case(header) {
                        context
                            .warning(
                                at,
                                format!("the description expects API keys in `{other}`, this policy in `{header}`"),
                            )
                            .help(format!("write `auth: {{ api_keys: {{ header: {other} }} }}`"));
                    }
                }
                Some(ways(alternatives))
            }
            (Security::Open, Some(scopes)) => {
                let scopes = scopes.iter().map(|scope| scope.as_str().into()).collect();
                Some(vec![scope::Alternative { scopes, ..scope::Alternative::default() }])
            }
            (Security::Open, None) => {
                context.problems.error(self.place(operation), "this operation has no `security`, and the policy does not open it").help(
                    format!("write in the policy `routes: {{ {route}: {{ public: true }} }}` to open it, or its `scopes`; or for all such operations, `openapi: {{ scopes: […] }}`"),
                );
                None
            }
            (Security::Unknown(spot, problem), _) => {
                let place = self.description.place(spot, true);
                context
                    .problems
                    .error(place, problem.clone())
                    .help(format!("write in the policy who may call it: `routes: {{ {route}: {{ scopes: […] }} }}`"));
                None
            }
        }
    }

    /// The contract of an operation's requests; `names` are those of the route's path.
    fn request(&self, operation: &Operation, names: &[PathName]) -> Option<DescribedRequest> {
        let request = operation.request.as_ref();
        let contents = request.map(|request| self.contents(&request.contents, &self.requests));
        Some(DescribedRequest {
            parameters: self.parameters(operation, names)?,
            contents: contents.unwrap_or_else(|| Some(Vec::new()))?,
            required: request.is_some_and(|request| request.required),
            max_size: operation.extensions.max_size.map(|Size(bytes)| bytes),
        })
    }

    fn parameters(&self, operation: &Operation, names: &[PathName]) -> Option<Parameters> {
        let mut parameters = Parameters::default();
        for group in &operation.parameters {
            let schema = Arc::clone(self.requests.get(&group.schema)?);
            let fields = self.fields(&group.fields);
            match group.location {
                Location::Path => {
                    let place = |field: Field| {
                        let name = names.iter().find(|name| *name.name == *field.name())?;
                        Some((field, name.segment, name.rest))
                    };
                    parameters.path = Some(Group { fields: fields.filter_map(place).collect(), schema });
                }
                Location::Query => parameters.query = Some(Group { fields: Fields::new(fields.collect()), schema }),
                Location::Header => {
                    let place = |field: Field| {
                        let name = HeaderName::from_bytes(field.name().as_bytes()).ok()?;
                        Some((field, name))
                    };
                    parameters.headers = Some(Group { fields: fields.filter_map(place).collect(), schema });
                }
                Location::Cookie => parameters.cookies = Some(Group { fields: Fields::new(fields.collect()), schema }),
            }
        }
        Some(parameters)
    }

    fn fields<'f>(&'f self, fields: &'f [openapi::Field]) -> impl Iterator<Item = Field> + 'f {
        let root = &self.description.requests;
        fields.iter().filter_map(move |field| {
            let schema = root.get("$defs")?.get(&*field.schema)?;
            Some(Field::new(&field.name, field.style, field.explode, schema, root))
        })
    }

    /// The contract of an operation's responses, unless they are not validated.
    fn response(&self, operation: &Operation) -> Option<ResponseRequirement> {
        if self.answers == Answers::Off || operation.responses.is_empty() {
            return None;
        }
        let one = |response: &openapi::Response| {
            let contents = self.contents(&response.contents, &self.responses)?;
            Some((Statuses::parse(&response.status)?, Contents::new(contents)))
        };
        let statuses = operation.responses.iter().map(one).collect::<Option<Vec<_>>>()?;
        Some(ResponseRequirement::new(statuses, MAX_CHECKED_BODY))
    }

    fn contents(
        &self,
        contents: &[(String, openapi::Content)],
        schemas: &HashMap<Name, Arc<JsonSchema>>,
    ) -> Option<Vec<(MediaRange, Content)>> {
        let schema = |name: &Name| schemas.get(name).cloned();
        let one = |(range, content): &(String, openapi::Content)| {
            let content = match content {
                openapi::Content::Json(name) => Content::Json(schema(name)?),
                openapi::Content::Form(form) => {
                    let fields = Fields::new(self.fields(&form.fields).collect());
                    Content::Form(Arc::new(Form::new(fields, schema(&form.schema)?)))
                }
                openapi::Content::Multipart(form) => {
                    let fields = Fields::new(self.fields(&form.fields).collect());
                    Content::Multipart(Arc::new(Multipart::new(fields, schema(&form.schema)?)))
                }
                openapi::Content::Unchecked => Content::Unchecked,
            };
            Some((MediaRange::parse(range)?, content))
        };
        contents.iter().map(one).collect()
    }
}

/// Converts alternatives for the scope stage. If they require different scopes, each is for its own kind of credential: a
/// token without scopes must not pass as an API key.
fn ways(alternatives: &[Alternative]) -> Vec<scope::Alternative> {
    let differ = alternatives.iter().any(|one| alternatives.first().is_some_and(|first| first.scopes != one.scopes));
    let way = |alternative: &Alternative| scope::Alternative {
        scopes: alternative.scopes.iter().map(|scope| scope.as_str().into()).collect(),
        by: match (&alternative.key_header, alternative.bearer) {
            (Some(_), _) if differ => Some(By::Key),
            (None, true) if differ => Some(By::Token),
            _ => None,
        },
        certificate: alternative.certificate,
    };
    let mut ways: Vec<scope::Alternative> = Vec::new();
    for way in alternatives.iter().map(way) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    ways
}
