//! `bartizan init`: generates a policy from an OpenAPI description, a WSDL or Kong's declarative file. The result passes `bartizan check` unchanged.

mod draft;
mod kong;
mod new_file;
mod soap;
mod soap_tests;
mod yaml;

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::ExposeSecret;

use super::exit_code::{DONE, FAILED, INVALID};
use super::output::{self, print};
use crate::policy::catalog::Catalog;
use crate::policy::compile;
use crate::policy::diagnostic::Problems;
use crate::policy::openapi::{Description, Options};
use crate::policy::source::Sources;
use crate::stages::auth::api_key_format;
use crate::stages::schema::xml::XmlSchema;
use crate::url::{Form, HttpUrl};

/// Lifetime of the example consumer's key, in days.
const DAYS: i64 = 7;

#[derive(clap::Args)]
#[command(
    after_help = "Example: bartizan init --openapi orders.openapi.yaml --upstream http://127.0.0.1:9000 --out policy.yaml
      or: bartizan init --wsdl service.wsdl --upstream http://127.0.0.1:9000 --out policy.yaml    (with policy.test.yaml beside it)
      or: bartizan init --from kong kong.yaml --out policy.yaml    (with policy.test.yaml beside it)
Then: bartizan check policy.yaml && bartizan run --policy policy.yaml"
)]
pub(super) struct Arguments {
    /// OpenAPI 3.0 or 3.1 description, in YAML or JSON
    #[arg(long, required_unless_present_any = ["wsdl", "from"], conflicts_with = "wsdl")]
    openapi: Option<PathBuf>,
    /// WSDL 1.1 of a SOAP service
    #[arg(long)]
    wsdl: Option<PathBuf>,
    /// The declarative configuration of another gateway, and what it is: `kong`
    #[arg(long, num_args = 2, value_names = ["KIND", "FILE"], conflicts_with_all = ["openapi", "wsdl", "upstream"], requires = "out")]
    from: Option<Vec<PathBuf>>,
    /// Scheme, host and port of the API
    #[arg(long, required_unless_present = "from")]
    upstream: Option<String>,
    /// Policy file to create, which must not exist; default: standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    if let Some(Err(error)) = arguments.upstream.as_deref().map(|upstream| HttpUrl::parse(upstream, Form::SERVER)) {
        output::message(format_args!("error: --upstream is not valid: {error}"));
        return INVALID;
    }
    let folder = arguments.out.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    if !folder.as_os_str().is_empty() && !folder.is_dir() {
        output::message(format_args!("error: --out: there is no folder {}; create it first", folder.display()));
        return FAILED;
    }
    if let (Some(from), Some(out)) = (&arguments.from, &arguments.out) {
        return match from.as_slice() {
            [kind, file] if kind.as_os_str() == "kong" => kong::run(file, out),
            _ => {
                output::message(format_args!("error: --from: only `kong` is known; write `--from kong FILE`"));
                INVALID
            }
        };
    }
    let (document, service) = match (&arguments.openapi, &arguments.wsdl) {
        (_, Some(wsdl)) => (beside(folder, wsdl), read_wsdl(folder, &beside(folder, wsdl)).map(Service::Soap)),
        (Some(openapi), None) => (
            beside(folder, openapi),
            read(folder, &beside(folder, openapi)).map(|description| Service::OpenApi(Box::new(description))),
        ),
        (None, None) => return INVALID,
    };
    let Some(service) = service else { return INVALID };
    match write(arguments, &service, &document) {
        Ok(()) => DONE,
        Err(problem) => {
            output::message(format_args!("error: {problem}"));
            FAILED
        }
    }
}

/// What a policy is generated for.
enum Service {
    OpenApi(Box<Description>),
    /// The schema of a WSDL.
    Soap(XmlSchema),
}

/// The path of a file as a policy in `folder` names it.
fn beside(folder: &Path, file: &Path) -> String {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let whole = folder.canonicalize().ok().zip(file.canonicalize().ok());
    let path = whole.map_or_else(
        || file.to_path_buf(),
        |(folder, file)| file.strip_prefix(folder).map(Path::to_path_buf).unwrap_or(file),
    );
    path.display().to_string()
}

fn read(folder: &Path, document: &str) -> Option<Description> {
    let mut sources = Sources::in_folder(folder);
    let mut problems = Problems::new();
    let description = match sources.read(document) {
        Ok(source) => {
            Description::read(&mut sources, &Catalog::default(), &source, document, &Options::default(), &mut problems)
        }
        Err(error) => {
            problems.error(None, error.to_string());
            None
        }
    };
    output::report(&problems);
    description
}

fn read_wsdl(folder: &Path, document: &str) -> Option<XmlSchema> {
    let mut problems = Problems::new();
    let schema = compile::read_wsdl(&mut Sources::in_folder(folder), &mut problems, document);
    output::report(&problems);
    schema
}

/// The tests of a WSDL's policy, and their file beside it.
fn tests(policy: &Path, schema: &XmlSchema) -> Option<(PathBuf, String)> {
    let service = schema.description()?;
    let name = policy.file_name()?.to_string_lossy();
    let stem = policy.file_stem()?.to_string_lossy();
    let text = soap_tests::text(&name, &soap::Routes::new(service), service, schema.schema());
    Some((policy.with_file_name(format!("{stem}.test.yaml")), text))
}

fn write(arguments: &Arguments, service: &Service, document: &str) -> Result<(), String> {
    let key = api_key_format::mint("example-1").map_err(|_| "the system has no random bytes")?;
    let bytes = digest(&SHA256, key.expose_secret().as_bytes());
    let digest: String = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * DAYS);
    let given = draft::Given {
        document,
        upstream: arguments.upstream.as_deref().unwrap_or_default(),
        digest: &digest,
        expires: &end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    };
    let text = match service {
        Service::OpenApi(description) => draft::policy(description, &given),
        Service::Soap(schema) => {
            let policy = |service| soap::policy(service, &soap::Routes::new(service), &given);
            schema.description().map(policy).unwrap_or_default()
        }
    };
    match &arguments.out {
        None => drop(print(&text)),
        Some(path) => {
            let tests = match service {
                Service::OpenApi(_) => None,
                Service::Soap(schema) => tests(path, schema),
            };
            let policy = (path.clone(), text);
            new_file::create_all(&tests.into_iter().chain([policy]).collect::<Vec<_>>())?;
        }
    }
    // To standard error: the policy may be on standard output.
    output::message(format_args!(
        "The consumer `example` has this API key for {DAYS} days; it is shown only once:\n{}",
        key.expose_secret()
    ));
    Ok(())
}
