//! What the windows of a stream allow (RFC 9113 §5.2).

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::piece::Piece;
use super::stream_counter::Unread;

/// Takes the next part of what a client sends on a stream. The client may send as much again.
pub(super) fn poll_part(
    receiving: &mut RecvStream,
    unread: &Unread,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, h2::Error>>> {
    let part = ready!(receiving.poll_data(cx));
    if let Some(Ok(part)) = &part
        && !part.is_empty()
    {
        unread.read();
        // It fails for more than was received only.
        let _ = receiving.flow_control().release_capacity(part.len());
    }
    Poll::Ready(part)
}

/// Waits until the client's window has room for something that there is to send. HTTP/2 is asked for one byte, because what a stream
/// has asked for is lost for the others while it waits; for the rest it asks itself.
pub(super) fn poll_room(sending: &mut SendStream<Piece>, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
    sending.reserve_capacity(1);
    while sending.capacity() == 0 {
        match ready!(sending.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            // The client has reset it.
            None => return Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }
    Poll::Ready(Ok(()))
}
