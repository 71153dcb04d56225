//! `bartizan revoke`: revokes credentials from the next request on.

use std::io::Read;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{DaemonArguments, Operator, print_json, print_line, print_table, segment};
use crate::cli::exit_code::{DONE, FAILED};
use crate::cli::output::{self, Format};
use crate::error_text;

#[derive(clap::Args)]
#[command(after_help = "Examples: bartizan revoke consumer acme --policy policy.yaml --reason 'contract ended'
          bartizan revoke all --issued-before 2026-11-24T09:00:00Z
If no daemon is running, the command changes the policy's store directly.")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    daemon: DaemonArguments,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text", global = true)]
    format: Format,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Revoke one token by its text
    #[command(after_help = "Example: bartizan revoke token - --reason leaked < token.txt")]
    Token {
        /// Token to revoke; `-` reads it from standard input
        token: String,
        #[command(flatten)]
        revocation: RevocationArguments,
    },
    /// Revoke one token by its id (`jti`)
    #[command(after_help = "Example: bartizan revoke jti 0b7f1c52 --expires 1h")]
    Jti {
        /// Id of the token: its `jti` claim
        jti: String,
        #[command(flatten)]
        revocation: RevocationArguments,
    },
    /// Revoke one API key
    #[command(after_help = "Example: bartizan revoke key acme-1 --reason leaked")]
    Key {
        /// Id of the key
        id: String,
        #[command(flatten)]
        revocation: RevocationArguments,
    },
    /// Revoke one client certificate by its SHA-256 thumbprint
    #[command(
        after_help = "Example: bartizan revoke certificate sha256:$(openssl x509 -in client.pem -outform der | sha256sum | cut -c1-64)"
    )]
    Certificate {
        /// Thumbprint of the certificate: `sha256:` and 64 hexadecimal digits
        thumbprint: String,
        #[command(flatten)]
        revocation: RevocationArguments,
    },
    /// Revoke the tokens of a subject
    #[command(after_help = "Example: bartizan revoke subject alice --issuer corp")]
    Subject {
        /// Subject of the tokens
        id: String,
        /// Issuer of the subject, by its name in the policy
        #[arg(long)]
        issuer: String,
        #[command(flatten)]
        bulk: BulkArguments,
    },
    /// Revoke every credential of a consumer
    #[command(after_help = "Example: bartizan revoke consumer acme --reason 'contract ended'")]
    Consumer {
        /// Name of the consumer
        name: String,
        #[command(flatten)]
        bulk: BulkArguments,
    },
    /// Revoke the tokens of an issuer
    #[command(after_help = "Example: bartizan revoke issuer corp --issued-before 2026-11-24T09:00:00Z")]
    Issuer {
        /// Name of the issuer in the policy
        name: String,
        #[command(flatten)]
        bulk: BulkArguments,
    },
    /// Revoke every credential issued before a time
    #[command(after_help = "Example: bartizan revoke all --issued-before 2026-11-24T09:00:00Z")]
    All {
        #[command(flatten)]
        bulk: BulkArguments,
    },
    /// List revocations
    #[command(after_help = "Example: bartizan revoke list --format json")]
    List,
    /// Undo a revocation
    #[command(after_help = "Example: bartizan revoke undo 01f0c52a9be64d1f8c3e5d7a90b1c2d3")]
    Undo {
        /// Id of the revocation
        id: String,
    },
}

