//! Whether what a caller was permitted lasts: WebSockets, and responses that take long, end with the permission.
//!
//! It is decided anew whenever something has changed that may matter (a revocation, a suspension, a grant, a key, the policy), and
//! every second for what ends by itself (a token, a key, a grant).

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri};

use super::target::{self, ClientCertificateSource};
use crate::chain;
use crate::exchange::{Exchange, Request};
use crate::policy::Route;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::rechecks::Rechecks;
use crate::proxy::downstream::worker::Worker;
use crate::refusal::{Reason, Refusal, Stage};

/// What is kept of a request to decide about it again.
pub(in crate::proxy) struct Credentials {
    uri: Uri,
    /// The fields that carry credentials, and those that are compared with what the caller has.
    fields: HeaderMap,
    certificate: ClientCertificateSource,
}

impl Credentials {
    /// Those of this request to a route.
    pub(super) fn of(parts: &Parts, route: &Route, certificate: ClientCertificateSource) -> Self {
        let (mut fields, locations) = (HeaderMap::new(), route.api().credentials());
        for (name, value) in locations.fields_of(&parts.headers) {
            fields.append(name.clone(), value.into_owned());
        }
        let is_compared =
            |name: &HeaderName| !locations.has_header(name) && route.compared_headers().any(|one| one == name);
        for (name, value) in parts.headers.iter().filter(|(name, _)| is_compared(name)) {
            fields.append(name.clone(), value.clone());
        }
        Self { uri: parts.uri.clone(), fields, certificate }
    }
}

/// The permission of a request that goes on after it was let through.
pub(super) struct Permission {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Rc<ClientConnection>,
    pub(super) exchange: Exchange,
    pub(super) scheme: &'static str,
    pub(super) credentials: Credentials,
    /// It is that of a WebSocket.
    pub(super) is_websocket: bool,
}

impl Permission {
    /// The rechecks of the worker.
    pub(super) fn rechecks(&self) -> Rc<Rechecks> {
        Rc::clone(&self.worker.rechecks)
    }

    /// Returns once the request would no longer be let through. Boxed, because what is passed to a future takes its room twice.
    pub(super) async fn lost(mut self: Box<Self>) -> Refusal {
        let member = self.worker.rechecks.join();
        loop {
            // A change while it is being decided counts.
            let changed = member.changed();
            self.exchange.waited();
            // Boxed: rare, and large beside the wait for it.
            if let Err(refusal) = Box::pin(self.check()).await {
                return refusal;
            }
            tokio::select! {
                () = changed => {}
                () = member.due() => {}
            }
        }
    }

    /// Decides whether the request would still be let through, by what is in force now.
    async fn check(&self) -> Result<(), Refusal> {
        let (view, exchange, Credentials { uri, fields, certificate }) =
            (self.worker.view(), &self.exchange, &self.credentials);
        let method = exchange.method.as_ref().unwrap_or(&Method::GET);
        let route = view.in_force.policy.route(&exchange.host, method, &exchange.path, uri.query())?;
        if self.is_websocket && route.websocket.is_none() {
            let detail = "the route takes no WebSockets any more";
            return Err(Refusal::new(Stage::Request, Reason::NoRoute, detail));
        }
        let without_key = route.api().credentials().query_without_key(uri.query());
        let request = Request {
            exchange,
            certificate: certificate.of(&self.client.peer),
            headers: fields,
            scheme: self.scheme,
            authority: &exchange.host,
            received_path: uri.path(),
            received_query: uri.query(),
            query: target::judged_query(without_key.as_deref(), uri.query()),
            tick: view.in_force.ledger.tick(exchange.decided()),
        };
        chain::recheck(&view.in_force, route, &view.tokens, &request).await
    }
}
