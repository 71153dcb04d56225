//! `bartizan client`: lists, revokes and removes clients of the token service. They are made by claiming an invitation.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{DaemonArguments, Operator, print_json, print_table, segment};
use crate::cli::exit_code::DONE;
use crate::cli::output::{self, Format};
use crate::stages::auth::claims::OWN_ISSUER;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan client list --policy policy.yaml --consumer acme
Clients are written in the policy, or made by their owners: `bartizan consumer invite acme --credential client_secret`.
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
    /// List clients, how each authenticates, and when it ends
    #[command(after_help = "Example: bartizan client list --consumer acme")]
    List {
        /// List only the clients of this consumer
        #[arg(long)]
        consumer: Option<String>,
    },
    /// Revoke a client and all tokens that it was given, from the next request on
    #[command(after_help = "Example: bartizan client revoke acme-9172ea15c0de --reason leaked")]
    Revoke {
        /// Id of the client
        id: String,
        /// Reason to keep on record
        #[arg(long)]
        reason: Option<String>,
        /// Revoke a client that is not known here yet
        #[arg(long)]
        force: bool,
    },
    /// Remove a client that was made at run time; its tokens are refused
    #[command(after_help = "Example: bartizan client remove acme-9172ea15c0de")]
    Remove {
        /// Id of the client
        id: String,
    },
}

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    arguments.daemon.open().and_then(|operator| act(arguments, &operator)).map_or_else(|code| code, |()| DONE)
}

fn act(arguments: &Arguments, operator: &Operator) -> Result<(), u8> {
    match &arguments.action {
        Action::List { consumer } => {
            let path = match consumer {
                Some(name) => format!("/v1/consumers/{}/clients", segment(name)),
                None => "/v1/clients".to_owned(),
            };
            let clients = operator.list(&path)?;
            if arguments.format == Format::Json {
                print_json(&json!({"items": clients}));
            } else {
                let columns = [
                    ("id", "ID"),
                    ("consumer", "CONSUMER"),
                    ("credential", "CREDENTIAL"),
                    ("state", "STATE"),
                    ("expires", "EXPIRES"),
                    ("source", "SOURCE"),
                    ("note", "NOTE"),
                ];
                print_table(&clients, &columns);
            }
        }
        Action::Revoke { id, reason, force } => {
            let body = json!({"subject": id, "issuer": OWN_ISSUER, "reason": reason, "force": force});
            let response = operator.send(&Method::POST, "/v1/revocations", Some(&body))?;
            super::revoke::print_revocation(arguments.format, &response);
        }
        Action::Remove { id } => {
            let response: Value = operator.send(&Method::DELETE, &format!("/v1/clients/{}", segment(id)), None)?;
            match arguments.format {
                Format::Json => print_json(&response),
                Format::Text => output::message(format_args!("removed")),
            }
        }
    }
    Ok(())
}
