//! `bartizan consumer`: registers consumers at run time, invites them, and manages roles, suspensions and grants.

use std::collections::BTreeMap;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::invitation::{self, NewInvitation};
use super::{DaemonArguments, Operator, print_json, print_table, segment};
use crate::cli::exit_code::{DONE, INVALID};
use crate::cli::output::{self, Format};

#[derive(clap::Args)]
#[command(
    after_help = "Example: bartizan consumer add acme --policy policy.yaml --role clerk --plan free --identity corp:acme-app
To change a consumer of the policy file, edit the file; suspensions and grants work for every consumer."
)]
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
    /// Register a consumer
    #[command(
        after_help = "Example: bartizan consumer add acme --role clerk --plan free --identity corp:acme-app\n         bartizan consumer add acme --certificate-san dns:client.acme.example"
    )]
    Add(NewConsumer),
    /// List the consumers of the policy and those registered at run time
    #[command(after_help = "Example: bartizan consumer list --format json")]
    List,
    /// Replace the roles of a consumer
    #[command(after_help = "Example: bartizan consumer roles acme clerk auditor")]
    Roles {
        /// Name of the consumer
        name: String,
        /// Roles of the policy
        #[arg(required = true)]
        roles: Vec<String>,
    },
    /// Suspend a consumer for a time or until it is resumed
    #[command(after_help = "Example: bartizan consumer suspend acme --until 2d --reason 'unpaid'")]
    Suspend {
        /// Name of the consumer
        name: String,
        /// When the suspension ends: a duration such as 2d, or a time
        #[arg(long, aliases = ["for", "expires"])]
        until: Option<String>,
        /// Reason to keep on record
        #[arg(long)]
        reason: Option<String>,
        /// Accept names that are not known here yet
        #[arg(long)]
        force: bool,
    },
    /// End a suspension
    #[command(after_help = "Example: bartizan consumer resume acme")]
    Resume {
        /// Name of the consumer
        name: String,
    },
    /// Grant scopes to a consumer for a limited time
    #[command(
        after_help = "Example: bartizan consumer grant acme --scope orders:refund --until 1h --reason 'month end'"
    )]
    Grant {
        /// Name of the consumer
        name: String,
        /// Scope to grant; may be repeated
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// When the grant ends: a duration such as 1h, or a time
        #[arg(long, aliases = ["for", "expires"])]
        until: String,
        /// Reason to keep on record
        #[arg(long)]
        reason: Option<String>,
        /// Accept names that are not known here yet
        #[arg(long)]
        force: bool,
    },
    /// List grants
    #[command(after_help = "Example: bartizan consumer grants")]
    Grants,
    /// End a grant
    #[command(after_help = "Example: bartizan consumer ungrant acme 01a20d6c-1594-7a65-9072-7416e9172ea1")]
    Ungrant {
        /// Name of the consumer
        name: String,
        /// Id of the grant
        id: String,
    },
    /// Invite a consumer to claim its credential with a one-time code; prints the code and a hand-over sheet
    #[command(after_help = "Examples: bartizan consumer invite acme --expires 24h --url https://api.example.com
          bartizan consumer invite acme --credential private_key_jwt --sheet acme.md
The code is shown only once. Send it by another way than the sheet: `--sheet acme.md` writes the sheet to a file.
The policy needs `self_service`, and `token_service` for all but API keys.")]
    Invite(NewInvitation),
    /// List invitations and what became of them
    #[command(after_help = "Example: bartizan consumer invitations acme")]
    Invitations {
        /// List only the invitations of this consumer
        name: Option<String>,
    },
    /// Withdraw an invitation that was not claimed
    #[command(after_help = "Example: bartizan consumer withdraw acme-9172ea15c0de")]
    Withdraw {
        /// Id of the invitation
        id: String,
    },
    /// Remove a consumer with its keys, clients, invitations and grants
    #[command(after_help = "Example: bartizan consumer remove acme")]
    Remove {
        /// Name of the consumer
        name: String,
    },
}

#[derive(clap::Args)]
struct NewConsumer {
    /// Name of the consumer
    name: String,
    /// Role of the policy; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Plan of the policy
    #[arg(long)]
    plan: Option<String>,
    /// Organization that the consumer belongs to
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Network that its credentials are good from, such as 203.0.113.0/24; may be repeated
    #[arg(long = "from", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Attribute that routes compare, such as tenant=t-17; repeated with one name: several values
    #[arg(long = "attribute", value_name = "NAME=VALUE")]
    attributes: Vec<String>,
    /// Issuer, and the consumer's id there; may be repeated
    #[arg(long = "identity", value_name = "ISSUER:ID")]
    identities: Vec<String>,
    /// Thumbprint of a client certificate; may be repeated
    #[arg(long = "certificate", value_name = "sha256:DIGITS")]
    certificates: Vec<String>,
    /// Name in the consumer's client certificates: dns:NAME, uri:URI or email:ADDRESS; may be repeated
    #[arg(long = "certificate-san", value_name = "KIND:NAME")]
    names: Vec<String>,
    /// Note for people
    #[arg(long)]
    note: Option<String>,
}

