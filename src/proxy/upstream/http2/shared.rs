//! The HTTP/2 connections of a worker to an address.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use super::connection::Http2Connection;
use super::stream::Http2Stream;
use crate::policy::upstream::Connections;

/// The connections that requests share. Those that take no more requests live on in the requests that they have.
pub(crate) struct SharedConnections {
    all: RefCell<Vec<Rc<Http2Connection>>>,
    /// One is opened at a time: requests that come together share it.
    opening: Semaphore,
}

impl SharedConnections {
    /// Those that are open already.
    pub(in crate::proxy::upstream) fn new(all: Vec<Rc<Http2Connection>>) -> Self {
        Self { all: RefCell::new(all), opening: Semaphore::new(1) }
    }

    /// Takes all connections.
    pub(in crate::proxy::upstream) fn take_all(&self) -> Vec<Rc<Http2Connection>> {
        self.all.take()
    }

    /// Adds a connection that was just opened.
    pub(in crate::proxy::upstream) fn add(&self, connection: Rc<Http2Connection>) {
        self.all.borrow_mut().push(connection);
    }

    /// Returns a stream for a request on a connection that has room for it.
    pub(in crate::proxy::upstream) fn stream(&self, settings: Connections) -> Option<Box<Http2Stream>> {
        let mut all = self.all.borrow_mut();
        let mut position = 0;
        while let Some(connection) = all.get(position) {
            if !connection.takes_requests(settings) {
                all.swap_remove(position);
            } else if connection.has_room() {
                return Some(Http2Stream::on(Rc::clone(connection)));
            } else {
                position += 1;
            }
        }
        None
    }

    /// Whether a connection has room for a request.
    pub(in crate::proxy::upstream) fn have_room(&self) -> bool {
        self.all.borrow().iter().any(|connection| connection.has_room())
    }

    /// Waits until no other request opens a connection.
    pub(in crate::proxy::upstream) async fn turn(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.opening.acquire().await
    }

    /// Lets go of the connections that take no more requests.
    pub(in crate::proxy::upstream) fn sweep(&self, settings: Connections) {
        self.all.borrow_mut().retain(|connection| connection.takes_requests(settings));
    }

    /// Closes a connection that has no request. Returns whether there was one.
    pub(in crate::proxy::upstream) fn close_idle(&self) -> bool {
        let mut all = self.all.borrow_mut();
        let idle = all.iter().position(|connection| connection.is_idle());
        idle.map(|position| all.swap_remove(position)).is_some()
    }
}
