//! URLs of the policy, of the commands and of issuers: one parser for all of them. It understands a URL whole, or refuses it.
//!
//! Parsers that other crates have for URLs forgive: a port out of range becomes the default port, `#insecure` turns off
//! verification, an unknown parameter is ignored. What they forgive goes elsewhere than its author meant.
//!
//! Messages never quote the URL: it may hold a password.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// What a URL may have besides scheme, host and port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    schemes: &'static [&'static str],
    path: bool,
    query: bool,
    example: &'static str,
}

impl Form {
    /// A server: neither path nor query.
    pub(crate) const SERVER: Self =
        Self { schemes: &["http", "https"], path: false, query: false, example: "http://10.1.0.7:9000" };
    /// A server of an upstream: a path that is put before those of requests, and no query.
    pub(crate) const UPSTREAM: Self =
        Self { schemes: &["http", "https"], path: true, query: false, example: "http://10.1.0.7:9000" };
    /// An admin listener.
    pub(crate) const ADMIN: Self =
        Self { schemes: &["http", "https"], path: false, query: false, example: "http://127.0.0.1:9901" };
    /// An identifier: a path, and no query (RFC 8414 §2).
    pub(crate) const IDENTIFIER: Self =
        Self { schemes: &["https", "http"], path: true, query: false, example: "https://login.example.com/tenant" };
    /// A document or an endpoint.
    pub(crate) const DOCUMENT: Self =
        Self { schemes: &["https", "http"], path: true, query: true, example: "https://login.example.com/jwks.json" };
    /// The base of an API: a path, and no query.
    pub(crate) const BASE: Self =
        Self { schemes: &["https", "http"], path: true, query: false, example: "https://es.example.com:9200" };
    /// An endpoint that takes records.
    pub(crate) const COLLECTOR: Self =
        Self { schemes: &["https", "http"], path: true, query: true, example: "https://collect.example.com/ndjson" };
    const PROXY: Self =
        Self { schemes: &["http", "https"], path: false, query: false, example: "http://proxy.example.com:3128" };
    const STREAM: Self =
        Self { schemes: &["tls", "tcp"], path: false, query: false, example: "tls://siem.example.com:6514" };
    const REDIS: Self =
        Self { schemes: &["redis", "rediss"], path: true, query: true, example: "redis://127.0.0.1:6379" };

    fn error(&self, fault: Fault) -> UrlError {
        let example = self.example;
        let (message, help) = match fault {
            Fault::Characters => (
                "the URL has characters that a URL cannot have",
                "percent-encode them (`%` itself is `%25`); an international host name is written as `xn--…`"
                    .to_owned(),
            ),
            Fault::Scheme => (
                "the URL has no scheme, or one that is not supported here",
                format!("write {}, such as `{example}`", choice(self.schemes)),
            ),
            Fault::UserInfo => (
                "the URL has a user name or password",
                "remove what is before `@`; credentials have settings of their own".to_owned(),
            ),
            Fault::Host => (
                "the URL has no valid host",
                format!("write a name, an IPv4 address or `[IPv6 address]`, such as `{example}`"),
            ),
            Fault::Port => (
                "the port of the URL is not a number from 1 to 65535",
                "correct it, or leave it out with its colon for the default port".to_owned(),
            ),
            Fault::Path | Fault::Query if !self.path => {
                ("the URL has more than scheme, host and port", format!("remove the path and the query: `{example}`"))
            }
            Fault::Path | Fault::Query => ("the URL has a query", "remove it, from `?` on".to_owned()),
            Fault::Fragment => ("the URL has a fragment", "remove it, from `#` on".to_owned()),
        };
        UrlError { fault, message, help }
    }
}

/// "`http://` or `https://`".
fn choice(schemes: &[&str]) -> String {
    let written: Vec<String> = schemes.iter().map(|scheme| format!("`{scheme}://`")).collect();
    written.join(" or ")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Characters,
    Scheme,
    UserInfo,
    Host,
    Port,
    Path,
    Query,
    Fragment,
}

/// Why a URL is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlError {
    pub(crate) fault: Fault,
    pub(crate) message: &'static str,
    /// What to write.
    pub(crate) help: String,
}

impl std::fmt::Display for UrlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

/// An http or https URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    uri: Uri,
    https: bool,
    host: Box<str>,
    port: Option<u16>,
}

