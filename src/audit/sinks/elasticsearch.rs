//! Elasticsearch and OpenSearch: `_bulk` into a data stream.
//!
//! Data streams take `create` alone. Its `_id` is `event.id`, so a record that was delivered before is answered 409, and
//! nothing is doubled.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::super::config::ElasticsearchConfig;
use super::batches::{self, Verdict};
use super::delivery::{Delivery, Failure};
use super::lines::{count, event_id, lines, trimmed};
use super::post::{Post, failure};
use super::rejected::Rejected;
use crate::egress::Answer;

/// The parts of the response that are needed.
const FILTER: &str = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";

/// A data stream.
pub(in crate::audit) struct Elasticsearch {
    post: Post,
    rejected: Rejected,
    data_stream: Box<str>,
    max_batch: usize,
    /// Most bytes of one request, as the cluster has shown.
    most: usize,
}

/// The response of `_bulk`.
#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<Item>,
}

/// What became of one record; the only member is the action.
#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    error: Option<Value>,
}

impl Elasticsearch {
    pub(super) fn new(config: &ElasticsearchConfig) -> io::Result<Self> {
        let endpoint = &config.endpoint;
        let uri = format!("{}/{}/_bulk?{FILTER}", endpoint.place(), config.data_stream);
        Ok(Self {
            post: Post::new(endpoint, &uri, "application/x-ndjson", "application/json")?,
            rejected: Rejected::at(endpoint.rejected.clone()),
            data_stream: config.data_stream.clone(),
            max_batch: endpoint.max_batch,
            most: endpoint.max_batch,
        })
    }

    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    pub(super) async fn deliver(&mut self, batch: Bytes) -> Delivery {
        let mut most = self.most;
        let delivery = batches::deliver(batch, &mut most, &self.rejected, async |part| self.bulk(&part).await).await;
        self.most = most;
        delivery
    }

    async fn bulk(&self, part: &Bytes) -> Verdict {
        let answer = match self.post.send(actions(part)).await {
            Ok(answer) => answer,
            Err(failure) => return Verdict::Again(failure),
        };
        match answer.status {
            status if status.is_success() => self.items(part, &answer),
            StatusCode::PAYLOAD_TOO_LARGE => Verdict::TooLarge,
            StatusCode::UNAUTHORIZED => {
                Verdict::Again(failure(&answer, Some("check `api_key`, or `username` and `password`, of this sink")))
            }
            StatusCode::FORBIDDEN => {
                let stream = &self.data_stream;
                let advice =
                    format!("give its user or API key the privileges `create_doc` and `auto_configure` on `{stream}`");
                Verdict::Again(failure(&answer, Some(&advice)))
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Verdict::Again(failure(&answer, None))
            }
            _ => Verdict::Again(failure(&answer, Some("check `url` and `data_stream` of this sink"))),
        }
    }

    /// Sorts the records by what became of them.
    fn items(&self, part: &[u8], answer: &Answer) -> Verdict {
        let items = match serde_json::from_slice::<BulkAnswer>(&answer.body) {
            Ok(BulkAnswer { items }) => items,
            Err(error) => return Verdict::Again(Failure::new(format!("this is no response of `_bulk`: {error}"))),
        };
        if items.len() as u64 != count(part) {
            let why = format!("the response has {} items for {} records", items.len(), count(part));
            return Verdict::Again(Failure::new(why));
        }
        let (mut again, mut refused, mut first) = (Vec::new(), Vec::new(), None);
        for (line, Item { create: Created { status, error } }) in lines(part).zip(items) {
            match status {
                200..=299 | 409 => {}
                // What one record says in it is refused; what all of them meet will change.
                400 | 402 | 405..=428 | 430..=499 => refused.push((line, words(status, error.as_ref()))),
                _ => {
                    again.extend_from_slice(line);
                    first.get_or_insert_with(|| words(status, error.as_ref()));
                }
            }
        }
        let rejected = refused.len() as u64;
        let kept = match refused.is_empty() {
            true => Ok(()),
            false => self.rejected.keep(refused.iter().map(|(line, why)| (*line, why.as_str()))),
        };
        match (kept, first) {
            (Err(error), _) => Verdict::Again(Failure::new(error.to_string())),
            (Ok(()), None) => Verdict::Taken { rejected },
            (Ok(()), Some(why)) => {
                let why = format!("{} of {} records: {why}", count(&again), count(part));
                Verdict::Some { again, rejected, failure: Failure::new(why) }
            }
        }
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
fn words(status: u16, error: Option<&Value>) -> String {
    let member = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    let mut words = status.to_string();
    for word in [error.and_then(Value::as_str), member("type"), member("reason")].into_iter().flatten() {
        words.push_str(": ");
        words.push_str(word);
    }
    words
}
