//! Which header fields cross the proxy and which do not: `rules` has the lists of names of responses, the policy those of requests.
//!
//! [`client_address`] determines the client, [`check`] refuses ambiguous heads before any other field is used, and
//! [`is_loop`] finds requests that come back.
//! [`UpstreamHeaders`] writes the fields of a request for the upstream. Of a response, the fields that
//! [`is_forwarded_downstream`] accepts are kept. Nothing here reads credentials or bodies.

mod date;
mod field_writer;
mod forwarded;
mod hop_by_hop;
mod host;
mod hpack;
mod location;
mod response_fields;
mod rules;
mod to_upstream;
mod trailers;
mod via;

pub(crate) use date::date;
pub(crate) use forwarded::client_address;
pub(crate) use hop_by_hop::{accepts_trailers, remove_named};
pub(crate) use host::check;
pub(crate) use location::Origin;
pub(crate) use response_fields::ResponseFields;
pub(crate) use rules::{is_forwarded_downstream, strip_grpc_trailers, strip_trailers};
pub(crate) use to_upstream::{TRACESTATE, UpstreamHeaders, UpstreamTrace};
pub(crate) use trailers::PolicyTrailers;
pub(crate) use via::is_loop;

#[cfg(test)]
mod tests;
