//! Why requests are refused whose heads were not received whole, in HTTP/1 and in HTTP/2.

use crate::refusal::{Reason, Refusal, Stage};

/// Why a request is refused whose head was not received in time.
pub(super) fn too_slow() -> Refusal {
    Refusal::new(
        Stage::Request,
        Reason::RequestTimeout,
        "the request's headers were not received in time; send them sooner",
    )
}

/// Why a request is refused whose head was being received when the client closed the connection.
pub(super) fn cut_short() -> Refusal {
    Refusal::new(Stage::Request, Reason::MalformedRequest, "the connection was closed within the request's headers")
}

/// Why a request is refused whose head was being received when the place of its connection was needed.
pub(super) fn evicted() -> Refusal {
    Refusal::new(Stage::Request, Reason::Overloaded, "too many connections are open; try again later")
}
