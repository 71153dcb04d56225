//! All entrances of the admin listener: which stay, come and go when the policy changes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Command;
use super::listener::{Bound, Listening};
use crate::policy::{AdminPlace, Policy};
use crate::proxy::downstream::listener;
use crate::proxy::downstream::worker::Shared;

/// How long what operators asked for has to end.
const LAST_CHANGES: Duration = Duration::from_secs(5);

/// The entrances that are open.
#[derive(Default)]
pub(crate) struct AdminListeners(Vec<Listening>);

impl AdminListeners {
    /// Binds what a policy has and is not open yet, and gives sockets that are the mode it has. The last step of a reload
    /// that can fail; addresses are bound by `bind`.
    pub(crate) fn prepare<E: From<String>>(
        &self,
        policy: &Policy,
        mut bind: impl FnMut(SocketAddr) -> Result<listener::Bound, E>,
    ) -> Result<Vec<Bound>, E> {
        let (known, new): (Vec<_>, Vec<_>) = places(policy).partition(|place| self.at(place).is_some());
        let mut bound = Vec::new();
        for place in new {
            bound.push(match place {
                AdminPlace::Address(address) => Bound::Address(bind(*address)?),
                AdminPlace::Socket(socket) => Bound::socket(socket)
                    .map_err(|error| format!("{} cannot be listened on: {error}", socket.path.display()))?,
            });
        }
        for place in known {
            let adapted = self.at(place).map_or(Ok(()), |entrance| entrance.adapt(place));
            adapted.map_err(|error| format!("the mode of the admin socket cannot be set: {error}"))?;
        }
        Ok(bound)
    }

    /// Closes what a policy does not have any more, and opens what was bound for it. Must be called within a local runtime.
    ///
    /// Errors: when a socket cannot be watched.
    pub(crate) fn settle(
        &mut self,
        policy: &Policy,
        bound: Vec<Bound>,
        shared: &Arc<Shared>,
        commands: &mpsc::Sender<Command>,
    ) -> io::Result<()> {
        for mut entrance in std::mem::take(&mut self.0) {
            match places(policy).find(|place| entrance.place.is_same(place)) {
                Some(place) => {
                    entrance.place = place.clone();
                    self.0.push(entrance);
                }
                // It finishes by itself.
                None => drop(entrance.stop()),
            }
        }
        for bound in bound {
            self.0.push(Listening::start(bound, Arc::clone(shared), commands.clone())?);
        }
        Ok(())
    }

    /// As people read them: `http://ADDRESS`, `unix:PATH`.
    pub(crate) fn told(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entrance| &*entrance.told)
    }

    /// Takes nobody in any more, and waits for what operators asked for, within limits.
    pub(crate) async fn close(&mut self) {
        let underway: Vec<_> = std::mem::take(&mut self.0).into_iter().map(Listening::stop).collect();
        let ended = async {
            for task in underway {
                // One that panicked has said so.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(LAST_CHANGES, ended).await.is_err() {
            tracing::warn!("an operator's request was cut: it did not end in time");
        }
    }

    fn at(&self, place: &AdminPlace) -> Option<&Listening> {
        self.0.iter().find(|entrance| entrance.place.is_same(place))
    }
}

fn places(policy: &Policy) -> impl Iterator<Item = &AdminPlace> {
    policy.admin().into_iter().flat_map(|admin| &admin.places)
}
