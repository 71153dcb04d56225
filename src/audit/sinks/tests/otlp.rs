use prost::Message;
use serde_json::Value;

use super::recorder::{Asked, Recorder};
use super::*;
use crate::audit::config::OtlpConfig;
use crate::otlp::{ExportPartialSuccess, ExportResponse, LogsRequest, PROTOBUF};

fn sink(url: &str, folder: &Path) -> Destination {
    let config = OtlpConfig { endpoint: endpoint(url, folder) };
    Destination::new(&SinkConfig::Otlp(config), "edge-1").unwrap().unwrap()
}

fn count(asked: &Asked) -> usize {
    LogsRequest::decode(&*asked.body).unwrap().resource_logs[0].scope_logs[0].log_records.len()
}

/// The lines of the file for rejected records.
fn notes(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("rejected.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A success that says this of rejected records.
fn partial(rejected: i64, message: &str) -> Vec<u8> {
    let partial = ExportPartialSuccess { rejected, error_message: message.to_owned() };
    ExportResponse { partial_success: Some(partial) }.encode_to_vec()
}

#[tokio::test]
async fn a_record_becomes_a_log_record() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|_, _| (200, vec![("content-type", PROTOBUF.to_owned())], vec![])).await;
    let mut sink = sink(&format!("{}/otel", recorder.url), folder.path());
    assert_eq!(told(&sink.deliver(batch(0..2)).await), "done 0");
    let [asked] = recorder.asked().try_into().unwrap();
    assert_eq!((asked.target.as_str(), asked.gzip, asked.header("content-type")), ("/otel/v1/logs", true, PROTOBUF));
    let request = LogsRequest::decode(&*asked.body).unwrap();
    let text = |value: &Option<crate::otlp::AnyValue>| format!("{:?}", value.as_ref().unwrap().value);
    let resource = &request.resource_logs[0];
    let attributes: Vec<_> =
        resource.resource.as_ref().unwrap().attributes.iter().map(|a| (a.key.as_str(), text(&a.value))).collect();
    assert_eq!(attributes[0], ("service.name", "Some(Text(\"bartizan\"))".to_owned()));
    assert_eq!(attributes[3], ("host.name", "Some(Text(\"edge-1\"))".to_owned()));
    let record = &resource.scope_logs[0].log_records[1];
    assert_eq!(
        (record.severity_number, record.severity_text.as_str(), record.event_name.as_str()),
        (13, "WARN", "request")
    );
    assert_eq!(
        (record.time_unix_nano, record.trace_id.len(), record.span_id.len()),
        (1_795_773_600_123_000_000, 16, 0)
    );
    assert!(record.observed_time_unix_nano > 1_700_000_000_000_000_000);
    assert_eq!(
        text(&record.body),
        format!("{:?}", Some(crate::otlp::AnyValue::text(line(1).trim_end()).value.unwrap()))
    );
    let of = |key: &str| record.attributes.iter().find(|a| a.key == key).map(|a| text(&a.value));
    assert_eq!(of("http.response.status_code").unwrap(), "Some(Int(403))");
    assert_eq!(of("event.id").unwrap(), format!("Some(Text({:?}))", id(1)));
    assert_eq!(of("user.id"), None);
}