#[derive(clap::Args)]
struct RevocationArguments {
    /// When the revocation expires: a duration or a time; default: with the token, or never
    #[arg(long, aliases = ["for", "until"])]
    expires: Option<String>,
    /// Reason to keep on record
    #[arg(long)]
    reason: Option<String>,
    /// Revoke a key or consumer that is not known here yet
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
struct BulkArguments {
    /// Revoke only credentials issued before this time
    #[arg(long, value_name = "TIME")]
    issued_before: Option<String>,
    /// Accept a time in the future, which also revokes credentials that do not exist yet
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    revocation: RevocationArguments,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    arguments.daemon.open().and_then(|operator| act(arguments, &operator)).map_or_else(|code| code, |()| DONE)
}

fn act(arguments: &Arguments, operator: &Operator) -> Result<(), u8> {
    let (target, revocation, bulk) = match &arguments.action {
        Action::Token { token, revocation } => (json!({"token": text(token)?}), revocation, None),
        Action::Jti { jti, revocation } => (json!({"jti": jti}), revocation, None),
        Action::Key { id, revocation } => (json!({"key": id}), revocation, None),
        Action::Certificate { thumbprint, revocation } => (json!({"certificate": thumbprint}), revocation, None),
        Action::Subject { id, issuer, bulk } => {
            (json!({"subject": id, "issuer": issuer}), &bulk.revocation, Some(bulk))
        }
        Action::Consumer { name, bulk } => (json!({"consumer": name}), &bulk.revocation, Some(bulk)),
        Action::Issuer { name, bulk } => (json!({"issuer": name}), &bulk.revocation, Some(bulk)),
        Action::All { bulk } => (json!({"all": true}), &bulk.revocation, Some(bulk)),
        Action::List => {
            let items = operator.list("/v1/revocations")?;
            if arguments.format == Format::Json {
                print_json(&json!({"items": items}));
            } else {
                let shown: Vec<Value> = items.into_iter().map(with_target).collect();
                let columns = [
                    ("id", "ID"),
                    ("what", "WHAT"),
                    ("issued_before", "ISSUED BEFORE"),
                    ("expires", "ENDS"),
                    ("created", "SINCE"),
                    ("created_by", "BY"),
                    ("reason", "REASON"),
                ];
                print_table(&shown, &columns);
            }
            return Ok(());
        }
        Action::Undo { id } => {
            operator.send(&Method::DELETE, &format!("/v1/revocations/{}", segment(id)), None)?;
            output::message(format_args!("undone"));
            return Ok(());
        }
    };
    let mut body = target;
    if let Value::Object(body) = &mut body {
        let issued_before = bulk.and_then(|bulk| bulk.issued_before.clone());
        let members = [
            ("expires", revocation.expires.clone()),
            ("reason", revocation.reason.clone()),
            ("issued_before", issued_before),
        ];
        body.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        if revocation.force {
            body.insert("force".to_owned(), true.into());
        }
        if bulk.is_some_and(|bulk| bulk.yes) {
            body.insert("allow_future".to_owned(), true.into());
        }
    }
    let response = operator.send(&Method::POST, "/v1/revocations", Some(&body))?;
    print_revocation(arguments.format, &response);
    Ok(())
}

/// Prints a new revocation.
pub(super) fn print_revocation(format: Format, response: &Value) {
    if format == Format::Json {
        return print_json(response);
    }
    let part = |name: &str| response.get(name).and_then(Value::as_str);
    print_line(part("id").unwrap_or_default());
    let end = part("expires").map_or("until it is undone".to_owned(), |end| format!("until {end}"));
    output::message(format_args!("revoked {end}; `bartizan revoke undo ID` undoes it"));
    if let Some(hit) = response.get("hit") {
        let count = |name: &str| hit.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (keys, clients) = (count("active_keys"), count("active_clients"));
        let active = |count: u64, what: &str| format!("{count} active {what}{}", if count == 1 { "" } else { "s" });
        if clients > 0 {
            let clients = active(clients, "client");
            output::message(format_args!("this ends {clients} of the token service, and all tokens that were given"));
        }
        let keys = (keys > 0 || clients == 0).then(|| active(keys, "key"));
        match (keys, hit.get("last_used").and_then(Value::as_str)) {
            (None, _) => {}
            (Some(keys), Some(at)) => output::message(format_args!("this ends {keys}, last used at {at}")),
            (Some(keys), None) => {
                output::message(format_args!("this ends {keys}, never used as far as is known here"));
            }
        }
        let successors = hit.get("successors").and_then(Value::as_array).into_iter().flatten();
        for successor in successors.filter_map(Value::as_str) {
            output::message(format_args!(
                "{successor} has taken its place and stays good; if the key has leaked, revoke that one as well"
            ));
        }
    }
}

/// Adds the member `what`, which names the target of a revocation.
fn with_target(mut revocation: Value) -> Value {
    const TARGETS: [&str; 8] = ["jti", "sha256", "subject", "consumer", "key", "certificate", "issuer", "all"];
    let what = TARGETS.iter().filter_map(|name| {
        let value = revocation.get(name)?;
        Some(format!("{name} {}", value.as_str().map_or_else(String::new, str::to_owned)).trim_end().to_owned())
    });
    let what = what.collect::<Vec<_>>().join(", ");
    if let Value::Object(members) = &mut revocation {
        members.insert("what".to_owned(), what.into());
    }
    revocation
}

/// Returns the token, or reads it from standard input for `-`.
pub(super) fn text(token: &str) -> Result<String, u8> {
    /// Longest token, in bytes.
    const MOST: u64 = 64 * 1024;
    if token != "-" {
        return Ok(token.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(MOST + 1).read_to_string(&mut text);
    let problem = match read {
        Err(error) => error_text::system(&error),
        // A truncated token would be a different token.
        Ok(_) if text.len() as u64 > MOST => format!("has more than {MOST} bytes"),
        Ok(_) if text.trim().is_empty() => "is empty".to_owned(),
        Ok(_) => return Ok(text.trim().to_owned()),
    };
    output::message(format_args!("error: standard input: {problem}"));
    Err(FAILED)
}
