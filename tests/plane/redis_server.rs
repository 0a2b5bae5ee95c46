//! A Redis server on a free port of the loopback, for what replicas of the gateway share.

use crate::harness::until;
use std::process::{Child, Command, Stdio};

/// A Redis server of the test's own.
pub struct Redis {
    child: Child,
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--requirepass", "open"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed; tests/packages installs it");
        until("Redis", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { child, port, _folder: folder }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