impl HttpUrl {
    /// Parses a URL that has this form.
    pub(crate) fn parse(text: &str, form: Form) -> Result<Self, UrlError> {
        Self::of(text, form).map_err(|fault| form.error(fault))
    }

    fn of(text: &str, form: Form) -> Result<Self, Fault> {
        let parts = Parts::split(text, form.schemes)?;
        if parts.user_info.is_some() {
            return Err(Fault::UserInfo);
        }
        if !form.path && !matches!(parts.path, "" | "/") {
            return Err(Fault::Path);
        }
        if !form.query && parts.query.is_some() {
            return Err(Fault::Query);
        }
        let uri = text.parse().map_err(|_| Fault::Characters)?;
        let https = parts.scheme.eq_ignore_ascii_case("https");
        Ok(Self { uri, https, host: parts.host.into(), port: parts.port })
    }

    /// The whole URL.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// The host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port that is written, or the default of the scheme.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// Host and port as written: what `Host` has.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Whether responses of this URL cannot be replaced on the way: https, or this machine.
    pub(crate) fn is_safe(&self) -> bool {
        self.https || is_this_machine(&self.host)
    }
}

/// The URL of a proxy: a server, and the credentials before it.
#[derive(Debug)]
pub(crate) struct ProxyUrl {
    /// Without the credentials.
    pub(crate) url: HttpUrl,
    /// `USER:PASSWORD`, decoded.
    pub(crate) credentials: Option<Vec<u8>>,
}

impl ProxyUrl {
    /// Parses a URL.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let parse = || {
            let parts = Parts::split(text, Form::PROXY.schemes)?;
            let credentials = parts.user_info.map(|info| percent_encoding::percent_decode_str(info).collect());
            let (scheme, rest) = text.split_once("://").ok_or(Fault::Scheme)?;
            let place = parts.user_info.and_then(|info| rest.get(info.len().checked_add(1)?..)).unwrap_or(rest);
            Ok(Self { url: HttpUrl::of(&format!("{scheme}://{place}"), Form::PROXY)?, credentials })
        };
        parse().map_err(|fault| Form::PROXY.error(fault))
    }
}

/// The URL of a syslog receiver: `tcp://HOST:PORT`, or `tls://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamUrl {
    tls: bool,
    host: Box<str>,
    port: Option<u16>,
}

impl StreamUrl {
    /// Parses a URL.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let fault = match Parts::split(text, Form::STREAM.schemes) {
            Ok(parts) if parts.user_info.is_some() => Fault::UserInfo,
            Ok(parts) if !matches!(parts.path, "" | "/") => Fault::Path,
            Ok(parts) if parts.query.is_some() => Fault::Query,
            Ok(parts) => {
                let tls = parts.scheme.eq_ignore_ascii_case("tls");
                return Ok(Self { tls, host: parts.host.into(), port: parts.port });
            }
            Err(fault) => fault,
        };
        Err(Form::STREAM.error(fault))
    }

    /// Whether it is reached by TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port that is written; otherwise 6514 for TLS (RFC 5425 §4.1), and 601 for TCP (RFC 6587, RFC 3195).
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 6514 } else { 601 })
    }

    /// Whether nobody on the way can read or change what is sent: TLS, or this machine.
    pub(crate) fn is_safe(&self) -> bool {
        self.tls || is_this_machine(&self.host)
    }
}

impl std::fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "tls" } else { "tcp" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host(), self.port()),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port()),
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Checks the URL of a Redis server: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, `rediss://` with TLS, or `unix:///PATH`.
pub(crate) fn check_redis(text: &str) -> Result<(), UrlError> {
    redis(text).map_err(|fault| match fault {
        Fault::Scheme => UrlError {
            fault,
            message: "this is not the URL of a Redis server",
            help: "write `redis://HOST:PORT`, or `rediss://…` for TLS; a password is a reference, such as \
                `${env:REDIS_URL}`"
                .to_owned(),
        },
        Fault::Path => UrlError {
            fault,
            message: "the path of the URL is neither the number of a database nor the file of a socket",
            help: "write it like `redis://127.0.0.1:6379/0` or `unix:///run/redis.sock`".to_owned(),
        },
        Fault::Query => UrlError {
            fault,
            message: "the query of the URL has something that is not a parameter of a Redis URL",
            help: "remove it; a Redis URL has `protocol=resp2` or `protocol=resp3`, and that of a socket `db`, `user` \
                and `pass`, each once"
                .to_owned(),
        },
        fault => Form::REDIS.error(fault),
    })
}

