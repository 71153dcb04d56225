//! `bartizan usage`: what consumers have used of their limits, and a reset for one.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{DaemonArguments, Operator, print_json, print_table, segment};
use crate::cli::exit_code::DONE;
use crate::cli::output::{self, Format};

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example: bartizan usage acme --policy policy.yaml
Without a consumer, lists all of them. Callers that only a token names are ISSUER:ID."
)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    daemon: DaemonArguments,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text", global = true)]
    format: Format,
    /// Consumer whose usage to show
    consumer: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Reset the usage of a consumer, and of those that are counted with it
    #[command(after_help = "Example: bartizan usage reset acme")]
    Reset {
        /// Name of the consumer
        consumer: String,
    },
}

/// What is printed of each limit.
const COLUMNS: [(&str, &str); 8] = [
    ("consumer", "CONSUMER"),
    ("limit", "LIMIT"),
    ("kind", "KIND"),
    ("route", "ROUTE"),
    ("used", "USED"),
    ("allowed", "ALLOWED"),
    ("remaining", "LEFT"),
    ("resets", "RESETS"),
];

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    arguments.daemon.open().and_then(|operator| act(arguments, &operator)).map_or_else(|code| code, |()| DONE)
}

fn act(arguments: &Arguments, operator: &Operator) -> Result<(), u8> {
    let of = |name: &str| format!("/v1/consumers/{}/usage", segment(name));
    let (shown, items) = match (&arguments.action, &arguments.consumer) {
        (Some(Action::Reset { consumer }), _) => {
            let usage = operator.send(&Method::DELETE, &of(consumer), None)?;
            if let Format::Text = arguments.format {
                output::message(format_args!("done"));
                return Ok(());
            }
            (usage.clone(), vec![usage])
        }
        (None, Some(consumer)) => {
            let usage = operator.send(&Method::GET, &of(consumer), None)?;
            (usage.clone(), vec![usage])
        }
        (None, None) => {
            let items = operator.list("/v1/usage")?;
            (json!({"items": items}), items)
        }
    };
    match arguments.format {
        Format::Json => print_json(&shown),
        Format::Text => print_table(&items.iter().flat_map(rows).collect::<Vec<_>>(), &COLUMNS),
    }
    Ok(())
}

/// A row for each limit of a consumer.
fn rows(usage: &Value) -> Vec<Value> {
    let member = |value: &Value, name: &str| value.get(name).cloned().unwrap_or_default();
    let limits = usage.get("limits").and_then(Value::as_array).into_iter().flatten();
    let row = |limit: &Value| {
        let text = |name: &str| member(limit, name).to_string();
        json!({
            "consumer": member(usage, "consumer"), "limit": member(limit, "name"), "kind": member(limit, "kind"),
            "route": member(limit, "route"), "used": text("used"), "allowed": text("allowed"),
            "remaining": text("remaining"), "resets": member(limit, "resets"),
        })
    };
    limits.map(row).collect()
}
