//! `tls.issue`: a certificate that the vault issues.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::context::Context;
use super::issuing::Issuing;
use crate::policy::document;
use crate::policy::source::SourceText;
use crate::policy::tree::At;
use crate::secrets::vault::{
    CertificateRequest, IssuedCertificate, LONGEST_LIFETIME, SHORTEST_LIFETIME, blocking, is_path,
};

/// Default of `lifetime`.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The chain and the key of `issue`.
pub(super) fn issued(
    context: &mut Context<'_>,
    written: &document::Issue,
    at: At<'_>,
) -> Option<(SourceText, IssuedCertificate)> {
    let wanted = request(context, written, at)?;
    let issued = match &context.issuing {
        Issuing::NoVault => {
            context
                .error(at, "the policy does not say where the vault is")
                .help("write `secrets: { vault: { address: \"https://vault.example.com:8200\", login: … } }`");
            return None;
        }
        Issuing::StandIn => IssuedCertificate::stand_in(&wanted.names),
        Issuing::Vault(vault) => {
            let issued = blocking(vault.certificate(&wanted, Timestamp::now()));
            issued.and_then(|issued| issued.map_err(|error| error.why()))
        }
    };
    let name = format!("vault:{}/{}", wanted.mount, wanted.role);
    context.certificates.push(wanted);
    match issued {
        Ok(issued) => {
            context.sources.issued(&name, &issued.chain);
            Some((SourceText::new(name, issued.chain.to_string(), usize::MAX), issued))
        }
        Err(why) => {
            context.error(at.key("vault"), format!("no certificate was issued: {why}")).help(
                "the login needs `update` on `MOUNT/sign/ROLE`, and the role must allow these names and this lifetime",
            );
            None
        }
    }
}

fn request(context: &mut Context<'_>, written: &document::Issue, at: At<'_>) -> Option<CertificateRequest> {
    let before = context.problems.len();
    let place = written.vault.as_deref().unwrap_or_default();
    let parts = place.rsplit_once('/').filter(|_| is_path(place));
    if written.vault.is_none() {
        context.missing(at.key("vault"), "`vault` is missing", "write the mount and the role: `vault: pki/ROLE`");
    } else if parts.is_none() {
        context.error(at.key("vault"), "this is not a mount and a role").help("write `pki/ROLE`");
    }
    if written.names.is_empty() {
        context.missing(at.key("names"), "`names` is missing", "write the DNS names and addresses of the listener");
    }
    for (position, name) in written.names.iter().enumerate() {
        let is_name = rustls::pki_types::ServerName::try_from(name.trim_start_matches("*.")).is_ok();
        if !is_name {
            context.error(at.key("names").index(position), "this is neither a DNS name nor an address");
        }
    }
    let lifetime = context.period(at.key("lifetime"), written.lifetime, LIFETIME);
    if lifetime < SHORTEST_LIFETIME || SignedDuration::try_from(lifetime).is_ok_and(|life| life > LONGEST_LIFETIME) {
        context.error(at.key("lifetime"), "a certificate is valid for 10s to 398d");
    }
    let (mount, role) = parts?;
    (context.problems.len() == before && !written.names.is_empty()).then(|| CertificateRequest {
        mount: mount.into(),
        role: role.into(),
        names: written.names.clone(),
        lifetime,
    })
}
