//! `self_service`: its endpoints, on every host.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::apis::Apis;
use super::context::Context;
use crate::policy::document::{self, Document};
use crate::policy::path_mapping::PathMapping;
use crate::policy::router::{Conflict, Pattern};
use crate::policy::self_service::{API, SelfEndpoint, SelfService};
use crate::policy::tree::At;
use crate::policy::units::Rate;
use crate::policy::{Access, Api, Own, Reporting, Route};
use crate::stages::auth::locations::CredentialLocations;
use crate::stages::rate_limit::{Limit, RouteLimits};
use crate::stages::schema::{Bounds, Requirement};
use crate::stages::scope;
use crate::state::ledger::LimitId;

/// How often a caller may replace keys, and an address secrets: every node learns of each, and keys are kept for long.
const ROTATIONS: (NonZeroU32, Duration) = (NonZeroU32::new(20).unwrap(), Duration::from_secs(3600));
/// Default of `rate`.
const RATE: (NonZeroU32, Duration) = (NonZeroU32::new(60).unwrap(), Duration::from_secs(60));
/// Largest body of a request.
const MAX_BODY: u64 = 4 * 1024;
/// Largest body of a claim that may have a certificate in it, with its chain.
const MAX_CLAIM: u64 = 16 * 1024;
/// How long a request may take to arrive.
const DEADLINE: Duration = Duration::from_secs(10);

/// `self_service`; adds its endpoints to the routes.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    locations: &CredentialLocations,
    apis: &mut Apis,
    at: At<'_>,
) -> Option<SelfService> {
    let written = document.self_service.as_ref()?;
    if document.apis.contains_key(API) {
        let at = at.key("apis").key(API);
        context.problems.error(at.key_place(), "this name is taken by `self_service`").help("rename the API");
    }
    let at = at.key("self_service");
    if document.store.is_none() {
        context.missing(
            at,
            "self-service needs a store for invitations and keys",
            "write `store: state/` for one node, or `store: { redis: URL }` for several",
        );
    }
    let path = path(context, written, at.key("path"))?;
    overlaps(context, apis, &path, at.key("path"));
    let service = SelfService { path };
    let largest_claim = if document.token_service.is_some() { MAX_CLAIM } else { MAX_BODY };
    endpoints(context, (written, &service, locations), largest_claim, apis, at);
    Some(service)
}

/// `path`, which is matched as it is written.
fn path(context: &mut Context<'_>, written: &document::SelfService, at: At<'_>) -> Option<Box<str>> {
    let Some(text) = &written.path else {
        context.missing(at, "`path` is missing", "write the path for callers, such as `path: /.bartizan`");
        return None;
    };
    let problem = match Pattern::parse(&format!("GET {text}/me")) {
        Err(problem) => problem,
        Ok(_) if text.is_empty() || text == "/" => "everything below `/` belongs to the APIs".to_owned(),
        Ok(_) if text.contains(['{', '}']) => "it cannot have names".to_owned(),
        Ok(_) => return Some(text.as_str().into()),
    };
    context.error(at, problem).help("write a path of its own, without a slash at its end, such as `/.bartizan`");
    None
}

/// Reports the routes of APIs that are at the path or below it.
fn overlaps(context: &mut Context<'_>, apis: &Apis, path: &str, at: At<'_>) {
    let of = |route: &&Arc<Route>| {
        let below = route.name().split_once(' ').and_then(|(_, known)| known.strip_prefix(path));
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    for route in apis.routes.iter().filter(of) {
        let message = format!("`{}` of `{}` is below this path", route.name(), route.api().name());
        context.error(at, message).help("choose a path that no API has");
    }
}

/// Adds the endpoints to the routes, on every host that an API names, and on all others.
fn endpoints(
    context: &mut Context<'_>,
    (written, service, locations): (&document::SelfService, &SelfService, &CredentialLocations),
    largest_claim: u64,
    apis: &mut Apis,
    at: At<'_>,
) {
    let mut hosts: Vec<Box<str>> = apis.apis.iter().flat_map(|api| api.hosts().iter().cloned()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let api = Arc::new(Api::own(apis.apis.len(), API, Box::default(), locations.clone()));
    apis.apis.push(Arc::clone(&api));
    let rate = written.rate.map_or(RATE, |Rate { count, per }| (count, per));
    for (endpoint, method, _) in SelfEndpoint::ALL {
        let (count, per) = match endpoint {
            SelfEndpoint::RotateKey | SelfEndpoint::RotateSecret => ROTATIONS,
            _ => rate,
        };
        let max_size = if endpoint == SelfEndpoint::ClaimInvitation { largest_claim } else { MAX_BODY };
        let name = format!("{method} {}", service.path_of(endpoint));
        let Ok(pattern) = Pattern::parse(&name) else { continue };
        let limit = Limit::rate(LimitId::route(API, &name), "self_service", count, per, Some(count));
        let rate = limit.map_err(|problem| context.error(at.key("rate"), problem)).ok();
        let access = match endpoint.is_public() {
            true => Access::Public,
            // Any authenticated caller: what it is shown, and may change, is its own.
            false => Access::Scoped(scope::Requirement::new(Vec::new(), None)),
        };
        let route = Arc::new(Route {
            index: apis.routes.len(),
            name: name.as_str().into(),
            api: Arc::clone(&api),
            access,
            networks: None,
            limits: RouteLimits { rate, class: None, cost: NonZeroU32::MIN },
            request: Requirement::new(Bounds { max_size, outer_size: max_size, deadline: DEADLINE }),
            response: None,
            reporting: Reporting::default(),
            mask_reporting: Reporting::default(),
            mapping: PathMapping::Same,
            keeps_encoded_slash: false,
            own: Some(Own::SelfService(endpoint)),
            shown: None,
            websocket: None,
        });
        let on_others = apis.router.add(&[], &pattern, &route);
        let on_named = if hosts.is_empty() { Ok(()) } else { apis.router.add(&hosts, &pattern, &route) };
        for Conflict(other) in [on_others, on_named].into_iter().filter_map(Result::err) {
            let message = format!("`{}` of `{}` matches the same requests", other.name(), other.api().name());
            context.error(at.key("path"), message).help("choose a path that no API has");
        }
        apis.routes.push(route);
    }
}
