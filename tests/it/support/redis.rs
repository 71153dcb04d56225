//! Real Redis servers: alone, in pairs, watched by a Sentinel, and in a cluster.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{eventually, has, skipped};

/// A Redis server, or a Sentinel, on a port of its own. Dropping it kills it.
pub struct Server {
    pub port: u16,
    child: Child,
    _folder: TempDir,
}

impl Server {
    /// Starts one with this configuration, or returns `None` where there is no Redis.
    pub fn start(configuration: &str, arguments: &[&str]) -> Option<Self> {
        if !has("redis-server") || !has("redis-cli") {
            skipped("there is no redis-server or redis-cli");
            return None;
        }
        // Somebody else may take the port before the server does: then another one.
        loop {
            let folder = TempDir::new().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let file = folder.path().join("redis.conf");
            std::fs::write(
                &file,
                format!("port {port}\nbind 127.0.0.1\ndir {}\n{configuration}\n", folder.path().display()),
            )
            .unwrap();
            let mut command = Command::new("redis-server");
            let mut child = command.arg(&file).args(arguments).stdout(Stdio::null()).spawn().unwrap();
            let up = eventually("redis takes connections, or ends", || match child.try_wait().unwrap() {
                Some(_) => Some(false),
                None => TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true),
            });
            if up {
                return Some(Self { port, child, _folder: folder });
            }
        }
    }

    /// A primary, and a replica that follows it for as long as the primary lets it.
    pub fn pair() -> Option<(Self, Self)> {
        let primary = Self::start("save \"\"\nrepl-diskless-sync-delay 0\nuser replica on >secret allcommands", &[])?;
        let replica = format!("save \"\"\nmasteruser replica\nmasterauth secret\nreplicaof 127.0.0.1 {}", primary.port);
        let replica = Self::start(&replica, &[])?;
        eventually("the replica follows", || {
            replica.asks("INFO replication").contains("master_link_status:up").then_some(())
        });
        Some((primary, replica))
    }

    /// A primary named `main`, a replica that follows it, and a Sentinel that promotes the replica when the primary is gone.
    pub fn watched() -> Option<(Self, Self, Self)> {
        let (primary, replica) = Self::pair()?;
        let watches = format!(
            "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 10000",
            primary.port
        );
        let sentinel = Self::start(&watches, &["--sentinel"])?;
        let knows = || sentinel.asks("SENTINEL REPLICAS main").contains(&replica.port.to_string()).then_some(());
        eventually("sentinel knows the replica", knows);
        Some((primary, replica, sentinel))
    }

    /// A cluster of three primaries, each with a replica.
    pub fn cluster() -> Option<Vec<Self>> {
        let configuration = "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-node-timeout 1000\nsave \"\"";
        let servers: Vec<Self> = (0..6).map(|_| Self::start(configuration, &[])).collect::<Option<_>>()?;
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create", "--cluster-replicas", "1", "--cluster-yes"]);
        let output = create.args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port))).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        for server in &servers {
            let whole = || server.asks("CLUSTER INFO").contains("cluster_state:ok").then_some(());
            eventually("the cluster is whole", whole);
            let linked = || server.asks("INFO replication");
            let linked =
                || (linked().contains("role:master") || linked().contains("master_link_status:up")).then_some(());
            eventually("replicas follow", linked);
        }
        Some(servers)
    }

    /// Sends a command with `redis-cli`, and returns what it prints.
    pub fn asks(&self, command: &str) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(command.split(' ')).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Loses its replica: what is changed from now on is on this server alone.
    pub fn loses(&self, replica: &Self) {
        self.asks("ACL DELUSER replica");
        eventually("the replica is cut off", || {
            replica.asks("INFO replication").contains("master_link_status:down").then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
