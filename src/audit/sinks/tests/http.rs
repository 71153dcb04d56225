use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::recorder::Recorder;
use super::*;
use crate::audit::config::{HttpConfig, HttpFormat};

fn sink(url: &str, format: HttpFormat, folder: &Path) -> Destination {
    let config = HttpConfig { endpoint: endpoint(url, folder), format };
    Destination::new(&SinkConfig::Http(config), "edge \"1\"").unwrap().unwrap()
}

#[tokio::test]
async fn each_format_is_what_its_receiver_expects() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|_, _| (204, vec![], vec![])).await;
    let url = format!("{}/services/collector?x=1", recorder.url);
    for format in [HttpFormat::Ndjson, HttpFormat::Splunk, HttpFormat::Loki] {
        assert_eq!(told(&sink(&url, format, folder.path()).deliver(batch(0..2)).await), "done 0");
    }
    let [lines, splunk, loki] = recorder.asked().try_into().unwrap();
    for (asked, content) in
        [(&lines, "application/x-ndjson"), (&splunk, "application/json"), (&loki, "application/json")]
    {
        assert_eq!((asked.target.as_str(), asked.gzip), ("/services/collector?x=1", true));
        assert_eq!((asked.header("content-type"), asked.header("authorization")), (content, "ApiKey secret"));
        assert_eq!(asked.header("user-agent"), concat!("bartizan/", env!("CARGO_PKG_VERSION")));
    }
    assert_eq!(lines.body, batch(0..2));
    let events = serde_json::Deserializer::from_slice(&splunk.body).into_iter::<Value>();
    let events: Vec<Value> = events.map(Result::unwrap).collect();
    let record = |number| serde_json::from_str::<Value>(&line(number)).unwrap();
    let event = |number| json!({"time": 1_795_773_600.123, "host": "edge \"1\"", "source": "bartizan", "sourcetype": "_json", "event": record(number)});
    assert_eq!(events, [event(0), event(1)]);
    let streams: Value = serde_json::from_slice(&loki.body).unwrap();
    let value = |number| json!(["1795773600123000000", line(number).trim_end()]);
    let expected =
        json!({"streams": [{"stream": {"job": "bartizan", "node": "edge \"1\""}, "values": [value(0), value(1)]}]});
    assert_eq!(streams, expected);
}

/// A success is one, whatever becomes of the rest of the response: sent again, the records would be there twice.
#[tokio::test]
async fn records_are_taken_though_the_body_of_the_response_breaks_or_is_long() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|_, _| (200, vec![], vec![b' '; 8 << 20])).await;
    assert_eq!(told(&sink(&recorder.url, HttpFormat::Ndjson, folder.path()).deliver(batch(0..2)).await), "done 0");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let breaking = async {
        let mut stream = listener.accept().await.unwrap().0;
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab").await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let mut sink = sink(&url, HttpFormat::Ndjson, folder.path());
    let (delivery, ()) = tokio::join!(sink.deliver(batch(0..2)), breaking);
    assert_eq!(told(&delivery), "done 0");
}

#[test]
fn a_token_in_the_url_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    for (url, name) in [
        ("https://a.example", "http https://a.example"),
        ("https://a.example:8088/", "http https://a.example:8088"),
        // The beginning of `printf %s /in/SECRET?token=1 | sha256sum`.
        ("https://a.example/in/SECRET?token=1", "http https://a.example/#33c368a0"),
    ] {
        let endpoint = HttpEndpoint { has_secret_path: true, ..endpoint(url, folder.path()) };
        let config = SinkConfig::Http(HttpConfig { endpoint, format: HttpFormat::Ndjson });
        assert_eq!(config.to_string(), name);
        assert!(!format!("{config:?}").contains("SECRET"));
    }
}

#[tokio::test]
async fn what_a_status_means() {
    for (status, expected) in [
        (200, "done 0"),
        (202, "done 0"),
        (408, "failed the status is 408 Request Timeout: no"),
        (429, "failed the status is 429 Too Many Requests: no"),
        (500, "failed the status is 500 Internal Server Error: no"),
        (401, "failed the status is 401 Unauthorized: no; check `headers` of this sink"),
        (403, "failed the status is 403 Forbidden: no; check `headers` of this sink"),
        (404, "failed the status is 404 Not Found: no; check `url` and `format` of this sink"),
        (
            307,
            "failed the status is 307 Temporary Redirect: no; redirects are not followed: correct the URL of this sink",
        ),
        // Each is sent alone, too. What is refused whatever it is cannot be the reason.
        (400, "failed no record is taken: 400 Bad Request: no"),
        (422, "failed no record is taken: 422 Unprocessable Entity: no"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(move |_, _| (status, vec![], b"no".to_vec())).await;
        let delivery = sink(&recorder.url, HttpFormat::Ndjson, folder.path()).deliver(batch(0..2)).await;
        assert_eq!(told(&delivery), expected);
        let refused = matches!(status, 400 | 422);
        assert_eq!(rejected(folder.path()), [], "{status}");
        assert_eq!(recorder.asked().len(), if refused { 3 } else { 1 }, "{status}");
    }
}

#[tokio::test]
async fn one_record_that_is_refused_does_not_spoil_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|asked, _| {
        let spoilt = lines::lines(&asked.body).any(|line| line == super::line(2).as_bytes());
        (if spoilt { 400 } else { 200 }, vec![], b"bad".to_vec())
    })
    .await;
    let mut sink = sink(&recorder.url, HttpFormat::Ndjson, folder.path());
    assert_eq!(told(&sink.deliver(batch(0..4)).await), "done 1");
    assert_eq!(rejected(folder.path()), [(2, "400 Bad Request: bad".to_owned())]);
}

#[tokio::test]
async fn splunk_tells_events_and_settings_apart() {
    for (code, expected) in [
        (6, "done 1"),
        (12, "done 1"),
        (13, "done 1"),
        // An index that does not exist, a channel that is missing, a token that is disabled.
        (7, "again"),
        (10, "again"),
        (1, "again"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(move |asked, _| {
            let spoilt = String::from_utf8_lossy(&asked.body).contains(&id(2));
            (if spoilt { 400 } else { 200 }, vec![], json!({"text": "no", "code": code}).to_string().into())
        })
        .await;
        let delivery = sink(&recorder.url, HttpFormat::Splunk, folder.path()).deliver(batch(0..4)).await;
        let again = format!(
            "failed the status is 400 Bad Request: {{\"code\":{code},\"text\":\"no\"}}; check `url` and `format` of this sink"
        );
        assert_eq!(told(&delivery), if expected == "again" { again.as_str() } else { expected });
        assert_eq!(rejected(folder.path()).len(), usize::from(expected == "done 1"));
    }
}

#[tokio::test]
async fn what_fails_midway_is_delivered_again_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|asked, number| match number {
        3 => (503, vec![("retry-after", "2".to_owned())], vec![]),
        _ if lines::count(&asked.body) > 2 => (413, vec![], vec![]),
        _ => (200, vec![], vec![]),
    })
    .await;
    let delivery = sink(&recorder.url, HttpFormat::Ndjson, folder.path()).deliver(batch(0..8)).await;
    assert_eq!(told(&delivery), "partly 0 rest=[2, 3, 4, 5, 6, 7] the status is 503 Service Unavailable");
    let Delivery::Partly { failure, .. } = delivery else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::from_secs(2)));
}
