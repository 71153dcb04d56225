//! Routes from an OpenAPI description: compiles its schemas, and merges its operations with what the policy writes.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use http::HeaderName;
use serde_json::Value;

use super::definitions::{Compiled, DefinitionsCompiler};
use super::extension_names::{self, UnknownName};
use super::merged_route::MergedRoute;
use super::route::ApiScope;
use super::shown;
use crate::policy::catalog::Catalog;
use crate::policy::compile::context::Context;
use crate::policy::compile::contracts::{DescribedRequest, MAX_CHECKED_BODY};
use crate::policy::compile::names::check_scopes;
use crate::policy::document::{self, Document, Mode};
use crate::policy::openapi::{self, Alternative, ClosedOperation, DescribedKey, Description, Extensions, Handling};
use crate::policy::openapi::{Location, Name, Operation, Options, Security};
use crate::policy::router::{PathName, Pattern};
use crate::policy::source::Place;
use crate::policy::tree::At;
use crate::policy::units::Size;
use crate::stages::auth::locations::{CredentialLocations, KeyLocation};
use crate::stages::schema::content::{Content, Contents};
use crate::stages::schema::fields::Field;
use crate::stages::schema::form::{Form, Multipart};
use crate::stages::schema::json::JsonSchema;
use crate::stages::schema::media_type::MediaRange;
use crate::stages::schema::object::Fields;
use crate::stages::schema::parameters::{Group, Parameters};
use crate::stages::schema::response::{Requirement as ResponseRequirement, Statuses, Undescribed};
use crate::stages::scope::{self, By};