fn redis(text: &str) -> Result<(), Fault> {
    let socket = ["unix://", "redis+unix://"].into_iter().find_map(|prefix| text.strip_prefix(prefix));
    if let Some(rest) = socket {
        check_characters(text)?;
        let (path, query) = query_of(rest);
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(Fault::Path);
        }
        return redis_query(query, &["db", "user", "pass", "protocol"]);
    }
    let parts = Parts::split(text, Form::REDIS.schemes)?;
    if parts.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
        return Err(Fault::Host);
    }
    let database = parts.path.strip_prefix('/').unwrap_or_default();
    if !database.is_empty() && !is_number(database) {
        return Err(Fault::Path);
    }
    redis_query(parts.query, &["protocol"])
}

fn redis_query(query: Option<&str>, names: &[&str]) -> Result<(), Fault> {
    let mut unused = names.to_vec();
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, value) = pair.split_once('=').ok_or(Fault::Query)?;
        let position = unused.iter().position(|known| *known == name).ok_or(Fault::Query)?;
        let valid = match name {
            "protocol" => matches!(value, "2" | "3" | "resp2" | "resp3"),
            "db" => is_number(value),
            _ => true,
        };
        if !valid {
            return Err(Fault::Query);
        }
        unused.swap_remove(position);
    }
    Ok(())
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// The parts of a URL with an authority (RFC 3986 §3).
struct Parts<'t> {
    scheme: &'t str,
    user_info: Option<&'t str>,
    /// Without the brackets of an IPv6 address.
    host: &'t str,
    port: Option<u16>,
    path: &'t str,
    query: Option<&'t str>,
}

impl<'t> Parts<'t> {
    fn split(text: &'t str, schemes: &[&str]) -> Result<Self, Fault> {
        let (scheme, rest) = text.split_once("://").ok_or(Fault::Scheme)?;
        if !schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
            return Err(Fault::Scheme);
        }
        check_characters(text)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or(Fault::Host)?;
        let (path, query) = query_of(target);
        let (user_info, place) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains('@') => return Err(Fault::Characters),
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = host_and_port(place)?;
        Ok(Self { scheme, user_info, host, port, path, query })
    }
}

fn query_of(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// Visible ASCII without the characters that RFC 3986 §2 leaves out; `%` is followed by two digits.
fn check_characters(text: &str) -> Result<(), Fault> {
    let valid = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    let encoded =
        |rest: &str| rest.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !valid || !text.split('%').skip(1).all(encoded) {
        return Err(Fault::Characters);
    }
    if text.contains('#') { Err(Fault::Fragment) } else { Ok(()) }
}

fn host_and_port(text: &str) -> Result<(&str, Option<u16>), Fault> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(Fault::Host)?;
            host.parse::<Ipv6Addr>().map_err(|_| Fault::Host)?;
            (host, port)
        }
        None => {
            let (host, port) = text.split_at_checked(text.find(':').unwrap_or(text.len())).ok_or(Fault::Host)?;
            // Two colons: an IPv6 address without its brackets.
            if !is_host(host) || port.matches(':').count() > 1 {
                return Err(Fault::Host);
            }
            (host, port)
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        None => Err(Fault::Host),
        Some(digits) if !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(|port| (host, Some(port))).map_err(|_| Fault::Port)
        }
        Some(_) => Err(Fault::Port),
    }
}

