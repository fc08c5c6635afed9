//! The layer and the service that it makes.

use crate::answer::BoxError;
use crate::call::{self, Outcome};
use crate::future::{FuturePool, ResponseFuture};
use crate::request_body::RequestBody;
use crate::response_body::ResponseBody;
use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tollgate::proxy::{AgentChain, ClientInfo};
use tower_layer::Layer;
use tower_service::Service;

/// Other side of the client's connection, in the extensions of a request.
///
/// Servers put it there for each request; see also [`AgentLayer::peer_from`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Peer {
    /// Address of the other side; `None` on a Unix socket.
    pub address: Option<SocketAddr>,
    /// Client address that a load balancer sent by the PROXY protocol.
    pub proxied: Option<SocketAddr>,
}

impl Peer {
    /// Creates a peer with this address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address: Some(address),
            proxied: None,
        }
    }

    /// Sets the client address that a load balancer sent by the PROXY protocol.
    #[must_use]
    pub fn proxied(mut self, address: Option<SocketAddr>) -> Self {
        self.proxied = address;
        self
    }
}

/// Layer that asks the agents of a chain about each request. The [crate](crate) describes it.
#[derive(Debug, Clone)]
pub struct AgentLayer {
    settings: Arc<Settings>,
}

/// Settings that all services of a layer share.
pub(crate) struct Settings {
    pub(crate) chain: AgentChain,
    peer: fn(&Extensions) -> Option<Peer>,
}

impl AgentLayer {
    /// Creates a layer that asks these agents.
    pub fn new(chain: AgentChain) -> Self {
        let settings = Arc::new(Settings {
            chain,
            peer: |extensions| extensions.get().copied(),
        });
        Self { settings }
    }

    /// Sets how the other side of the connection is found in the extensions of a request. By
    /// default it is a [`Peer`] there.
    ///
    /// ```
    /// # #[derive(Clone)]
    /// # struct ConnectInfo<T>(T);
    /// # fn example(layer: tollgate_tower::AgentLayer) -> tollgate_tower::AgentLayer {
    /// use std::net::SocketAddr;
    /// use tollgate_tower::Peer;
    ///
    /// // With axum, whose `into_make_service_with_connect_info` adds `ConnectInfo`.
    /// layer.peer_from(|extensions| {
    ///     let info = extensions.get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(Peer::new(info.0))
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn peer_from(self, peer: fn(&Extensions) -> Option<Peer>) -> Self {
        let chain = self.settings.chain.clone();
        Self {
            settings: Arc::new(Settings { chain, peer }),
        }
    }
}

impl Settings {
    pub(crate) fn client(&self, extensions: &Extensions) -> ClientInfo<'static> {
        let peer = (self.peer)(extensions).unwrap_or_default();
        ClientInfo::new(peer.address).proxied(peer.proxied)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AgentLayer {
    type Service = AgentService<S>;

    fn layer(&self, inner: S) -> AgentService<S> {
        AgentService {
            inner,
            settings: Arc::clone(&self.settings),
            futures: FuturePool::default(),
        }
    }
}

/// Service that asks agents about each request before and while another service handles it.
#[derive(Debug, Clone)]
pub struct AgentService<S> {
    inner: S,
    settings: Arc<Settings>,
    futures: FuturePool,
}

impl<S, B, R> Service<Request<B>> for AgentService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<Outcome<R, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that is ready handles the request; its clone may not be ready yet.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let settings = Arc::clone(&self.settings);
        self.futures.start(call::handle(settings, inner, request))
    }
}
