//! Which pages of other origins may call an API from a browser (Fetch standard §3.3, the CORS protocol).
//!
//! Nothing here keeps a request from the API: browsers ask before they send, and keep what they get from the page. Private
//! Network Access is not granted to anybody.

use http::Method;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};

use crate::stages::rate_limit::RouteLimits;

/// `cors` of an API.
#[derive(Debug)]
pub(crate) struct Cors {
    /// Absent: any.
    pub(crate) origins: Option<Box<[Box<str>]>>,
    /// Request headers that pages may send.
    pub(crate) headers: Box<[HeaderName]>,
    /// Response headers that pages may read, as a list.
    pub(crate) expose: Option<HeaderValue>,
    pub(crate) credentials: bool,
    /// Seconds.
    pub(crate) max_age: HeaderValue,
    /// How many preflights each client address may send.
    pub(crate) preflights: RouteLimits,
}

/// The question of a browser whether a page may send a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Preflight {
    /// The method of that request.
    pub(crate) method: Method,
    /// The origin of the page.
    pub(crate) origin: HeaderValue,
}

/// Why a page may not send a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PreflightError {
    /// Its origin is not listed.
    Origin,
    /// It would send this header, which is not listed.
    Header(String),
}

impl PreflightError {
    /// What to change.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Origin => "pages of this origin may not call this API from a browser".to_owned(),
            Self::Header(name) => format!("pages may not send the header `{name}` to this API"),
        }
    }
}

impl Preflight {
    /// Reads a preflight from the head of a request; `None` for any other request.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        if method != Method::OPTIONS {
            return None;
        }
        let requested = only(headers, &ACCESS_CONTROL_REQUEST_METHOD)?;
        let method = Method::from_bytes(requested.as_bytes()).ok()?;
        Some(Self { method, origin: origin(headers)?.clone() })
    }
}

/// The origin of the page that sends a request; `None` if it does not say.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    only(headers, &ORIGIN)
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_none() { Some(first) } else { None }
}

