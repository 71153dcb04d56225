//! The PROXY protocol, versions 1 and 2: what a trusted proxy says of a connection before its first byte, so that a proxy that does
//! not read HTTP can still say who the client is.
//!
//! The source is "The PROXY protocol" of HAProxy (proxy-protocol.txt, revision of 2020/03/05). It is read strictly, and no byte
//! after it: what follows is the client's.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How version 2 begins (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// How version 1 begins (§2.1).
const START: &[u8] = b"PROXY ";
/// The longest header of version 1, with its CRLF (§2.1).
const LINE_LIMIT: usize = 107;
/// The addresses and ports of TCP over IPv4 and IPv6 in version 2 (§2.2).
const IPV4_SIZE: usize = 12;
const IPV6_SIZE: usize = 36;

/// What a header says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The proxy itself opened it, for a health check, or does not know the client.
    Proxy,
    /// It was opened for this client.
    Client(SocketAddr),
}

/// Reads the header of a connection.
///
/// # Errors
/// It is malformed, or the connection ends. There is no deadline here.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Source> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE { read_binary(stream).await } else { read_line(stream, start).await }
}

/// Reads the rest of version 1.
async fn read_line(stream: &mut TcpStream, start: [u8; SIGNATURE.len()]) -> Result<Source> {
    if !start.starts_with(START) || start.contains(&b'\n') {
        return Err(malformed());
    }
    let mut line = [0; LINE_LIMIT];
    let mut length = start.len();
    line.get_mut(..length).ok_or_else(malformed)?.copy_from_slice(&start);
    loop {
        let room = line.get_mut(length..).filter(|room| !room.is_empty()).ok_or_else(malformed)?;
        let seen = stream.peek(room).await?;
        let end = room.iter().take(seen).position(|byte| *byte == b'\n');
        let taken = end.map_or(seen, |end| end + 1);
        if taken == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        stream.read_exact(room.get_mut(..taken).ok_or_else(malformed)?).await?;
        length += taken;
        if end.is_some() {
            let line = line.get(..length).and_then(|line| line.strip_suffix(b"\r\n"));
            return line.and_then(parse_line).ok_or_else(malformed);
        }
    }
}

/// Parses version 1, without its CRLF.
fn parse_line(line: &[u8]) -> Option<Source> {
    let text = str::from_utf8(line).ok().filter(|text| text.is_ascii())?;
    let mut words = text.split(' ');
    if words.next()? != "PROXY" {
        return None;
    }
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Source::Proxy);
    }
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, _) = (port(words.next()?)?, port(words.next()?)?);
    let address = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination)?.into(),
        "TCP6" => both::<Ipv6Addr>(source, destination)?.into(),
        _ => return None,
    };
    if words.next().is_some() { None } else { Some(Source::Client(SocketAddr::new(address, source_port))) }
}

/// The first of two addresses of the same family.
fn both<A: FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok()?;
    source.parse().ok()
}

/// A port in digits alone, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Reads the rest of version 2.
async fn read_binary(stream: &mut TcpStream) -> Result<Source> {
    let [command, family, high, low] = {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        rest
    };
    let mut left = usize::from(u16::from_be_bytes([high, low]));
    let mut addresses = [0; IPV6_SIZE];
    let size = address_size(family).filter(|size| *size <= left).ok_or_else(malformed)?;
    let addresses = addresses.get_mut(..size).ok_or_else(malformed)?;
    stream.read_exact(addresses).await?;
    left -= size;
    let source = parse_binary(command, family, addresses).ok_or_else(malformed)?;
    // What else it says: extensions, which are not read.
    let mut skipped = [0; 512];
    while left > 0 {
        let piece = skipped.get_mut(..left.min(512)).ok_or_else(malformed)?;
        stream.read_exact(piece).await?;
        left -= piece.len();
    }
    Ok(source)
}

/// How many bytes of addresses a family has; `None` if it is not one of a TCP connection.
fn address_size(family: u8) -> Option<usize> {
    match family {
        0x11 => Some(IPV4_SIZE),
        0x21 => Some(IPV6_SIZE),
        // Unspecified, and a Unix socket, whose paths are skipped.
        0x00 | 0x31 => Some(0),
        _ => None,
    }
}

fn parse_binary(command: u8, family: u8, addresses: &[u8]) -> Option<Source> {
    let source = match (family, addresses) {
        (0x11, [a, b, c, d, _, _, _, _, high, low, ..]) => {
            SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*high, *low]))
        }
        (0x21, addresses) => {
            let octets: [u8; 16] = addresses.get(..16)?.try_into().ok()?;
            let port: [u8; 2] = addresses.get(32..34)?.try_into().ok()?;
            SocketAddr::new(Ipv6Addr::from(octets).into(), u16::from_be_bytes(port))
        }
        _ => return matches!(command, 0x20 | 0x21).then_some(Source::Proxy),
    };
    match command {
        // LOCAL: the addresses mean nothing.
        0x20 => Some(Source::Proxy),
        0x21 => Some(Source::Client(source)),
        _ => None,
    }
}

