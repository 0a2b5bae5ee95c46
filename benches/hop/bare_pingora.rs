//! The yardstick of `benches/hop`: a Pingora pass-through with one upstream and nothing else.
//!
//! It owns the cost of a hop that no code of ours can undercut. It knows nothing about bodies, models or policies:
//! `upstream_peer` is the only filter, everything else is Pingora's default. Allocator and thread count are those
//! of Signalbox, so that the difference between the two is Signalbox's own work.

use std::error::Error;
use std::net::SocketAddr;
use std::thread::available_parallelism;

use async_trait::async_trait;
use clap::Parser;
use pingora::prelude::{HttpPeer, ProxyHttp, Server, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Pingora pass-through to one plaintext upstream.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where every request goes.
    #[arg(long)]
    upstream: SocketAddr,
    /// Worker threads; the number of usable cores when absent.
    #[arg(long)]
    threads: Option<usize>,
}

struct PassThrough {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let threads = match arguments.threads {
        Some(threads) => threads,
        None => available_parallelism()?.get(),
    };
    let conf = ServerConf { threads, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, PassThrough { upstream: arguments.upstream });
    proxy.add_tcp(&arguments.listen.to_string());
    server.add_service(proxy);
    server.run_forever()
}
