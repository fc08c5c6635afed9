use super::frame::Counter;
use bytes::Bytes;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const READ_BYTES: usize = 256 * 1024;

/// Answers in the buffer. More are written in several pieces.
const ANSWERS: usize = 256;

/// Answers each frame with `answer`, and all frames of one read with one write.
pub(super) async fn serve(stream: UnixStream, answer: Bytes) {
    if let Err(error) = serve_until_closed(stream, &answer).await {
        eprintln!("error: the agent of the floor: {error}");
    }
}

async fn serve_until_closed(mut stream: UnixStream, answer: &[u8]) -> io::Result<()> {
    let answers = answer.repeat(ANSWERS);
    let mut buffer = vec![0; READ_BYTES];
    let mut counter = Counter::default();
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let mut due = counter.ended(&buffer[..length]);
        while due > 0 {
            let together = due.min(ANSWERS);
            stream
                .write_all(&answers[..together * answer.len()])
                .await?;
            due -= together;
        }
    }
}
