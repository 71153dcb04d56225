//! `apis.*.routes.*.upgrade`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policy::units::Period;

/// What requests may become.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Upgrade {
    /// A WebSocket (RFC 6455, and RFC 8441 over HTTP/2), if the client asks for it and the server agrees. It ends with the permission to open it.
    pub(crate) websocket: Option<WebSocket>,
}

/// How long a WebSocket may stay open.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebSocket {
    /// Without a byte in either direction.
    #[schemars(extend("default" = "5m"))]
    pub(crate) idle: Option<Period>,
    /// In all.
    #[schemars(extend("default" = "24h"))]
    pub(crate) lifetime: Option<Period>,
}
