use serde_json::{Value, json};

use super::recorder::{Asked, Recorder, Reply};
use super::*;
use crate::audit::config::ElasticsearchConfig;

fn sink(url: &str, folder: &Path) -> Destination {
    let config = ElasticsearchConfig { endpoint: endpoint(url, folder), data_stream: "logs-bartizan-test".into() };
    Destination::new(&SinkConfig::Elasticsearch(config), "edge-1").unwrap().unwrap()
}

/// Checks a request as a data stream does, and returns the ids of its records.
fn ids(asked: &Asked) -> Vec<String> {
    assert_eq!((asked.method.as_str(), asked.gzip), ("POST", true));
    let target = "/base/logs-bartizan-test/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.failure_store";
    assert_eq!(asked.target, target);
    assert_eq!(asked.header("content-type"), "application/x-ndjson");
    assert_eq!(asked.header("authorization"), "ApiKey secret");
    assert_eq!(asked.body.last(), Some(&b'\n'));
    let values: Vec<Value> = lines::lines(&asked.body).map(|line| serde_json::from_slice(line).unwrap()).collect();
    let pair = |pair: &[Value]| {
        let id = pair[1]["event"]["id"].as_str().unwrap().to_owned();
        // A data stream takes nothing else.
        assert_eq!(pair[0], json!({"create": {"_id": id}}));
        id
    };
    values.chunks(2).map(pair).collect()
}

/// The response with these statuses, and the type of the errors.
fn typed(kind: &str, statuses: &[u16]) -> Reply {
    let item = |status: &u16| match status {
        // As the failure store takes it.
        299 => json!({"create": {"status": 201, "failure_store": "used"}}),
        200..=298 => json!({"create": {"status": status, "failure_store": "not_enabled"}}),
        _ => json!({"create": {"status": status, "error": {"type": kind, "reason": format!("r{status}")}}}),
    };
    let items: Vec<Value> = statuses.iter().map(item).collect();
    let errors = statuses.iter().any(|status| *status >= 300);
    (
        200,
        vec![("content-type", "application/json".to_owned())],
        json!({"errors": errors, "items": items}).to_string().into(),
    )
}

fn items(statuses: &[u16]) -> Reply {
    typed(PARSING, statuses)
}

const PARSING: &str = "document_parsing_exception";

