//! The base path of an API: the path of its first server.
//!
//! The policy says where the servers are; only the path of their URLs is used here.

use super::diagnostics::Diagnostics;
use super::files::Node;

/// The base path of an operation, without a trailing slash. The innermost `servers` applies: that of the operation,
/// else of its path, else of the document.
pub(super) fn base_path(
    operation: &Node<'_>,
    path_item: &Node<'_>,
    root: &Node<'_>,
    diagnostics: &mut Diagnostics,
) -> String {
    let servers = [operation, path_item, root].into_iter().find_map(|node| {
        let servers = node.get("servers")?;
        servers.items().next().is_some().then_some(servers)
    });
    let Some(servers) = servers else { return String::new() };
    let mut paths = servers.items().map(|server| path(&server));
    let first = match paths.next() {
        Some(Ok(path)) => path,
        Some(Err((problem, base))) => {
            diagnostics
                .closing(&servers, problem)
                .help("write the path without variables, such as `url: https://api.example.com/v1`");
            return base;
        }
        None => String::new(),
    };
    if paths.any(|path| path.is_ok_and(|path| path != first)) {
        let message = format!("these servers have different paths; the path of the first is used: `{first}/…`");
        diagnostics.warning(&servers, message).help("put the right server first, or write one description for each");
    }
    first
}

/// The path of a server. The error has the problem, and the path as it is written.
fn path(server: &Node<'_>) -> Result<String, (&'static str, String)> {
    let mut url = server.text("url").unwrap_or_default().to_owned();
    for (name, variable) in server.get("variables").iter().flat_map(Node::entries) {
        if let Some(default) = variable.text("default") {
            url = url.replace(&format!("{{{name}}}"), default);
        }
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default(),
        // Relative to the document's own URL, which is not known: its root is used.
        None => url.trim_start_matches('.'),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
    let base = if path.is_empty() { String::new() } else { format!("/{path}") };
    match base.contains(['{', '}']) {
        true => Err(("the path of this server has a variable without a default", base)),
        false => Ok(base),
    }
}
