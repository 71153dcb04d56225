//! The pages that are tables: refusal codes, admin endpoints, metrics and fields of the audit record.

use std::time::Duration;

use serde_json::Value;

use crate::admin::{OPENAPI, endpoints};
use crate::audit::FIELDS;
use crate::grpc;
use crate::policy::Rights;
use crate::refusal::{Reason, Stage};
use crate::telemetry::{
    AddressNumbers, AuditNumbers, CertificateNumbers, End, Gauges, InputNumbers, IssuerNumbers, KeyNumbers, Metrics,
    ProcessNumbers, RotationNumbers, RouteMetrics, SecretNumbers, ServerMetrics, SharedLimitNumbers, SinkNumbers,
    StoreNumbers, VaultNumbers,
};

/// Lays rows out in columns; the last one may be of any width.
fn table<const COLUMNS: usize>(title: &str, heads: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) -> String {
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows);
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|column| lines.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let mut text = format!("{title}\n\n");
    for row in &lines {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn codes() -> String {
    let rows = Reason::ALL.iter().map(|reason| {
        let stages: Vec<&str> = reason.stages().iter().copied().map(Stage::as_str).collect();
        let code = reason.code().to_owned();
        let (status, (_, grpc)) = (reason.status().as_u16().to_string(), grpc::status(*reason));
        [code, status, grpc.to_owned(), stages.join(", "), reason.meaning().trim().to_owned()]
    });
    let title = "Why requests are refused. The code is in the response (RFC 9457), in the audit record and in the metrics.\n\
                 A 401 and a missing scope carry WWW-Authenticate; 429 carries Retry-After. Clients of gRPC get its status.";
    table(title, ["CODE", "STATUS", "GRPC", "STAGE", "MEANING"], rows.collect())
}

pub(super) fn admin() -> String {
    let document: Value = serde_json::from_str(OPENAPI).unwrap_or_default();
    let rows = endpoints::listed().map(|(method, path, rights)| {
        let operation = document.get("paths").and_then(|paths| paths.get(path)?.get(method.to_ascii_lowercase()));
        let summary = operation.and_then(|operation| operation.get("summary")?.as_str()).unwrap_or_default();
        let rights = match rights {
            None => "-",
            Some(Rights::Read) => "read",
            Some(Rights::Operate) => "operate",
        };
        [method, path, rights, summary].map(str::to_owned)
    });
    let title = "Endpoints of the admin listener, and the right that the token needs.\n\
                 Lists are paged: `?limit=` (at most 1000), and `?after=` with the `next` of the previous page.";
    table(title, ["METHOD", "PATH", "RIGHT", "DOES"], rows.collect())
}

/// A page of `/metrics` on which every metric has a sample.
fn sample_page() -> String {
    let metrics = Metrics::new();
    let route = RouteMetrics::new("", "");
    route.count(End { index: 0, code: "" }, Duration::ZERO, Some(Duration::ZERO));
    route.would_refuse("");
    metrics.admin_refusal("");
    metrics.limit_refusal("", "");
    metrics.alert("");
    let server = ServerMetrics::new(&"".into());
    server.count(End { index: 0, code: "" });
    let tokens = vec![(String::new(), 0)];
    let issuer = IssuerNumbers { name: String::new(), up: true, keys: 0, loaded: Some(0), tokens };
    let limits = SharedLimitNumbers { up: true, nodes: 0, questions: [("", 0); 2], blocks: [("", 0); 2] };
    let sink =
        SinkNumbers { sink: String::new(), waiting: 0, lag: 0.0, failures: 0, rejected: 0, rejected_not_kept: 0 };
    let gauges = Gauges {
        audit: AuditNumbers { spooled: Some(0), sinks: vec![sink], ..AuditNumbers::default() },
        issuers: vec![issuer],
        store: Some(StoreNumbers { kind: "", up: true, entries: vec![("", 0)], limits: Some(limits) }),
        certificates: vec![CertificateNumbers { kind: "", file: String::new(), name: String::new(), end: 0 }],
        secrets: vec![InputNumbers { source: "", reference: String::new(), up: true, since: Some(0) }],
        vault: Some(VaultNumbers {
            secrets: vec![SecretNumbers { secret: String::new(), age: 0.0, failures: 0 }],
            logins: [("", 0); 2],
        }),
        process: Some(ProcessNumbers { max_fds: Some(0), ..ProcessNumbers::default() }),
        rotations: vec![RotationNumbers {
            consumer: String::new(),
            key: String::new(),
            up: true,
            failures: 0,
            next: Some(0),
        }],
        addresses: vec![AddressNumbers { api: String::new(), server: String::new(), states: vec![("", 0)] }],
        ending: vec![KeyNumbers { consumer: String::new(), key: String::new(), end: 0 }],
        ..Gauges::default()
    };
    metrics.page(std::iter::once(&route), std::iter::once(&*server), gauges)
}

pub(super) fn metrics() -> String {
    let page = sample_page();
    let mut rows: Vec<[String; 4]> = Vec::new();
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                let help = help.strip_suffix('.').unwrap_or(help);
                rows.push([name.to_owned(), String::new(), String::new(), help.to_owned()]);
            }
            (Some("#"), Some("TYPE"), Some(_), Some(kind)) => {
                if let Some([name, shown, ..]) = rows.last_mut() {
                    kind.clone_into(shown);
                    name.push_str(match kind {
                        "counter" => "_total",
                        "info" => "_info",
                        _ => "",
                    });
                }
            }
            // The first sample has the labels.
            (Some(sample), ..) if !sample.starts_with('#') => {
                if let (Some([_, _, labels, _]), Some((_, set))) = (rows.last_mut(), sample.split_once('{')) {
                    let names = set.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
                    let names: Vec<&str> = names.filter(|name| *name != "le").collect();
                    *labels = names.join(", ");
                }
            }
            _ => {}
        }
    }
    table("Metrics of `GET /metrics` on the admin listener.", ["METRIC", "TYPE", "LABELS", "MEANING"], rows)
}

pub(super) fn record() -> String {
    let rows = FIELDS.iter().map(|(name, meaning)| [(*name).to_owned(), (*meaning).to_owned()]);
    let title = "Fields of an audit record: one JSON object per request, with the names of the Elastic Common Schema.\n\
                 Absent facts are left out. A record never contains a token, key, cookie, query or body.";
    table(title, ["FIELD", "MEANING"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_with_its_type() {
        let page = metrics();
        let sources = [
            include_str!("../../telemetry/mod.rs"),
            include_str!("../../telemetry/gauges.rs"),
            include_str!("../../telemetry/upstream.rs"),
        ];
        let registered: usize = sources.iter().map(|source| source.matches("registry.register").count()).sum();
        assert_eq!(page.lines().count(), registered + 3, "{page}");
        assert!(page.contains("bartizan_requests_total") && page.contains("api, route, code"), "{page}");
        assert!(page.contains("bartizan_request_duration_seconds  ") && page.contains("histogram"), "{page}");
    }

    #[test]
    fn every_endpoint_and_code_has_its_meaning() {
        for (page, rows) in [(admin(), endpoints::listed().count()), (codes(), Reason::ALL.len())] {
            assert_eq!(page.lines().count(), rows + 4, "{page}");
            let heads = page.lines().nth(3).unwrap();
            let last = heads.rfind("  ").unwrap() + 2;
            assert!(page.lines().skip(4).all(|line| line.len() > last), "{page}");
        }
    }
}