impl Cors {
    /// Whether pages of this origin may read responses.
    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        let listed = |origins: &[Box<str>]| origins.iter().any(|known| known.as_bytes() == origin.as_bytes());
        self.origins.as_deref().is_none_or(listed)
    }

    /// Decides whether a page may send the request that a preflight asks for.
    pub(crate) fn permit(&self, preflight: &Preflight, headers: &HeaderMap) -> Result<(), PreflightError> {
        if !self.allows(&preflight.origin) {
            return Err(PreflightError::Origin);
        }
        let lines = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
        for name in lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
            let allowed = |known: &HeaderName| known.as_str().as_bytes().eq_ignore_ascii_case(name);
            if !name.is_empty() && !self.headers.iter().any(allowed) {
                return Err(PreflightError::Header(String::from_utf8_lossy(name).chars().take(64).collect()));
            }
        }
        Ok(())
    }

    /// The fields of every response, refusals included, to a request that came from a page of this origin, or from none.
    pub(crate) fn response_fields(&self, origin: Option<&HeaderValue>) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = self.origin_fields(origin);
        if let Some(expose) = &self.expose
            && fields.iter().any(|(name, _)| *name == ACCESS_CONTROL_ALLOW_ORIGIN)
        {
            fields.push((ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone()));
        }
        if self.origins.is_some() {
            // Even without an origin: a cache must not give this response to a page that has one.
            fields.push((VARY, HeaderValue::from_static("Origin")));
        }
        fields
    }

    /// The fields of the answer to a preflight that is permitted.
    pub(crate) fn preflight_fields(&self, preflight: &Preflight) -> Vec<(HeaderName, HeaderValue)> {
        const VARIES: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        let mut fields = self.origin_fields(Some(&preflight.origin));
        let method = HeaderValue::from_str(preflight.method.as_str());
        fields.extend(method.ok().map(|method| (ACCESS_CONTROL_ALLOW_METHODS, method)));
        let names: Vec<&str> = self.headers.iter().map(HeaderName::as_str).collect();
        if let Ok(names) = HeaderValue::try_from(names.join(", "))
            && !names.is_empty()
        {
            fields.push((ACCESS_CONTROL_ALLOW_HEADERS, names));
        }
        fields.push((ACCESS_CONTROL_MAX_AGE, self.max_age.clone()));
        fields.push((VARY, HeaderValue::from_static(VARIES)));
        fields
    }

    fn origin_fields(&self, origin: Option<&HeaderValue>) -> Vec<(HeaderName, HeaderValue)> {
        let allowed = match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(_) => origin.filter(|origin| self.allows(origin)).cloned(),
        };
        let mut fields = Vec::with_capacity(4);
        if let Some(allowed) = allowed {
            fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, allowed));
            if self.credentials {
                fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
            }
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn cors(origins: Option<&[&str]>, credentials: bool) -> Cors {
        Cors {
            origins: origins.map(|origins| origins.iter().map(|origin| Box::from(*origin)).collect()),
            headers: ["authorization", "content-type"].map(HeaderName::from_static).into(),
            expose: Some(HeaderValue::from_static("x-request-id")),
            credentials,
            max_age: HeaderValue::from_static("600"),
            preflights: RouteLimits { rate: None, class: None, cost: NonZeroU32::MIN },
        }
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn lines(fields: &[(HeaderName, HeaderValue)]) -> Vec<String> {
        fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    const APP: &str = "https://app.example";

    #[test]
    fn what_is_a_preflight() {
        let (origin, method) = (("origin", APP), ("access-control-request-method", "PUT"));
        for (sent, fields, is_one) in [
            (Method::OPTIONS, &[origin, method][..], true),
            (Method::GET, &[origin, method], false),
            (Method::OPTIONS, &[origin], false),
            (Method::OPTIONS, &[method], false),
            (Method::OPTIONS, &[origin, origin, method], false),
            (Method::OPTIONS, &[origin, method, method], false),
            (Method::OPTIONS, &[origin, ("access-control-request-method", "a b")], false),
        ] {
            let read = Preflight::of(&sent, &map(fields));
            assert_eq!(read.is_some(), is_one, "{sent} {fields:?}");
            assert!(read.is_none_or(|read| read.method == Method::PUT && read.origin == APP));
        }
    }

    #[test]
    fn origins_and_headers_of_preflights() {
        for (origins, origin, asked, expected) in [
            (Some(&[APP][..]), APP, "", Ok(())),
            (Some(&[APP]), APP, "Content-Type, authorization", Ok(())),
            (Some(&[APP]), APP, "content-type,, x-other", Err(PreflightError::Header("x-other".to_owned()))),
            (Some(&[APP]), "https://app.example.evil", "", Err(PreflightError::Origin)),
            (Some(&[APP]), "https://app.example:8443", "", Err(PreflightError::Origin)),
            (Some(&[APP]), "http://app.example", "", Err(PreflightError::Origin)),
            (Some(&[APP]), "null", "", Err(PreflightError::Origin)),
            (None, "null", "", Ok(())),
        ] {
            let preflight = Preflight { method: Method::PUT, origin: HeaderValue::from_static(origin) };
            let headers = map(&[("access-control-request-headers", asked)]);
            assert_eq!(cors(origins, false).permit(&preflight, &headers), expected, "{origin} {asked}");
        }
    }

    #[test]
    fn fields_of_responses() {
        let app = HeaderValue::from_static(APP);
        let (allow, expose, vary) = (
            "access-control-allow-origin: https://app.example",
            "access-control-expose-headers: x-request-id",
            "vary: Origin",
        );
        for (cors, origin, expected) in [
            (cors(Some(&[APP]), false), Some(&app), &[allow, expose, vary][..]),
            (cors(Some(&[APP]), true), Some(&app), &[allow, "access-control-allow-credentials: true", expose, vary]),
            (cors(Some(&["https://other"]), true), Some(&app), &[vary]),
            (cors(Some(&[APP]), true), None, &[vary]),
            (cors(None, false), None, &["access-control-allow-origin: *", expose]),
        ] {
            assert_eq!(lines(&cors.response_fields(origin)), expected, "{cors:?}");
        }
        let preflight = Preflight { method: Method::PUT, origin: app };
        assert_eq!(
            lines(&cors(Some(&[APP]), false).preflight_fields(&preflight)),
            [
                allow,
                "access-control-allow-methods: PUT",
                "access-control-allow-headers: authorization, content-type",
                "access-control-max-age: 600",
                "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            ]
        );
    }
}
