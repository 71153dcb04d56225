//! The connections of one admin socket: bounded in number, each with a deadline.
//!
//! Anyone who reaches the socket can open them, with or without a token, and each takes a descriptor of the reserve that
//! upstreams, issuers and the record need, too. When all places are taken, one gives way: the longest idle of the network
//! that has the most, and those of known operators last.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::exchange::ClientNetwork;

/// Maximum number of connections of one socket.
const MOST: usize = 32;
/// How long a connection may last while no request of it is handled: for the TLS handshake, a request and its answer to
/// cross the network.
const LONGEST: Duration = Duration::from_secs(60);
/// How long to wait for the place of a connection that was asked to end, before another one is asked to.
const EVICTION: Duration = Duration::from_millis(50);

/// The open connections.
#[derive(Default)]
pub(super) struct Connections {
    open: RefCell<HashMap<u64, Rc<Connection>>>,
    /// The number of the next connection.
    next: Cell<u64>,
    freed: Notify,
}

/// One connection.
pub(super) struct Connection {
    network: ClientNetwork,
    /// When it was opened or its last request was answered; `None` while a request is handled.
    idle_since: Cell<Option<Instant>>,
    /// A request on it had a known token.
    is_operators: Cell<bool>,
    evicted: Cell<bool>,
    changed: Notify,
}

/// The place of a connection, freed when this is dropped.
pub(super) struct Place {
    connections: Rc<Connections>,
    number: u64,
    pub(super) connection: Rc<Connection>,
}

impl Connections {
    /// Waits until a place is free. Meanwhile it ends connections of which no request is handled.
    pub(super) async fn make_room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.open.borrow().len() < MOST {
                return;
            }
            self.evict();
            let _ = tokio::time::timeout(EVICTION, freed).await;
        }
    }

    /// Ends one connection of which no request is handled, if there is one.
    pub(super) fn evict(&self) {
        let open = self.open.borrow();
        let mut counts: HashMap<ClientNetwork, usize> = HashMap::new();
        for connection in open.values() {
            *counts.entry(connection.network).or_default() += 1;
        }
        let idle = open.values().filter(|connection| !connection.evicted.get());
        let idle = idle.filter_map(|connection| Some((connection.idle_since.get()?, connection)));
        let first = idle.min_by_key(|(since, connection)| {
            let count = counts.get(&connection.network).copied().unwrap_or_default();
            (connection.is_operators.get(), Reverse(count), *since)
        });
        if let Some((_, connection)) = first {
            connection.evicted.set(true);
            connection.changed.notify_one();
        }
    }

    /// Takes a place for a new connection.
    pub(super) fn open(self: &Rc<Self>, address: IpAddr) -> Place {
        let connection = Rc::new(Connection {
            network: ClientNetwork::from(address),
            idle_since: Cell::new(Some(Instant::now())),
            is_operators: Cell::new(false),
            evicted: Cell::new(false),
            changed: Notify::new(),
        });
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.open.borrow_mut().insert(number, Rc::clone(&connection));
        Place { connections: Rc::clone(self), number, connection }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.number);
        self.connections.freed.notify_waiters();
    }
}

impl Connection {
    /// Records that a request is handled. That has deadlines of its own.
    pub(super) fn handles(&self) {
        self.idle_since.set(None);
    }

    /// Records that the answer to a request is sent now.
    pub(super) fn answers(&self) {
        self.idle_since.set(Some(Instant::now()));
        self.changed.notify_one();
    }

    /// Records that a request had a known token.
    pub(super) fn knows_operator(&self) {
        self.is_operators.set(true);
    }

    /// Waits until the connection must end: its place is needed, or it has lasted too long.
    pub(super) async fn cut(&self) {
        while !self.evicted.get() {
            let now = Instant::now();
            let due = self.idle_since.get().unwrap_or(now) + LONGEST;
            if due <= now {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &Rc<Connections>, address: &str) -> Place {
        connections.open(address.parse().unwrap())
    }

    /// S6: one stranger cannot take all places from the others, nor any from an operator.
    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_of_who_has_the_most_gives_way_and_operators_last() {
        let connections = Rc::<Connections>::default();
        let mut places = Vec::new();
        for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.3", "10.0.0.3"] {
            places.push(open(&connections, address));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        places[0].connection.knows_operator();
        places[2].connection.handles();
        let evicted = || places.iter().map(|place| place.connection.evicted.get()).collect::<Vec<_>>();
        for expected in [
            [false, false, false, true, false],
            [false, false, false, true, true],
            [false, true, false, true, true],
            [true, true, false, true, true],
            // A request that is handled is never cut off.
            [true, true, false, true, true],
        ] {
            connections.evict();
            assert_eq!(evicted(), expected);
        }
    }

    /// S6: there are never more than there are places; a newcomer waits until one is free.
    #[tokio::test(start_paused = true)]
    async fn the_number_of_connections_is_bounded() {
        let connections = Rc::<Connections>::default();
        let mut places: Vec<_> = (0..MOST).map(|_| open(&connections, "10.0.0.1")).collect();
        let mut room = std::pin::pin!(connections.make_room());
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut room).await.is_err());
        let evicted = places.iter().position(|place| place.connection.evicted.get()).unwrap();
        drop(places.swap_remove(evicted));
        room.await;
        assert_eq!(connections.open.borrow().len(), MOST - 1);
    }

    /// S6: nobody keeps a connection for ever by being slow; a request that is handled is not cut off.
    #[tokio::test(start_paused = true)]
    async fn a_connection_has_a_deadline_unless_its_request_is_handled() {
        let (connections, begun) = (Rc::<Connections>::default(), Instant::now());
        let place = open(&connections, "10.0.0.1");
        place.connection.cut().await;
        assert_eq!(begun.elapsed(), LONGEST);

        let place = open(&connections, "10.0.0.1");
        place.connection.handles();
        let mut cut = std::pin::pin!(place.connection.cut());
        assert!(tokio::time::timeout(LONGEST * 10, &mut cut).await.is_err());
        place.connection.answers();
        let answered = Instant::now();
        cut.await;
        assert_eq!(answered.elapsed(), LONGEST);
    }
}