fn malformed() -> Error {
    ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn client(address: &str) -> Option<Source> {
        Some(Source::Client(address.parse().unwrap()))
    }

    #[test]
    fn version_1_is_read_strictly() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 10.0.0.1 56324 443", client("192.0.2.1:56324")),
            ("PROXY TCP6 2001:db8::1 ::1 1 443", client("[2001:db8::1]:1")),
            ("PROXY UNKNOWN", Some(Source::Proxy)),
            ("PROXY UNKNOWN ffff:f...f:ffff whatever", Some(Source::Proxy)),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 56324 443 ", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 56324", None),
            ("PROXY TCP4  192.0.2.1 10.0.0.1 56324 443", None),
            ("PROXY TCP4 192.0.2.1 ::1 56324 443", None),
            ("PROXY TCP4 2001:db8::1 ::1 56324 443", None),
            ("PROXY TCP6 192.0.2.1 10.0.0.1 56324 443", None),
            ("PROXY TCP4 192.0.2.01 10.0.0.1 56324 443", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 +1 443", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 01 443", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 65536 443", None),
            ("PROXY TCP5 192.0.2.1 10.0.0.1 1 443", None),
            ("PROXY UDP4 192.0.2.1 10.0.0.1 1 443", None),
            ("proxy TCP4 192.0.2.1 10.0.0.1 1 443", None),
            ("PROXY", None),
            ("", None),
        ] {
            assert_eq!(parse_line(line.as_bytes()), expected, "{line}");
        }
    }

    /// Version 2: command, family, and what follows.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 4, 1, 187];

    /// Reads a header from a socket, and what follows it.
    async fn sent(bytes: &[u8]) -> (Option<Source>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        peer.write_all(bytes).await.unwrap();
        drop(peer);
        let read = read(&mut stream).await.ok();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        (read, rest)
    }

    #[tokio::test]
    async fn nothing_after_the_header_is_taken() {
        let mut v6 = [0; IPV6_SIZE];
        v6[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&[0, 7]);
        let extended = [&V4[..], &[4; 3000]].concat();
        let line = "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".as_bytes().to_vec();
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_LIMIT - 16)).into_bytes();
        let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_LIMIT - 15)).into_bytes();
        for (header, expected) in [
            (line, client("192.0.2.1:56324")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Some(Source::Proxy)),
            (longest, Some(Source::Proxy)),
            (longer, None),
            (b"PROXY UNKNOWN\n".to_vec(), None),
            (binary(0x21, 0x11, &V4), client("192.0.2.1:56324")),
            (binary(0x21, 0x11, &extended), client("192.0.2.1:56324")),
            (binary(0x21, 0x21, &v6), client("[2001:db8::1]:7")),
            (binary(0x20, 0x11, &V4), Some(Source::Proxy)),
            (binary(0x20, 0x00, &[]), Some(Source::Proxy)),
            (binary(0x21, 0x00, &[1, 2, 3]), Some(Source::Proxy)),
            (binary(0x21, 0x31, &[0; 216]), Some(Source::Proxy)),
            (binary(0x21, 0x11, &V4[..11]), None),
            (binary(0x21, 0x12, &V4), None),
            (binary(0x22, 0x11, &V4), None),
            (binary(0x11, 0x11, &V4), None),
            (b"GET / HTTP/1.1\r\n".to_vec(), None),
            (b"PROXY".to_vec(), None),
        ] {
            let (read, rest) = sent(&[&header[..], b"GET / HTTP/1.1\r\n"].concat()).await;
            assert_eq!(read, expected, "{header:?}");
            if expected.is_some() {
                assert_eq!(rest, b"GET / HTTP/1.1\r\n", "{header:?}");
            }
        }
        // It ends before it is whole.
        for header in [&b"PROXY TCP4 192.0.2.1"[..], &binary(0x21, 0x11, &V4)[..20]] {
            assert_eq!(sent(header).await.0, None, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "PROXY (TCP4|TCP6|UNKNOWN|[A-Z0-9]{0,8})[ 0-9a-f.:+]{0,80}") {
            let _ = parse_line(line.as_bytes());
        }

        #[test]
        fn any_bytes_are_read(command: u8, family: u8, addresses in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_binary(command, family, &addresses);
        }
    }
}
