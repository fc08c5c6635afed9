//! Sessions: one connection of HAProxy, from its hello to its end.

mod connection;
mod drain;
mod input;
mod jobs;

use crate::settings::SpopSettings;
use crate::wire::{AgentHello, Disconnect, FrameId, FrameKind, Status, put_frame};
use connection::Connection;
use input::{Input, Received, handshake};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tollgate::listener::OtherSession;

/// Number of sessions so far, from which ids are made.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// Time in which a peer has to close a connection after its end was announced.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes that are read and discarded from a connection that ends.
const MAX_DISCARDED: usize = 4 * 1024 * 1024;

/// Size limit of a hello in bytes.
const MAX_HELLO: usize = 64 * 1024;

/// Reason of the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The connection is closed or broken.
    Closed,
    /// The peer is told why.
    Told(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Told(status)
    }
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        // HAProxy often resets a connection that it needs no more.
        Self::Closed
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mut session: OtherSession,
    settings: &SpopSettings,
) {
    let end = run(&mut stream, &mut session, settings).await;
    if let Err(End::Told(status)) = end {
        // The peer may be gone.
        let _ = disconnect(&mut stream, status).await;
    }
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    session: &mut OtherSession,
    settings: &SpopSettings,
) -> Result<(), End> {
    let mut input = Input::new(MAX_HELLO);
    let mut memory = session.open_account();
    let Received {
        max_frame_size,
        is_health_check,
    } = handshake(stream, &mut input, &mut memory).await?;
    input.set_limit(settings.max_frame);
    if is_health_check {
        if drain::is_leaving(session) {
            return Err(Status::Resources.into());
        }
        greet(stream, max_frame_size).await?;
        stream.shutdown().await?;
        discard(stream).await;
        return Ok(());
    }
    session.established().await;
    greet(stream, max_frame_size).await?;
    let name = SESSIONS.fetch_add(1, Ordering::Relaxed);
    let jobs = jobs::Context::new(session, settings, name, max_frame_size as usize);
    let start = |job| jobs.run(job);
    Connection::new(stream, session, (input, memory), start)
        .run()
        .await
}

/// Answers a hello, in one write: some versions of HAProxy refuse one that comes in parts.
async fn greet<S: AsyncWrite + Unpin>(stream: &mut S, max_frame_size: u32) -> Result<(), End> {
    let mut hello = Vec::new();
    put_frame(
        &mut hello,
        FrameKind::AgentHello,
        FrameId::default(),
        |out| {
            AgentHello { max_frame_size }.write(out);
        },
    );
    stream.write_all(&hello).await?;
    Ok(())
}

/// Tells the peer why the connection ends, and waits a little until it has closed it: what is left
/// unread would make the system reset the connection, and the peer lose what it was told.
async fn disconnect<S>(stream: &mut S, status: Status) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut frame = Vec::new();
    put_frame(
        &mut frame,
        FrameKind::AgentDisconnect,
        FrameId::default(),
        |out| {
            let message = status.to_string();
            let disconnect = Disconnect {
                code: status.code(),
                message: message.as_bytes(),
            };
            disconnect.write(out);
        },
    );
    timeout(CLOSE_TIMEOUT, stream.write_all(&frame)).await??;
    stream.shutdown().await?;
    discard(stream).await;
    Ok(())
}

/// Reads and discards until the peer closes, within limits.
async fn discard<S: AsyncRead + Unpin>(stream: &mut S) {
    let discarding = async {
        let mut buffer = [0; 4096];
        let mut discarded = 0;
        while discarded < MAX_DISCARDED {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(len) => discarded += len,
            }
        }
    };
    // Whoever does not close is cut off.
    let _ = timeout(CLOSE_TIMEOUT, discarding).await;
}
