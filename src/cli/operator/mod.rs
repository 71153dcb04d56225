//! Operator commands, one file each. They go through the admin listener of a running daemon or, if none is running,
//! change the store directly.

mod address;
pub(super) mod client;
pub(super) mod consumer;
pub(super) mod drill;
mod follow;
pub(super) mod health;
mod invitation;
pub(super) mod key;
pub(super) mod revoke;
pub(super) mod signing_key;
pub(super) mod stored;
mod trust;
pub(super) mod usage;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::runtime::LocalRuntime;

use self::address::AdminAddress;
use self::trust::TrustArguments;
use super::exit_code::{FAILED, INVALID};
use super::output::{self, print};
use crate::admin;
use crate::audit::Trail;
use crate::error_text;
use crate::policy::compile;
use crate::policy::{Policy, Rights};
use crate::runtime::{InForce, Runtime};
use crate::stages::auth::locations::CredentialLocations;
use crate::state::registry::StoreConfig;

/// Timeout of a whole exchange with a daemon.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response, in bytes.
const MAX_RESPONSE: usize = 16 * 1024 * 1024;

/// Where to find the daemon or its store.
#[derive(clap::Args)]
pub(super) struct DaemonArguments {
    /// Policy file, which names the admin listener, its token and the store
    #[arg(long, value_name = "FILE", env = "BARTIZAN_POLICY", global = true)]
    policy: Option<PathBuf>,
    /// Address of the admin listener, instead of the policy's: http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", env = "BARTIZAN_ADMIN", global = true)]
    admin: Option<String>,
    /// Admin token, instead of the policy's
    // Not `token`: `revoke token TEXT` has an argument of that name, and clap gives both one id.
    #[arg(long, value_name = "TOKEN", env = "BARTIZAN_ADMIN_TOKEN", hide_env_values = true, global = true)]
    admin_token: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
}

/// A connection to the daemon or the store.
pub(super) struct Operator {
    runtime: LocalRuntime,
    backend: Backend,
}

enum Backend {
    /// A running daemon.
    Daemon { address: AdminAddress, token: SecretString, tls: Option<Arc<ClientConfig>> },
    /// The store of a policy that no daemon is running.
    Store(Box<InForce>),
}

impl DaemonArguments {
    /// Finds the daemon or the store. Prints problems and returns them as exit codes.
    pub(super) fn open(&self) -> Result<Operator, u8> {
        let runtime = runtime()?;
        if let Some(url) = &self.admin {
            let wrong = |why| fail(INVALID, &format!("--admin is not valid: {why}"));
            let address = AdminAddress::of(url).map_err(wrong)?;
            let token = self.admin_token.clone().ok_or_else(|| fail(INVALID, "--admin needs --admin-token"))?;
            let backend = self.of_daemon(address, token.into(), None)?;
            return Ok(Operator { runtime, backend });
        }
        let Some(path) = &self.policy else {
            return Err(fail(
                INVALID,
                "no daemon or policy is given; use --policy FILE, or --admin URL --admin-token TOKEN",
            ));
        };
        let (policy, problems) = compile::compile(path);
        let Some(policy) = policy else {
            output::report(&problems);
            return Err(INVALID);
        };
        let backend = self.of_policy(policy, &runtime)?;
        Ok(Operator { runtime, backend })
    }

    /// Where the policy has credentials. `None`: the daemon is not given by its policy.
    fn locations(&self) -> Option<CredentialLocations> {
        if self.admin.is_some() {
            return None;
        }
        let (policy, _) = compile::compile(self.policy.as_ref()?);
        policy.map(|policy| policy.auth().locations.clone())
    }

