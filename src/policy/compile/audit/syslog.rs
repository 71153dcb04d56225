//! `syslog`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::common::timeout;
use crate::audit::{SinkConfig, SyslogConfig};
use crate::policy::compile::context::{ClientTls, Context};
use crate::policy::document;
use crate::policy::tree::At;
use crate::policy::units::Size;
use crate::url::StreamUrl;

/// Facilities, by their numbers (RFC 5424 §6.2.1).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
/// Default of `facility`: log audit.
const AUDIT: u8 = 13;
/// Default of `app_name`, and the most bytes (RFC 5424 §6.2.5).
const APP_NAME: &str = "bartizan";
const LONGEST_APP_NAME: usize = 48;
/// Default of `max_message`, and its bounds.
const MAX_MESSAGE: u64 = 8 << 10;
const MESSAGE_BOUNDS: RangeInclusive<u64> = 1 << 10..=1 << 20;

/// Compiles a receiver.
pub(super) fn compile(context: &mut Context<'_>, written: &document::SyslogSink, at: At<'_>) -> Option<SinkConfig> {
    let timeout = timeout(context, written.timeout, at.key("timeout"));
    let facility = written.facility.as_deref().map_or(Some(AUDIT), |name| {
        let number = FACILITIES.iter().position(|known| *known == name).and_then(|number| u8::try_from(number).ok());
        if number.is_none() {
            context.unknown(at.key("facility"), "facility", name, FACILITIES);
        }
        number
    });
    let app_name = written.app_name.as_deref().unwrap_or(APP_NAME);
    if !(1..=LONGEST_APP_NAME).contains(&app_name.len()) || !app_name.bytes().all(|byte| byte.is_ascii_graphic()) {
        context
            .error(at.key("app_name"), "an APP-NAME has 1 to 48 visible ASCII characters (RFC 5424)")
            .help("write a name such as `bartizan`");
    }
    let max_message = written.max_message.map_or(MAX_MESSAGE, |Size(size)| size);
    if !MESSAGE_BOUNDS.contains(&max_message) {
        context.error(at.key("max_message"), "a message has from 1KiB to 1MiB");
    }
    let Some(text) = &written.address else {
        context.missing(at.key("address"), "`address` is missing", "write `address: tls://siem.example.com:6514`");
        return None;
    };
    let address = match StreamUrl::parse(text) {
        Ok(address) => address,
        Err(error) => {
            context.error(at.key("address"), error.message).help(error.help);
            return None;
        }
    };
    let tls =
        ClientTls { ca: written.ca.as_ref(), certificate: written.certificate.as_ref(), key: written.key.as_ref() };
    let trust = if address.is_tls() {
        Some(context.client_tls(&tls, at)?)
    } else {
        tls.unused(context, "of this address, which is plain TCP", at);
        None
    };
    if !address.is_safe() {
        context.warning(at.key("address"), "records cross the network in clear text").help("use `tls://`");
    }
    Some(SinkConfig::Syslog(SyslogConfig {
        address,
        trust,
        egress: Arc::clone(&context.egress),
        timeout,
        facility: facility?,
        app_name: app_name.into(),
        max_message: usize::try_from(max_message).unwrap_or(usize::MAX),
        cee: written.cee.unwrap_or(false),
    }))
}
