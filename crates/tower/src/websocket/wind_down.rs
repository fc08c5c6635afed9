//! The end of a peer's stream.

use super::close::ClosePayload;
use super::limits::Limits;
use super::reader::FrameReader;
use super::writer::FrameWriter;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Sends a peer a close frame and the end of the stream, then waits for the end of its own.
///
/// The peer gets a close frame if there is a `payload`, or if it has sent one itself; never a
/// second one. Its data is read and discarded meanwhile.
pub(super) async fn wind_down<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    payload: Option<ClosePayload>,
    limits: &Limits,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let payload = payload.or_else(|| reader.has_closed().then(ClosePayload::empty));
    let end = async {
        if let Some(payload) = payload {
            writer.close(payload).await?;
        }
        writer.shut_down().await
    };
    let mut end = pin!(timeout(limits.close_timeout, end));
    let mut discard = pin!(reader.discard(limits.drain_bytes));
    let ended = tokio::select! {
        ended = &mut end => ended,
        () = &mut discard => {
            // The outcome makes no difference: the peer's stream has ended, or is too long.
            let _ = end.await;
            return;
        }
    };
    if let Ok(Ok(())) = ended {
        // On expiry the peer had its time.
        let _ = timeout(limits.drain_timeout, discard).await;
    }
}
