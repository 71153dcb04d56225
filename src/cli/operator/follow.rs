//! Follows a stream of server-sent events of a daemon (HTML standard, "Server-sent events").

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Backend, Operator, TIMEOUT, connect, fail};
use crate::audit::Filter;
use crate::cli::exit_code::FAILED;
use crate::cli::output;

/// A daemon sends something at least this often.
const SILENCE: Duration = Duration::from_secs(45);

/// Most bytes of one event.
const EVENT_MAX: usize = 2 * 1024 * 1024;

/// How a stream ended.
enum Ended {
    /// Nobody reads any more.
    Unread,
    /// The daemon ended it: another policy is in force there.
    Closed,
}

impl Operator {
    /// Calls `event` with the name and the data of each event, until it returns false. Connects again when the daemon ends the
    /// stream. Prints problems and returns them as exit codes.
    pub(in crate::cli) fn follow(
        &self,
        path: &str,
        filter: &Filter,
        event: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), u8> {
        let Backend::Daemon { .. } = &self.backend else {
            return Err(fail(FAILED, "no daemon answers at the policy's `admin` address; start one, or give --admin"));
        };
        let Filter { consumer, user, api, route, action, code } = filter;
        let criteria = Filter::NAMES.into_iter().zip([consumer, user, api, route, action, code]);
        let query: Vec<String> = criteria
            .filter_map(|(name, value)| {
                Some(format!("{name}={}", utf8_percent_encode(value.as_deref()?, NON_ALPHANUMERIC)))
            })
            .collect();
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
        loop {
            match self.runtime.block_on(self.follow_once(&target, event)) {
                Ok(Ended::Unread) => return Ok(()),
                Ok(Ended::Closed) => output::message(format_args!("the stream has ended; connecting again")),
                Err(problem) => return Err(fail(FAILED, &problem)),
            }
        }
    }

    async fn follow_once(&self, target: &str, event: &mut dyn FnMut(&str, &[u8]) -> bool) -> Result<Ended, String> {
        let Backend::Daemon { address, token, tls } = &self.backend else { return Ok(Ended::Unread) };
        let called = connect(address, Some(token), tls.as_ref(), &Method::GET, target, Bytes::new());
        let called = tokio::time::timeout(TIMEOUT, called).await;
        let (response, _driver) =
            called.unwrap_or_else(|_| Err(format!("{address} did not respond within {TIMEOUT:?}")))?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            return Err(format!("{address}: {status}"));
        }
        let mut text = Vec::new();
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await;
            let Some(frame) = frame.map_err(|_| format!("{address} sent nothing for {SILENCE:?}"))? else {
                return Ok(Ended::Closed);
            };
            let Ok(frame) = frame else { return Ok(Ended::Closed) };
            text.extend_from_slice(frame.data_ref().map(|data| &**data).unwrap_or_default());
            while let Some(end) = memchr::memmem::find(&text, b"\n\n") {
                let one: Vec<u8> = text.drain(..end + 2).collect();
                if let Some((name, data)) = parse(&one)
                    && !event(name, data)
                {
                    return Ok(Ended::Unread);
                }
            }
            if text.len() > EVENT_MAX {
                return Err(format!("{address} sent an event that is too long"));
            }
        }
    }
}

/// The name and the data of an event whose data is one line.
fn parse(event: &[u8]) -> Option<(&str, &[u8])> {
    let field = |name: &[u8]| event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name));
    Some((std::str::from_utf8(field(b"event: ")?).ok()?, field(b"data: ")?))
}
