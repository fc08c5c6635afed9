//! WebSocket connections whose frames agents see.
//!
//! Pingora's filters get bytes as they come, and cannot answer a frame by a close frame. So such a
//! request goes to a server in memory in place of the upstream: the layer of `tollgate-tower`,
//! which judges the head and the frames, in front of a client of the upstream.

use async_trait::async_trait;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use pingora::connectors::L4Connect;
use pingora::prelude::HttpPeer;
use pingora::protocols::l4::socket;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tollgate::proxy::AgentChain;
use tollgate_reverse_proxy::upstream::{Upstream, UpstreamBody};
use tollgate_tower::{AgentLayer, Peer, ResponseBody};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

/// Buffer of the connection in memory, in bytes.
const BUFFER: usize = 64 * 1024;

/// The agents in front of the upstream.
type Judged =
    BoxCloneSyncService<Request<Incoming>, Response<ResponseBody<UpstreamBody>>, Infallible>;

/// Opens connections to a server in memory, which judges WebSocket connections.
#[derive(Clone)]
pub(crate) struct Inspector {
    service: Judged,
    upstream: SocketAddr,
    connections: Arc<AtomicU64>,
}

impl Inspector {
    pub(crate) fn new(chain: AgentChain, upstream: SocketAddr) -> anyhow::Result<Self> {
        let client = Upstream::new(upstream)?;
        let forward = service_fn(move |request| client.clone().forward(request));
        let judged = AgentLayer::new(chain).layer(forward);
        Ok(Self {
            service: BoxCloneSyncService::new(judged),
            upstream,
            connections: Arc::default(),
        })
    }

    /// Returns a peer in place of the upstream for one request of this client.
    pub(crate) fn peer(&self, client: Option<SocketAddr>) -> HttpPeer {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        // A key of its own, so that no other request uses this connection, nor this request one
        // that leads past the agents.
        peer.group_key = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        peer.options.idle_timeout = Some(Duration::ZERO);
        peer.options.custom_l4 = Some(Arc::new(Connector {
            service: self.service.clone(),
            client,
        }));
        peer
    }
}

/// Connects a request of one client to a server in memory.
struct Connector {
    service: Judged,
    client: Option<SocketAddr>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = &self.client;
        f.debug_struct("Connector")
            .field("client", client)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, _address: &socket::SocketAddr) -> pingora::Result<Stream> {
        let (near, far) = tokio::io::duplex(BUFFER);
        let peer = self.client.map(Peer::new);
        let service = self
            .service
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                peer.map(|peer| request.extensions_mut().insert(peer));
                request
            });
        let connection = server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), TowerToHyperService::new(service))
            .with_upgrades();
        // Pingora sees how the connection ended.
        tokio::spawn(async { connection.await.ok() });
        Ok(Stream::from(VirtualSocketStream::new(Box::new(Memory(
            near,
        )))))
    }
}

/// One end of a connection in memory, as Pingora wants it.
#[derive(Debug)]
struct Memory(DuplexStream);

impl VirtualSocket for Memory {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
