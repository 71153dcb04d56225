//! The endpoints of the admin listener: which method on which path needs which right, and what answers it.

use http::Method;

use crate::policy::Rights;

/// One operation of the admin API.
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    /// With `{parameters}`, as in the OpenAPI document.
    path: &'static str,
    /// `None`: needs no token.
    pub(super) rights: Option<Rights>,
    handler: Handler,
}

/// What answers an endpoint.
#[derive(Debug, Clone, Copy)]
enum Handler {
    /// The listener itself. A path of these has one method and no parameters.
    Listener(Page),
    /// An operation on the registry, which the command line can also run without a daemon.
    Registry(Action),
}

/// What the listener answers itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum Page {
    GetDocument,
    GetHealth,
    GetReadiness,
    GetMetrics,
    GetOpenApi,
    GetOperator,
    GetPolicy,
    ReloadPolicy,
    ListIssuers,
    ListSecrets,
    ListSinks,
    GetLaunchCheck,
    FollowAudit,
}

/// An operation on the registry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    ListConsumers,
    AddConsumer,
    GetConsumer,
    PutConsumer,
    PatchConsumer,
    RemoveConsumer,
    GetSuspension,
    SuspendConsumer,
    ResumeConsumer,
    ListSuspensions,
    ListUsage,
    GetUsage,
    ResetUsage,
    ListConsumerKeys,
    NewKey,
    PutKey,
    ListInvitations,
    ListConsumerInvitations,
    Invite,
    WithdrawInvitation,
    ListKeys,
    GetKey,
    PatchKey,
    RemoveKey,
    RotateKey,
    ListClients,
    ListConsumerClients,
    GetClient,
    RemoveClient,
    ListGrants,
    ListConsumerGrants,
    Grant,
    PutGrant,
    EndGrant,
    ListRevocations,
    Revoke,
    GetRevocation,
    UndoRevocation,
    RecordDrill,
    ListSigningKeys,
    RotateSigningKey,
    ListUpstreams,
    DrainUpstream,
}

const fn public(path: &'static str, page: Page) -> Endpoint {
    Endpoint { method: "GET", path, rights: None, handler: Handler::Listener(page) }
}

const fn page(method: &'static str, path: &'static str, rights: Rights, page: Page) -> Endpoint {
    Endpoint { method, path, rights: Some(rights), handler: Handler::Listener(page) }
}

const fn on(method: &'static str, path: &'static str, rights: Rights, action: Action) -> Endpoint {
    Endpoint { method, path, rights: Some(rights), handler: Handler::Registry(action) }
}

