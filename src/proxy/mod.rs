//! HTTP messages as events, and answers of agents as HTTP, for every proxy and server (feature
//! `http`).
//!
//! An [`AgentChain`] holds the agents that are asked about each request, and what each of them may
//! do. It begins a [`Transaction`] for each request, which brings the request into one form, asks
//! the agents about heads and bodies, and applies their changes. A [`Rejection`] says why a request
//! is not forwarded, and makes the response for the client. `tollgate-tower` does all of it for any
//! tower service.
//!
//! ```no_run
//! # use tollgate::Bytes;
//! # async fn forward(_: http::request::Parts, body: Bytes) -> http::Response<Bytes> {
//! #     http::Response::new(body)
//! # }
//! use http::{Request, Response};
//! use tollgate::proxy::{AgentChain, ClientInfo, Message, Rejection};
//!
//! /// Asks agents about a request whose body is there as a whole, and forwards it.
//! async fn handle(
//!     chain: &AgentChain,
//!     client: ClientInfo<'_>,
//!     request: Request<Bytes>,
//! ) -> Result<Response<Bytes>, Rejection> {
//!     let (mut head, mut body) = request.into_parts();
//!     let mut transaction = chain.begin();
//!     let has_body = !body.is_empty();
//!     transaction.judge_request(&mut head, client, has_body).await?;
//!     if has_body {
//!         body = transaction.judge_chunk(Message::Request, body, true).await?.data;
//!     }
//!     transaction.settle_request_head(&mut head)?;
//!
//!     let (mut head, mut body) = forward(head, body).await.into_parts();
//!     let has_body = !body.is_empty();
//!     transaction.judge_response(head.status, &mut head, has_body).await?;
//!     if has_body {
//!         body = transaction.judge_chunk(Message::Response, body, true).await?.data;
//!     }
//!     transaction.settle_response_head(&mut head, has_body)?;
//!     transaction.complete(head.status.as_u16(), None);
//!     Ok(Response::from_parts(head, body))
//! }
//! ```
//!
//! The parts can be used without the rest: [`ask_together`] asks several agents about one event,
//! [`answer_of`] and [`status_of`] make responses, [`apply_header_ops`] changes headers, and a
//! [`HeldBody`] keeps chunks until agents have decided.

mod answer;
mod ask;
#[cfg(all(feature = "__bench", feature = "codings"))]
#[path = "../../benches/internals/proxy.rs"]
pub(crate) mod bench;
mod body;
mod body_flow;
mod chain;
mod client;
mod coding;
mod content;
mod head;
mod header_ops;
mod message;
mod on_way;
mod rejection;
mod trailers;
mod transaction;
mod verdict;

pub use answer::{answer_of, plain_answer, status_of};
pub use ask::ask_together;
pub use body::{BodyError, HeldBody};
pub use chain::{
    AgentChain, AgentRole, BodyMode, ChainAgent, ChainConfig, CodingMode, WebSocketMode,
};
pub use client::ClientInfo;
pub use coding::CodingError;
pub use head::{BadRequest, PathForm, RequestHead, is_websocket};
pub use header_ops::{HeaderOpError, HeaderTarget, HeadersFull, apply_header_ops};
pub use message::Message;
pub use rejection::Rejection;
pub use trailers::remove_forbidden_trailers;
pub use transaction::{PassedChunk, Transaction};
pub use verdict::{Changes, Denial, Verdict};
