//! Accepts connections of all listeners, and begins their sessions.

use super::listener::{DynListener, Protocol, Socket};
use super::other_protocol::serve_other;
use super::sessions::Sessions;
use crate::handler::AgentHandler;
use crate::log::log_line;
#[cfg(feature = "__sim")]
use crate::transport::simulated;
use crate::transport::{self, Peer, second_descriptor, split_unix_of_agent, tcp};
use std::sync::Arc;

/// Name in the log for peers of listeners that are not tollgate's.
const OTHER_PROTOCOL: &str = "other protocol";

impl<H: AgentHandler> Sessions<H> {
    /// Accepts connections of a listener, and serves each in a task of its own.
    pub(super) async fn accept(self: &Arc<Self>, listener: &dyn DynListener) {
        loop {
            let incoming = transport::accept(&self.limiter, || listener.accept()).await;
            match incoming.0 {
                Protocol::Frames(socket) => self.begin(socket).await,
                #[cfg(feature = "grpc")]
                Protocol::Grpc(socket, incoming) => {
                    super::super::grpc::begin(self, socket, incoming).await;
                }
                Protocol::Other(start) => {
                    let (handle, slot) = self.register(Peer::named(OTHER_PROTOCOL));
                    self.spawn(serve_other(Arc::clone(self), start, handle, slot));
                }
            }
        }
    }

    async fn begin(self: &Arc<Self>, socket: Socket) {
        let peer = socket.peer();
        let link = match socket {
            Socket::Unix(stream) => {
                let duplicate = async || second_descriptor(&stream);
                let second = transport::accept(&self.limiter, duplicate).await;
                split_unix_of_agent(stream, second)
            }
            Socket::Tcp(stream) => Ok(tcp::split_tcp(stream)),
            #[cfg(feature = "tls")]
            Socket::Tls(stream, acceptor) => {
                let (handle, slot) = self.register(peer);
                let sessions = Arc::clone(self);
                self.spawn(async move {
                    sessions.serve_tls(stream, &acceptor, handle, slot).await;
                });
                return;
            }
            #[cfg(feature = "__sim")]
            Socket::Simulated(stream) => Ok(simulated::link(stream)),
        };
        match link {
            Ok(link) => {
                let (handle, slot) = self.register(peer);
                let sessions = Arc::clone(self);
                self.spawn(async move {
                    let encodings = &sessions.limits.encodings;
                    sessions.serve(link, handle, slot, encodings).await;
                });
            }
            Err(error) => {
                let peer = &peer.name;
                log_line!(warn, peer, { peer, error }, "could not accept a connection");
            }
        }
    }
}
