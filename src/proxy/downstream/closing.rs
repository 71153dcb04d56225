//! Ends a connection so that its last response arrives.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::activity::Ending;
use super::client::ClientConnection;
use super::worker::Worker;
use crate::proxy::http1::fields::write_line;
use crate::proxy::request::refuse_head;
use crate::proxy::stream::Stream;
use crate::refusal::Refusal;

/// How many bytes are still read from a client after its last response.
const LINGER_BYTES: u64 = 64 * 1024 * 1024;
/// How long a client that is still sending is read after its last response.
const LINGER: Duration = Duration::from_secs(30);
/// How long a client may be silent meanwhile.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// Size of a read whose bytes are discarded.
const DISCARD: usize = 16 * 1024;

/// A connection that serves no further request.
pub(super) struct Closing<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) client: &'a Rc<ClientConnection>,
}

impl Closing<'_> {
    /// Writes a final response to input that is not a valid request, and closes the connection.
    pub(super) async fn write_final_response(self, stream: &mut Stream, refusal: &Refusal) {
        let (status, fields, body) = refuse_head(self.worker, self.client, refusal);
        let mut text =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len()).into_bytes();
        for (name, value) in fields.iter() {
            write_line(&mut text, name.as_str(), value.as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(&body);
        let _ = tokio::time::timeout(LINGER_SILENCE, stream.write_all(&text)).await;
        self.close(stream).await;
    }

    /// Closes the connection so that the last response arrives. Closing a socket with unread input resets it, and the
    /// reset may overtake what was written (RFC 9112 §9.6). A client that sends a large body reads the response only after
    /// it has sent all of it, so that body is read and discarded, within bounds.
    pub(super) async fn close(&self, stream: &mut Stream) {
        let lingering = async {
            tokio::time::timeout(LINGER_SILENCE, stream.shutdown()).await.ok()?.ok()?;
            let (mut discarded, mut left) = (vec![0; DISCARD], LINGER_BYTES);
            while let Ok(Ok(read @ 1..)) = tokio::time::timeout(LINGER_SILENCE, stream.read(&mut discarded)).await {
                left = left.checked_sub(read as u64)?;
            }
            Some(())
        };
        let activity = &self.client.activity;
        let ending = async {
            if activity.ending_after(Ending::No).await == Ending::Finish {
                let _ = tokio::time::timeout(LINGER_SILENCE, activity.ending_after(Ending::Finish)).await;
            }
        };
        tokio::select! {
            _ = lingering => {}
            () = ending => {}
            () = tokio::time::sleep(LINGER) => {}
        }
    }
}
