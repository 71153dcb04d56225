//! The sockets of the admin listener: opens, keeps and closes them when the policy changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::DaemonHandle;
use super::listener::{Bound, Listening};
use crate::error_text;
use crate::policy::{AdminPlace, Policy};
use crate::proxy::downstream::listener;
use crate::proxy::downstream::worker::Shared;

/// How long requests in progress may take when the process stops.
const LAST_CHANGES: Duration = Duration::from_secs(5);

/// The admin sockets that are open.
#[derive(Default)]
pub(crate) struct AdminListeners(Vec<Listening>);

impl AdminListeners {
    /// Binds the sockets of a policy that are not open yet, and sets the mode of those that are. This is the last step
    /// of a reload that can fail. Addresses are bound by `bind`.
    pub(crate) fn prepare<E: From<String>>(
        &self,
        policy: &Policy,
        mut bind: impl FnMut(SocketAddr) -> Result<listener::Registered, E>,
    ) -> Result<Vec<Bound>, E> {
        let (known, new): (Vec<_>, Vec<_>) = places(policy).partition(|place| self.at(place).is_some());
        let mut bound = Vec::new();
        for place in new {
            bound.push(match place {
                AdminPlace::Address(address) => Bound::Address(bind(*address)?),
                AdminPlace::Socket(socket) => Bound::socket(socket).map_err(|error| {
                    format!("cannot listen on {}: {}", socket.path.display(), error_text::system(&error))
                })?,
            });
        }
        for place in known {
            let adapted = self.at(place).map_or(Ok(()), |listening| listening.adapt(place));
            adapted.map_err(|error| {
                format!("the mode of the admin socket cannot be set: {}", error_text::system(&error))
            })?;
        }
        Ok(bound)
    }

    /// Closes the sockets that the policy no longer has, and serves those bound for it. Returns the new ones for display:
    /// `https://ADDRESS`, `http://ADDRESS`, `unix:PATH`. Must be called within a local runtime.
    pub(crate) fn settle(
        &mut self,
        policy: &Policy,
        bound: Vec<Bound>,
        shared: &Arc<Shared>,
        daemon: &DaemonHandle,
    ) -> Vec<String> {
        for mut listening in std::mem::take(&mut self.0) {
            match places(policy).find(|place| listening.place.is_same(place)) {
                Some(place) => {
                    listening.place = place.clone();
                    self.0.push(listening);
                }
                // Its task finishes by itself.
                None => drop(listening.stop()),
            }
        }
        let start = |bound| Listening::start(bound, Arc::clone(shared), daemon.clone());
        let new: Vec<_> = bound.into_iter().map(start).collect();
        let labels = new.iter().map(|listening| listening.label.clone()).collect();
        self.0.extend(new);
        labels
    }

    /// Stops accepting connections, and waits for requests in progress, up to a limit.
    pub(crate) async fn close(&mut self) {
        let underway: Vec<_> = std::mem::take(&mut self.0).into_iter().map(Listening::stop).collect();
        let ended = async {
            for task in underway {
                // A panic has been logged already.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(LAST_CHANGES, ended).await.is_err() {
            tracing::warn!("an operator's request was aborted: it did not finish in time");
        }
    }

    fn at(&self, place: &AdminPlace) -> Option<&Listening> {
        self.0.iter().find(|listening| listening.place.is_same(place))
    }
}

fn places(policy: &Policy) -> impl Iterator<Item = &AdminPlace> {
    policy.admin().into_iter().flat_map(|admin| &admin.places)
}
