//! `bartizan key`: API keys, made, rotated, listed and revoked.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{Operator, Reach, print_json, print_table, put, segment};
use crate::cli::{DONE, FAILED, Format};

#[derive(clap::Args)]
#[command(after_help = "Example: KEY=$(bartizan key new --policy policy.yaml --consumer acme --expires 90d)
Without a running daemon the policy's store is changed itself.")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// How results are written
    #[arg(long, value_enum, default_value = "text", global = true)]
    format: Format,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Makes a key, and prints it: it is shown this once
    #[command(after_help = "Example: KEY=$(bartizan key new --consumer acme --expires 90d --scope orders:read)")]
    New {
        /// Whose it is
        #[arg(long)]
        consumer: String,
        #[command(flatten)]
        traits: Traits,
    },
    /// Makes the key that replaces another, which ends after the overlap
    #[command(after_help = "Example: KEY=$(bartizan key rotate acme-1 --id acme-2 --overlap 7d)")]
    Rotate {
        /// The key that is replaced
        old: String,
        /// How long that one stays good: a duration such as 7d, or a time
        #[arg(long)]
        overlap: Option<String>,
        #[command(flatten)]
        traits: Traits,
    },
    /// Lists keys, and who still uses them
    #[command(after_help = "Example: bartizan key list --consumer acme")]
    List {
        /// Those of one consumer
        #[arg(long)]
        consumer: Option<String>,
    },
    /// Revokes a key: the next request with it is refused
    #[command(after_help = "Example: bartizan key revoke acme-1 --reason leaked")]
    Revoke {
        /// Its id
        id: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(clap::Args)]
struct Traits {
    /// Its id; default: made of the consumer's name
    #[arg(long)]
    id: Option<String>,
    /// When it ends: a duration such as 90d, a time, or `never`; default 90d, or the policy's max_key_age
    #[arg(long)]
    expires: Option<String>,
    /// When it begins: a duration from now, or a time
    #[arg(long)]
    not_before: Option<String>,
    /// Narrows what the consumer's roles allow; may be given more than once
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// For people
    #[arg(long)]
    note: Option<String>,
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
        if !self.scopes.is_empty() {
            body.insert("scopes".to_owned(), json!(self.scopes));
        }
        Value::Object(body)
    }
}

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    arguments.reach.open().and_then(|operator| act(arguments, &operator)).map_or_else(|code| code, |()| DONE)
}

fn act(arguments: &Arguments, operator: &Operator) -> Result<(), u8> {
    match &arguments.action {
        Action::New { consumer, traits } => {
            let path = format!("/v1/consumers/{}/keys", segment(consumer));
            made(arguments, &operator.ask(&Method::POST, &path, Some(&traits.body()))?)?;
        }
        Action::Rotate { old, overlap, traits } => {
            let mut body = traits.body();
            if let (Value::Object(body), Some(overlap)) = (&mut body, overlap) {
                body.insert("overlap".to_owned(), overlap.as_str().into());
            }
            let path = format!("/v1/keys/{}/rotate", segment(old));
            made(arguments, &operator.ask(&Method::POST, &path, Some(&body))?)?;
        }
        Action::List { consumer } => {
            let path = match consumer {
                Some(name) => format!("/v1/consumers/{}/keys", segment(name)),
                None => "/v1/keys".to_owned(),
            };
            let keys = operator.all(&path)?;
            if arguments.format == Format::Json {
                print_json(&json!({"items": keys}));
            } else {
                let columns = [
                    ("id", "ID"),
                    ("consumer", "CONSUMER"),
                    ("state", "STATE"),
                    ("expires", "EXPIRES"),
                    ("last_used", "LAST USED"),
                    ("last_address", "FROM"),
                    ("replaced_by", "REPLACED BY"),
                    ("note", "NOTE"),
                ];
                print_table(&keys, &columns);
            }
        }
        Action::Revoke { id, reason } => {
            let body = json!({"key": id, "reason": reason});
            let answer = operator.ask(&Method::POST, "/v1/revocations", Some(&body))?;
            super::revoke::told(arguments.format, &answer);
        }
    }
    Ok(())
}

/// Prints a new key: the key alone on standard output, so that a shell can take it.
fn made(arguments: &Arguments, answer: &Value) -> Result<(), u8> {
    if arguments.format == Format::Json {
        print_json(answer);
        return Ok(());
    }
    let part = |name: &str| answer.get(name).and_then(Value::as_str);
    if !put(part("key").unwrap_or_default()) {
        anstream::eprintln!("key {} was made and not shown: revoke it, and make another", part("id").unwrap_or("-"));
        return Err(FAILED);
    }
    let ends = part("expires").map_or("never ends".to_owned(), |end| format!("ends {end}"));
    anstream::eprintln!(
        "key {} of {} {ends}; it is shown this once",
        part("id").unwrap_or("-"),
        part("consumer").unwrap_or("-")
    );
    if let (Some(old), Some(end)) = (part("replaces"), part("replaced_expires")) {
        anstream::eprintln!("key {old} ends {end}");
    }
    Ok(())
}