#[tokio::test]
async fn every_record_has_its_own_outcome() {
    let refused = "400: document_parsing_exception: r400";
    let stored = "it is in the failure store of the data stream";
    for (kind, statuses, expected, kept) in [
        ("e", &[201, 201, 201][..], "done 0", &[][..]),
        // Delivered before.
        ("e", &[409, 201, 409], "done 0", &[]),
        (PARSING, &[201, 400, 201], "done 1", &[(1, refused)]),
        ("e", &[201, 429, 503], "partly 0 rest=[1, 2] 2 of 3 records: 429: e: r429", &[]),
        (
            PARSING,
            &[400, 429, 201],
            "partly 1 rest=[1] 1 of 3 records: 429: document_parsing_exception: r429",
            &[(0, refused)],
        ),
        ("e", &[201, 299, 201], "done 1", &[(1, stored)]),
        // It is done, and would be doubled there.
        ("e", &[299, 299, 299], "done 3", &[(0, stored), (1, stored), (2, stored)]),
        // What all records meet is for an operator to mend, and no reason to reject them.
        ("e", &[429, 429, 503], "failed 3 of 3 records: 429: e: r429", &[]),
        (PARSING, &[400, 400, 400], "failed no record is taken: 400: document_parsing_exception: r400", &[]),
        (
            "e",
            &[403, 404, 401],
            "failed 3 of 3 records: 403: e: r403; give its user or API key the privilege `create_doc` on `logs-bartizan-test`, and `auto_configure` if nobody has created it",
            &[],
        ),
        ("e", &[404, 404, 404], "failed 3 of 3 records: 404: e: r404; check `data_stream` of this sink", &[]),
        // The limit of shards, an index that is closed, a pipeline that is not there.
        (
            "validation_exception",
            &[400, 400, 400],
            "failed 3 of 3 records: 400: validation_exception: r400; check the data stream and its template",
            &[],
        ),
        (
            "index_closed_exception",
            &[201, 400, 201],
            "partly 0 rest=[1] 1 of 3 records: 400: index_closed_exception: r400; check the data stream and its template",
            &[],
        ),
        ("e", &[201, 201], "failed the response has 2 items for 3 records", &[]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(move |_, _| typed(kind, statuses)).await;
        let mut sink = sink(&format!("{}/base/", recorder.url), folder.path());
        let delivery = sink.deliver(batch(0..3)).await;
        assert_eq!(told(&delivery), expected);
        let kept: Vec<(u64, String)> = kept.iter().map(|(number, why)| (*number, (*why).to_owned())).collect();
        assert_eq!(rejected(folder.path()), kept);
        assert_eq!(ids(&recorder.asked()[0]), [id(0), id(1), id(2)]);
        if let Delivery::Failed(failure) | Delivery::Partly { failure, .. } = delivery {
            let lasts = failure.why.contains("; ");
            assert_eq!(failure.retry_after, lasts.then_some(Duration::from_secs(30)), "{}", failure.why);
        }
    }
}

#[tokio::test]
async fn a_record_that_fails_for_ever_among_others_is_rejected_in_the_end() {
    // The status, and how often the record is sent before it is the reason.
    for (status, patience) in [(400, 5), (500, 30), (503, u32::MAX), (429, u32::MAX)] {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(move |asked, _| {
            let statuses: Vec<u16> =
                ids(asked).iter().map(|asked| if *asked == id(1) { status } else { 201 }).collect();
            typed("e", &statuses)
        })
        .await;
        let mut sink = sink(&format!("{}/base", recorder.url), folder.path());
        // Each delivery has what is left, and what came meanwhile.
        let mut delivery = sink.deliver(batch(0..3)).await;
        let mut deliveries = 0;
        while deliveries < 40
            && let Delivery::Partly { rest, rejected: Rejections { records: 0, .. }, .. } = delivery
        {
            assert_eq!(rest, batch([1]));
            deliveries += 1;
            delivery = sink.deliver([rest, batch([7])].concat().into()).await;
        }
        assert_eq!(deliveries, patience.min(40), "{status}");
        assert_eq!(rejected(folder.path()).len(), usize::from(patience < 40), "{status}");
    }
}

#[tokio::test]
async fn a_record_of_which_too_much_is_said_holds_up_the_others_only_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|asked, _| {
        let statuses: Vec<u16> = ids(asked).iter().map(|asked| if *asked == id(1) { 400 } else { 201 }).collect();
        let kind = if statuses.contains(&400) { "e".repeat(100 << 10) } else { String::new() };
        typed(&kind, &statuses)
    })
    .await;
    let mut sink = sink(&format!("{}/base", recorder.url), folder.path());
    let (mut delivery, mut rest) = (sink.deliver(batch(0..3)).await, batch(0..3));
    let mut deliveries = 0;
    while deliveries < 40 && rejected(folder.path()).is_empty() {
        rest = match delivery {
            Delivery::Partly { rest, .. } => rest,
            Delivery::Failed(_) => rest,
            Delivery::Done { .. } | Delivery::Sent { .. } => panic!("the record was not taken"),
        };
        deliveries += 1;
        rest = [rest, batch([7])].concat().into();
        delivery = sink.deliver(rest.clone()).await;
    }
    let kept: Vec<u64> = rejected(folder.path()).iter().map(|(number, _)| *number).collect();
    assert_eq!((kept, deliveries), (vec![1], 5));
}

#[tokio::test]
async fn what_the_cluster_says_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|asked, _| {
        let item = |reason: String| json!({"create": {"status": 429, "error": {"type": "e\n", "reason": reason}}});
        let size = if ids(asked).len() > 1 { 50 << 10 } else { 1000 };
        (200, vec![], json!({"items": vec![item("x".repeat(size)); ids(asked).len()]}).to_string().into())
    })
    .await;
    let mut sink = sink(&format!("{}/base", recorder.url), folder.path());
    let delivery = sink.deliver(batch(0..2)).await;
    // Two would be more than is read.
    assert_eq!(told(&delivery), format!("failed 1 of 1 records: 429: e: {}", "x".repeat(300)));
    assert_eq!(recorder.asked().len(), 2);
}

