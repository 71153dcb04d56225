//! A proxy that opens tunnels (CONNECT) to ports of this machine, whatever the host, and remembers what it was asked.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::DEADLINE;

/// A proxy for CONNECT alone.
pub struct ForwardProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

/// A proxy that answers this before it opens a tunnel; anything but 200 opens none.
pub fn forward_proxy(answer: &'static str) -> ForwardProxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    thread::spawn(move || {
        for client in listener.incoming() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || serve(client?, answer, &seen));
        }
    });
    ForwardProxy { address, heads }
}

impl ForwardProxy {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of all requests, in order.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, answer: &str, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    client.set_read_timeout(Some(DEADLINE))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let port = head.split(' ').nth(1).and_then(|place| place.rsplit(':').next()?.parse::<u16>().ok());
    seen.lock().unwrap().push(head);
    client.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes())?;
    if !answer.starts_with("200") {
        return Ok(());
    }
    let mut server = TcpStream::connect(("127.0.0.1", port.ok_or(io::ErrorKind::InvalidData)?))?;
    let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut up, &mut down);
        let _ = down.shutdown(Shutdown::Write);
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Write)
}
