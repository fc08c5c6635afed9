//! Helpers for HTTP proxies that act on the answers of agents (feature `http`).
//!
//! A request goes through these steps. Each helper can be used without the others.
//!
//! 1. Send one event to several agents at once with [`ask_together`]. It returns the first decision
//!    against the request, or the [`Changes`] of all agents, in the order of the agents.
//! 2. If an agent decided against the request, answer the client with [`Denial::to_http`]. If a
//!    call failed, answer with the status that [`status_of`] returns for the error.
//! 3. Apply header changes with [`apply_header_ops`], to an `http::HeaderMap` or to any
//!    [`HeaderTarget`].
//! 4. Keep body chunks in a [`HeldBody`] while agents ask for more of the body. Replace or drop
//!    chunks as the agents ask, then release the body.
//!
//! ```no_run
//! # async fn example(
//! #     waf: &tollgate::Agent,
//! #     auth: &tollgate::Agent,
//! #     head: tollgate::RequestHeadersEvent,
//! #     headers: &mut http::HeaderMap,
//! # ) -> Option<http::Response<tollgate::Bytes>> {
//! use tollgate::proxy::{self, Verdict};
//!
//! let asked = async {
//!     let mut exchanges = [waf.exchange("request-1")?, auth.exchange("request-1")?];
//!     proxy::ask_together(&mut exchanges, &head).await
//! };
//! match asked.await {
//!     Ok(Verdict::Allow(changes)) => {
//!         match proxy::apply_header_ops(headers, &changes.request_headers) {
//!             Ok(()) => None,
//!             Err(_) => Some(proxy::plain_answer(http::StatusCode::BAD_GATEWAY)),
//!         }
//!     }
//!     Ok(Verdict::Deny(denial)) => Some(denial.to_http()),
//!     Err(error) => Some(proxy::plain_answer(proxy::status_of(&error))),
//! }
//! # }
//! ```

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
mod rejection;
mod transaction;
mod verdict;

pub use answer::{answer_of, plain_answer, status_of};
pub use body::{BodyError, HeldBody};
pub use body_flow::Message;
pub use chain::{
    AgentChain, AgentRole, BodyMode, ChainAgent, ChainConfig, CodingMode, WebSocketMode,
};
pub use client::ClientInfo;
pub use coding::CodingError;
pub use head::{BadRequest, PathForm, RequestHead, is_websocket};
pub use header_ops::{HeaderOpError, HeaderTarget, HeadersFull, apply_header_ops};
pub use rejection::Rejection;
pub use transaction::{PassedChunk, Transaction};
pub use verdict::{Changes, Denial, Verdict, ask_together};
