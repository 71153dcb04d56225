//! `bartizan audit install-template`: the templates for data streams of records, and their lifecycle.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::audit::{ElasticsearchConfig, SinkConfig, template, visible};
use crate::cli::exit_code::{DONE, FAILED, INVALID};
use crate::cli::output;
use crate::egress::{Answer, HttpClient};
use crate::policy::{Period, compile};

/// Largest response, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan audit install-template --policy policy.yaml
Example: bartizan audit install-template --print=opensearch --policy policy.yaml
For each `elasticsearch` sink of the policy: a component template with the fields of a record, an index template, a lifecycle
policy, and the data stream. It can be run again. A lifecycle policy that is there is changed only with --delete-after.
The API key of a sink need not do more than create records; this command needs the cluster privileges
`manage_index_templates` and `manage_ilm`, and `create_index` on the data stream: see --api-key.")]
pub(super) struct Arguments {
    /// Path of the policy file
    #[arg(long, value_name = "FILE", env = "BARTIZAN_POLICY")]
    policy: PathBuf,
    /// API key with the privileges to install, `ID:KEY` or both in Base64; default: the credentials of the sink
    #[arg(long, value_name = "KEY", env = "BARTIZAN_ELASTICSEARCH_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Delete records this long after their index was full, such as 400d; default: never
    #[arg(long, value_name = "PERIOD", value_parser = days)]
    delete_after: Option<Period>,
    /// Print the requests instead of sending them
    #[arg(long, value_name = "PRODUCT", num_args = 0..=1, require_equals = true, default_missing_value = "elasticsearch")]
    print: Option<Product>,
}

/// What a cluster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Product {
    /// Elasticsearch
    Elasticsearch,
    /// OpenSearch
    Opensearch,
}

/// A request that installs something.
struct Step {
    what: &'static str,
    path: String,
    body: Value,
    /// Left as it is if it is there.
    once: bool,
}

fn days(text: &str) -> Result<Period, String> {
    let period: Period = text.parse().map_err(|error: crate::policy::units::InvalidQuantity| error.to_string())?;
    if period.0 < Duration::from_secs(86_400) { Err("it is at least 1d".to_owned()) } else { Ok(period) }
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let (policy, problems) = compile::compile(&arguments.policy);
    let Some(policy) = policy else {
        output::report(&problems);
        return INVALID;
    };
    let sinks: Vec<&ElasticsearchConfig> = policy.audit().sinks.iter().filter_map(elasticsearch).collect();
    if sinks.is_empty() {
        return failed(INVALID, "the policy has no `elasticsearch` sink");
    }
    if let Some(product) = arguments.print {
        for sink in sinks {
            let first = lifecycle(product, &sink.data_stream, arguments);
            let others = templates(&sink.data_stream, product == Product::Elasticsearch);
            for step in std::iter::once(first).chain(others) {
                output::print(&format!("PUT {}\n{:#}\n\n", step.path, step.body));
            }
        }
        return DONE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(FAILED, &error.to_string()),
    };
    let mut code = DONE;
    for sink in sinks {
        if let Err(why) = runtime.block_on(install(sink, arguments)) {
            code = failed(FAILED, &format!("{}: {why}", sink.endpoint));
        }
    }
    code
}

fn failed(code: u8, why: &str) -> u8 {
    output::message(format_args!("error: {why}"));
    code
}

fn elasticsearch(sink: &SinkConfig) -> Option<&ElasticsearchConfig> {
    match sink {
        SinkConfig::Elasticsearch(config) => Some(config),
        _ => None,
    }
}

/// The lifecycle policy. Those of OpenSearch name their data streams, so each has its own.
fn lifecycle(product: Product, data_stream: &str, arguments: &Arguments) -> Step {
    let keep = arguments.delete_after.map(|Period(keep)| keep);
    let name = template::NAME;
    let (path, body) = match product {
        Product::Elasticsearch => (format!("_ilm/policy/{name}"), template::ilm(keep)),
        Product::Opensearch => {
            (format!("_plugins/_ism/policies/{name}-{data_stream}"), template::ism(&[data_stream], keep))
        }
    };
    Step { what: "lifecycle policy", path, body, once: keep.is_none() }
}

/// What is installed after it, in this order: each needs those before it.
fn templates(data_stream: &str, names_lifecycle: bool) -> Vec<Step> {
    let name = template::NAME;
    let step = |what, path, body| Step { what, path, body, once: false };
    let index = template::index(data_stream, names_lifecycle);
    vec![
        step("component template", format!("_component_template/{name}"), template::component()),
        step("index template", format!("_index_template/{name}-{data_stream}"), index),
        Step { once: true, ..step("data stream", format!("_data_stream/{data_stream}"), json!({})) },
    ]
}

