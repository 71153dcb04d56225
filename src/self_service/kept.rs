//! Keeps what is made of the policy for a caller: it depends on what the caller may do, and not on when it asks.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::offer::{self, Reader};
use super::service::Service;
use crate::policy::Policy;
use crate::state::documents::DocumentKey;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// An OpenAPI document.
    OpenApi = 0,
    /// A page.
    Html = 1,
}

/// The document for somebody who calls this server, as `make` makes it for the first who asks for it.
pub(super) fn document(
    service: &Service<'_>,
    format: Format,
    reader: &Reader<'_>,
    server: &str,
    make: impl FnOnce() -> Bytes,
) -> Bytes {
    let key = key(&service.in_force.policy, format, reader, server);
    service.in_force.documents.get_or_make(key, make)
}

/// Of all that the document depends on, beside the policy: the routes that are open say what matters of the reader's host and
/// address.
fn key(policy: &Policy, format: Format, reader: &Reader<'_>, server: &str) -> DocumentKey {
    let mut context = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        // With its length, so that no two lists read alike.
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    add(&[format as u8, reader.kind as u8]);
    add(server.as_bytes());
    add(reader.consumer.as_bytes());
    add(&(reader.scopes.len() as u64).to_be_bytes());
    reader.scopes.iter().for_each(|scope| add(scope.as_bytes()));
    offer::open_routes(policy, reader).for_each(|route| add(&(route.index() as u64).to_be_bytes()));
    context.finish().as_ref().try_into().unwrap_or_default()
}
