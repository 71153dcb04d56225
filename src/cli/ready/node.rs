//! What a running node says.

use http::Method;
use serde_json::Value;

use crate::admin::launch_check::NodeFacts;
use crate::cli::operator::DaemonArguments;
use crate::policy::Policy;

/// Asks the node at `--admin`, or else the policy's.
///
/// # Errors
/// Why nothing is known.
pub(super) fn ask(daemon: &DaemonArguments, policy: &Policy) -> Result<NodeFacts, String> {
    let operator = daemon.running(policy)?;
    let refused = |_| "the node did not answer; see above".to_owned();
    let shown = operator.send(&Method::GET, "/v1/policy", None).map_err(refused)?;
    let consumers = operator.list("/v1/consumers").map_err(refused)?;
    let keys = operator.list("/v1/keys").map_err(refused)?;
    let clients = operator.list("/v1/clients").map_err(refused)?;
    let text = |item: &Value, name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
    let is_made = |item: &&Value| item.get("source").is_some_and(|source| source == "store");
    let added = consumers.iter().filter(is_made).filter_map(|one| Some((text(one, "name")?, text(one, "plan"))));
    let is_of_use = |key: &&Value| matches!(text(key, "state").as_deref(), Some("active" | "not_yet"));
    let endless = |all: &[Value]| {
        let endless = all.iter().filter(is_made).filter(is_of_use).filter(|one| text(one, "expires").is_none());
        endless.filter_map(|one| text(one, "id")).collect()
    };
    Ok(NodeFacts {
        digest: text(&shown, "digest").ok_or("the node did not say which policy it has in force")?,
        consumers: added.collect(),
        endless_keys: endless(&keys),
        endless_clients: endless(&clients),
    })
}
