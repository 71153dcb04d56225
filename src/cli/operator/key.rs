//! `bartizan key`: creates, rotates, lists and revokes API keys.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{DaemonArguments, Operator, print_json, print_line, print_table, segment};
use crate::cli::exit_code::{DONE, FAILED};
use crate::cli::output::{self, Format};

#[derive(clap::Args)]
#[command(after_help = "Example: KEY=$(bartizan key new --policy policy.yaml --consumer acme --expires 90d)
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
    /// Create a key and print it; it is shown only once
    #[command(after_help = "Example: KEY=$(bartizan key new --consumer acme --expires 90d --scope orders:read)")]
    New {
        /// Consumer that owns the key
        #[arg(long)]
        consumer: String,
        #[command(flatten)]
        traits: Traits,
    },
    /// Create a key to replace another, which expires after the overlap
    #[command(after_help = "Example: KEY=$(bartizan key rotate acme-1 --id acme-2 --overlap 7d)
A key that the policy rotates (`rotate`) is delivered to its vault, and not printed.")]
    Rotate {
        /// Id of the key to replace, or of a rotation of the policy
        old: String,
        /// How long the old key stays valid: a duration such as 7d, or a time
        #[arg(long)]
        overlap: Option<String>,
        #[command(flatten)]
        traits: Traits,
    },
    /// List keys and when each was last used
    #[command(after_help = "Example: bartizan key list --consumer acme")]
    List {
        /// List only the keys of this consumer
        #[arg(long)]
        consumer: Option<String>,
    },
    /// Remove a key that was made at run time; it is refused as unknown
    #[command(after_help = "Example: bartizan key remove acme-1")]
    Remove {
        /// Id of the key
        id: String,
    },
    /// Revoke a key from the next request on
    #[command(after_help = "Example: bartizan key revoke acme-1 --reason leaked")]
    Revoke {
        /// Id of the key
        id: String,
        /// Reason to keep on record
        #[arg(long)]
        reason: Option<String>,
        /// Revoke a key that is not known here yet
        #[arg(long)]
        force: bool,
    },
}

#[derive(clap::Args)]
struct Traits {
    /// Id of the new key; default: derived from the consumer's name
    #[arg(long)]
    id: Option<String>,
    /// When the key expires: a duration such as 90d, a time, or `never`; default: 90d, or the policy's max_key_age
    #[arg(long, aliases = ["for", "until"])]
    expires: Option<String>,
    /// When the key becomes valid: a duration from now, or a time
    #[arg(long)]
    not_before: Option<String>,
    /// Scope to limit the key to, within the consumer's roles; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Network that the key is good from, such as 203.0.113.0/24, within those of the consumer; may be repeated
    #[arg(long = "from", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Note for people
    #[arg(long)]
    note: Option<String>,
    /// Accept scopes that no route or role of the policy has
    #[arg(long)]
    force: bool,
}

impl Traits {
    fn body(&self) -> Value {
        let mut body = serde_json::Map::new();
        let mut put = |name: &str, value: Option<&String>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value.as_str().into());
            }
        };
        put("id", self.id.as_ref());
        put("not_before", self.not_before.as_ref());
        put("note", self.note.as_ref());
        match self.expires.as_deref() {
            Some("never") => drop(body.insert("expires".to_owned(), Value::Null)),
            Some(expires) => drop(body.insert("expires".to_owned(), expires.into())),
            None => {}
        }
        if self.force {
            body.insert("force".to_owned(), true.into());
        }
        if !self.scopes.is_empty() {
            body.insert("scopes".to_owned(), json!(self.scopes));
        }
        if !self.networks.is_empty() {
            body.insert("from".to_owned(), json!(self.networks));
        }
        Value::Object(body)
    }
}

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    arguments.daemon.open().and_then(|operator| act(arguments, &operator)).map_or_else(|code| code, |()| DONE)
}

fn act(arguments: &Arguments, operator: &Operator) -> Result<(), u8> {
    match &arguments.action {
        Action::New { consumer, traits } => {
            let path = format!("/v1/consumers/{}/keys", segment(consumer));
            print_key(arguments, &operator.send(&Method::POST, &path, Some(&traits.body()))?)?;
        }
        Action::Rotate { old, overlap, traits } => {
            let mut body = traits.body();
            if let (Value::Object(body), Some(overlap)) = (&mut body, overlap) {
                body.insert("overlap".to_owned(), overlap.as_str().into());
            }
            let path = format!("/v1/keys/{}/rotate", segment(old));
            print_key(arguments, &operator.send(&Method::POST, &path, Some(&body))?)?;
        }
        Action::List { consumer } => {
            let path = match consumer {
                Some(name) => format!("/v1/consumers/{}/keys", segment(name)),
                None => "/v1/keys".to_owned(),
            };
            let mut keys = operator.list(&path)?;
            if arguments.format == Format::Json {
                print_json(&json!({"items": keys}));
            } else {
                for key in &mut keys {
                    let next = key.pointer("/rotation/next").cloned().unwrap_or_default();
                    if let Value::Object(key) = key {
                        key.insert("next".to_owned(), next);
                    }
                }
                let columns = [
                    ("id", "ID"),
                    ("consumer", "CONSUMER"),
                    ("state", "STATE"),
                    ("expires", "EXPIRES"),
                    ("last_used", "LAST USED"),
                    ("last_address", "FROM"),
                    ("replaced_by", "REPLACED BY"),
                    ("next", "NEXT KEY"),
                    ("note", "NOTE"),
                ];
                print_table(&keys, &columns);
            }
        }
        Action::Remove { id } => {
            let response = operator.send(&Method::DELETE, &format!("/v1/keys/{}", segment(id)), None)?;
            match arguments.format {
                Format::Json => print_json(&response),
                Format::Text => output::message(format_args!("removed")),
            }
        }
        Action::Revoke { id, reason, force } => {
            let body = json!({"key": id, "reason": reason, "force": force});
            let response = operator.send(&Method::POST, "/v1/revocations", Some(&body))?;
            super::revoke::print_revocation(arguments.format, &response);
        }
    }
    Ok(())
}

/// Prints a new key. Only the key goes to standard output, so that a shell can capture it.
fn print_key(arguments: &Arguments, response: &Value) -> Result<(), u8> {
    if arguments.format == Format::Json {
        print_json(response);
        return Ok(());
    }
    let part = |name: &str| response.get(name).and_then(Value::as_str);
    if let Some(place) = response.pointer("/rotation/deliver").and_then(Value::as_str) {
        let id = part("id").unwrap_or("-");
        output::message(format_args!(
            "the daemon makes the key after {id} in its next round, and delivers it to {place}"
        ));
        return Ok(());
    }
    if !print_line(part("key").unwrap_or_default()) {
        output::message(format_args!(
            "key {} was created but could not be shown; revoke it and create another",
            part("id").unwrap_or("-")
        ));
        return Err(FAILED);
    }
    let ends = part("expires").map_or("never expires".to_owned(), |end| format!("expires {end}"));
    output::message(format_args!(
        "key {} of {} {ends}; it is shown only once",
        part("id").unwrap_or("-"),
        part("consumer").unwrap_or("-")
    ));
    if let (Some(old), Some(end)) = (part("replaces"), part("replaced_expires")) {
        output::message(format_args!("key {old} expires {end}"));
    }
    Ok(())
}