#[tokio::test]
async fn what_a_collector_rejects_is_kept_and_counted() {
    let json = "application/json";
    for (content, body, expected, kept) in [
        (PROTOBUF, vec![], "done 0", None),
        (PROTOBUF, partial(0, "deprecated"), "done 0", None),
        // Nobody knows which.
        (PROTOBUF, partial(2, "too old"), "done 2", Some((2, "too old"))),
        (PROTOBUF, partial(i64::MAX, "too old"), "done 3", Some((3, "too old"))),
        (PROTOBUF, partial(-5, ""), "done 0", None),
        (json, b"{}".to_vec(), "done 0", None),
        (json, b"{\"partialSuccess\":{\"rejectedLogRecords\":\"1\"}}".to_vec(), "done 1", Some((1, ""))),
        // A server that is no collector.
        (
            "text/html",
            b"<html>".to_vec(),
            "failed this is no response of an OTLP collector: `text/html`; check `endpoint` of this sink",
            None,
        ),
        (
            PROTOBUF,
            b"\xff\xff".to_vec(),
            "failed this is no response of an OTLP collector: `application/x-protobuf`; check `endpoint` of this sink",
            None,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recorder =
            Recorder::start(move |_, _| (200, vec![("content-type", content.to_owned())], body.clone())).await;
        let delivery = sink(&recorder.url, folder.path()).deliver(batch(0..3)).await;
        assert_eq!(told(&delivery), expected);
        // A note is enough: the collector has the others.
        let note =
            |(rejected, why)| json!({"error": why, "rejected": rejected, "of": 3, "first": id(0), "last": id(2)});
        assert_eq!(notes(folder.path()), Vec::from_iter(kept.map(note)));
        if let Delivery::Failed(failure) = delivery {
            assert_eq!(failure.retry_after, Some(Duration::from_secs(30)));
        }
    }
}

#[tokio::test]
async fn statuses_are_told_apart() {
    for (status, expected, requests, wait) in [
        (429, "failed the status is 429 Too Many Requests: no", 1, Some(3)),
        (502, "failed the status is 502 Bad Gateway: no", 1, Some(3)),
        (503, "failed the status is 503 Service Unavailable: no", 1, Some(3)),
        (504, "failed the status is 504 Gateway Timeout: no", 1, Some(3)),
        (401, "failed the status is 401 Unauthorized: no; check `headers` of this sink", 1, Some(30)),
        (404, "failed the status is 404 Not Found: no; check `endpoint` of this sink", 1, Some(30)),
        (405, "failed the status is 405 Method Not Allowed: no; check `endpoint` of this sink", 1, Some(30)),
        (415, "failed the status is 415 Unsupported Media Type: no; check `endpoint` of this sink", 1, Some(30)),
        // Halves and records alone; all of them are refused.
        (400, "failed no record is taken: 400 Bad Request: no", 5, None),
        (422, "failed no record is taken: 422 Unprocessable Entity: no", 5, None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recorder =
            Recorder::start(move |_, _| (status, vec![("retry-after", "3".to_owned())], b"no".to_vec())).await;
        let delivery = sink(&recorder.url, folder.path()).deliver(batch(0..3)).await;
        assert_eq!((told(&delivery).as_str(), recorder.asked().len()), (expected, requests));
        let Delivery::Failed(failure) = delivery else { panic!() };
        assert_eq!(failure.retry_after, wait.map(Duration::from_secs), "{status}");
        assert_eq!(rejected(folder.path()), []);
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|asked, _| {
        let status = if count(asked) > 2 { 413 } else { 200 };
        (status, vec![("content-type", PROTOBUF.to_owned())], vec![])
    })
    .await;
    assert_eq!(told(&sink(&recorder.url, folder.path()).deliver(batch(0..8)).await), "done 0");
    let taken: usize = recorder.asked().iter().map(count).filter(|count| *count <= 2).sum();
    assert_eq!(taken, 8);
}

/// Starts rotel, which sends what it receives on to `next`.
fn rotel(engine: &Path, folder: &Path, next: &str) -> (Child, String) {
    let (http, grpc) = (free_port(), free_port());
    let log = std::fs::File::create(folder.join("rotel.log")).unwrap();
    let mut command = std::process::Command::new(engine.join("rotel/rotel-agent"));
    command.arg("start").args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")]);
    command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")]).arg("--pid-file").arg(folder.join("pid"));
    command.args(["--exporter", "otlp", "--otlp-exporter-endpoint", next, "--otlp-exporter-protocol", "http"]);
    let child = Child(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    eventually("rotel listens", || std::net::TcpStream::connect(("127.0.0.1", http)).ok());
    (child, format!("http://127.0.0.1:{http}"))
}

#[tokio::test]
async fn a_real_collector_takes_the_records_and_sends_them_on_unchanged() {
    let Some(engine) = engine("ROTEL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let behind = Recorder::start(|_, _| (200, vec![("content-type", PROTOBUF.to_owned())], vec![])).await;
    let (_child, url) = rotel(&engine, folder.path(), &behind.url);
    assert_eq!(told(&sink(&url, folder.path()).deliver(batch(0..20)).await), "done 0");
    let sent_on = |asked: Asked| LogsRequest::decode(&*asked.body).unwrap().resource_logs;
    // The recorder is on this thread.
    let looking = tokio::task::spawn_blocking(move || {
        eventually("rotel has sent them on", || {
            let resources: Vec<_> = behind.asked().into_iter().flat_map(sent_on).collect();
            let records =
                resources.iter().flat_map(|resource| &resource.scope_logs).flat_map(|scope| &scope.log_records);
            (records.count() == 20).then_some(resources)
        })
    });
    let resources = looking.await.unwrap();
    assert_eq!(resources[0].resource, Some(crate::otlp::Resource::here("edge-1")));
    let mut records = resources.iter().flat_map(|resource| &resource.scope_logs).flat_map(|scope| &scope.log_records);
    let body = |number| Some(crate::otlp::AnyValue::text(line(number).trim_end()));
    assert!((0..20).all(|number| {
        let record = records.next().unwrap();
        let of = |key: &str| record.attributes.iter().any(|attribute| attribute.key == key);
        (&record.body, record.severity_number, record.trace_id.len()) == (&body(number), 13, 16)
            && of("bartizan.consumer")
    }));
}
