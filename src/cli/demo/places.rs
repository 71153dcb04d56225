//! Where the listeners of the demo are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The addresses of all listeners.
pub(super) struct Places {
    pub(super) proxy: SocketAddr,
    pub(super) api: SocketAddr,
    pub(super) issuer: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// The addresses in `config/demo.yaml`, used when no port is taken.
pub(super) const USUAL: Places =
    Places { proxy: loopback(8080), api: loopback(9000), issuer: loopback(9002), admin: loopback(9901) };

pub(super) const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
