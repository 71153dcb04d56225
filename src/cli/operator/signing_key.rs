//! `bartizan signing-key`: lists and rotates the keys of the token service.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{DaemonArguments, Operator, print_json, print_table};
use crate::cli::exit_code::DONE;
use crate::cli::output::{self, Format};

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan signing-key list --policy policy.yaml
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
    /// List signing keys and what each does now
    #[command(after_help = "Example: bartizan signing-key list")]
    List,
    /// Make the next key, which is published at once and signs ten minutes later
    #[command(after_help = "Example: bartizan signing-key rotate --now --reason leaked")]
    Rotate {
        /// Sign with it at once, and refuse all tokens that other keys have signed
        #[arg(long)]
        now: bool,
        /// Reason to keep on record
        #[arg(long)]
        reason: Option<String>,
    },
}

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    arguments.daemon.open().and_then(|operator| act(arguments, &operator)).map_or_else(|code| code, |()| DONE)
}

fn act(arguments: &Arguments, operator: &Operator) -> Result<(), u8> {
    match &arguments.action {
        Action::List => {
            let keys = operator.list("/v1/signing-keys")?;
            if arguments.format == Format::Json {
                print_json(&json!({"items": keys}));
            } else {
                let columns = [
                    ("kid", "KID"),
                    ("algorithm", "ALGORITHM"),
                    ("state", "STATE"),
                    ("active", "SIGNS FROM"),
                    ("until", "ENDS"),
                    ("created_by", "CREATED BY"),
                ];
                print_table(&keys, &columns);
            }
        }
        Action::Rotate { now, reason } => {
            let body = json!({"now": now, "reason": reason});
            let key = operator.send(&Method::POST, "/v1/signing-keys/rotate", Some(&body))?;
            if arguments.format == Format::Json {
                print_json(&key);
            } else {
                let part = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or("-");
                output::print(&format!("signing key {} signs from {}\n", part("kid"), part("active")));
            }
        }
    }
    Ok(())
}
