//! Both ends of a WebSocket (RFC 6455), as little as tests need.

use std::io;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;

use super::client::Client;
use super::upstream::{Builder, Call, upstream};
use super::wire::{Connection, Head};

/// The key of every handshake here.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;

/// An upstream that switches to WebSocket, echoes messages, and closes when it is told `close`.
pub fn sockets() -> Builder {
    upstream().does(|call| {
        if call.head.header("upgrade").is_none() {
            return call.answer(200, &[], "a page");
        }
        switch(call, &accept(call.head.header("sec-websocket-key").unwrap()))?;
        while let Some((opcode, payload)) = receive(call.connection)? {
            if opcode == CLOSE || payload == b"close" {
                call.send(frame(CLOSE, &1000_u16.to_be_bytes(), false))?;
                break;
            }
            call.send(frame(opcode, &payload, false))?;
        }
        call.close();
        Ok(())
    })
}

/// Answers 101, with the first message in the same write. The length is one that no client may see (RFC 9110 §8.6).
pub fn switch(call: &mut Call<'_>, accept: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: Upgrade\r\ncontent-length: 0\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    call.send([head.as_bytes(), &frame(TEXT, b"welcome", false)].concat())
}

/// The answer to a key (RFC 6455 §4.2.2).
pub fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// A frame of up to 64 KiB; `masked`, as clients send it.
pub fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mask = if masked { 0x80 } else { 0 };
    let mut frame = match u8::try_from(length) {
        Ok(length) if length < 126 => vec![0x80 | opcode, length | mask],
        _ => [&[0x80 | opcode, 126 | mask], &length.to_be_bytes()[..]].concat(),
    };
    // Masked with zeros, the payload stays readable.
    frame.extend_from_slice(if masked { &[0; 4] } else { &[] });
    frame.extend_from_slice(payload);
    frame
}

/// The next frame: its opcode and its payload; `None` when the other end has closed.
pub fn receive(connection: &mut Connection) -> io::Result<Option<(u8, Vec<u8>)>> {
    let Some(first) = connection.byte()? else { return Ok(None) };
    let second = connection.exactly(1)?[0];
    let length = match second & 0x7F {
        126 => u16::from_be_bytes(connection.exactly(2)?.try_into().unwrap()).into(),
        127 => u64::from_be_bytes(connection.exactly(8)?.try_into().unwrap()),
        short => u64::from(short),
    };
    if second & 0x80 != 0 {
        assert_eq!(connection.exactly(4)?, [0; 4]);
    }
    Ok(Some((first & 0x0F, connection.exactly(usize::try_from(length).unwrap())?)))
}

/// Asks for a WebSocket, with these further fields. Returns the head of the answer.
#[track_caller]
pub fn open(client: &mut Client, path: &str, fields: &str) -> Head {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: {KEY}\r\n{fields}\r\n"
    );
    client.raw(request, 1).head()
}

/// Sends a message.
pub fn says(client: &mut Client, text: &str) {
    client.more(frame(TEXT, text.as_bytes(), true));
}

/// The next message.
#[track_caller]
pub fn hears(client: &mut Client) -> String {
    let (opcode, payload) = receive(client.connection()).unwrap().expect("a message, and not the end");
    assert_eq!(opcode, TEXT, "{payload:?}");
    String::from_utf8(payload).unwrap()
}

/// Waits for the proxy's Close frame, and the end of the connection. Returns the code and the reason.
#[track_caller]
pub fn closed(client: &mut Client) -> (u16, String) {
    let (opcode, payload) = receive(client.connection()).unwrap().expect("a Close frame");
    assert_eq!(opcode, CLOSE, "{payload:?}");
    client.closes();
    (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].to_vec()).unwrap())
}
