//! What an upstream sends: heads, bodies, trailers. Whatever comes, it is a response or refused, however its bytes are split,
//! and its body is no larger than what was sent. The first byte decides about the method of the request.
#![no_main]

use bartizan::rehearsal::parsers;
use http::Method;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};

fuzz_target!(|input: &[u8]| {
    let Some((first, sent)) = input.split_first() else { return };
    let method = if *first == b'H' { Method::HEAD } else { Method::GET };
    let read = |piece| parsers::response(sent, piece, &method);
    let whole = bounded(Bounds::USUAL, sent.len(), || read(sent.len()));
    if let Some((status, fields, size)) = whole {
        assert!((200..1000).contains(&status) && fields <= sent.len() && size <= sent.len());
        assert!(method != Method::HEAD || size == 0, "a body in the response to HEAD");
    }
    for piece in [1, 61] {
        assert_eq!(read(piece), whole, "in pieces of {piece}");
    }
});
