//! Shared parts of the heap budgets: counting allocations, comparing them with a budget, and the
//! traffic that is counted.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test file uses only some of this; a panic fails the test"
)]

#[path = "../../tests/common/mod.rs"]
pub mod common;

mod agent;
mod budget;
mod record;
mod threads;
mod traffic;

pub use agent::Answers;
pub use budget::{Allocations, Alone, Breach, Budget, Counting, counted};
pub use record::{record, record_at_rest};
pub use traffic::{AGENT, HEADERS, Ids, Traffic, request};

use std::fmt;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tollgate::{AgentPoolConfig, Encoding};

/// Number of events before counting begins. They grow buffers and use slots for the first time.
pub const WARM_UP: u64 = 1_000;

/// Number of events that are counted.
pub const EVENTS: u64 = 3_000;

/// Runtimes that every budget is tested on.
#[derive(Debug, Clone, Copy)]
pub enum Flavour {
    CurrentThread,
    MultiThread,
}

impl Flavour {
    pub fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::CurrentThread => Builder::new_current_thread(),
            Self::MultiThread => Builder::new_multi_thread(),
        };
        builder.worker_threads(2).enable_all().build().unwrap()
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CurrentThread => "current-thread",
            Self::MultiThread => "multi-thread",
        })
    }
}

/// Returns the default configuration without health checks, whose pings would be counted too.
pub fn config(encoding: Encoding) -> AgentPoolConfig {
    AgentPoolConfig::default()
        .encodings(vec![encoding])
        .health_check_interval(Duration::from_secs(3600))
}

/// Generates two tests for each row, one per runtime: `name: arguments` calls
/// `hold(runtime, arguments)`.
#[macro_export]
macro_rules! on_both_runtimes {
    ($hold:ident: $($name:ident: $($argument:expr),+;)+) => {
        mod current_thread {
            use super::*;
            $(#[test] fn $name() { $hold(Flavour::CurrentThread, $($argument),+); })+
        }
        mod multi_thread {
            use super::*;
            $(#[test] fn $name() { $hold(Flavour::MultiThread, $($argument),+); })+
        }
    };
}
