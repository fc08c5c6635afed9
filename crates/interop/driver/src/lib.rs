//! Puts the same load on different engines and measures all of them in the same way.
//!
//! An engine is a [`Subject`]: it can serve an agent that allows everything, and make callers that put
//! requests to it. A program hands its subject to [`run`], which does what the command line says ([`Role`]):
//! measure, with the agent in the same process or in another one, or be that other one.
//!
//! What is measured goes to stdout as JSON ([`Report`]). Heap allocations are counted where the program's
//! allocator is [`CountingAlloc`].

mod agent;
mod load;
mod place;
mod report;
mod role;
mod subject;
mod tally;
pub mod traffic;
mod usage;

pub use place::{Place, reserve_port};
pub use report::{Latencies, PerRequest, Report};
pub use role::{MeasureArgs, Processes, Role, ServeArgs, run, runtime};
pub use subject::{CONNECTIONS, Caller, Proxy, Subject};
pub use tollgate_counting_alloc::CountingAlloc;
pub use traffic::Traffic;
