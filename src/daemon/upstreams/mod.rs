//! The addresses of upstream servers: names are resolved again and again, and addresses are asked whether they are healthy.

mod health;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::egress::jittered;
use crate::policy::Server;
use crate::runtime::InForce;
use crate::state::endpoint::{Endpoints, KnownEndpoints, Resolved};

/// How long the names of a new policy may take before it is put in force without their addresses.
const FIRST: Duration = Duration::from_secs(2);
/// How long resolving a name may take.
const LONGEST: Duration = Duration::from_secs(10);
/// Most addresses of a name.
const MOST: usize = 256;
/// Longest time until the first attempt to resolve a name again that has no address.
const SOON: Duration = Duration::from_secs(1);

/// The tasks of the policy in force. Dropping it ends them.
pub(super) struct KeptUpstreams {
    tasks: JoinSet<()>,
    known: Arc<KnownEndpoints>,
    /// When the name of each server was last resolved, by the server's identity: frequent reloads do not put it off.
    resolved: Rc<RefCell<HashMap<Arc<str>, Instant>>>,
    /// Turns of health checks.
    checks: Arc<Semaphore>,
}

/// Resolves the names that have no address yet. What cannot be resolved now is tried again while the policy is in force.
pub(super) async fn prepare(in_force: &Arc<InForce>, known: &Arc<KnownEndpoints>) {
    let endpoints = in_force.endpoints.current();
    let mut resolving = JoinSet::new();
    for server in in_force.policy.servers() {
        if endpoints.0.get(server.index).is_some_and(|resolved| resolved.endpoints.is_empty()) {
            let (in_force, known, server) = (Arc::clone(in_force), Arc::clone(known), Arc::clone(server));
            resolving.spawn_local(async move { resolve(&in_force, &known, &server).await });
        }
    }
    // What is left then ends here: the tasks of the policy begin anew.
    let _ = tokio::time::timeout(FIRST, async { while resolving.join_next().await.is_some() {} }).await;
}

impl KeptUpstreams {
    /// No task yet.
    pub(super) fn new(known: &Arc<KnownEndpoints>) -> Self {
        Self {
            tasks: JoinSet::new(),
            known: Arc::clone(known),
            resolved: Rc::default(),
            checks: Arc::new(Semaphore::new(health::MOST)),
        }
    }

    /// Resolves and asks the servers of this policy from now on.
    pub(super) fn commit(&mut self, in_force: &Arc<InForce>) {
        self.tasks = JoinSet::new();
        let servers = in_force.policy.servers();
        let identities: HashSet<&str> = servers.iter().map(|server| &*server.identity).collect();
        self.resolved.borrow_mut().retain(|identity, _| identities.contains(&**identity));
        let names: HashSet<&str> = servers.iter().map(|server| &*server.name).collect();
        self.known.retain(|name| names.contains(name));
        for server in servers {
            if server.literal().is_none() {
                let (in_force, known, server) = (Arc::clone(in_force), Arc::clone(&self.known), Arc::clone(server));
                let resolved = Rc::clone(&self.resolved);
                self.tasks.spawn_local(async move { keep_resolved(&in_force, &known, &server, &resolved).await });
            }
            if server.health.is_some() {
                let (in_force, server, checks) = (Arc::clone(in_force), Arc::clone(server), Arc::clone(&self.checks));
                self.tasks.spawn_local(async move { health::keep_asking(&in_force, &server, &checks).await });
            } else if let Some(resolved) = in_force.endpoints.current().0.get(server.index) {
                // The policy before may have asked it.
                resolved.endpoints.iter().for_each(|endpoint| endpoint.unchecked());
            }
        }
    }
}

/// Never returns.
async fn keep_resolved(
    in_force: &InForce,
    known: &KnownEndpoints,
    server: &Arc<Server>,
    resolved: &RefCell<HashMap<Arc<str>, Instant>>,
) {
    loop {
        let endpoints = in_force.endpoints.current();
        let has_any = endpoints.0.get(server.index).is_some_and(|resolved| !resolved.endpoints.is_empty());
        let pause = if has_any { server.resolve } else { server.resolve.min(SOON) };
        let last = *resolved.borrow_mut().entry(Arc::clone(&server.identity)).or_insert_with(Instant::now);
        // Nodes do not ask all at once, and none later than the policy says.
        tokio::time::sleep(jittered(pause).saturating_sub(last.elapsed())).await;
        resolve(in_force, known, server).await;
        resolved.borrow_mut().insert(Arc::clone(&server.identity), Instant::now());
    }
}

/// Resolves a name once, and publishes its addresses if they have changed. The last good ones stay while that fails.
async fn resolve(in_force: &InForce, known: &KnownEndpoints, server: &Arc<Server>) {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {LONGEST:?}")));
    let asked = tokio::time::timeout(LONGEST, tokio::net::lookup_host((&*server.host, server.port))).await;
    let found = match asked.unwrap_or_else(late) {
        // In one order, so that the same addresses are no change.
        Ok(found) => Ok(found.collect::<BTreeSet<SocketAddr>>()),
        Err(error) => Err(crate::error_text::system(&error)),
    };
    let found = found.and_then(|found| if found.is_empty() { Err("it has no address".to_owned()) } else { Ok(found) });
    publish(in_force, known, server, found);
}

fn publish(
    in_force: &InForce,
    known: &KnownEndpoints,
    server: &Arc<Server>,
    found: Result<BTreeSet<SocketAddr>, String>,
) {
    let current = in_force.endpoints.current();
    let Some(before) = current.0.get(server.index) else { return };
    let resolved = match found {
        Ok(found) => {
            if found.len() > MOST {
                tracing::warn!(
                    server = &*server.name,
                    addresses = found.len(),
                    "only the first {MOST} addresses are used"
                );
            }
            let addresses = found.iter().take(MOST);
            let endpoint = |address: &SocketAddr| known.endpoint(&server.identity, &server.name, &(*address).into());
            let endpoints = addresses.map(endpoint).collect();
            Resolved { endpoints, error: None }
        }
        Err(error) => Resolved { endpoints: Arc::clone(&before.endpoints), error: Some(error.into()) },
    };
    let same = before.endpoints.len() == resolved.endpoints.len()
        && before.endpoints.iter().zip(resolved.endpoints.iter()).all(|(one, other)| Arc::ptr_eq(one, other));
    if same && before.error == resolved.error {
        return;
    }
    match (&before.error, &resolved.error) {
        (last, Some(error)) if last.as_ref() != Some(error) => {
            let left = resolved.endpoints.len();
            tracing::warn!(
                server = &*server.name,
                why = &**error,
                left,
                "the name of an upstream server was not resolved"
            );
        }
        (Some(_), None) => tracing::info!(server = &*server.name, "the name of the upstream server is resolved again"),
        _ => {}
    }
    let mut next = Endpoints::clone(&current);
    if let Some(slot) = next.0.get_mut(server.index) {
        *slot = resolved;
    }
    in_force.endpoints.replace(Arc::new(next));
}
