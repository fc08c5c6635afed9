//! What the heap budgets share: counting allocations, holding them against a budget, and the traffic that is
//! counted.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test file uses a part of it; what fails here fails the test"
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

/// Events before anything is counted: buffers grow and slots are used for the first time.
pub const WARM_UP: u64 = 1_000;

/// Events that are counted.
pub const EVENTS: u64 = 10_000;

/// The runtimes that every budget holds on.
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

/// The default pool, without health checks in between: their pings are not what is counted.
pub fn config(encoding: Encoding) -> AgentPoolConfig {
    AgentPoolConfig {
        encodings: vec![encoding],
        health_check_interval: Duration::from_secs(3600),
        ..AgentPoolConfig::default()
    }
}

/// Tests of one row each, on both runtimes: `name: arguments` calls `hold(runtime, arguments)`.
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
