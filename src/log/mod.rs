//! The log. Every line of the library is written here, so that no peer can flood it.
//!
//! A line names the peer that caused it, and each peer may cause so many lines of one kind. What
//! exceeds that is counted, and the next line of that kind says how many were left out. Text of
//! peers is cut, and characters that could forge a line or reorder it on a terminal are escaped.

mod agent_lines;
mod text;
mod throttle;

pub(crate) use agent_lines::AgentLog;
pub(crate) use text::{field, message};

use crate::clock;
use std::sync::{LazyLock, Mutex, PoisonError};
use throttle::Throttle;

/// The limits of all lines of the process.
static THROTTLE: LazyLock<Mutex<Throttle>> = LazyLock::new(Mutex::default);

/// Takes a line of this kind from a peer's share. Returns the number of lines that were left out
/// before it, or `None` if this one is to be left out too.
pub(crate) fn admit(kind: &'static str, peer: &str) -> Option<u64> {
    let now = clock::now();
    // No code under the lock can panic.
    let mut throttle = THROTTLE.lock().unwrap_or_else(PoisonError::into_inner);
    throttle.admit(kind, peer, now)
}

/// Writes a line that a peer has caused, within the peer's share.
///
/// `log_line!(warn, peer, { agent, error = cause } (failures), "cannot connect to {address}")`: the
/// level, the peer's name in the throttle, text fields, numbers, and the message. The kind of the
/// line is its place in the source, or what follows `kind =`.
macro_rules! log_line {
    ($level:ident, $peer:expr, $($rest:tt)+) => {
        $crate::log::log_line!(
            kind = ::std::concat!(::std::file!(), ":", ::std::line!()),
            $level, $peer, $($rest)+
        )
    };
    (
        kind = $kind:expr, $level:ident, $peer:expr,
        { $($name:ident $(= $text:expr)?),* } $(($($number:ident),*))?, $($message:tt)+
    ) => {
        // Nothing is counted that nobody would see, so a process without a log does no work for it.
        if ::tracing::enabled!($crate::log::log_line!(@level $level))
            && let Some(left_out) = $crate::log::admit($kind, $peer)
        {
            ::tracing::$level!(
                $($name = &*$crate::log::log_line!(@text $name $(= $text)?),)*
                $($($number = $number,)*)?
                left_out = (left_out > 0).then_some(left_out),
                "{}",
                $crate::log::message(format_args!($($message)+))
            );
        }
    };
    (@level debug) => { ::tracing::Level::DEBUG };
    (@level info) => { ::tracing::Level::INFO };
    (@level warn) => { ::tracing::Level::WARN };
    (@level error) => { ::tracing::Level::ERROR };
    (@text $name:ident) => { $crate::log::field(&$name) };
    (@text $name:ident = $text:expr) => { $crate::log::field(&$text) };
}
pub(crate) use log_line;

/// Name in the throttle for lines that no single peer causes.
pub(crate) const NO_PEER: &str = "";