/// Every endpoint. `openapi.json` has the same ones; a test compares them.
static ENDPOINTS: [Endpoint; 56] = [
    public("/", Page::GetDocument),
    public("/healthz", Page::GetHealth),
    public("/readyz", Page::GetReadiness),
    public("/metrics", Page::GetMetrics),
    page("GET", "/v1/openapi.json", Rights::Read, Page::GetOpenApi),
    page("GET", "/v1/operator", Rights::Read, Page::GetOperator),
    page("GET", "/v1/policy", Rights::Read, Page::GetPolicy),
    page("POST", "/v1/policy/reload", Rights::Operate, Page::ReloadPolicy),
    page("GET", "/v1/issuers", Rights::Read, Page::ListIssuers),
    page("GET", "/v1/secrets", Rights::Read, Page::ListSecrets),
    page("GET", "/v1/sinks", Rights::Read, Page::ListSinks),
    page("GET", "/v1/launch-check", Rights::Read, Page::GetLaunchCheck),
    page("GET", "/v1/audit", Rights::Read, Page::FollowAudit),
    on("GET", "/v1/consumers", Rights::Read, Action::ListConsumers),
    on("POST", "/v1/consumers", Rights::Operate, Action::AddConsumer),
    on("GET", "/v1/consumers/{name}", Rights::Read, Action::GetConsumer),
    on("PUT", "/v1/consumers/{name}", Rights::Operate, Action::PutConsumer),
    on("PATCH", "/v1/consumers/{name}", Rights::Operate, Action::PatchConsumer),
    on("DELETE", "/v1/consumers/{name}", Rights::Operate, Action::RemoveConsumer),
    on("GET", "/v1/consumers/{name}/suspension", Rights::Read, Action::GetSuspension),
    on("PUT", "/v1/consumers/{name}/suspension", Rights::Operate, Action::SuspendConsumer),
    on("DELETE", "/v1/consumers/{name}/suspension", Rights::Operate, Action::ResumeConsumer),
    on("GET", "/v1/suspensions", Rights::Read, Action::ListSuspensions),
    on("GET", "/v1/usage", Rights::Read, Action::ListUsage),
    on("GET", "/v1/consumers/{name}/usage", Rights::Read, Action::GetUsage),
    on("DELETE", "/v1/consumers/{name}/usage", Rights::Operate, Action::ResetUsage),
    on("GET", "/v1/consumers/{name}/keys", Rights::Read, Action::ListConsumerKeys),
    on("POST", "/v1/consumers/{name}/keys", Rights::Operate, Action::NewKey),
    on("PUT", "/v1/consumers/{name}/keys/{id}", Rights::Operate, Action::PutKey),
    on("GET", "/v1/keys", Rights::Read, Action::ListKeys),
    on("GET", "/v1/keys/{id}", Rights::Read, Action::GetKey),
    on("PATCH", "/v1/keys/{id}", Rights::Operate, Action::PatchKey),
    on("DELETE", "/v1/keys/{id}", Rights::Operate, Action::RemoveKey),
    on("POST", "/v1/keys/{id}/rotate", Rights::Operate, Action::RotateKey),
    on("GET", "/v1/clients", Rights::Read, Action::ListClients),
    on("GET", "/v1/clients/{id}", Rights::Read, Action::GetClient),
    on("DELETE", "/v1/clients/{id}", Rights::Operate, Action::RemoveClient),
    on("GET", "/v1/consumers/{name}/clients", Rights::Read, Action::ListConsumerClients),
    on("GET", "/v1/invitations", Rights::Read, Action::ListInvitations),
    on("DELETE", "/v1/invitations/{id}", Rights::Operate, Action::WithdrawInvitation),
    on("GET", "/v1/consumers/{name}/invitations", Rights::Read, Action::ListConsumerInvitations),
    on("POST", "/v1/consumers/{name}/invitations", Rights::Operate, Action::Invite),
    on("GET", "/v1/grants", Rights::Read, Action::ListGrants),
    on("GET", "/v1/consumers/{name}/grants", Rights::Read, Action::ListConsumerGrants),
    on("POST", "/v1/consumers/{name}/grants", Rights::Operate, Action::Grant),
    on("PUT", "/v1/consumers/{name}/grants/{id}", Rights::Operate, Action::PutGrant),
    on("DELETE", "/v1/consumers/{name}/grants/{id}", Rights::Operate, Action::EndGrant),
    on("GET", "/v1/revocations", Rights::Read, Action::ListRevocations),
    on("POST", "/v1/revocations", Rights::Operate, Action::Revoke),
    on("GET", "/v1/revocations/{id}", Rights::Read, Action::GetRevocation),
    on("DELETE", "/v1/revocations/{id}", Rights::Operate, Action::UndoRevocation),
    on("POST", "/v1/drills", Rights::Operate, Action::RecordDrill),
    on("GET", "/v1/signing-keys", Rights::Read, Action::ListSigningKeys),
    on("POST", "/v1/signing-keys/rotate", Rights::Operate, Action::RotateSigningKey),
    on("GET", "/v1/upstreams", Rights::Read, Action::ListUpstreams),
    on("POST", "/v1/upstreams/drain", Rights::Operate, Action::DrainUpstream),
];

/// Method, path and right of every endpoint; without a right, no token is needed.
pub(crate) fn listed() -> impl Iterator<Item = (&'static str, &'static str, Option<Rights>)> {
    ENDPOINTS.iter().map(|endpoint| (endpoint.method, endpoint.path, endpoint.rights))
}

/// The endpoint at this path that the listener answers itself, whatever the method.
pub(super) fn find_page(path: &str) -> Option<(&'static Endpoint, Page)> {
    ENDPOINTS.iter().find_map(|endpoint| match endpoint.handler {
        Handler::Listener(page) if endpoint.path == path => Some((endpoint, page)),
        _ => None,
    })
}

