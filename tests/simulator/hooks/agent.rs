//! The listener of an agent's server, for simulations.

use super::listener::{Incoming, Listener, Protocol, Socket};
use crate::transport::simulated;
use std::io;

/// A simulated listener, as a [`Listener`].
#[derive(Debug)]
pub struct Simulated<L>(pub L);

impl<L: simulated::Listener> Listener for Simulated<L> {
    async fn accept(&self) -> io::Result<Incoming> {
        match self.0.accept().await {
            Ok(stream) => Ok(Incoming(Protocol::Frames(Socket::Simulated(stream)))),
            Err(_) => std::future::pending().await,
        }
    }

    fn endpoint(&self) -> String {
        "sim:".to_owned()
    }
}
