//! `spoe-agent SOCKET` listens on a Unix socket, and allows every request that HAProxy asks about.

use anyhow::{Context, bail};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tollgate_spoe_agent::session::{State, answer_all};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes that are read at once at least.
const READ_SIZE: usize = 64 * 1024;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(socket), None) = (words.next(), words.next()) else {
        bail!("usage: spoe-agent SOCKET");
    };
    // One thread, as tollgate's agent has in the measurement.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(accept(&socket))
}

async fn accept(socket: &str) -> anyhow::Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| socket.to_owned())?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async {
            if let Err(error) = serve(stream).await {
                eprintln!("a connection of HAProxy ended: {error}");
            }
        });
    }
}

async fn serve(mut stream: UnixStream) -> anyhow::Result<()> {
    let mut input = BytesMut::new();
    let mut answers = Vec::new();
    loop {
        input.reserve(READ_SIZE);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let state = answer_all(&mut input, &mut answers)?;
        // One write for all answers: they share a system call.
        stream.write_all(&answers).await?;
        answers.clear();
        if state == State::Closed {
            return Ok(());
        }
    }
}
