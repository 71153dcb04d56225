//! Where a vault is, and how we log in: `secrets.vault`, compiled.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::egress::{Egress, Trust};
use crate::url::HttpUrl;

/// A vault, and the login there.
#[derive(Debug, Clone)]
pub(crate) struct VaultSettings {
    /// Scheme, host and port; a path if it is behind one.
    pub(crate) url: HttpUrl,
    /// The trusted authorities, and the certificate of the login by certificate; absent for http.
    pub(crate) trust: Option<Trust>,
    /// How it is reached.
    pub(crate) egress: Arc<Egress>,
    /// Its namespace.
    pub(crate) namespace: Option<Box<str>>,
    /// How we log in.
    pub(crate) login: Login,
    /// The version of its key-value engines, if the policy says so.
    pub(crate) kv: Option<KvVersion>,
}

/// The API of a key-value engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvVersion {
    /// Without versions.
    One,
    /// With versions.
    Two,
}

/// How we log in.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// Not at all: the token is given.
    Token(SecretString),
    /// A role, and a secret that proves it.
    AppRole {
        /// The role.
        role_id: SecretString,
        /// The secret, or a token that it is wrapped in.
        secret_id: SecretString,
        /// Whether it is that token, which can be used once.
        wrapped: bool,
        /// Where the method is mounted.
        mount: Box<str>,
    },
    /// The service account of a pod.
    Kubernetes {
        /// The role.
        role: Box<str>,
        /// Where the method is mounted.
        mount: Box<str>,
        /// The file of the account's token; it is read at each login, because it is replaced before it ends.
        token_file: PathBuf,
    },
    /// The certificate of the connection.
    Certificate {
        /// The role; absent: any that fits.
        role: Option<Box<str>>,
        /// Where the method is mounted.
        mount: Box<str>,
    },
}

impl Login {
    /// Whether it can be done at any time.
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Token(_))
    }

    /// Whether doing it uses up what it is done with.
    pub(crate) fn is_used_up(&self) -> bool {
        matches!(self, Self::AppRole { wrapped: true, .. })
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other)) => same(one, other),
            (
                Self::AppRole { role_id, secret_id, wrapped, mount },
                Self::AppRole { role_id: role, secret_id: secret, wrapped: w, mount: m },
            ) => same(role_id, role) && same(secret_id, secret) && wrapped == w && mount == m,
            (
                Self::Kubernetes { role, mount, token_file },
                Self::Kubernetes { role: r, mount: m, token_file: file },
            ) => role == r && mount == m && token_file == file,
            (Self::Certificate { role, mount }, Self::Certificate { role: r, mount: m }) => role == r && mount == m,
            _ => false,
        }
    }
}

impl PartialEq for VaultSettings {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_vault(other)
            && self.trust == other.trust
            && self.egress == other.egress
            && self.login == other.login
            && self.kv == other.kv
    }
}

impl VaultSettings {
    /// Whether both are the same vault, whatever the login.
    pub(crate) fn is_same_vault(&self, other: &Self) -> bool {
        self.url == other.url && self.namespace == other.namespace
    }
}
