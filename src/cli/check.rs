//! `bartizan check`: compiles a policy as `run` does, with the same code and errors, but starts nothing.

use std::path::PathBuf;

use super::exit_code::{DONE, INVALID};
use super::operator::stored;
use super::output::{self, Format, counted};
use crate::policy::compile;
use crate::policy::{Access, Policy, Route};
use crate::stages::scope::{Alternative, By};

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan check policy.yaml
Example: bartizan check policy.yaml --with-store
Exit codes: 0 the policy is valid, 1 the store could not be read, 2 the policy has errors.")]
pub(super) struct Arguments {
    /// Path of the policy file
    file: PathBuf,
    /// Output format of the problems
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Compare it with its store: report names that both have, and names that the store uses and the policy lacks
    #[arg(long)]
    with_store: bool,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let (policy, mut problems) = compile::compile(&arguments.file);
    let summary = policy.as_ref().map(summary);
    if let Some(policy) = policy.filter(|_| arguments.with_store) {
        match stored::compare(policy, &arguments.file) {
            Ok(found) => problems.append(found),
            Err(code) => return code,
        }
    }
    let is_valid = !problems.has_errors();
    let file = arguments.file.display().to_string();
    match arguments.format {
        Format::Json => {
            output::print(&format!("{}\n", problems.json(&file)));
        }
        Format::Text => {
            output::report(&problems);
            if !problems.is_empty() {
                output::message(format_args!("\n{} in {file}", counted(problems.len(), "problem")));
            }
            if let Some(summary) = summary.filter(|_| is_valid) {
                output::print(&summary);
            }
        }
    }
    if is_valid { DONE } else { INVALID }
}

/// Summarizes the policy: who may call each route.
fn summary(policy: &Policy) -> String {
    let (apis, routes) = (counted(policy.apis().len(), "API"), counted(policy.routes().len(), "route"));
    let mut text = format!("ok: {apis}, {routes}\n");
    for api in policy.apis() {
        let routes: Vec<&Route> = policy
            .routes()
            .iter()
            .filter(|route| std::sync::Arc::ptr_eq(route.api(), api))
            .map(|route| &**route)
            .collect();
        let width = routes.iter().map(|route| route.name().len()).max().unwrap_or_default();
        let servers: Vec<&str> = api.upstream().servers.iter().map(|server| &*server.name).collect();
        let to = if servers.is_empty() { "this proxy".to_owned() } else { servers.join(", ") };
        text.push_str(&format!("\n{} → {to}\n", api.name()));
        for route in routes {
            text.push_str(&format!("  {:width$}  {}\n", route.name(), who(route)));
        }
    }
    text
}

fn who(route: &Route) -> String {
    let from = route.networks.as_ref().map(|networks| format!(", from {networks}")).unwrap_or_default();
    match &route.access {
        Access::Public => format!("everyone{from}"),
        Access::Scoped(requirement) => {
            let alternatives: Vec<String> = requirement.alternatives().iter().map(alternative).collect();
            let scopes = alternatives.join(", or ");
            let only = requirement.only().map(|only| format!(", only {}", only.join(", ")));
            let owned = requirement.ownership().unwrap_or_default().iter();
            let owned: Vec<_> = owned.map(|one| format!("{} is {}", one.name(), one.value())).collect();
            let owned = if owned.is_empty() { String::new() } else { format!(", where {}", owned.join(" and ")) };
            format!("{scopes}{}{from}{owned}", only.unwrap_or_default())
        }
    }
}

fn alternative(alternative: &Alternative) -> String {
    let mut parts: Vec<&str> = alternative.scopes.iter().map(|scope| &**scope).collect();
    parts.extend(alternative.certificate.then_some("a client certificate"));
    parts.extend(alternative.by.map(|by| match by {
        By::Token => "a token",
        By::Key => "an API key",
    }));
    if parts.is_empty() { "any authenticated caller".to_owned() } else { parts.join(" + ") }
}