#[tokio::test]
async fn a_status_of_the_whole_says_what_to_change() {
    for (status, body, expected) in [
        (429, "busy", "failed the status is 429 Too Many Requests: busy"),
        (503, "", "failed the status is 503 Service Unavailable"),
        (
            401,
            "no\nno",
            "failed the status is 401 Unauthorized: no no; check `api_key`, or `username` and `password`, of this sink",
        ),
        (
            403,
            "",
            "failed the status is 403 Forbidden; give its user or API key the privilege `create_doc` on `logs-bartizan-test`, and `auto_configure` if nobody has created it",
        ),
        (404, "", "failed the status is 404 Not Found; check `url` and `data_stream` of this sink"),
        (302, "", "failed the status is 302 Found; redirects are not followed: correct the URL of this sink"),
        (
            200,
            "<html>",
            "failed this is no response of `_bulk`: expected value at line 1 column 1; check `url` of this sink",
        ),
        (
            200,
            "{}",
            "failed this is no response of `_bulk`: missing field `items` at line 1 column 2; check `url` of this sink",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(move |_, _| (status, vec![("retry-after", "7".to_owned())], body.into())).await;
        let mut sink = sink(&recorder.url, folder.path());
        let delivery = sink.deliver(batch(0..2)).await;
        assert_eq!(told(&delivery), expected);
        let Delivery::Failed(failure) = delivery else { panic!() };
        // Where an operator has to help, not so soon.
        let wait = if status == 429 || status == 503 { 7 } else { 30 };
        assert_eq!(failure.retry_after, Some(Duration::from_secs(wait)), "{status}");
        assert_eq!(rejected(folder.path()), []);
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_and_a_record_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(|asked, _| {
        let asked = ids(asked);
        // Three records fit, but for one.
        if asked.len() > 3 || asked.contains(&id(5)) { (413, vec![], vec![]) } else { items(&vec![201; asked.len()]) }
    })
    .await;
    let mut sink = sink(&format!("{}/base", recorder.url), folder.path());
    assert_eq!(told(&sink.deliver(batch(0..12)).await), "done 1");
    assert_eq!(rejected(folder.path()), [(5, "the record alone is too large".to_owned())]);
    let taken: Vec<String> =
        recorder.asked().iter().map(ids).filter(|ids| ids.len() <= 3 && !ids.contains(&id(5))).flatten().collect();
    let expected: Vec<String> = (0..12).filter(|number| *number != 5).map(id).collect();
    assert_eq!(taken, expected);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("rejected.jsonl")).unwrap();
    let recorder = Recorder::start(|_, _| items(&[400, 201])).await;
    let delivery = sink(&recorder.url, folder.path()).deliver(batch(0..2)).await;
    assert!(told(&delivery).starts_with("partly 0 rest=[0] rejected records cannot be kept in "), "{delivery:?}");
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{}", free_port());
    let delivery = sink(&url, folder.path()).deliver(batch(0..2)).await;
    assert!(told(&delivery).contains("refused"), "{delivery:?}");
}

/// Starts osmem, which answers as Elasticsearch does.
fn osmem(folder: &Path) -> (Child, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = std::process::Command::new(folder.join("osmem_server/bin/osmem-server"));
    command.args(["-addr", &address, "-no-stdin-watch"]).stdout(std::process::Stdio::null());
    let child = Child(command.stderr(std::process::Stdio::null()).spawn().unwrap());
    eventually("osmem listens", || std::net::TcpStream::connect(&address).ok());
    (child, format!("http://{address}"))
}

#[tokio::test]
async fn a_real_index_has_each_record_once() {
    let Some(engine) = engine("OSMEM") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_child, url) = osmem(&engine);
    let mut sink = sink(&url, folder.path());
    assert_eq!(told(&sink.deliver(batch(0..500)).await), "done 0");
    // Half of them again, as after a response that was lost.
    assert_eq!(told(&sink.deliver(batch(250..750)).await), "done 0");
    // A mapping that one record does not fit.
    let wrong = line(1000).replace("\"status_code\":403", "\"status_code\":\"many\"");
    let mixed: Bytes = format!("{}{wrong}{}", line(999), line(1001)).into();
    assert_eq!(told(&sink.deliver(mixed).await), "done 1");
    let kept = rejected(folder.path());
    assert!(kept.len() == 1 && kept[0].0 == 1000 && kept[0].1.starts_with("400: "), "{kept:?}");
    let client = crate::egress::HttpClient::new(&Default::default(), None, Duration::from_secs(30), 1 << 20);
    let get = |path: &str| {
        let request = ::http::Request::get(format!("{url}/{path}")).body(http_body_util::Full::default()).unwrap();
        client.send(request)
    };
    get("logs-bartizan-test/_refresh").await.unwrap();
    let answer = get("logs-bartizan-test/_count").await.unwrap();
    let counted: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(counted["count"], 752, "{counted}");
}
