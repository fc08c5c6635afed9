//! Choosing and draining, tested on connections that transfer nothing. What happens over sockets is
//! tested in `tests/it`.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod choosing;
mod draining;
