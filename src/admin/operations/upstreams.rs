//! The addresses of upstream servers, and taking them out of use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Completed, Operation, Result, input, missing, text};
use crate::audit::Change as Details;
use crate::exchange::Tick;
use crate::state::endpoint::{Address, Endpoint};

/// One address of a server, or a server without an address.
struct Listed {
    server: Arc<str>,
    endpoint: Option<Arc<Endpoint>>,
    api: Arc<str>,
    /// Why its name could not be resolved when that was last tried.
    error: Option<Arc<str>>,
}

impl Listed {
    fn view(&self, id: &str, now: Tick) -> Value {
        let endpoint = self.endpoint.as_deref();
        let state = endpoint.map_or("unresolved", |endpoint| endpoint.state(now).as_str());
        json!({
            "id": id, "api": &*self.api, "server": &*self.server, "address": endpoint.map(|endpoint| endpoint.address.to_string()),
            "state": state, "in_flight": endpoint.map_or(0, Endpoint::in_flight), "error": self.error.as_deref(),
        })
    }
}

impl Operation<'_> {
    /// All addresses of all servers.
    pub(super) fn upstreams(&self) -> Result<Completed> {
        let now = self.in_force.ledger.tick(Instant::now());
        let all = self.addresses();
        let entries = all.iter().map(|(id, one)| (&**id, (id, one)));
        Ok(self.page()?.show(entries, |(id, one)| one.view(id, now)))
    }

    /// Takes a server, or one of its addresses, out of use, or into use again.
    pub(super) fn drain_upstream(&self) -> Result<Completed> {
        let written: input::Drain = input::read(self.body)?;
        let reason = text(written.reason)?;
        let name = written.server.trim_end_matches('/');
        let is_meant = |one: &Listed| {
            let address = one.endpoint.as_ref().map(|endpoint| &endpoint.address);
            *one.server == *name && written.address.is_none_or(|wanted| address == Some(&wanted.into()))
        };
        let mut meant = self.addresses();
        meant.retain(|_, one| is_meant(one));
        if meant.is_empty() {
            return Err(missing("no upstream server has this URL and address"));
        }
        self.in_force.known_endpoints.drain(&name.into(), written.address.map(Into::into), written.drained);
        let now = self.in_force.ledger.tick(Instant::now());
        let shown = json!({ "items": meant.iter().map(|(id, one)| one.view(id, now)).collect::<Vec<_>>() });
        let action = if written.drained { "upstream_drained" } else { "upstream_resumed" };
        let target = match written.address {
            None => format!("server {name}"),
            Some(address) => format!("server {name} at {address}"),
        };
        let details = Details { reason, ..Details::default() };
        Ok(Completed::changed(StatusCode::OK, shown, action, target).with(details))
    }

    /// By API, server and address.
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
                    let id = id(api.name(), &server.name, endpoint.as_ref().map(|endpoint| &endpoint.address));
                    let (api, server) = (Arc::clone(api.name()), Arc::clone(&server.name));
                    listed.insert(id, Listed { server, endpoint, api, error: resolved.error.clone() });
                }
            }
        }
        listed
    }
}

fn id(api: &str, server: &str, address: Option<&Address>) -> String {
    match address {
        None => format!("{api} {server}"),
        Some(address) => format!("{api} {server} {address}"),
    }
}
