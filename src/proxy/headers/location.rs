//! `Location` and `Content-Location` of responses (RFC 9110 §10.2.2, §8.7): where they name the upstream itself, clients get the
//! path that leads there through the proxy.

use std::sync::Arc;

use http::HeaderValue;
use http::header::{CONTENT_LOCATION, LOCATION};

use super::response_fields::ResponseFields;
use crate::policy::path_mapping::below;
use crate::policy::{Api, Policy, Server};

/// What is known of the upstream that sent a response.
pub(crate) struct Origin<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) api: &'a Api,
    /// The server that responded.
    pub(crate) server: &'a Server,
    /// `Host` of the request that it got.
    pub(crate) host: &'a [u8],
    /// `http` or `https`: by which the client has reached that host itself. Absent if the host is not the client's.
    pub(crate) scheme: Option<&'a str>,
}

impl Origin<'_> {
    /// Maps the fields of a response. What names another origin, or a path that is not below the base path, stays as it is; so do
    /// relative paths, which clients resolve against their own.
    pub(crate) fn map_back(&self, fields: &mut ResponseFields) {
        for (name, value) in fields.iter_mut() {
            if *name == LOCATION || *name == CONTENT_LOCATION {
                // Browsers take tabs out of it, so that it would lead elsewhere than it seems.
                let text = value.to_str().ok().filter(|text| !text.contains('\t'));
                let mapped = text.and_then(|text| self.mapped(text));
                if let Some(mapped) = mapped.and_then(|mapped| HeaderValue::try_from(mapped).ok()) {
                    *value = mapped;
                }
            }
        }
    }

    /// The reference for clients: an absolute path, which holds under each name and scheme that the proxy is reached by.
    fn mapped(&self, text: &str) -> Option<String> {
        let (path, is_absolute) = match self.own_path(text) {
            Some(path) => (path, true),
            None if text.starts_with('/') && !text.starts_with("//") => (text, false),
            None => return None,
        };
        let rest = below(path, &self.server.base)?;
        let (path, suffix) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        let mapped = self.policy.client_path(self.api, path) + suffix;
        // It would be the name of a host.
        let is_path = !mapped.starts_with("//") && !mapped.starts_with("/\\");
        (is_path && (is_absolute || mapped != text)).then_some(mapped)
    }

    /// The path of a URL of the upstream itself, with query and fragment.
    fn own_path<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (scheme, rest) = match text.split_once("//")? {
            ("", rest) => (None, rest),
            (scheme, rest) => (Some(scheme.strip_suffix(':')?), rest),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let is_http =
            scheme.is_none_or(|scheme| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)));
        let own = |server: &Arc<Server>| names_server(server, scheme, authority);
        // Where the client itself names the host, another scheme leads elsewhere: to the same path by TLS, for example.
        let is_same = scheme.zip(self.scheme).is_none_or(|(scheme, clients)| scheme.eq_ignore_ascii_case(clients));
        let is_own = is_same && authority.as_bytes().eq_ignore_ascii_case(self.host)
            || self.api.upstream().servers.iter().any(own);
        (is_http && is_own).then_some(path)
    }
}

/// Whether scheme and authority are those of a server, whose default port may be written or not.
fn names_server(server: &Server, scheme: Option<&str>, authority: &str) -> bool {
    let (own, port) = if server.tls.is_some() { ("https", ":443") } else { ("http", ":80") };
    let plain = |text: &'_ str| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
    let same_scheme = scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(own));
    same_scheme && server.authority.to_str().is_ok_and(|known| plain(known) == plain(authority))
}