/// A cluster.
struct Cluster<'a> {
    sink: &'a ElasticsearchConfig,
    client: HttpClient,
    authorization: Option<HeaderValue>,
}

async fn install(sink: &ElasticsearchConfig, arguments: &Arguments) -> Result<(), String> {
    let endpoint = &sink.endpoint;
    let client = HttpClient::new(&endpoint.egress, endpoint.trust.as_ref(), endpoint.timeout, MAX_RESPONSE);
    let authorization = arguments.api_key.as_deref().map(ElasticsearchConfig::api_key).transpose();
    let authorization = authorization.map_err(|_| "--api-key cannot be sent in a header".to_owned())?;
    let cluster = Cluster { sink, client, authorization };
    let about = read(&cluster.send(Method::GET, "", None).await?)?;
    let text = |pointer: &str| about.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let product = match text("/version/distribution") {
        "opensearch" => Product::Opensearch,
        _ if about.pointer("/version/number").is_some() => Product::Elasticsearch,
        _ => return Err("this is neither Elasticsearch nor OpenSearch; check `url` of the sink".to_owned()),
    };
    let name = if product == Product::Opensearch { "OpenSearch" } else { "Elasticsearch" };
    output::print(&format!("{}: {name} {}\n", endpoint, shown(text("/version/number"), 40)));
    let tell = |step: &Step, done| {
        let name = step.path.rsplit('/').next().unwrap_or_default();
        output::print(&format!("  {} {name}: {done}\n", step.what));
    };
    let first = lifecycle(product, &sink.data_stream, arguments);
    let has_lifecycle = cluster.has_lifecycle(&first).await?;
    if has_lifecycle {
        tell(&first, cluster.take(&first).await?);
    } else {
        tell(&first, "this cluster has none");
    }
    for step in templates(&sink.data_stream, has_lifecycle && product == Product::Elasticsearch) {
        tell(&step, cluster.take(&step).await?);
    }
    Ok(())
}

impl Cluster<'_> {
    /// Whether the cluster has lifecycle policies: those that are run for their users may have none.
    async fn has_lifecycle(&self, step: &Step) -> Result<bool, String> {
        let found = self.send(Method::GET, &step.path, None).await?;
        let no_handler = memchr::memmem::find(&found.body, b"no handler found").is_some();
        Ok(found.status != StatusCode::GONE && !(found.status == StatusCode::BAD_REQUEST && no_handler))
    }

    /// Takes a step, and says what it did.
    async fn take(&self, step: &Step) -> Result<&'static str, String> {
        self.put(step).await.map_err(|why| format!("{}: {why}", step.path))
    }

    async fn put(&self, step: &Step) -> Result<&'static str, String> {
        let found = self.send(Method::GET, &step.path, None).await?;
        let there = match found.status {
            StatusCode::NOT_FOUND => false,
            _ => {
                let content = read(&found)?;
                if step.once {
                    return Ok("is there");
                }
                // OpenSearch changes a policy only for somebody who has seen it.
                let number = |name: &str| content.get(name).and_then(Value::as_u64);
                if let (Some(sequence), Some(term)) = (number("_seq_no"), number("_primary_term")) {
                    let path = format!("{}?if_seq_no={sequence}&if_primary_term={term}", step.path);
                    read(&self.send(Method::PUT, &path, Some(&step.body)).await?)?;
                    return Ok("updated");
                }
                true
            }
        };
        read(&self.send(Method::PUT, &step.path, Some(&step.body)).await?)?;
        Ok(if there { "updated" } else { "created" })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let uri = format!("{}/{path}", self.sink.endpoint.base());
        let text = body.filter(|body| *body != &json!({})).map(Value::to_string).unwrap_or_default();
        let request = Request::builder().method(method).uri(uri).header(ACCEPT, "application/json");
        let mut request = request.body(Full::from(text.clone())).map_err(|error| error.to_string())?;
        let own = self.sink.endpoint.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        let given = self.authorization.iter().map(|value| (AUTHORIZATION, value.clone()));
        let content = (!text.is_empty()).then_some((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        request.headers_mut().extend(own);
        for (name, value) in given.chain(content) {
            request.headers_mut().insert(name, value);
        }
        self.client.send(request).await
    }
}

/// The content of a success, or what a failure says.
fn read(answer: &Answer) -> Result<Value, String> {
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body).map_err(|error| format!("the response is not JSON: {error}"));
    }
    let content: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |pointer: &str| content.pointer(pointer).and_then(Value::as_str);
    let why = text("/error/reason").or(text("/error")).unwrap_or_default();
    let advice = match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; give --api-key with the privileges to install",
        _ => "",
    };
    Err(format!("the status is {}: {}{advice}", answer.status, shown(why, 300)))
}

/// Text of a server, for a terminal.
fn shown(text: &str, most: usize) -> String {
    visible(&text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect::<String>())
}
