//! A misbehaving peer: sends a damaged session in pieces, with pauses, and reads as it likes.

use crate::damage::Plan;
use crate::input::{Ending, Reading, Script};
use crate::stream::PeerStream;
use std::future::pending;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, split};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Longest time that a peer waits, all in all, for what it received in the recorded session.
const MAX_WAIT: Duration = Duration::from_millis(400);

/// Time without any received byte after which a peer waits no longer. Ids and times may be shorter
/// than in the recorded session.
const QUIET: Duration = Duration::from_millis(12);

/// Longest time that a peer waits until it can send more.
const MAX_BLOCKED: Duration = Duration::from_millis(300);

/// Time after which a silent peer closes its connection. Longer than a handshake may take.
const SILENCE: Duration = Duration::from_millis(800);

/// Time between the two closed directions.
const HALF_CLOSED: Duration = Duration::from_millis(100);

/// Largest number of received bytes that are kept.
const MAX_KEPT: usize = 64 * 1024;

/// Plays a peer until its connection is closed. Returns the beginning of what it received.
pub async fn play(peer: PeerStream, plan: &Plan, script: &Script) -> Vec<u8> {
    let PeerStream { stream, socket } = peer;
    let (mut reader, mut writer) = split(stream);
    let (count, received) = watch::channel(0);
    let mut kept = Vec::new();
    let reading = read(&mut reader, script.reading, &count, &mut kept);
    let writing = async {
        let mut waiting = Waiting {
            received,
            missing: 0,
            time_left: MAX_WAIT,
        };
        for step in &plan.steps {
            waiting.wait_for(step.after).await;
            sleep(step.pause).await;
            let writing = async {
                writer.write_all(&step.bytes).await?;
                writer.flush().await
            };
            if !matches!(timeout(MAX_BLOCKED, writing).await, Ok(Ok(()))) {
                break;
            }
        }
        match script.ending {
            Ending::Close => {}
            Ending::HalfClose => {
                // The other side may have closed the connection before.
                let _ = timeout(MAX_BLOCKED, writer.shutdown()).await;
                sleep(HALF_CLOSED).await;
            }
            Ending::Silence => sleep(SILENCE).await,
            Ending::Reset => {
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
    };
    tokio::select! {
        () = writing => {}
        // Nothing can be sent any more, or it does not matter.
        () = reading => {}
    }
    kept
}

/// Waits for what was received in a recorded session.
struct Waiting {
    /// Number of bytes that were received.
    received: watch::Receiver<usize>,
    /// Number of bytes that were received in the recorded session, and are not any more.
    missing: usize,
    time_left: Duration,
}

impl Waiting {
    async fn wait_for(&mut self, count: usize) {
        let began = Instant::now();
        while *self.received.borrow_and_update() + self.missing < count {
            let limit = QUIET.min(self.time_left.saturating_sub(began.elapsed()));
            if !matches!(timeout(limit, self.received.changed()).await, Ok(Ok(()))) {
                self.missing = count.saturating_sub(*self.received.borrow());
                break;
            }
        }
        self.time_left = self.time_left.saturating_sub(began.elapsed());
    }
}

/// Reads until the end of the connection.
async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    reading: Reading,
    count: &watch::Sender<usize>,
    kept: &mut Vec<u8>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let (length, pause) = match reading {
        Reading::AtOnce => (buffer.len(), None),
        Reading::Slowly(length) => (usize::from(length) + 1, Some(Duration::from_millis(1))),
        Reading::Never => pending().await,
    };
    while let Ok(read @ 1..) = reader.read(&mut buffer[..length]).await {
        count.send_modify(|count| *count += read);
        if kept.len() < MAX_KEPT {
            kept.extend_from_slice(&buffer[..read]);
        }
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
}
