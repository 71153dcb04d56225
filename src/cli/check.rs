//! `bartizan check`: compiles a policy as `run` does, with the same code and errors, but starts nothing.

use std::path::PathBuf;

use super::exit_code::{DONE, INVALID};
use super::output::{self, Format, counted};
use crate::policy::compile;
use crate::policy::{Access, Policy, Route};
use crate::stages::scope::{Alternative, By};

#[derive(clap::Args)]
#[command(
    after_help = "Example: bartizan check policy.yaml\nExit codes: 0 the policy is valid, 2 the policy has errors."
)]
pub(super) struct Arguments {
    /// Path of the policy file
    file: PathBuf,
    /// Output format of the problems
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let (policy, problems) = compile::compile(&arguments.file);
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
            if let Some(policy) = &policy {
                output::print(&summary(policy));
            }
        }
    }
    if policy.is_some() { DONE } else { INVALID }
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
        let servers: Vec<&str> = api.upstream().servers().iter().map(|server| &*server.name).collect();
        text.push_str(&format!("\n{} → {}\n", api.name(), servers.join(", ")));
        for route in routes {
            text.push_str(&format!("  {:width$}  {}\n", route.name(), who(route)));
        }
    }
    text
}

fn who(route: &Route) -> String {
    match &route.access {
        Access::Public => "everyone".to_owned(),
        Access::Scoped(requirement) => {
            let alternatives: Vec<String> = requirement.alternatives().iter().map(alternative).collect();
            let scopes = alternatives.join(", or ");
            match requirement.only() {
                Some(only) => format!("{scopes}, only {}", only.join(", ")),
                None => scopes,
            }
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