/// Whether this is a name as DNS has them, or an IPv4 address in four parts. Resolvers also take `127.1` and `0x7f.1` for
/// addresses; a reader of the policy may not.
fn is_host(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let valid = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        valid && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let address = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && (!address || text.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U1: a URL is understood whole, or refused: a port out of range does not become port 80.
    #[test]
    fn a_url_is_understood_whole_or_refused() {
        use Fault::{Characters, Fragment, Host, Path, Port, Query, Scheme, UserInfo};
        let long = format!("http://{}", "a.".repeat(130));
        for (text, understood) in [
            ("http://127.0.0.1:9000", Ok(("127.0.0.1", 9000))),
            ("HTTPS://Api.Example.com/", Ok(("Api.Example.com", 443))),
            ("http://[::1]:65535", Ok(("::1", 65535))),
            ("http://my_service", Ok(("my_service", 80))),
            ("http://a.example.:1", Ok(("a.example.", 1))),
            ("http://7up.example", Ok(("7up.example", 80))),
            ("http://127.0.0.1:90000", Err(Port)),
            ("http://127.0.0.1:65536", Err(Port)),
            ("http://127.0.0.1:0", Err(Port)),
            ("http://127.0.0.1:", Err(Port)),
            ("http://127.0.0.1:+80", Err(Port)),
            ("http://127.0.0.1:080", Err(Port)),
            ("http://127.0.0.1:80a", Err(Port)),
            ("http://[::1]:90000", Err(Port)),
            ("http://[::1]80", Err(Host)),
            ("http://[::1", Err(Host)),
            ("http://[::g]", Err(Host)),
            ("http://[fe80::1%25eth0]", Err(Host)),
            ("http://::1:80", Err(Host)),
            ("http://fe80::1", Err(Host)),
            ("http://", Err(Host)),
            ("http://:80", Err(Host)),
            ("http:///x", Err(Host)),
            ("http://127.1", Err(Host)),
            ("http://0x7f.1", Err(Host)),
            ("http://2130706433", Err(Host)),
            ("http://256.1.1.1", Err(Host)),
            ("http://a..example", Err(Host)),
            ("http://-a.example", Err(Host)),
            ("http://a%2eexample", Err(Host)),
            ("http://a*b", Err(Host)),
            (&long, Err(Host)),
            ("http://user@a.example", Err(UserInfo)),
            ("http://a:b@a.example", Err(UserInfo)),
            ("http://a@b@a.example", Err(Characters)),
            ("http://a.example/x", Err(Path)),
            ("http://a.example//", Err(Path)),
            ("http://a.example?x", Err(Query)),
            ("http://a.example/?", Err(Query)),
            ("http://a.example/#x", Err(Fragment)),
            ("http://a.example#", Err(Fragment)),
            ("http://a.example\\x", Err(Characters)),
            ("http://a.example /", Err(Characters)),
            ("http://a.example/\n", Err(Characters)),
            ("http://ä.example", Err(Characters)),
            ("http://a.example/%2", Err(Characters)),
            ("ftp://a.example", Err(Scheme)),
            ("http:/a.example", Err(Scheme)),
            ("http:a.example", Err(Scheme)),
            ("//a.example", Err(Scheme)),
            ("a.example:80", Err(Scheme)),
            (" http://a.example", Err(Scheme)),
            ("", Err(Scheme)),
        ] {
            let parsed = HttpUrl::parse(text, Form::SERVER);
            let found = parsed.as_ref().map(|url| (url.host(), url.port())).map_err(|error| error.fault);
            assert_eq!(found, understood, "{text}");
        }
    }

    #[test]
    fn a_form_says_what_a_url_may_have() {
        for (form, text, fault) in [
            (Form::DOCUMENT, "https://a.example/jwks?v=1", None),
            (Form::DOCUMENT, "https://a.example?v=%7B1%7D", None),
            (Form::DOCUMENT, "https://a.example/jwks#1", Some(Fault::Fragment)),
            (Form::DOCUMENT, "https://a.example/{tenant}", Some(Fault::Characters)),
            (Form::DOCUMENT, "https://a:b@a.example/jwks", Some(Fault::UserInfo)),
            (Form::IDENTIFIER, "https://a.example/tenant/", None),
            (Form::IDENTIFIER, "https://a.example/tenant?x", Some(Fault::Query)),
            (Form::ADMIN, "http://127.0.0.1:9901/", None),
            (Form::ADMIN, "https://127.0.0.1:9901", None),
            (Form::ADMIN, "ftp://127.0.0.1:9901", Some(Fault::Scheme)),
            (Form::ADMIN, "http://127.0.0.1:9901/metrics", Some(Fault::Path)),
        ] {
            assert_eq!(HttpUrl::parse(text, form).err().map(|error| error.fault), fault, "{text}");
        }
    }

    /// U1: a fragment turned off the verification of the server's certificate, and unknown parameters were ignored.
    #[test]
    fn a_redis_url_is_understood_whole_or_refused() {
        for (text, fault) in [
            ("redis://127.0.0.1", None),
            ("redis://user:p%40ss:word@redis.example:6379/15", None),
            ("rediss://:password@[::1]/?protocol=resp3", None),
            ("unix:///run/redis.sock", None),
            ("redis+unix:///run/redis.sock?db=1&user=a&pass=b%26&protocol=3", None),
            ("rediss://redis.example#insecure", Some(Fault::Fragment)),
            ("unix:///run/redis.sock#x", Some(Fault::Fragment)),
            ("redis://127.0.0.1:90000", Some(Fault::Port)),
            ("redis://0.0.0.0", Some(Fault::Host)),
            ("redis://", Some(Fault::Host)),
            ("unix://run/redis.sock", Some(Fault::Path)),
            ("redis://:p@ss@127.0.0.1", Some(Fault::Characters)),
            ("redis://:50%@127.0.0.1", Some(Fault::Characters)),
            ("redis://:password@127.0.0.1\n", Some(Fault::Characters)),
            ("redis://127.0.0.1/-1", Some(Fault::Path)),
            ("redis://127.0.0.1/main", Some(Fault::Path)),
            ("redis://127.0.0.1/1/2", Some(Fault::Path)),
            ("redis://127.0.0.1?db=1", Some(Fault::Query)),
            ("redis://127.0.0.1?protocol=4", Some(Fault::Query)),
            ("redis://127.0.0.1?protocol=2&protocol=3", Some(Fault::Query)),
            ("http://127.0.0.1", Some(Fault::Scheme)),
            ("127.0.0.1:6379", Some(Fault::Scheme)),
        ] {
            assert_eq!(check_redis(text).err().map(|error| error.fault), fault, "{text}");
        }
    }

    #[test]
    fn a_proxy_may_have_credentials() {
        for (text, found) in [
            ("http://proxy:3128", Ok(("proxy", 3128, None))),
            ("https://user:p%40ss@proxy.example.com/", Ok(("proxy.example.com", 443, Some("user:p@ss")))),
            ("http://user:p@ss@proxy", Err(Fault::Characters)),
            ("http://proxy/path", Err(Fault::Path)),
            ("http://proxy/@path", Err(Fault::Path)),
            ("socks5://proxy", Err(Fault::Scheme)),
            ("proxy:3128", Err(Fault::Scheme)),
        ] {
            let parsed = ProxyUrl::parse(text).map_err(|error| error.fault);
            let parsed = parsed.map(|ProxyUrl { url, credentials }| {
                (url.host().to_owned(), url.port(), credentials.map(|text| String::from_utf8(text).unwrap()))
            });
            let found = found.map(|(host, port, text)| (host.to_owned(), port, text.map(str::to_owned)));
            assert_eq!(parsed, found, "{text}");
        }
    }

    #[test]
    fn a_stream_has_a_scheme_a_host_and_a_port() {
        for (text, shown) in [
            ("tls://siem.example.com", Ok("tls://siem.example.com:6514")),
            ("tcp://[::1]", Ok("tcp://[::1]:601")),
            ("TLS://10.0.0.1:1514/", Ok("tls://10.0.0.1:1514")),
            ("tcp://siem:70000", Err(Fault::Port)),
            ("udp://siem:514", Err(Fault::Scheme)),
            ("siem:514", Err(Fault::Scheme)),
            ("tls://user@siem", Err(Fault::UserInfo)),
            ("tls://siem/path", Err(Fault::Path)),
            ("tls://siem?x", Err(Fault::Query)),
        ] {
            let parsed = StreamUrl::parse(text).map(|url| url.to_string()).map_err(|error| error.fault);
            assert_eq!(parsed, shown.map(str::to_owned), "{text}");
        }
        let safe = |text| StreamUrl::parse(text).unwrap().is_safe();
        assert!(safe("tls://siem") && safe("tcp://127.0.0.1") && !safe("tcp://siem"));
    }

    #[test]
    fn a_message_does_not_quote_the_url() {
        for text in ["redis://:hunter2/x@a", "redis://:hunter2#x@a", "redis://hunter2", "redis://a:b@a/hunter2"] {
            let message = check_redis(text).map_err(|error| error.to_string()).err().unwrap_or_default();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for (url, safe) in [
            ("https://a.example/x", true),
            ("http://127.0.0.1:1/x", true),
            ("http://[::1]/x", true),
            ("http://localhost/x", true),
            ("http://a.example/x", false),
            ("http://127.0.0.1.a.example/x", false),
        ] {
            assert_eq!(HttpUrl::parse(url, Form::DOCUMENT).unwrap().is_safe(), safe, "{url}");
        }
    }
}
