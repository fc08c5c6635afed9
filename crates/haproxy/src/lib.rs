//! Serves agents of tollgate to HAProxy.
//!
//! HAProxy asks agents about requests over SPOP 2.0, the protocol of its filter SPOE. A
//! [`SpopListener`] speaks it for a [`tollgate::AgentServer`], beside any other listener:
//!
//! ```no_run
//! # async fn example(
//! #     handler: impl tollgate::AgentHandler,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use tollgate::AgentServer;
//! use tollgate_haproxy::{SpopListener, SpopSettings};
//!
//! let endpoint = "haproxy://127.0.0.1:9001".parse()?;
//! let haproxy = SpopListener::bind(&endpoint, SpopSettings::default()).await?;
//! AgentServer::builder(handler)
//!     .listen("/run/waf.sock")
//!     .listen_on(haproxy)
//!     .serve()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! The command `tollgate config haproxy` writes a configuration of HAProxy for it, which fails
//! closed. `docs/haproxy.md` in the repository describes what SPOE can carry and the variables that
//! decisions become.
//!
//! # What HAProxy cannot do
//!
//! It shows agents at most the part of a request body that fits into its buffer, no response bodies
//! and no end of a request. A message that needs more is denied: a body of which only a part is
//! shown with status 413 if the agent subscribes to request bodies (see [`PartialBodies`]), a
//! changed body, and an agent that wants more of it, with 500.

#![warn(missing_docs)]

mod answer;
mod ask;
pub mod client;
mod listener;
mod session;
mod settings;
pub mod wire;

pub use answer::{MAX_ADDED, MAX_VARIABLE_NAME, added_kind, is_changeable, variable_name};
pub use listener::{InvalidSpopEndpoint, SpopEndpoint, SpopListener};
pub use settings::{Dialect, Needed, PartialBodies, SpopSettings};
