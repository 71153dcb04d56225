//! `secrets`, as written.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::secret::secret;
use super::watch::Watch;
use crate::policy::units::Period;

/// Where secrets come from, beside environment variables and files.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Secrets {
    /// The vault of `${vault:MOUNT/PATH#FIELD}`: HashiCorp Vault or OpenBao. Default: none.
    pub(crate) vault: Option<Vault>,
    /// Loads files that change without being asked: all that the policy names, and the policy file itself if it says so.
    /// Default: they are read at start and at reload only.
    pub(crate) watch: Option<Watch>,
}

/// A vault. Its settings, and `egress`, may refer to environment variables and files only.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Vault {
    /// URL: `https`, or `http` on this machine. Required.
    pub(crate) address: Option<String>,
    /// PEM file of the authorities that issue its certificate. Default: the system's.
    pub(crate) ca: Option<String>,
    /// Namespace of everything that is asked for (`X-Vault-Namespace`). Default: none.
    pub(crate) namespace: Option<String>,
    /// How this process logs in. Required.
    pub(crate) login: Option<Login>,
    /// Version of the key-value engines, for a token that may not ask. Default: the vault is asked.
    #[schemars(extend("enum" = [1, 2]))]
    pub(crate) kv: Option<u32>,
    /// How often the secrets are read again. A change is a reload.
    #[schemars(extend("default" = "1m"))]
    pub(crate) refresh: Option<Period>,
    /// How long the last value of a secret is used while the vault does not give it.
    #[schemars(extend("default" = "24h"))]
    pub(crate) stale_for: Option<Period>,
    /// What happens after `stale_for`: `refuse` answers 503 where the secret is needed, `serve` goes on with its last value.
    #[schemars(extend("enum" = ["refuse", "serve"], "default" = "refuse"))]
    pub(crate) on_failure: Option<String>,
}

/// A certificate that the vault issues. It is renewed at two thirds of its life.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Issue {
    /// Mount of the PKI engine, and the role: `pki/ROLE`. Required.
    pub(crate) vault: Option<String>,
    /// DNS names and addresses of the certificate; the first is its common name. Required.
    pub(crate) names: Vec<String>,
    /// How long it is valid, from 10s to 398d; the role may allow less.
    #[schemars(extend("default" = "24h"))]
    pub(crate) lifetime: Option<Period>,
}

/// How this process logs in to the vault: one of these.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Login {
    /// A token, which somebody else keeps valid.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) token: Option<SecretString>,
    /// A role and a secret.
    pub(crate) approle: Option<AppRole>,
    /// The service account of a pod.
    pub(crate) kubernetes: Option<Kubernetes>,
    /// A client certificate.
    pub(crate) certificate: Option<CertificateLogin>,
}

/// A login by AppRole.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AppRole {
    /// The role. Required.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) role_id: Option<SecretString>,
    /// Its secret. Required.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) secret_id: Option<SecretString>,
    /// Whether `secret_id` is a token that the secret is wrapped in. It is opened once, by `bartizan run`.
    #[schemars(extend("default" = false))]
    pub(crate) wrapped: Option<bool>,
    /// Where the method is mounted.
    #[schemars(extend("default" = "approle"))]
    pub(crate) mount: Option<String>,
}

/// A login by the service account of a pod.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Kubernetes {
    /// The role. Required.
    pub(crate) role: Option<String>,
    /// Where the method is mounted.
    #[schemars(extend("default" = "kubernetes"))]
    pub(crate) mount: Option<String>,
    /// File of the account's token, which is read at each login.
    #[schemars(extend("default" = "/var/run/secrets/kubernetes.io/serviceaccount/token"))]
    pub(crate) token_file: Option<String>,
}

/// A login by client certificate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CertificateLogin {
    /// PEM file of the certificate chain. Required.
    pub(crate) certificate: Option<String>,
    /// PEM file of the private key, or a reference to the PEM itself. Required.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// The role. Default: any that fits the certificate.
    pub(crate) role: Option<String>,
    /// Where the method is mounted.
    #[schemars(extend("default" = "cert"))]
    pub(crate) mount: Option<String>,
}