    /// Returns the daemon of a policy if one answers, else its store if that is on this machine.
    fn of_policy(&self, policy: Policy, runtime: &LocalRuntime) -> Result<Backend, u8> {
        let store = policy.store();
        let embedded = matches!(store, Some(StoreConfig::Embedded { .. }));
        let none = store.is_none();
        if let Some(address) = answering(&policy, runtime).map_err(|denied| fail(FAILED, &denied))? {
            return self.with_token(address, &policy);
        }
        if none {
            return Err(fail(FAILED, "the policy has no `store`, so changes cannot be kept; add `store: state/`"));
        }
        if !embedded {
            return Err(fail(FAILED, "no daemon answers at the policy's `admin` address; start one, or give --admin"));
        }
        let trail = Arc::new(Trail::silent());
        Ok(Backend::Store(Box::new(InForce::attach(policy, trail, &Runtime::new(Instant::now()), None))))
    }

    /// Returns the daemon at `--admin`, or else that of the policy.
    ///
    /// # Errors
    /// Why there is none to ask. It has been printed if the arguments are wrong.
    pub(super) fn running(&self, policy: &Policy) -> Result<Operator, String> {
        const SEEN: &str = "the arguments for the admin listener are wrong";
        if self.admin.is_some() {
            return self.open().map_err(|_| SEEN.to_owned());
        }
        let runtime = runtime().map_err(|_| "this process cannot make calls".to_owned())?;
        match answering(policy, &runtime)? {
            Some(address) => {
                let backend = self.with_token(address, policy).map_err(|_| SEEN.to_owned())?;
                Ok(Operator { runtime, backend })
            }
            None if policy.admin().is_none() => Err("the policy has no `admin`; give --admin".to_owned()),
            None => Err("no daemon answers at the policy's `admin` address; start one, or give --admin".to_owned()),
        }
    }

    /// The policy file, if one is given.
    pub(super) fn policy(&self) -> Option<&std::path::Path> {
        self.policy.as_deref()
    }

    fn with_token(&self, address: AdminAddress, policy: &Policy) -> Result<Backend, u8> {
        let mut tokens = policy.admin().into_iter().flat_map(|admin| &admin.tokens);
        let token = self.admin_token.clone().map(SecretString::from);
        let token = token.or_else(|| {
            let operates = tokens.find(|token| token.rights == Rights::Operate);
            operates.map(|token| token.token.clone())
        });
        let token = token.ok_or_else(|| fail(INVALID, "the policy has no `admin.token`; give --admin-token"))?;
        let own = policy.admin().and_then(|admin| Some(&*admin.tls.as_ref()?.certificates));
        self.of_daemon(address, token, own)
    }

    /// Returns a daemon, which is trusted over TLS if it has one of these certificates of its own.
    fn of_daemon(
        &self,
        address: AdminAddress,
        token: SecretString,
        own: Option<&[CertificateDer<'static>]>,
    ) -> Result<Backend, u8> {
        let tls = self.trust.of_address(&address, own).map_err(|problem| fail(FAILED, &problem))?;
        Ok(Backend::Daemon { address, token, tls })
    }
}

/// The first admin listener of the policy that answers, if one does.
///
/// # Errors
/// A daemon is running, and this user may not connect to it: do not bypass it.
fn answering(policy: &Policy, runtime: &LocalRuntime) -> Result<Option<AdminAddress>, String> {
    let mut denied = None;
    for place in policy.admin().into_iter().flat_map(|admin| &admin.places) {
        let tls = policy.admin().is_some_and(|admin| admin.tls.is_some());
        let address = AdminAddress::of_policy(place, tls);
        let connected = async { tokio::time::timeout(TIMEOUT, address.probe()).await };
        match runtime.block_on(connected) {
            Ok(Ok(())) => return Ok(Some(address)),
            Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => {
                denied = Some(format!("{address}: {}", error_text::system(&error)));
            }
            _ => {}
        }
    }
    denied.map_or(Ok(None), Err)
}

/// A runtime for the calls of one command.
fn runtime() -> Result<LocalRuntime, u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.map_err(|error| fail(FAILED, &error.to_string()))
}

