//! Secrets of a vault: HashiCorp Vault, or OpenBao, whose API is the same.
//!
//! [`mod@reference`]: what a policy refers to. [`settings`]: where the vault is, and how we log in. [`state`]: one vault, with the
//! token of the login and the last good values, which outlive policies; [`vaults`]: all of them. [`kept`]: the values.
//! `connection`: requests; `session`: requests that log in when it is time; `login`, `kv`: how; `kv_write`: one field; `issue`: certificates; `transit`: signatures;
//! `error`: what can be wrong.

mod connection;
mod error;
mod issue;
mod kept;
mod kv;
mod kv_write;
mod login;
mod reference;
mod session;
mod settings;
mod state;
mod transit;
mod transit_name;
mod vaults;

pub(crate) use self::error::VaultError;
pub(crate) use self::issue::{CertificateRequest, IssuedCertificate, LONGEST_LIFETIME, SHORTEST_LIFETIME};
pub(crate) use self::kept::{Generation, KeptSecrets, SecretState};
pub(crate) use self::kv_write::OpenedSecret;
pub(crate) use self::reference::{SecretPath, VaultReference, is_path};
pub(crate) use self::settings::{KvVersion, Login, VaultSettings};
pub(crate) use self::state::{Failed, Vault, Wanted};
pub(crate) use self::transit::TransitKey;
pub(crate) use self::transit_name::TransitName;
pub(crate) use self::vaults::{Vaults, blocking};
