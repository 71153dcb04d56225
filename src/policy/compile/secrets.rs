//! `secrets`: the vault, and the values of the references to it. It is asked before the rest of the policy is compiled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::context::{ClientTls, Context};
use super::egress;
use super::issuing::Issuing;
use crate::policy::document;
use crate::policy::secret_uses::{PolicyVault, SecretUses, Upkeep};
use crate::policy::tree::{At, Tree};
use crate::policy::vault_answers::VaultAnswers;
use crate::secrets::vault::{KvVersion, Login, Vault, VaultSettings, Vaults, blocking, is_path};
use crate::url::{Form, HttpUrl};

/// Default of `refresh`.
const REFRESH: Duration = Duration::from_secs(60);
/// Default of `stale_for`.
const STALE_FOR: Duration = Duration::from_secs(24 * 3600);
/// Shortest `refresh`.
const SHORTEST: Duration = Duration::from_secs(1);
/// Default of `token_file`.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// What has to be known before the vault is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Before {
    secrets: document::Secrets,
    egress: document::Egress,
}

/// How the vault is asked.
pub(super) enum Access<'a> {
    /// As the daemon does.
    Daemon(&'a Vaults),
    /// Only if asking uses nothing up.
    Once,
    /// Not at all: these are the values.
    Given(BTreeMap<String, String>),
}

/// Resolves the references to the vault. Returns the vault in use, with the references.
pub(super) fn resolve(
    context: &mut Context<'_>,
    tree: &mut Tree,
    before: &Before,
    access: Access<'_>,
) -> Option<PolicyVault> {
    let settings = {
        let at = tree.at();
        context.egress = Arc::new(egress::compile(context, &before.egress, at.key("egress")));
        let at = at.key("secrets").key("vault");
        before.secrets.vault.as_ref().map(|written| vault(context, written, at))
    };
    let uses = SecretUses::of(tree);
    let is_daemon = matches!(access, Access::Daemon(_));
    if settings.is_some() || matches!(access, Access::Given(_)) {
        // What is only checked or tested issues nothing.
        context.issuing = Issuing::StandIn;
    }
    let mut used = None;
    match (access, settings) {
        (Access::Given(values), _) => context.sources.vault = VaultAnswers::Given(values),
        (_, None) => {}
        // What is wrong has been reported.
        (_, Some(None)) => {
            tree.void_vault_references();
            return None;
        }
        (Access::Once, Some(Some((settings, _)))) if settings.login.is_used_up() => {
            if !uses.is_empty() {
                let at = tree.at().key("secrets").key("vault").key("login").key("approle").key("wrapped");
                context
                    .warning(at, "the vault was not asked: a wrapped `secret_id` can be opened once, and `bartizan run` needs it")
                    .help("references to the vault were not checked");
            }
            tree.void_vault_references();
            return None;
        }
        (access, Some(Some((settings, upkeep)))) => {
            let once = Vaults::default();
            let vault =
                if let Access::Daemon(vaults) = access { vaults.vault(&settings) } else { once.vault(&settings) };
            context.sources.vault = ask(context, &vault, &uses, tree.at());
            if is_daemon {
                context.issuing = Issuing::Vault(Arc::clone(&vault));
            }
            used = Some((vault, upkeep));
        }
    }
    let generation = used.as_ref().map(|(vault, _)| vault.kept.generation());
    tree.resolve_vault(&mut context.sources, &mut context.problems);
    let (vault, upkeep) = used?;
    let generation = generation.unwrap_or_default();
    Some(PolicyVault { vault, upkeep, uses, certificates: Vec::new(), keys: Vec::new(), generation })
}

fn ask(context: &mut Context<'_>, vault: &Arc<Vault>, uses: &SecretUses, at: At<'_>) -> VaultAnswers {
    let wanted = uses.wanted();
    let failed = if wanted.is_empty() {
        Vec::new()
    } else {
        blocking(vault.fetch(&wanted, Timestamp::now())).unwrap_or_else(|why| {
            context.error(at.key("secrets").key("vault"), format!("the vault could not be asked: {why}"));
            Vec::new()
        })
    };
    VaultAnswers::Asked { kept: Arc::clone(&vault.kept), failed }
}

