//! Puts the same load on different engines and measures them in the same way.
//!
//! An engine is a [`Subject`]: it serves an agent that allows everything, and creates callers that
//! send requests to it. A program passes its subject to [`run`], which executes the [`Role`] of the
//! command line: measure, with the agent in the same process or in another one, or serve as that
//! other process.
//!
//! The [`Report`] is printed as JSON. Heap allocations are counted if the program's allocator is
//! [`CountingAlloc`].

#![warn(missing_docs)]

mod address;
mod agent;
mod load;
mod report;
mod role;
mod subject;
mod tally;
pub mod traffic;
mod usage;

pub use address::{ListenAddress, reserve_port};
pub use report::{Latencies, PerRequest, Report};
pub use role::{MeasureArgs, Processes, Role, ServeArgs, run, runtime};
pub use subject::{CONNECTIONS, Caller, LinkCounts, Proxy, Subject};
pub use tollgate_counting_alloc::CountingAlloc;
pub use traffic::Traffic;
