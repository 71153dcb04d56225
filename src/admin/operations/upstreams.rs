//! The addresses of upstream servers, and taking them out of use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Completed, Operation, Result, input, missing, text};
use crate::audit::Change as Details;
use crate::exchange::Tick;
use crate::state::endpoint::Endpoint;

/// One address of a server, or a server without an address.
struct Listed {
    server: Arc<str>,
    endpoint: Option<Arc<Endpoint>>,
    apis: Vec<Arc<str>>,
    /// Why its name could not be resolved when that was last tried.
    error: Option<Arc<str>>,
}

impl Listed {
    fn view(&self, id: &str, now: Tick) -> Value {
        let endpoint = self.endpoint.as_deref();
        let state = match endpoint {
            None => "unresolved",
            Some(endpoint) if endpoint.is_drained() => "drained",
            Some(endpoint) if !endpoint.is_healthy() => "unhealthy",
            Some(endpoint) if endpoint.is_ejected(now) => "ejected",
            Some(_) => "available",
        };
        let apis: Vec<&str> = self.apis.iter().map(|api| &**api).collect();
        json!({
            "id": id, "server": &*self.server, "address": endpoint.map(|endpoint| endpoint.address), "apis": apis,
            "state": state, "in_flight": endpoint.map_or(0, Endpoint::in_flight), "error": self.error.as_deref(),
        })
    }
}

impl Operation<'_> {
    /// All addresses of all servers.
    pub(super) fn upstreams(&self) -> Result<Completed> {
        let now = self.in_force.ledger.tick(Instant::now());
        self.list(self.addresses().iter().map(|(id, one)| one.view(id, now)).collect(), "id")
    }

    /// Takes a server, or one of its addresses, out of use, or into use again.
    pub(super) fn drain_upstream(&self) -> Result<Completed> {
        let written: input::Drain = input::read(self.body)?;
        let reason = text(written.reason)?;
        let is_meant = |one: &Listed| {
            let address = one.endpoint.as_ref().map(|endpoint| endpoint.address);
            *one.server == *written.server && written.address.is_none_or(|wanted| address == Some(wanted))
        };
        let mut meant = self.addresses();
        meant.retain(|_, one| is_meant(one) && one.endpoint.is_some());
        if meant.is_empty() {
            return Err(missing("no upstream server has this URL and address"));
        }
        for endpoint in meant.values().filter_map(|one| one.endpoint.as_ref()) {
            endpoint.set_drained(written.drained);
        }
        let now = self.in_force.ledger.tick(Instant::now());
        let shown = json!({ "items": meant.iter().map(|(id, one)| one.view(id, now)).collect::<Vec<_>>() });
        let action = if written.drained { "upstream_drained" } else { "upstream_resumed" };
        let target = match written.address {
            None => format!("server {}", written.server),
            Some(address) => format!("server {} at {address}", written.server),
        };
        let details = Details { reason, ..Details::default() };
        Ok(Completed::changed(StatusCode::OK, shown, action, target).with(details))
    }

    /// By server and address. A server that several APIs have is one: they share its addresses.
    fn addresses(&self) -> BTreeMap<String, Listed> {
        let endpoints = self.in_force.endpoints.current();
        let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
        for api in self.policy().apis() {
            for server in &api.upstream().servers {
                let Some(resolved) = endpoints.0.get(server.index) else { continue };
                let addresses: Vec<Option<Arc<Endpoint>>> = match resolved.endpoints.is_empty() {
                    true => vec![None],
                    false => resolved.endpoints.iter().cloned().map(Some).collect(),
                };
                for endpoint in addresses {
                    let address = endpoint.as_ref().map(|endpoint| endpoint.address);
                    let one = listed.entry(id(&server.name, address)).or_insert_with(|| Listed {
                        server: Arc::clone(&server.name),
                        endpoint,
                        apis: Vec::new(),
                        error: resolved.error.clone(),
                    });
                    one.apis.push(Arc::clone(api.name()));
                }
            }
        }
        listed
    }
}

fn id(server: &str, address: Option<SocketAddr>) -> String {
    address.map_or_else(|| server.to_owned(), |address| format!("{server} {address}"))
}
