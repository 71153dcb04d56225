//! A Redis server for tests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{RedisServers, Topology};

/// A server of its own, until it is dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// Starts one, or returns `None` where there is no Redis.
    pub(crate) fn start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.path().join("redis.sock"))
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: there is no redis-server here");
            return None;
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("eady to accept connections")));
        Some(Self { child, folder })
    }

    /// It, as a policy names it.
    pub(crate) fn servers(&self) -> RedisServers {
        let url = format!("redis+unix://{}", self.folder.path().join("redis.sock").display());
        RedisServers { topology: Topology::Single(url.into()), ca: None }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
