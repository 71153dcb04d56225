//! Elasticsearch and OpenSearch: `_bulk` into a data stream.
//!
//! Data streams take `create` alone. Its `_id` is `event.id`, so a record that was delivered before is answered 409. Nothing is
//! doubled, except what is delivered again after a rollover: an `_id` is unique within one backing index.

use std::io;

use bytes::Bytes;

use super::super::config::ElasticsearchConfig;
use super::batches::{Batches, Outcome, Trouble, Verdict};
use super::bulk_answer::{BulkAnswer, Created, Item, Said};
use super::delivery::{Delivery, Failure};
use super::lines::{count, event_id, lines, trimmed};
use super::post::{Advice, PATIENCE, Post, SERVER_PATIENCE, unsuccessful};
use super::rejected::Rejected;
use crate::egress::{Answer, NoAnswer};

/// The parts of the response that are needed.
const FILTER: &str = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,\
                      items.*.failure_store";

/// Most bytes of the response for one record; there is some room for all of them together beside that.
const ANSWER_OF_RECORD: usize = 4 << 10;

/// A data stream.
pub(in crate::audit) struct Elasticsearch {
    post: Post,
    batches: Batches,
    /// For an operator whose credentials lack a privilege.
    privileges: String,
    max_batch: usize,
}

/// Types of errors that are about what is in one record.
const CONTENT: [&str; 3] =
    ["document_parsing_exception", "mapper_parsing_exception", "strict_dynamic_mapping_exception"];

impl Elasticsearch {
    pub(super) fn new(config: &ElasticsearchConfig) -> io::Result<Self> {
        let endpoint = &config.endpoint;
        let uri = format!("{}/{}/_bulk?{FILTER}", endpoint.base(), config.data_stream);
        let stream = &config.data_stream;
        Ok(Self {
            post: Post::new(endpoint, &uri, "application/x-ndjson", "application/json")?,
            batches: Batches::new(Rejected::at(endpoint.rejected.clone()), endpoint.max_batch),
            privileges: format!(
                "give its user or API key the privilege `create_doc` on `{stream}`, and `auto_configure` if nobody has created it"
            ),
            max_batch: endpoint.max_batch,
        })
    }

    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    pub(super) async fn deliver(&mut self, batch: Bytes) -> Delivery {
        let Self { post, batches, privileges, .. } = self;
        batches.deliver(batch, async |part| bulk(post, privileges, &part).await).await
    }
}

async fn bulk(post: &Post, privileges: &str, part: &[u8]) -> Verdict {
    let records = usize::try_from(count(part)).unwrap_or(usize::MAX);
    let answer = match post.send(actions(part), records.saturating_mul(ANSWER_OF_RECORD)).await {
        Ok(answer) => answer,
        // The records were taken. The answer for half of them is shorter, and says that they are there already.
        Err(NoAnswer { is_too_large: true, .. }) if records > 1 => return Verdict::TooLarge,
        // What is said of one record alone will not be less the next time.
        Err(NoAnswer { is_too_large: true, why, .. }) => {
            return Verdict::Again(Trouble { failure: Failure::new(why), patience: Some(PATIENCE) });
        }
        Err(error) => return Verdict::Again(Failure::new(error.why).into()),
    };
    if answer.status.is_success() {
        return items(records, &answer, privileges);
    }
    let credentials = "check `api_key`, or `username` and `password`, of this sink";
    let target = "check `url` and `data_stream` of this sink";
    unsuccessful(&answer, &Advice { credentials, privileges, target })
}

/// What became of each record.
fn items(records: usize, answer: &Answer, privileges: &str) -> Verdict {
    let BulkAnswer { items, count } = match BulkAnswer::read(&answer.body, records) {
        Ok(answer) => answer,
        Err(error) => {
            let why = format!("this is no response of `_bulk`: {error}; check `url` of this sink");
            return Verdict::Again(Failure::lasting(why).into());
        }
    };
    if count != records {
        let why = format!("the response has {count} items for {records} records");
        return Verdict::Again(Failure::new(why).into());
    }
    Verdict::Each(items.into_iter().map(|Item { create }| outcome(&create, privileges)).collect())
}

/// What became of a record. A status alone does not tell whether the record is the reason.
fn outcome(created: &Created, privileges: &str) -> Outcome {
    let Created { status, error, failure_store } = created;
    let why = words(*status, error);
    let again = |failure, patience| Outcome::Again(Trouble { failure, patience });
    match status {
        200..=299 if *failure_store => Outcome::Misplaced("it is in the failure store of the data stream".to_owned()),
        // 409: it was delivered before.
        200..=299 | 409 => Outcome::Taken,
        400 if error.kind.as_deref().is_some_and(|kind| CONTENT.contains(&kind)) => Outcome::Refused(why),
        401 | 403 => again(Failure::lasting(format!("{why}; {privileges}")), None),
        404 => again(Failure::lasting(format!("{why}; check `data_stream` of this sink")), None),
        408 | 429 | 503 => again(Failure::new(why), None),
        400..=499 => again(Failure::lasting(format!("{why}; check the data stream and its template")), Some(PATIENCE)),
        _ => again(Failure::new(why), Some(SERVER_PATIENCE)),
    }
}

/// The body of a request: an action before each record.
fn actions(part: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(part.len() + part.len() / 8 + 64);
    for line in lines(part) {
        match event_id(line) {
            Some(id) => {
                body.extend_from_slice(b"{\"create\":{\"_id\":\"");
                body.extend_from_slice(id.as_bytes());
                body.extend_from_slice(b"\"}}\n");
            }
            // The cluster chooses an id.
            None => body.extend_from_slice(b"{\"create\":{}}\n"),
        }
        body.extend_from_slice(trimmed(line));
        body.push(b'\n');
    }
    body
}

/// `400: mapper_parsing_exception: failed to parse`.
fn words(status: u16, error: &Said) -> String {
    let mut words = status.to_string();
    for word in [&error.text, &error.kind, &error.reason].into_iter().flatten() {
        words.push_str(": ");
        words.push_str(word);
    }
    words
}
