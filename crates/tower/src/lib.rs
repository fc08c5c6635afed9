//! A tower [`Layer`](tower_layer::Layer) that asks agents about the requests and responses of any
//! HTTP service: axum, tonic, hyper, or a reverse proxy.
//!
//! [`AgentLayer`] wraps a `Service<http::Request<B>>`. Each request goes through a
//! [`Transaction`](tollgate::proxy::Transaction): agents see its head before the service does, and
//! the bodies chunk by chunk, as they subscribe to them. A denied request is answered by the layer.
//!
//! ```
//! use http_body_util::Full;
//! use tollgate::{AgentConfig, AgentPool, Bytes, proxy::{AgentChain, ChainAgent}};
//! use tollgate_tower::AgentLayer;
//! use tower::{ServiceBuilder, service_fn};
//!
//! # async fn example() -> Result<(), tollgate::AddError> {
//! let pool = AgentPool::new();
//! let waf = pool.add(AgentConfig::new("waf", "/run/waf.sock")).await?;
//! let chain = AgentChain::new(&pool).agent(ChainAgent::new(waf));
//!
//! let service = ServiceBuilder::new()
//!     .layer(AgentLayer::new(chain))
//!     .service(service_fn(|_request| async {
//!         Ok::<_, std::convert::Infallible>(http::Response::new(Full::from("hello\n")))
//!     }));
//! # fn is_service<S: tower::Service<http::Request<Full<Bytes>>>>(_: &S) {}
//! # is_service(&service);
//! # Ok(())
//! # }
//! ```
//!
//! # What the layer does
//!
//! * **Heads.** Agents and the service get the request in one form, whichever version of HTTP the
//!   client speaks. The client's address is that of [`Peer`] in the request's extensions, or what
//!   [`AgentLayer::peer_from`] finds there.
//! * **Bodies.** Chunks are gathered up to the size that agents prefer, and several are on their
//!   way to agents at once. A slow agent or a slow receiver stops the sender. Trailers follow
//!   when the body was judged.
//! * **WebSocket.** If an agent subscribes to frames, each frame in both directions is judged.
//! * **Cancellation.** If the request's future or the response's body is dropped, agents are told
//!   that nobody waits for them. A server that knows more than hyper of its connections tells the
//!   layer by [`Disconnect`].
//!
//! The layer must run within a tokio runtime.

#![warn(missing_docs)]

mod answer;
mod bounds;
mod call;
mod disconnect;
mod exchange;
mod future;
mod layer;
mod pipe;
mod request_body;
mod response_body;
mod source;
mod upgrade;
mod websocket;

pub use answer::BoxError;
pub use disconnect::Disconnect;
pub use future::ResponseFuture;
pub use layer::{AgentLayer, AgentService, Peer};
pub use request_body::RequestBody;
pub use response_body::ResponseBody;