impl NewConsumer {
    fn body(&self) -> Result<Value, u8> {
        let mut identities = self.identities.iter().map(|text| identity(text)).collect::<Result<Vec<_>, u8>>()?;
        identities.extend(self.certificates.iter().map(|thumbprint| json!({"certificate": thumbprint})));
        identities.extend(self.names.iter().map(|name| json!({"certificate_san": name})));
        // Without roles there is no limit; an empty list would be a limit that allows nothing. So it is with networks.
        let given = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
        Ok(json!({
            "name": self.name, "roles": given(&self.roles), "plan": self.plan, "organization": self.organization,
            "from": given(&self.networks), "attributes": attributes(&self.attributes)?, "identities": identities,
            "note": self.note,
        }))
    }
}

pub(in crate::cli) fn run(arguments: &Arguments) -> u8 {
    arguments.daemon.open().and_then(|operator| act(arguments, &operator)).map_or_else(|code| code, |()| DONE)
}

fn act(arguments: &Arguments, operator: &Operator) -> Result<(), u8> {
    let consumer = |name: &str| format!("/v1/consumers/{}", segment(name));
    let (method, path, body) = match &arguments.action {
        Action::Add(new) => (Method::POST, "/v1/consumers".to_owned(), Some(new.body()?)),
        Action::Roles { name, roles } => (Method::PATCH, consumer(name), Some(json!({"roles": roles}))),
        Action::Suspend { name, until, reason, force } => {
            let body = json!({"until": until, "reason": reason, "force": force});
            (Method::PUT, consumer(name) + "/suspension", Some(body))
        }
        Action::Resume { name } => (Method::DELETE, consumer(name) + "/suspension", None),
        Action::Grant { name, scopes, until, reason, force } => {
            let body = json!({"scopes": scopes, "until": until, "reason": reason, "force": force});
            (Method::POST, consumer(name) + "/grants", Some(body))
        }
        Action::Ungrant { name, id } => (Method::DELETE, format!("{}/grants/{}", consumer(name), segment(id)), None),
        Action::Remove { name } => (Method::DELETE, consumer(name), None),
        Action::Withdraw { id } => (Method::DELETE, format!("/v1/invitations/{}", segment(id)), None),
        Action::Invite(new) => return invitation::invite(new, arguments.format, operator),
        Action::Invitations { name } => {
            let path = name.as_deref().map_or("/v1/invitations".to_owned(), |name| consumer(name) + "/invitations");
            return list(arguments, operator, &path, &invitation::COLUMNS);
        }
        Action::List => {
            let columns =
                [("name", "NAME"), ("source", "SOURCE"), ("roles", "ROLES"), ("plan", "PLAN"), ("note", "NOTE")];
            return list(arguments, operator, "/v1/consumers", &columns);
        }
        Action::Grants => {
            let columns = [
                ("consumer", "CONSUMER"),
                ("id", "ID"),
                ("scopes", "SCOPES"),
                ("until", "UNTIL"),
                ("created_by", "BY"),
                ("reason", "REASON"),
            ];
            return list(arguments, operator, "/v1/grants", &columns);
        }
    };
    let response = operator.send(&method, &path, body.as_ref())?;
    match arguments.format {
        Format::Json => print_json(&response),
        Format::Text => output::message(format_args!("done")),
    }
    Ok(())
}

fn list(arguments: &Arguments, operator: &Operator, path: &str, columns: &[(&str, &str)]) -> Result<(), u8> {
    let items = operator.list(path)?;
    match arguments.format {
        Format::Json => print_json(&json!({"items": items})),
        Format::Text => print_table(&items, columns),
    }
    Ok(())
}

fn attributes(texts: &[String]) -> Result<BTreeMap<&str, Vec<&str>>, u8> {
    let mut attributes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty())
        else {
            output::message(format_args!("error: the attribute is not valid; write NAME=VALUE"));
            return Err(INVALID);
        };
        attributes.entry(name).or_default().push(value);
    }
    Ok(attributes)
}

fn identity(text: &str) -> Result<Value, u8> {
    match text.split_once(':') {
        Some((issuer, id)) if !issuer.is_empty() && !id.is_empty() => Ok(json!({"issuer": issuer, "id": id})),
        _ => {
            output::message(format_args!("error: the identity is not valid; write ISSUER:ID"));
            Err(INVALID)
        }
    }
}
