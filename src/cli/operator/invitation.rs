//! `bartizan consumer invite`: makes an invitation, and prints its code and its hand-over sheet.

use std::path::PathBuf;

use clap::ValueEnum;
use http::Method;
use serde_json::{Map, Value, json};

use super::{Operator, print_json, print_line, segment};
use crate::cli::exit_code::FAILED;
use crate::cli::output::{self, Format};
use crate::error_text;

/// What is printed of each invitation.
pub(super) const COLUMNS: [(&str, &str); 10] = [
    ("id", "ID"),
    ("consumer", "CONSUMER"),
    ("credential", "CREDENTIAL"),
    ("state", "STATE"),
    ("expires", "EXPIRES"),
    ("claimed", "CLAIMED"),
    ("claimed_from", "FROM"),
    ("key", "KEY"),
    ("client", "CLIENT"),
    ("created_by", "BY"),
];

/// What a partner claims. The names are those of the admin API, of records and of RFC 7591.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Credential {
    /// An API key
    #[value(name = "api_key", alias = "api-key")]
    ApiKey,
    /// A client of the token service, with a secret that is made for it
    #[value(name = "client_secret", alias = "client-secret")]
    ClientSecret,
    /// A client that signs assertions: the partner sends its public key
    #[value(name = "private_key_jwt", alias = "private-key-jwt")]
    PrivateKeyJwt,
    /// A client that connects with a certificate, which the partner sends
    #[value(name = "certificate")]
    Certificate,
}

impl Credential {
    fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::ClientSecret => "client_secret",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::Certificate => "certificate",
        }
    }
}

#[derive(clap::Args)]
pub(super) struct NewInvitation {
    /// Name of the consumer
    name: String,
    /// What the partner claims; all but an API key need the policy's `token_service`
    #[arg(long = "credential", value_name = "CREDENTIAL", value_enum, default_value = "api_key")]
    credential: Credential,
    /// When the invitation expires: a duration such as 24h, or a time; at most 30d
    #[arg(long, alias = "until", default_value = "24h")]
    expires: String,
    /// How long the credential is valid after the claim: a duration such as 90d, or `never`; default: 90d, and of a key at most the
    /// policy's max_key_age
    #[arg(long, alias = "lifetime", value_name = "DURATION")]
    key_lifetime: Option<String>,
    /// Scope to limit the credential to, within the consumer's roles; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Network to claim from and to use the credential from, such as 203.0.113.0/24; may be repeated
    #[arg(long = "from", value_name = "NETWORK")]
    networks: Vec<String>,
    /// URL that the partner calls, for the sheet; default: that of a host of an API
    #[arg(long)]
    url: Option<String>,
    /// File to write the sheet to; default: printed after the code
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Note for people
    #[arg(long)]
    note: Option<String>,
    /// Accept scopes that no route or role of the policy has
    #[arg(long)]
    force: bool,
}

impl NewInvitation {
    fn body(&self) -> Value {
        let mut body = Map::from_iter([
            ("credential".to_owned(), json!(self.credential.as_str())),
            ("expires".to_owned(), json!(self.expires)),
            ("url".to_owned(), json!(self.url)),
            ("note".to_owned(), json!(self.note)),
            ("force".to_owned(), json!(self.force)),
        ]);
        match self.key_lifetime.as_deref() {
            Some("never") => drop(body.insert("key_lifetime".to_owned(), Value::Null)),
            Some(lifetime) => drop(body.insert("key_lifetime".to_owned(), json!(lifetime))),
            None => {}
        }
        // An empty list would allow nothing.
        for (name, list) in [("scopes", &self.scopes), ("from", &self.networks)] {
            if !list.is_empty() {
                body.insert(name.to_owned(), json!(list));
            }
        }
        Value::Object(body)
    }
}

/// Makes an invitation. The code goes to standard output first, alone on its line, and then the sheet, unless that goes to a file.
pub(super) fn invite(new: &NewInvitation, format: Format, operator: &Operator) -> Result<(), u8> {
    let path = format!("/v1/consumers/{}/invitations", segment(&new.name));
    let response = operator.send(&Method::POST, &path, Some(&new.body()))?;
    let part = |name: &str| response.get(name).and_then(Value::as_str).unwrap_or_default();
    if let Some(file) = &new.sheet {
        std::fs::write(file, part("sheet")).map_err(|error| {
            let (id, why) = (part("id"), error_text::system(&error));
            output::message(format_args!("error: {} cannot be written: {why}; withdraw {id}", file.display()));
            FAILED
        })?;
    }
    let printed = match (format, &new.sheet) {
        (Format::Json, _) => {
            print_json(&response);
            return Ok(());
        }
        (Format::Text, Some(_)) => print_line(part("code")),
        (Format::Text, None) => print_line(&format!("{}\n\n{}", part("code"), part("sheet"))),
    };
    if !printed {
        output::message(format_args!(
            "invitation {} was created but could not be shown; withdraw it and create another",
            part("id")
        ));
        return Err(FAILED);
    }
    output::message(format_args!(
        "invitation {} of {} expires {}; its code is shown only once, and works once",
        part("id"),
        part("consumer"),
        part("expires")
    ));
    Ok(())
}
