//! Finds the admin listener that a policy file names, for health checks.
//!
//! They run every few seconds, beside a daemon. Compiling the whole policy would ask the vault each time, and mistakes that an
//! editor has just made elsewhere in the file say nothing about the policy that is in force. So only `admin` is read, and of that
//! only where it listens and what it presents.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use super::context::Context;
use super::{admin, listen};
use crate::policy::diagnostic::Problems;
use crate::policy::load::{self, Opened};
use crate::policy::source::environment;
use crate::policy::tree::At;
use crate::policy::{AdminPlace, document};

/// The part of a policy that is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Section {
    admin: Option<document::Admin>,
}

/// The admin listener of a policy file.
#[derive(Debug)]
pub(crate) struct AdminListener {
    /// Where it listens; never empty.
    pub(crate) places: Vec<AdminPlace>,
    /// Present: TLS at its address. Those of its certificates that are in files; a vault's are not among them.
    pub(crate) certificates: Option<Vec<CertificateDer<'static>>>,
}

/// Reads where the admin listener of a policy is, and nothing else. Fails if it has none, or one that cannot be found out.
pub(crate) fn admin_listener(path: &Path) -> Result<AdminListener, Problems> {
    let mut opened = load::open(path, environment())?;
    let section: Section = opened.part();
    let Opened { tree, sources, problems } = opened;
    let mut context = Context::new(sources, problems);
    let found = listener(&mut context, section.admin.as_ref(), tree.at().key("admin"));
    found.ok_or(context.problems)
}

fn listener(context: &mut Context<'_>, written: Option<&document::Admin>, at: At<'_>) -> Option<AdminListener> {
    let Some(written) = written else {
        context.missing(
            at,
            "the policy has no `admin`, so its health cannot be asked for",
            "write `admin: { address: \"127.0.0.1:9901\" }`, or a `socket`",
        );
        return None;
    };
    let mut places = Vec::new();
    if let Some(socket) = &written.socket {
        places.extend(admin::socket(context, socket, at.key("socket")).map(AdminPlace::Socket));
    }
    if written.address.is_some() || written.socket.is_none() {
        places.extend(listen::address(context, written.address.as_deref(), at).map(AdminPlace::Address));
    }
    if places.is_empty() {
        return None;
    }
    let certificates = written.tls.as_ref().map(|tls| certificates(context, tls, at.key("tls")));
    Some(AdminListener { places, certificates })
}

/// The first certificate of every chain that is in a file.
fn certificates(context: &mut Context<'_>, written: &document::ListenTls, at: At<'_>) -> Vec<CertificateDer<'static>> {
    let own = written.certificate.as_ref().map(|path| (path, at.key("certificate")));
    let listed = written.certificates.iter().flatten().enumerate().filter_map(|(position, one)| {
        Some((one.certificate.as_ref()?, at.key("certificates").index(position).key("certificate")))
    });
    let files: Vec<_> = own.into_iter().chain(listed).collect();
    let chains = files.into_iter().filter_map(|(path, at)| context.read_pem(at, path));
    chains.filter_map(|chain| CertificateDer::from_pem_slice(chain.text.as_bytes()).ok()).collect()
}
