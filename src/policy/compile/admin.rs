//! `admin`: where the admin listener is, and which tokens it accepts.

use secrecy::{ExposeSecret, SecretString};

use super::context::Context;
use super::listen::address;
use super::server_tls::server_tls;
use crate::policy::document;
use crate::policy::tls;
use crate::policy::tree::At;
use crate::policy::{Admin, AdminPlace, AdminSocket, AdminTls, AdminToken, Rights};

/// Default of `admin.socket.mode`: its owner alone.
const SOCKET_MODE: u32 = 0o600;

/// Longest path of a Unix socket, in bytes: `sun_path` has 108, and the last of them is NUL.
pub(super) const MAX_SOCKET_PATH: usize = 107;

/// An admin token shorter than this gets a warning, in bytes.
const SHORT_TOKEN: usize = 16;

/// `admin`.
pub(super) fn compile(context: &mut Context<'_>, written: Option<&document::Admin>, at: At<'_>) -> Option<Admin> {
    let written = written?;
    let mut tokens = Vec::new();
    if let Some(token) = &written.token {
        short(context, token, at.key("token"));
        tokens.push(AdminToken {
            name: "admin".into(),
            token: token.clone(),
            rights: Rights::Operate,
            written_at: None,
        });
    }
    for (position, token) in written.tokens.iter().enumerate() {
        let token = admin_token(context, token, at.key("tokens").index(position));
        tokens.extend(token.map(|token| AdminToken { written_at: Some(position), ..token }));
    }
    same_tokens(context, written, at);
    let mut places = Vec::new();
    if let Some(written) = &written.socket {
        places.extend(socket(context, written, at.key("socket")).map(AdminPlace::Socket));
    }
    let at_address = written.address.is_some() || written.socket.is_none();
    if !at_address && written.tls.is_some() {
        context
            .error(at.key("tls"), "`tls` is for the `address`, and there is none")
            .help("write an `address`, or remove `tls`: a socket does not leave this machine");
    }
    let tls = written.tls.as_ref().and_then(|tls| server_tls(context, tls, at.key("tls")));
    if at_address {
        let address = address(context, written.address.as_deref(), at);
        if !tokens.is_empty() && written.tls.is_none() && address.is_some_and(|address| address.ip().is_unspecified()) {
            context
                .warning(
                    at.key("address"),
                    "admin tokens cross the network in clear text: the admin listener has no TLS",
                )
                .help("give it `tls`, or listen on 127.0.0.1 or a private address, or on a `socket`");
        }
        places.extend(address.map(AdminPlace::Address));
    }
    let tls = tls.map(|tls| AdminTls {
        config: tls::http1_only(&tls.config),
        certificates: tls.certificates,
        validities: tls.validities,
    });
    Some(Admin { places, tls, tokens })
}

/// Warns of tokens with the same text: the record could not tell their holders apart.
fn same_tokens(context: &mut Context<'_>, written: &document::Admin, at: At<'_>) {
    let own = written.token.iter().map(|token| ("admin", token));
    let named = written.tokens.iter().filter_map(|one| Some((one.name.as_deref()?, one.token.as_ref()?)));
    let known: Vec<_> = own.chain(named).collect();
    for (position, token) in written.tokens.iter().enumerate() {
        let (Some(name), Some(text)) = (&token.name, &token.token) else { continue };
        let same = |(_, other): &&(&str, &SecretString)| other.expose_secret() == text.expose_secret();
        let Some((first, _)) = known.iter().find(same).filter(|(first, _)| first != name) else { continue };
        context
            .warning(
                at.key("tokens").index(position).key("token"),
                format!("`{name}` has the same token as `{first}`: the record cannot tell them apart"),
            )
            .help("give each holder a token of their own: `openssl rand -hex 32`");
    }
}

/// `admin.socket`.
pub(super) fn socket(context: &mut Context<'_>, written: &document::AdminSocket, at: At<'_>) -> Option<AdminSocket> {
    let mode = match &written.mode {
        None => Some(SOCKET_MODE),
        Some(text) => {
            let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777);
            if mode.is_none() {
                context.error(at.key("mode"), "these are not the permissions of a file").help(
                    "write three octal digits in quotes: \"0600\" for its owner only, \"0660\" for its group as well",
                );
            }
            mode
        }
    };
    if mode.is_some_and(|mode| mode & 0o002 != 0) {
        context
            .warning(at.key("mode"), "every user of this machine may connect")
            .help("restrict it to a group of operators: \"0660\"");
    }
    let Some(path) = written.path.as_deref().filter(|path| !path.is_empty()) else {
        context.missing(
            at.key("path"),
            "`path` is missing",
            "write the path of the socket, such as `path: run/bartizan.sock`",
        );
        return None;
    };
    let path = context.sources.path(path);
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        context
            .error(at.key("path"), format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes, folder included"))
            .help("choose a shorter one, such as /run/bartizan/admin.sock");
        return None;
    }
    Some(AdminSocket { path, mode: mode? })
}

fn admin_token(context: &mut Context<'_>, written: &document::AdminToken, at: At<'_>) -> Option<AdminToken> {
    let rights = match written.rights.as_deref() {
        None | Some("read") => Rights::Read,
        Some("operate") => Rights::Operate,
        Some(other) => {
            context.unknown(at.key("rights"), "right", other, ["read", "operate"]);
            Rights::Read
        }
    };
    let (Some(name), Some(token)) = (&written.name, &written.token) else {
        context.missing(
            at,
            "an admin token needs `name` and `token`",
            "write a name for its holder, and the token as a reference",
        );
        return None;
    };
    short(context, token, at.key("token"));
    Some(AdminToken { name: name.as_str().into(), token: token.clone(), rights, written_at: None })
}

fn short(context: &mut Context<'_>, token: &SecretString, at: At<'_>) {
    if token.expose_secret().len() < SHORT_TOKEN {
        context
            .warning(at, "the admin token is short")
            .help("a token of 32 random characters cannot be guessed: `openssl rand -hex 32`");
    }
}
