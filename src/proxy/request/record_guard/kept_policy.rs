//! What a request keeps of the policy that it began with.
//!
//! Most requests are over long before the policy is replaced, and keep all of it. WebSockets and responses that go on for hours keep
//! only what their record needs: otherwise every policy since they began would stay in memory, with all of its schemas.

use std::rc::Rc;
use std::sync::Arc;

use crate::policy::{Api, Route, Server};
use crate::proxy::downstream::worker::WorkerView;
use crate::telemetry::{RouteMetrics, ServerMetrics};
use crate::traces::Tracer;

/// What is kept of a policy.
pub(super) enum KeptPolicy {
    /// All of it, and what the worker has derived from it.
    Whole(Rc<WorkerView>),
    /// What the record needs.
    Rest(Box<Rest>),
}

/// What the record of a request needs.
pub(super) struct Rest {
    digest: Arc<str>,
    /// The metrics of its route.
    metrics: Arc<RouteMetrics>,
    /// The metrics of the server that it was sent to.
    server: Option<Arc<ServerMetrics>>,
    tracer: Option<Arc<Tracer>>,
}

impl KeptPolicy {
    /// Keeps only what the record of a request needs that was sent on this route, to this server.
    pub(super) fn keep_rest(&mut self, route: &Route, server: Option<&Server>) {
        let Self::Whole(view) = self else { return };
        let in_force = &*view.in_force;
        let rest = Rest {
            digest: Arc::clone(in_force.policy.digest()),
            metrics: Arc::clone(in_force.metrics(Some(route))),
            server: server.and_then(|server| in_force.server_metrics(server)).cloned(),
            tracer: in_force.tracer.clone(),
        };
        *self = Self::Rest(Box::new(rest));
    }

    pub(super) fn digest(&self) -> &Arc<str> {
        match self {
            Self::Whole(view) => view.in_force.policy.digest(),
            Self::Rest(rest) => &rest.digest,
        }
    }

    /// The only API that serves a host. A request that keeps only the rest has a route, which knows its API.
    pub(super) fn only_api_of(&self, host: &str) -> Option<&Api> {
        match self {
            Self::Whole(view) => view.in_force.policy.only_api_of(host).map(|api| &**api),
            Self::Rest(_) => None,
        }
    }

    /// The metrics of the request's route, or of requests without one.
    pub(super) fn metrics(&self, route: Option<&Route>) -> &RouteMetrics {
        match self {
            Self::Whole(view) => view.in_force.metrics(route),
            Self::Rest(rest) => &rest.metrics,
        }
    }

    /// The metrics of the server that the request was sent to.
    pub(super) fn server_metrics(&self, server: &Server) -> Option<&Arc<ServerMetrics>> {
        match self {
            Self::Whole(view) => view.in_force.server_metrics(server),
            Self::Rest(rest) => rest.server.as_ref(),
        }
    }

    pub(super) fn tracer(&self) -> Option<&Arc<Tracer>> {
        match self {
            Self::Whole(view) => view.in_force.tracer.as_ref(),
            Self::Rest(rest) => rest.tracer.as_ref(),
        }
    }
}