/// A description with its compiled schemas.
pub(super) struct Described {
    description: Description,
    requests: Compiled,
    responses: Compiled,
    answers: Answers,
    undescribed: Option<Undescribed>,
    /// Of validated responses, in bytes.
    max_size: u64,
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

impl Answers {
    const ALL: [(&str, Self); 3] = [("block", Self::Block), ("report", Self::Report), ("off", Self::Off)];
}

/// Reads the description of an API, and compiles its schemas. Reports problems, and returns `None` if it is unusable.
pub(super) fn read(
    context: &mut Context<'_>,
    catalog: &Catalog,
    written: &document::OpenApi,
    at: At<'_>,
) -> Option<Described> {
    let answers = choice(context, &Answers::ALL, written.responses.as_deref(), at.key("responses"));
    let answers = answers.unwrap_or(Answers::Block);
    let handling = |context: &mut Context<'_>, key: &'static str, text: &Option<String>, of_answers: bool| {
        let handling = choice(context, &Handling::ALL, text.as_deref(), at.key(key));
        if handling == Some(Handling::Block) && of_answers && answers != Answers::Block {
            context.error(at.key(key), format!("`{key}: block` needs `responses: block`"));
        }
        handling
    };
    let undescribed = handling(context, "undescribed", &written.undescribed, true);
    let options = Options {
        strict: written.strict.unwrap_or(false),
        skip: written.skip.clone(),
        read_only: handling(context, "read_only", &written.read_only, false).unwrap_or_default(),
        write_only: handling(context, "write_only", &written.write_only, true).unwrap_or_default(),
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
    let description = Description::read(&mut context.sources, catalog, &source, path, &options, &mut context.problems)?;
    check_skipped(context, &description, &options, at.key("skip"));
    let names = if answers == Answers::Off { BTreeSet::new() } else { response_names(&description) };
    let mut compiler = DefinitionsCompiler::new(context, catalog, &description);
    let requests = compiler.compile(&description.requests, &request_names(&description))?;
    let responses = compiler.compile(&description.responses, &names)?;
    let undescribed = match undescribed.unwrap_or_default() {
        Handling::Block => Some(Undescribed::Refused),
        Handling::Report => Some(Undescribed::Reported),
        Handling::Allow => None,
    };
    let max_size = written.max_size.map_or(MAX_CHECKED_BODY, |Size(bytes)| bytes);
    Some(Described { description, requests, responses, answers, undescribed, max_size, scopes: written.scopes.clone() })
}

/// Reads one of several words; reports any other.
fn choice<T: Copy>(context: &mut Context<'_>, known: &[(&str, T)], text: Option<&str>, at: At<'_>) -> Option<T> {
    let text = text?;
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
    if found.is_none() {
        context.unknown(at, "choice called", text, known.iter().map(|(name, _)| *name));
    }
    found
}

/// Reports names in `skip` that no operation has.
fn check_skipped(context: &mut Context<'_>, description: &Description, options: &Options, at: At<'_>) {
    for (position, (name, _)) in
        options.skip.iter().zip(&description.skipped).enumerate().filter(|(_, (_, known))| !**known)
    {
        let open = description.operations.iter().map(|operation| &*operation.route);
        let known: Vec<&str> = open.chain(description.closed.iter().map(|closed| &*closed.name)).collect();
        context.unknown(at.index(position), "operation in the description called", name, known);
    }
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

impl Described {
    /// Its operations, by the name of their route.
    pub(super) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.description.operations.iter()
    }

    /// The operations that get no route.
    pub(super) fn closed(&self) -> &[ClosedOperation] {
        &self.description.closed
    }

    /// Why an operation gets no route: neither do we support what its `security` requires, nor does the policy say who may
    /// call it. Reports it.
    pub(super) fn closes(
        &self,
        context: &mut Context<'_>,
        operation: &Operation,
        own: Option<&document::Route>,
    ) -> Option<String> {
        let Security::Unknown(spot, problem) = &operation.security else { return None };
        let decided = own.is_some_and(|own| own.scopes.is_some() || own.public == Some(true));
        if decided || operation.extensions.scopes.is_some() {
            return None;
        }
        let route = &operation.route;
        let place = self.description.place(spot, true);
        context
            .problems
            .warning(place, format!("{problem}, so the operations that need it are closed"))
            .help(format!("write in the policy who may call them: `routes: {{ {route}: {{ scopes: […] }} }}`"));
        Some(format!("`{route}`: {problem}"))
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
        scope: &ApiScope<'_>,
        operation: &'a Operation,
        own: Option<&document::Route>,
        pattern: Option<&Pattern>,
        at: At<'a>,
    ) -> Option<MergedRoute<'a>> {
        let settings = self.settings(context, scope.document, operation, (own, pattern));
        let alternatives = match (&settings.scopes, settings.public) {
            (None, None | Some(false)) => Some(self.ways(context, scope.api.credentials(), operation, at)?),
            _ => None,
        };
        Some(MergedRoute {
            name: &operation.route,
            place: if own.is_some() { at.key_place() } else { self.place(operation) },
            at,
            alternatives,
            request: self.request(context, operation, pattern.map(Pattern::names).unwrap_or_default())?,
            response: match &settings.response {
                Some(own) if own.has_contract() => None,
                own => self.response(operation, own.as_ref().and_then(|own| own.max_size)),
            },
            mask: &operation.mask,
            shown: scope.document.self_service.as_ref().map(|_| shown::described(&self.description, operation)),
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
        (own, pattern): (Option<&document::Route>, Option<&Pattern>),
    ) -> document::Route {
        let extensions = &operation.extensions;
        // Problems of the extensions are reported in the description, and not again as problems of the policy.
        let names = pattern.map(Pattern::names).unwrap_or_default();
        let good = self.check(context, document, extensions, names);
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
            from: known(own.map(|own| own.from.clone()), &extensions.from).filter(|_| good),
            ownership: own
                .and_then(|own| own.ownership.clone())
                .or_else(|| extensions.ownership.clone().filter(|_| good && public != Some(true))),
            max_age: own.and_then(|own| own.max_age).or(extensions.max_age),
            class: own.and_then(|own| own.class.clone()).or_else(|| extensions.class.clone().filter(|_| good)),
            cost: own.and_then(|own| own.cost).or(extensions.cost),
            rate: own.and_then(|own| own.rate).or(extensions.rate),
            mode: own.and_then(|own| own.mode.clone()).or_else(mode),
            rewrite: own.and_then(|own| own.rewrite.clone()),
            encoded_slash: own.and_then(|own| own.encoded_slash.clone()),
            request: own.and_then(|own| own.request.clone()),
            response: own.and_then(|own| own.response.clone()),
            upgrade: own.and_then(|own| own.upgrade.clone()),
        }
    }

    /// Checks the names in `x-bartizan` that the policy must define, and reports unknown ones in the description. Returns
    /// whether all are known.
    fn check(
        &self,
        context: &mut Context<'_>,
        document: &Document,
        extensions: &Extensions,
        names: &[PathName],
    ) -> bool {
        let Some(spot) = &extensions.spot else { return true };
        let unknown = extension_names::unknown(document, extensions, names);
        let good = unknown.is_empty();
        for UnknownName { message, help } in unknown {
            context.problems.error(self.description.place(spot, true), message).help = help;
        }
        good
    }

    /// The alternatives of an operation's `security`. Reports a problem and returns `None` if there are none.
    fn ways(
        &self,
        context: &mut Context<'_>,
        locations: &CredentialLocations,
        operation: &Operation,
        at: At<'_>,
    ) -> Option<Vec<scope::Alternative>> {
        let route = &operation.route;
        match (&operation.security, &self.scopes) {
            (Security::AnyOf(alternatives), _) => {
                alternatives.iter().for_each(|one| warn_of_places(context, locations, one, at));
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
            // Reported where the operation is closed.
            (Security::Unknown(..), _) => None,
        }
    }

    /// The contract of an operation's requests; `names` are those of the route's path.
    fn request(
        &self,
        context: &mut Context<'_>,
        operation: &Operation,
        names: &[PathName],
    ) -> Option<DescribedRequest> {
        let parameters = self.parameters(operation, names)?;
        for collision in parameters.query.iter().flat_map(|query| query.fields.collisions()) {
            let problem = context.problems.warning(self.place(operation), collision);
            problem.help("rename one of them, or write the object in another style, such as `deepObject`");
        }
        let request = operation.request.as_ref();
        let contents = request.map(|request| self.contents(&request.contents, &self.requests));
        Some(DescribedRequest {
            parameters,
            contents: contents.unwrap_or_else(|| Some(Vec::new()))?,
            required: request.is_some_and(|request| request.required),
            max_size: operation.extensions.max_size.map(|Size(bytes)| bytes),
        })
    }

    fn parameters(&self, operation: &Operation, names: &[PathName]) -> Option<Parameters> {
        let mut parameters = Parameters::default();
        for group in &operation.parameters {
            let schema = Arc::clone(self.requests.schemas.get(&group.schema)?);
            let fields = self.fields(&group.fields);
            match group.location {
                Location::Path => {
                    let place = |field: Field| {
                        let name = names.iter().find(|name| *name.name == *field.name())?;
                        Some((field, name.place.clone()))
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
        let root = &self.requests.root;
        fields.iter().filter_map(move |field| {
            let schema = root.get("$defs")?.get(&*field.schema)?;
            let new = Field::new(&field.name, field.style, field.explode, schema, root);
            Some(new.accepting(&field.media).json_objects(field.json_objects))
        })
    }

    /// The contract of an operation's responses, unless they are not validated.
    fn response(&self, operation: &Operation, max_size: Option<Size>) -> Option<ResponseRequirement> {
        if self.answers == Answers::Off || operation.responses.is_empty() {
            return None;
        }
        let one = |response: &openapi::Response| {
            let contents = self.contents(&response.contents, &self.responses)?;
            Some((Statuses::parse(&response.status)?, Contents::new(contents)))
        };
        let statuses = operation.responses.iter().map(one).collect::<Option<Vec<_>>>()?;
        let max_size = max_size.map_or(self.max_size, |Size(bytes)| bytes);
        Some(ResponseRequirement::new(statuses, max_size).handling_undescribed(self.undescribed, 400))
    }

    fn contents(
        &self,
        contents: &[(MediaRange, openapi::Content)],
        of: &Compiled,
    ) -> Option<Vec<(MediaRange, Content)>> {
        let one = |(range, content): &(MediaRange, openapi::Content)| {
            let strict = self.content(content, &of.schemas)?;
            let content = match &of.lenient {
                Some(lenient) if !matches!(strict, Content::Unchecked) => {
                    Content::Graded(Arc::new((strict, self.content(content, lenient)?)))
                }
                _ => strict,
            };
            Some((range.clone(), content))
        };
        contents.iter().map(one).collect()
    }

    fn content(&self, content: &openapi::Content, schemas: &HashMap<Name, Arc<JsonSchema>>) -> Option<Content> {
        let schema = |name: &Name| schemas.get(name).cloned();
        let root = &self.requests.root;
        let fields = |form: &openapi::Form| {
            let schema = root.get("$defs").and_then(|definitions| definitions.get(&*form.schema));
            Fields::new(self.fields(&form.fields).collect()).within(schema.unwrap_or(&Value::Null), root)
        };
        Some(match content {
            openapi::Content::Json(name) => Content::Json(schema(name)?),
            openapi::Content::Form(form) => Content::Form(Arc::new(Form::new(fields(form), schema(&form.schema)?))),
            openapi::Content::Multipart(form) => {
                Content::Multipart(Arc::new(Multipart::new(fields(form), schema(&form.schema)?)))
            }
            openapi::Content::Unchecked => Content::Unchecked,
        })
    }
}

/// Warns if the policy takes the credential of an alternative elsewhere than the description says.
fn warn_of_places(context: &mut Context<'_>, locations: &CredentialLocations, written: &Alternative, at: At<'_>) {
    if let Some(cookie) = written.cookie.as_deref().filter(|cookie| !locations.cookies().any(|known| known == *cookie))
    {
        let message = format!("the description expects tokens in the cookie `{cookie}`, where this policy takes none");
        let help = format!("write `auth: {{ tokens: {{ from: [authorization, {{ cookie: {cookie} }}] }} }}`");
        context.warning(at, message).help(help);
    }
    let Some(described) = &written.key else { return };
    let (expected, is_same) = match (described, &locations.key) {
        (DescribedKey::Header(name), Some(KeyLocation::Header(own))) => {
            (format!("`{name}`"), name.eq_ignore_ascii_case(own.as_str()))
        }
        (DescribedKey::Header(name), _) => (format!("`{name}`"), false),
        (DescribedKey::Query(name), own) => {
            (format!("the query parameter `{name}`"), *own == Some(KeyLocation::Query(name.as_str().into())))
        }
    };
    let taken = match &locations.key {
        _ if is_same => return,
        Some(KeyLocation::Header(name)) => format!("this policy in `{name}`"),
        Some(other) => format!("this policy in {other}"),
        None => "this API takes none (`authenticate_by`)".to_owned(),
    };
    context
        .warning(at, format!("the description expects API keys in {expected}, {taken}"))
        .help(format!("write `auth: {{ api_keys: {{ {described} }} }}`"));
}

/// Converts alternatives for the scope stage. If they require different scopes, each is for its own kind of credential: a
/// token without scopes must not pass as an API key.
fn ways(alternatives: &[Alternative]) -> Vec<scope::Alternative> {
    let differ = alternatives.iter().any(|one| alternatives.first().is_some_and(|first| first.scopes != one.scopes));
    let way = |alternative: &Alternative| scope::Alternative {
        scopes: alternative.scopes.iter().map(|scope| scope.as_str().into()).collect(),
        // Beside a certificate, too: the certificate alone is a credential.
        by: match (&alternative.key, alternative.bearer) {
            (Some(_), _) if differ || alternative.certificate => Some(By::Key),
            (None, true) if differ || alternative.certificate => Some(By::Token),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// F2
    #[test]
    fn a_credential_required_beside_a_certificate_is_not_the_certificate_alone() {
        let scheme = |key: bool, bearer: bool, certificate: bool| Alternative {
            scopes: Vec::new(),
            certificate,
            bearer,
            cookie: None,
            key: key.then(|| DescribedKey::Header("x-key".to_owned())),
        };
        for (written, expected) in [
            (scheme(true, false, true), Some(By::Key)),
            (scheme(false, true, true), Some(By::Token)),
            (scheme(false, false, true), None),
            (scheme(true, false, false), None),
        ] {
            let ways = ways(std::slice::from_ref(&written));
            assert_eq!((ways[0].by, ways[0].certificate), (expected, written.certificate), "{written:?}");
        }
    }
}
