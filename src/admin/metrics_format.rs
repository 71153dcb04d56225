//! The formats of `/metrics`: OpenMetrics where the client accepts it, otherwise the text format of Prometheus 0.0.4.

use http::HeaderMap;
use http::header::ACCEPT;

/// A format of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    OpenMetrics,
    Text,
}

impl MetricsFormat {
    /// The format that the client prefers (RFC 9110 §12.5.1). A client that names neither gets the text format.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut openmetrics, mut text) = (0, 0);
        for range in ranges.flat_map(|value| value.split(',')) {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let quality = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
            let quality = quality.map_or(Some(1000), thousandths).unwrap_or_default();
            match name.trim().to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => openmetrics = openmetrics.max(quality),
                "text/plain" | "text/*" => text = text.max(quality),
                _ => {}
            }
        }
        if openmetrics > 0 && openmetrics >= text { Self::OpenMetrics } else { Self::Text }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns a page that is in OpenMetrics in this format.
    pub(super) fn write(self, page: String) -> String {
        match self {
            Self::OpenMetrics => page,
            Self::Text => to_text(&page),
        }
    }
}

/// Reads a weight such as `0.5` (RFC 9110 §12.4.2), in thousandths.
fn thousandths(weight: &str) -> Option<u32> {
    let weight: f32 = weight.trim().parse().ok()?;
    (0.0..=1.0).contains(&weight).then_some((weight * 1000.0) as u32)
}

/// The differences: OpenMetrics names the family of a counter without `_total`, and has units and an end.
fn to_text(page: &str) -> String {
    let mut text = String::with_capacity(page.len() + page.len() / 16);
    let mut help = None;
    for line in page.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').map(|(_, help)| help.replace("\\\"", "\""));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|family| family.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some(help) = help.take() {
                text.extend(["# HELP ", name, suffix, " ", &help, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// U9: the page is in the format that was asked for.
    #[test]
    fn the_format_is_the_one_that_the_client_prefers() {
        use MetricsFormat::{OpenMetrics, Text};
        for (accept, expected) in [
            ("", Text),
            ("*/*", Text),
            ("text/plain", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text;version=1.0.0;q=0.5, text/plain;version=0.0.4;q=0.3,*/*;q=0.1", OpenMetrics),
            ("application/openmetrics-text; version=1.0.0; q=0.2, text/plain; q=0.3", Text),
            ("application/openmetrics-text;q=0", Text),
            ("application/openmetrics-text;q=nonsense", Text),
            ("application/json", Text),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(MetricsFormat::accepted(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn counters_are_named_as_each_format_wants() {
        let page = "# HELP a_requests All \\\"requests\\\".\n# TYPE a_requests counter\na_requests_total{b=\"c\"} 1\n\
                    # HELP a_time Seconds.\n# TYPE a_time gauge\n# UNIT a_time seconds\na_time 2\n# EOF\n";
        assert_eq!(MetricsFormat::OpenMetrics.write(page.to_owned()), page);
        assert_eq!(
            MetricsFormat::Text.write(page.to_owned()),
            "# HELP a_requests_total All \"requests\".\n# TYPE a_requests_total counter\na_requests_total{b=\"c\"} 1\n\
             # HELP a_time Seconds.\n# TYPE a_time gauge\na_time 2\n"
        );
    }
}
