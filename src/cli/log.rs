//! The log on standard error, as the environment configures it. A value that is not understood is an error, because a log that
//! is silent by mistake is noticed too late.

use std::ffi::OsString;
use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// What is logged: a level, or levels of single modules.
const LEVEL: &str = "BARTIZAN_LOG";
/// How it is written.
const FORMAT: &str = "BARTIZAN_LOG_FORMAT";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The settings of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    filter: String,
    /// Every line on standard error is a JSON object.
    pub(super) json: bool,
}

impl Log {
    /// Reads the environment. `default` is the level where none is set. The error says which values are allowed.
    pub(super) fn from_env(default: &str) -> Result<Self, String> {
        let value = |name| std::env::var_os(name).map(|value: OsString| value.to_string_lossy().into_owned());
        Self::parse(value(LEVEL), value(FORMAT), default)
    }

    /// An empty value is as good as none.
    fn parse(level: Option<String>, format: Option<String>, default: &str) -> Result<Self, String> {
        let set = |value: Option<String>| value.filter(|value| !value.trim().is_empty());
        let filter = set(level).unwrap_or_else(|| default.to_owned());
        if let Some(wrong) = filter.split(',').find(|directive| !is_directive(directive)) {
            let (wrong, levels) = (wrong.trim(), LEVELS.join(", "));
            return Err(format!(
                "{LEVEL} has the unknown level `{wrong}`: write one of {levels}, or `MODULE=LEVEL`; separate several by commas"
            ));
        }
        let json = match set(format).as_deref().map(str::trim) {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => return Err(format!("{FORMAT} is `{other}`: write `text` or `json`")),
        };
        Ok(Self { filter: filter.to_ascii_lowercase(), json })
    }

    /// Starts logging. As JSON, a panic is logged as a line of its own, too.
    pub(super) fn start(&self) {
        let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let filter = EnvFilter::new(&self.filter);
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(stderr);
        // It would report that a line cannot be written to standard error on standard error, and panic.
        let logs = logs.log_internal_errors(false);
        // Setting it up fails only if logging is set up already.
        let _ = if self.json {
            std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
            logs.json().try_init()
        } else {
            logs.with_ansi(colour).compact().try_init()
        };
    }
}

/// `LEVEL` or `MODULE=LEVEL`. The filter would take any other word for a module, and log nothing else.
fn is_directive(text: &str) -> bool {
    let is_level = |text: &str| LEVELS.contains(&text.to_ascii_lowercase().as_str());
    let is_module = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-'))
    };
    match text.trim().split_once('=') {
        None => is_level(text.trim()),
        Some((module, level)) => is_module(module) && is_level(level),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_an_error_and_empty_is_as_unset() {
        // U19: an unknown level silenced everything, errors too.
        let good = |filter: &str, json| Ok(Log { filter: filter.to_owned(), json });
        for (level, format, expected) in [
            (None, None, good("info", false)),
            (Some(""), Some(""), good("info", false)),
            (Some(" "), Some(" "), good("info", false)),
            (Some("warn"), Some("json"), good("warn", true)),
            (Some("WARN"), Some("text"), good("warn", false)),
            (Some("info,h2=debug, bartizan::audit=off"), None, good("info,h2=debug, bartizan::audit=off", false)),
            (Some("warning"), None, Err("`warning`")),
            (Some("info,warning"), None, Err("`warning`")),
            (Some("bartizan"), None, Err("`bartizan`")),
            (Some("h2=loud"), None, Err("off, error, warn, info, debug, trace")),
            (Some("=info"), None, Err("`=info`")),
            (Some("info,"), None, Err("``")),
            (Some("5"), None, Err("`5`")),
            (Some("[span]=info"), None, Err("`[span]=info`")),
            (None, Some("yaml"), Err("BARTIZAN_LOG_FORMAT is `yaml`: write `text` or `json`")),
            (None, Some("JSON"), Err("`JSON`")),
        ] {
            let parsed = Log::parse(level.map(str::to_owned), format.map(str::to_owned), "info");
            match (&parsed, expected) {
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (parsed, expected) => assert_eq!(*parsed, expected.map_err(str::to_owned), "{level:?} {format:?}"),
            }
        }
    }
}
