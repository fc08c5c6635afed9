//! Clients that go away while agents decide.

use crate::agents::Agents;
use pingora::protocols::SocketDigest;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// State of a TCP connection of which neither side has ended its part, as Linux numbers it.
const ESTABLISHED: u8 = 1;

/// Resolves when the client disconnects.
pub(crate) async fn client_gone(session: &mut Session, agents: &Agents) -> Box<Error> {
    agents.wait_before_client_check().await;
    let socket = socket(session);
    let session = session.as_downstream_mut();
    if let Some(closing) = session.watch_h2_stream_close() {
        let error = match closing.await {
            Ok(_reason) => Error::explain(ErrorType::H2Error, "the client reset the stream"),
            Err(error) => error,
        };
        return error.into_down();
    }
    // Reading on would take the body.
    if session.is_body_empty()
        && let Err(error) = session.read_body_or_idle(true).await
    {
        return error.into_down();
    }
    side_ended(socket, agents).await
}

/// Waits for agents, unless the client ends its side of the connection.
pub(crate) async fn while_connected<T>(
    session: &Session,
    agents: &Agents,
    judging: impl Future<Output = T>,
) -> pingora::Result<T> {
    let mut judging = pin!(judging);
    let mut ended = pin!(side_ended(socket(session), agents));
    poll_fn(|cx| match judging.as_mut().poll(cx) {
        Poll::Pending => ended.as_mut().poll(cx).map(Err),
        Poll::Ready(judged) => Poll::Ready(Ok(judged)),
    })
    .await
}

fn socket(session: &Session) -> Option<Arc<SocketDigest>> {
    session.as_downstream().digest()?.socket_digest.clone()
}

/// Resolves when the client has ended its side of the connection, whatever is unread before that.
/// Asks the system, as Pingora would have to read.
async fn side_ended(socket: Option<Arc<SocketDigest>>, agents: &Agents) -> Box<Error> {
    let Some(socket) = socket else {
        return pending().await;
    };
    loop {
        agents.wait_before_client_check().await;
        match socket.tcp_info().filter(|_| cfg!(target_os = "linux")) {
            Some(info) if info.tcpi_state == ESTABLISHED => {}
            Some(_) => {
                let reason = "the client has ended the connection";
                return Error::explain(ErrorType::ConnectionClosed, reason).into_down();
            }
            None => return pending().await,
        }
    }
}
