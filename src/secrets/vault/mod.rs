//! Secrets of a vault: HashiCorp Vault, or OpenBao, whose API is the same.
//!
//! [`reference`]: what a policy refers to. [`settings`]: where the vault is, and how we log in. [`state`]: one vault, with the
//! token of the login and the last good values, which outlive policies; [`vaults`]: all of them. [`kept`]: the values.
//! `connection`: requests; `session`: requests that log in when it is time; `login`, `kv`: how; `error`: what can be wrong.

mod connection;
mod error;
mod kept;
mod kv;
mod login;
mod reference;
mod session;
mod settings;
mod state;
mod vaults;

pub(crate) use self::error::VaultError;
pub(crate) use self::kept::{Generation, KeptSecrets};
pub(crate) use self::reference::{SecretPath, VaultReference, is_path};
pub(crate) use self::settings::{KvVersion, Login, VaultSettings};
pub(crate) use self::state::{Failed, Vault, Wanted};
pub(crate) use self::vaults::{Vaults, blocking};
