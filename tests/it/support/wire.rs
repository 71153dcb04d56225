//! HTTP/1.1 as bytes on a blocking socket, read plainly: enough for a test to see exactly what was sent.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::DEADLINE;

/// A stream of either kind.
pub trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One connection, of either side.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// Read, and not yet consumed.
    buffer: Vec<u8>,
}

/// The head of a request or an answer.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Its first line.
    pub start: String,
    /// Name (as it came) and value.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header that stands at most once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.all(name);
        assert!(found.len() < 2, "{name} is there more than once: {found:?}");
        found.first().copied()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// One word of the first line.
    pub fn word(&self, position: usize) -> &str {
        self.start.split(' ').nth(position).unwrap_or_default()
    }
}

/// How far a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// A body that is being read.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    ended: bool,
    pub trailers: Vec<(String, String)>,
}

impl Body {
    /// Of a message with this head; without any framing there is `otherwise`.
    pub fn of(head: &Head, otherwise: Framing) -> Self {
        let framing = if head.header("transfer-encoding").is_some_and(|value| value == "chunked") {
            Framing::Chunked
        } else {
            head.header("content-length").map_or(otherwise, |length| Framing::Length(length.parse().unwrap()))
        };
        Self::framed(framing)
    }

    /// With this framing.
    pub fn framed(framing: Framing) -> Self {
        Self { framing, ended: framing == Framing::Length(0), trailers: Vec::new() }
    }

    /// The next bytes, as soon as there are any; `None` at the end.
    pub fn piece(&mut self, connection: &mut Connection) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        match self.framing {
            Framing::Length(left) => {
                let piece = connection.some(left)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                self.framing = Framing::Length(left - piece.len());
                self.ended = left == piece.len();
                Ok(Some(piece))
            }
            Framing::UntilClose => {
                let piece = connection.some(usize::MAX)?;
                self.ended = piece.is_none();
                Ok(piece)
            }
            Framing::Chunked => {
                let line = connection.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = usize::from_str_radix(line.split(';').next().unwrap(), 16)
                    .map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
                if size == 0 {
                    self.ended = true;
                    self.trailers = connection.fields()?;
                    return Ok(None);
                }
                let chunk = connection.exactly(size)?;
                assert_eq!(connection.line()?.as_deref(), Some(""), "a chunk ends in CRLF");
                Ok(Some(chunk))
            }
        }
    }

    /// All that is left.
    pub fn rest(&mut self, connection: &mut Connection) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece(connection)? {
            whole.extend(piece);
        }
        Ok(whole)
    }
}

impl Connection {
    /// Over a plain socket.
    pub fn plain(tcp: &TcpStream) -> Self {
        let stream = tcp.try_clone().unwrap();
        Self::over(tcp, Box::new(stream))
    }

    /// Over a stream on top of this socket.
    pub fn over(tcp: &TcpStream, stream: Box<dyn Stream>) -> Self {
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(read) => {
                    self.buffer.extend_from_slice(&piece[..read]);
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What is there, at least a byte and at most `most`; `None` at the end.
    fn some(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        if self.buffer.is_empty() && !self.fill()? {
            return Ok(None);
        }
        let take = self.buffer.len().min(most);
        Ok(Some(self.buffer.drain(..take).collect()))
    }

    /// The next byte; `None` at the end.
    pub fn byte(&mut self) -> io::Result<Option<u8>> {
        Ok(self.some(1)?.map(|bytes| bytes[0]))
    }

    pub fn exactly(&mut self, size: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < size {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..size).collect())
    }

    /// A line without its end; `None` when nothing more comes.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let text = line.strip_suffix(b"\r\n").unwrap_or(&line);
                return Ok(Some(String::from_utf8_lossy(text).into_owned()));
            }
            if !self.fill()? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("no field: {line:?}")))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// A head; `None` when the other end closed before one.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(start) = self.line()? else { return Ok(None) };
        Ok(Some(Head { start, headers: self.fields()? }))
    }

    /// Waits for the other end to close, which it must do without another byte.
    #[track_caller]
    pub fn closes(&mut self) {
        match self.some(usize::MAX) {
            Ok(None) => {}
            Ok(Some(bytes)) => panic!("more came: {:?}", String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("it did not close: {error}"),
        }
    }

    /// Waits for the other end to close, whatever still comes.
    #[track_caller]
    pub fn runs_dry(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.some(usize::MAX) {
                Ok(Some(bytes)) => all.extend(bytes),
                Ok(None) => return all,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("it did not close, after {:?}", String::from_utf8_lossy(&all))
                }
                // A reset, or TLS without its goodbye: closed all the same.
                Err(_) => return all,
            }
        }
    }
}