/// `secrets.vault`.
fn vault(context: &mut Context<'_>, written: &document::Vault, at: At<'_>) -> Option<(VaultSettings, Upkeep)> {
    let refresh = context.period(at.key("refresh"), written.refresh, REFRESH);
    if refresh < SHORTEST {
        context.error(at.key("refresh"), "the vault would be asked all the time").help("write at least `1s`");
    }
    let stale_for = context.period(at.key("stale_for"), written.stale_for, STALE_FOR);
    if stale_for < refresh && written.stale_for.is_some() {
        context
            .error(at.key("stale_for"), "every secret would be stale before it is read again")
            .help("write more than `refresh`");
    }
    let serves = match written.on_failure.as_deref() {
        None | Some("refuse") => false,
        Some("serve") => true,
        Some(other) => {
            context.unknown(at.key("on_failure"), "behaviour", other, ["refuse", "serve"]);
            false
        }
    };
    let kv = match written.kv {
        None => None,
        Some(1) => Some(KvVersion::One),
        Some(2) => Some(KvVersion::Two),
        Some(_) => {
            context.error(at.key("kv"), "there are key-value engines of version 1 and 2");
            None
        }
    };
    let login = login(context, written.login.as_ref(), at.key("login"));
    let url = address(context, written.address.as_deref(), at.key("address"));
    let (url, login) = (url?, login?);
    let shown = written.login.as_ref().and_then(|login| login.certificate.as_ref());
    let certificate = shown.and_then(|shown| shown.certificate.as_ref());
    let key = shown.and_then(|shown| shown.key.as_ref());
    let trust = if url.is_https() {
        let trust = ClientTls { ca: written.ca.as_ref(), certificate, key };
        Some(context.client_tls(&trust, at)?)
    } else {
        if written.ca.is_some() {
            context.error(at.key("ca"), "`ca` has no effect because the address is plain http").help("remove it");
        }
        if shown.is_some() {
            context.error(at.key("login").key("certificate"), "a login by certificate needs https");
        }
        None
    };
    let namespace = written.namespace.as_deref().map(|text| text.trim_matches('/'));
    if namespace.is_some_and(|text| !is_path(text) || !text.is_ascii()) {
        context.error(at.key("namespace"), "this is not a namespace").help("write a path, such as `team-a/prod`");
    }
    let (egress, namespace) = (Arc::clone(&context.egress), namespace.map(Box::from));
    Some((VaultSettings { url, trust, egress, namespace, login, kv }, Upkeep { refresh, stale_for, serves }))
}

fn address(context: &mut Context<'_>, written: Option<&str>, at: At<'_>) -> Option<HttpUrl> {
    let Some(text) = written else {
        context.missing(at, "`address` is missing", "write `address: \"https://vault.example.com:8200\"`");
        return None;
    };
    let url = match HttpUrl::parse(text, Form::BASE) {
        Ok(url) => url,
        Err(error) => {
            context.error(at, error.message).help(error.help);
            return None;
        }
    };
    if !url.is_safe() {
        context
            .error(at, "secrets would cross the network in clear text")
            .help("use https; `ca:` names a private authority");
        return None;
    }
    Some(url)
}

fn login(context: &mut Context<'_>, written: Option<&document::Login>, at: At<'_>) -> Option<Login> {
    const HELP: &str = "write one of `token`, `approle`, `kubernetes` and `certificate`";
    let Some(written) = written else {
        context.missing(at, "`login` is missing", HELP);
        return None;
    };
    match written {
        document::Login { token: Some(token), approle: None, kubernetes: None, certificate: None } => {
            if token.expose_secret().is_empty() {
                context.error(at.key("token"), "the token is empty");
            }
            Some(Login::Token(token.clone()))
        }
        document::Login { token: None, approle: Some(role), kubernetes: None, certificate: None } => {
            approle(context, role, at.key("approle"))
        }
        document::Login { token: None, approle: None, kubernetes: Some(role), certificate: None } => {
            let at = at.key("kubernetes");
            let mount = mount(context, role.mount.as_deref(), "kubernetes", at)?;
            let Some(name) = role.role.as_deref().filter(|role| !role.is_empty()) else {
                context.missing(at.key("role"), "`role` is missing", "write the role of the vault's Kubernetes method");
                return None;
            };
            let token_file = context.sources.path(role.token_file.as_deref().unwrap_or(TOKEN_FILE));
            Some(Login::Kubernetes { role: name.into(), mount, token_file })
        }
        document::Login { token: None, approle: None, kubernetes: None, certificate: Some(shown) } => {
            let at = at.key("certificate");
            if shown.certificate.is_none() || shown.key.is_none() {
                let help = "write the paths of a PEM chain and of its PEM key";
                context.missing(at, "a login by certificate needs `certificate` and `key`", help);
                return None;
            }
            let mount = mount(context, shown.mount.as_deref(), "cert", at)?;
            Some(Login::Certificate { role: shown.role.as_deref().map(Box::from), mount })
        }
        document::Login { token: None, approle: None, kubernetes: None, certificate: None } => {
            context.missing(at, "this is not a login", HELP);
            None
        }
        _ => {
            context.error(at, "there is more than one login").help(HELP);
            None
        }
    }
}

fn approle(context: &mut Context<'_>, written: &document::AppRole, at: At<'_>) -> Option<Login> {
    let mount = mount(context, written.mount.as_deref(), "approle", at);
    let (Some(role_id), Some(secret_id)) = (&written.role_id, &written.secret_id) else {
        let help = "write both as references, such as `secret_id: \"${file:secret-id}\"`";
        context.missing(at, "a login by AppRole needs `role_id` and `secret_id`", help);
        return None;
    };
    let (role_id, secret_id) = (role_id.clone(), secret_id.clone());
    Some(Login::AppRole { role_id, secret_id, wrapped: written.wrapped.unwrap_or(false), mount: mount? })
}

fn mount(context: &mut Context<'_>, written: Option<&str>, default: &str, at: At<'_>) -> Option<Box<str>> {
    let mount = written.unwrap_or(default).trim_matches('/');
    if !is_path(mount) {
        context.error(at.key("mount"), "this is not the path of a mount").help(format!("write it as `{default}`"));
        return None;
    }
    Some(mount.into())
}
