//! `bartizan health`: asks the admin listener whether the proxy is ready, or alive. It needs no token, and no `curl` in an image.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use serde_json::Value;

use super::address::AdminAddress;
use super::trust::TrustArguments;
use super::{call, fail, print_json, print_line, runtime};
use crate::cli::exit_code::{DONE, FAILED, INVALID};
use crate::cli::output::{self, Format};
use crate::error_text;
use crate::policy::compile;

/// Timeout of the whole command: shorter than that of the health checks of Docker (30 s) and of most scripts.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan health --policy /etc/bartizan/policy.yaml
Example: bartizan health --admin unix:/run/bartizan/admin.sock --live
Of the policy, only `admin` is read: mistakes elsewhere do not make a running proxy unhealthy, and no vault is asked.
Exit codes: 0 ready, 1 not ready or no answer within 3 s, 2 the admin listener could not be found.")]
pub(in crate::cli) struct Arguments {
    /// Policy file, which names the admin listener
    #[arg(long, value_name = "FILE", env = "BARTIZAN_POLICY")]
    policy: Option<PathBuf>,
    /// Address of the admin listener, instead of the policy's: http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", env = "BARTIZAN_ADMIN")]
    admin: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    /// Ask only whether the process answers (/healthz), not whether it can serve (/readyz)
    #[arg(long)]
    live: bool,
    /// A part that must be well, not only well enough to serve most: audit, store, issuers, certificates, secrets
    #[arg(long, value_name = "PART", value_delimiter = ',', conflicts_with = "live")]
    require: Vec<String>,
    /// Output format of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// A place where the admin listener may be, and how it is trusted there.
type Place = (AdminAddress, Option<Arc<ClientConfig>>);

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    let asked = arguments.places().and_then(|places| {
        let answer = async { tokio::time::timeout(TIMEOUT, ask(&places, &arguments.target())).await };
        let answer = runtime()?.block_on(answer);
        let answer = answer.unwrap_or_else(|_| Err(format!("there was no answer within {TIMEOUT:?}")));
        answer.map_err(|problem| fail(FAILED, &problem))
    });
    asked.map_or_else(|code| code, |(status, body)| arguments.show(status, &body))
}

impl Arguments {
    /// Finds the admin listener. Prints problems and returns them as exit codes.
    fn places(&self) -> Result<Vec<Place>, u8> {
        let (addresses, own) = match (&self.admin, &self.policy) {
            (Some(url), _) => {
                let address = AdminAddress::of(url);
                let address = address.map_err(|why| fail(INVALID, &format!("--admin is not valid: {why}")))?;
                (vec![address], None)
            }
            (None, Some(path)) => {
                let listener = compile::admin_listener(path).map_err(|problems| {
                    output::report(&problems);
                    INVALID
                })?;
                let tls = listener.certificates.is_some();
                let addresses = listener.places.iter().map(|place| AdminAddress::of_policy(place, tls));
                // Without one in a file, such as where a vault issues it, the authorities decide.
                let own = listener.certificates.filter(|certificates| !certificates.is_empty());
                (addresses.collect(), own)
            }
            (None, None) => {
                return Err(fail(INVALID, "no admin listener is given; use --policy FILE or --admin URL"));
            }
        };
        let trusted = addresses.into_iter().map(|address| {
            let tls = self.trust.of_address(&address, own.as_deref()).map_err(|problem| fail(FAILED, &problem))?;
            Ok((address, tls))
        });
        trusted.collect()
    }

    fn target(&self) -> String {
        if self.live {
            return "/healthz".to_owned();
        }
        let parts = self.require.iter().map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() { "/readyz".to_owned() } else { format!("/readyz?require={}", parts.join(",")) }
    }

    /// Prints an answer, and returns the exit code.
    fn show(&self, status: StatusCode, body: &[u8]) -> u8 {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        match status {
            StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => {}
            StatusCode::BAD_REQUEST => {
                let detail = answer.get("detail").and_then(Value::as_str).unwrap_or("the question is not understood");
                return fail(INVALID, detail);
            }
            _ => return fail(FAILED, &format!("{status}: this is not the answer of an admin listener")),
        }
        if self.format == Format::Json {
            print_json(&answer);
        } else {
            print_line(&summary(status, &answer));
        }
        if status == StatusCode::OK { DONE } else { FAILED }
    }
}

/// Asks the first place that somebody listens at, and returns status and body of the answer.
async fn ask(places: &[Place], target: &str) -> Result<(StatusCode, Bytes), String> {
    let mut problems = Vec::new();
    for (address, tls) in places {
        if let Err(error) = address.probe().await {
            let is_denied = error.kind() == ErrorKind::PermissionDenied;
            let help = if is_denied { "; run this as a user who may connect to it" } else { "" };
            problems.push(format!("{address}: {}{help}", error_text::system(&error)));
            continue;
        }
        return call(address, None, tls.as_ref(), &Method::GET, target, Bytes::new()).await;
    }
    Err(problems.join("; "))
}

/// One line for people: `ready`, and what is impaired.
fn summary(status: StatusCode, answer: &Value) -> String {
    let degraded = answer.get("degraded").and_then(Value::as_array);
    let degraded: Vec<&str> = degraded.into_iter().flatten().filter_map(Value::as_str).collect();
    let state = match (status == StatusCode::OK, answer.get("ready").is_some()) {
        (true, true) => "ready",
        (true, false) => "alive",
        (false, _) => "not ready",
    };
    if degraded.is_empty() { state.to_owned() } else { format!("{state}; degraded: {}", degraded.join(", ")) }
}