/// The operation on the registry for this method and these decoded segments of the path, with its parameters.
pub(super) fn find_action<'a>(method: &Method, segments: &[&'a str]) -> Option<(Action, Vec<&'a str>)> {
    ENDPOINTS.iter().filter(|endpoint| endpoint.method == method.as_str()).find_map(|endpoint| match endpoint.handler {
        Handler::Registry(action) => Some((action, endpoint.parameters(segments)?)),
        Handler::Listener(_) => None,
    })
}

/// The right that a method needs on the registry, whether the path exists or not: a caller is authorized before the
/// path is looked up, so that only operators learn what exists.
pub(super) fn registry_rights(method: &Method) -> Rights {
    if *method == Method::GET { Rights::Read } else { Rights::Operate }
}

impl Endpoint {
    /// The parameters of the path, when these segments match it.
    fn parameters<'a>(&self, segments: &[&'a str]) -> Option<Vec<&'a str>> {
        let template = || self.path.split('/').skip(1);
        if template().count() != segments.len() {
            return None;
        }
        let mut parameters = Vec::new();
        for (expected, segment) in template().zip(segments) {
            if expected.starts_with('{') {
                parameters.push(*segment);
            } else if expected != *segment {
                return None;
            }
        }
        Some(parameters)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_table_and_the_openapi_document_have_the_same_operations() {
        let table: BTreeSet<[String; 4]> = ENDPOINTS
            .iter()
            .map(|Endpoint { method, path, rights, handler }| {
                let right = match rights {
                    None => "",
                    Some(Rights::Read) => "read",
                    Some(Rights::Operate) => "operate",
                };
                let id = match handler {
                    Handler::Listener(page) => format!("{page:?}"),
                    Handler::Registry(action) => format!("{action:?}"),
                };
                [method.to_lowercase(), (*path).to_owned(), right.to_owned(), id.to_lowercase()]
            })
            .collect();
        let document: Value = serde_json::from_str(super::super::OPENAPI).unwrap();
        let mut documented = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                let right = operation["x-rights"].as_str().unwrap_or_default().to_owned();
                let id = operation["operationId"].as_str().unwrap().to_lowercase();
                documented.insert([method.clone(), path.clone(), right, id]);
            }
        }
        assert_eq!(table.len(), ENDPOINTS.len(), "an endpoint is in the table twice");
        let undocumented: Vec<_> = table.difference(&documented).collect();
        let unserved: Vec<_> = documented.difference(&table).collect();
        assert!(undocumented.is_empty() && unserved.is_empty(), "{undocumented:?} {unserved:?}");
    }

    /// U14: generators of clients make a class of every body, and stop at constants that are not texts.
    #[test]
    fn bodies_are_models_that_generators_understand() {
        fn constants(value: &Value, found: &mut Vec<Value>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("const").filter(|constant| !constant.is_string()).cloned());
                    members.values().for_each(|member| constants(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| constants(item, found)),
                _ => {}
            }
        }
        let document: Value = serde_json::from_str(super::super::OPENAPI).unwrap();
        let mut found = Vec::new();
        constants(&document, &mut found);
        assert!(found.is_empty(), "{found:?}");
        let operations = document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap());
        let bodies: Vec<_> = operations.filter_map(|(_, operation)| operation.get("requestBody")).collect();
        assert!(bodies.len() > 8, "{}", bodies.len());
        for body in bodies {
            let model = body["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
            let schema = document.pointer(model.trim_start_matches('#')).unwrap();
            assert_eq!(schema["type"], "object", "{model}");
            for keyword in ["oneOf", "anyOf", "allOf", "not"] {
                assert!(schema.get(keyword).is_none(), "{model} has `{keyword}` beside its properties");
            }
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_method_and_path_and_has_the_rights_of_its_method() {
        for endpoint in &ENDPOINTS {
            match endpoint.handler {
                Handler::Listener(_) => assert!(std::ptr::eq(find_page(endpoint.path).unwrap().0, endpoint)),
                Handler::Registry(action) => {
                    let method = endpoint.method.parse().unwrap();
                    let segments: Vec<&str> = endpoint.path.split('/').skip(1).collect();
                    let (found, parameters) = find_action(&method, &segments).unwrap();
                    assert_eq!(format!("{found:?}"), format!("{action:?}"));
                    assert_eq!(parameters.len(), endpoint.path.matches('{').count());
                    assert!(endpoint.rights.is_some_and(|rights| rights == registry_rights(&method)));
                }
            }
        }
    }
}