impl Operator {
    /// Sends a request and returns the body of a successful response. Prints problems and returns them as exit codes.
    pub(super) fn send(&self, method: &Method, target: &str, body: Option<&Value>) -> Result<Value, u8> {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let received = match &self.backend {
            Backend::Store(in_force) => self.runtime.block_on(admin::without_daemon(in_force, method, target, &bytes)),
            Backend::Daemon { address, token, tls } => {
                let exchange = call(address, Some(token), tls.as_ref(), method, target, bytes);
                let exchange = self.runtime.block_on(async { tokio::time::timeout(TIMEOUT, exchange).await });
                exchange.unwrap_or_else(|_| Err(format!("{address} did not respond within {TIMEOUT:?}")))
            }
        };
        let (status, bytes) = received.map_err(|error| fail(FAILED, &error))?;
        let response: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return Ok(response);
        }
        let detail = response.get("detail").and_then(Value::as_str).unwrap_or("the response gives no reason");
        output::message(format_args!("error: {status}: {detail}"));
        for error in response.get("errors").and_then(Value::as_array).into_iter().flatten() {
            let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
            output::message(format_args!("  {} {}", part("pointer"), part("detail")));
        }
        Err(FAILED)
    }

    /// Returns all items of a list, page by page.
    pub(super) fn list(&self, path: &str) -> Result<Vec<Value>, u8> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.send(&Method::GET, &format!("{path}?limit=1000{after}"), None)?;
            items.extend(page.get("items").and_then(Value::as_array).into_iter().flatten().cloned());
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", segment(next)),
                None => return Ok(items),
            }
        }
    }
}

async fn call(
    address: &AdminAddress,
    token: Option<&SecretString>,
    tls: Option<&Arc<ClientConfig>>,
    method: &Method,
    target: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), String> {
    let (response, _driver) = connect(address, token, tls, method, target, body).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await;
    Ok((status, body.map_err(|error| failed(address, &error))?.to_bytes()))
}

fn failed(address: &AdminAddress, error: &dyn std::fmt::Display) -> String {
    format!("{address}: {}", error_text::without_codes(&error.to_string()))
}

/// The task of a connection, which ends with this.
struct Driver(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request on a connection of its own, and returns the head of the response. Health and readiness need no token.
async fn connect(
    address: &AdminAddress,
    token: Option<&SecretString>,
    tls: Option<&Arc<ClientConfig>>,
    method: &Method,
    target: &str,
    body: Bytes,
) -> Result<(Response<Incoming>, Driver), String> {
    let failed = |error: &dyn std::fmt::Display| failed(address, error);
    let stream = address.connect(tls).await.map_err(|error| format!("{address}: {}", error_text::system(&error)))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let driver = Driver(tokio::task::spawn_local(connection));
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, address.host())
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| "the admin token has characters that a header cannot hold".to_owned())?;
        authorization.set_sensitive(true);
        request = request.header(AUTHORIZATION, authorization);
    }
    let request = request.body(Full::new(body)).map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    Ok((response, driver))
}

/// Encodes a name as one path segment.
fn segment(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// Prints a line of a result. Returns whether it was written.
fn print_line(line: &str) -> bool {
    print(&format!("{line}\n"))
}

/// Prints a response as JSON.
fn print_json(response: &Value) {
    print_line(&serde_json::to_string_pretty(response).unwrap_or_default());
}

/// Prints the given members of each item as a table.
fn print_table(items: &[Value], columns: &[(&str, &str)]) {
    let cell = |item: &Value, name: &str| match item.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" "),
        Some(other) => other.to_string(),
    };
    let mut rows = vec![columns.iter().map(|(_, title)| (*title).to_owned()).collect::<Vec<_>>()];
    rows.extend(items.iter().map(|item| columns.iter().map(|(name, _)| cell(item, name)).collect()));
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    print(&table);
}

fn fail(code: u8, message: &str) -> u8 {
    output::message(format_args!("error: {message}"));
    code
}
