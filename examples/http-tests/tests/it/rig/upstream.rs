//! An upstream that records the bytes of requests and answers as it is told.

use super::Record;
use super::wire::{HeadText, Reader};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as the upstream received it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) head: HeadText,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Set if the whole body was received.
    pub(crate) is_whole: bool,
    /// Set once the connection has ended.
    pub(crate) is_gone: bool,
}

/// One step of an upstream that handles a request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Reads the request's body.
    ReadBody,
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends one byte more than the time before, and resets the connection unless these are all.
    SendMore(Vec<u8>, Arc<AtomicUsize>),
    /// Ends the connection.
    Close,
}

/// Reads the request, then sends a response.
pub(crate) fn reply(bytes: impl Into<Vec<u8>>) -> Vec<Step> {
    vec![Step::ReadBody, Step::Send(bytes.into())]
}

/// An upstream that runs. Dropping this ends it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) record: Record<Received>,
    task: JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start(steps: Vec<Step>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let record = Record::<Received>::default();
        let seen = record.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, steps) = (seen.clone(), steps.clone());
                tokio::spawn(async move {
                    // The test sees what came until the connection ended.
                    let _ = serve(stream, &seen, &steps).await;
                });
            }
        });
        Ok(Self {
            address,
            record,
            task,
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, seen: &Record<Received>, steps: &[Step]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut reader = Reader::new(read);
    loop {
        let head = reader.head().await?;
        let at = seen.change(|seen| {
            seen.push(Received {
                head: head.clone(),
                ..Received::default()
            });
            seen.len() - 1
        });
        let note = |change: &mut dyn FnMut(&mut Received)| {
            // The record is cleared between the requests of several clients.
            seen.change(|seen| seen.get_mut(at).map(change));
        };
        let is_bodyless = head.get("transfer-encoding").is_none()
            && head.get("content-length").is_none_or(|len| len == "0");
        note(&mut |received| received.is_whole = is_bodyless);
        for step in steps {
            let stepped = take_step(step, &head, &mut reader, &mut write, &note).await;
            let is_over = stepped.as_ref().map_or(true, |goes_on| !goes_on);
            note(&mut |received| received.is_gone = is_over);
            if !stepped? {
                return Ok(());
            }
        }
    }
}

/// Returns whether the connection goes on.
async fn take_step(
    step: &Step,
    head: &HeadText,
    reader: &mut Reader<tokio::net::tcp::OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    note: &impl Fn(&mut dyn FnMut(&mut Received)),
) -> std::io::Result<bool> {
    match step {
        Step::ReadBody => read_body(head, reader, note).await?,
        Step::Send(bytes) => write.write_all(bytes).await?,
        Step::SendMore(bytes, len) => {
            let len = len.fetch_add(1, Ordering::Relaxed).min(bytes.len());
            write.write_all(&bytes[..len]).await?;
            if len < bytes.len() {
                write.as_ref().set_zero_linger()?;
                return Ok(false);
            }
        }
        Step::Close => return Ok(false),
    }
    Ok(true)
}

async fn read_body(
    head: &HeadText,
    reader: &mut Reader<tokio::net::tcp::OwnedReadHalf>,
    note: &impl Fn(&mut dyn FnMut(&mut Received)),
) -> std::io::Result<()> {
    let is_chunked = head.get("transfer-encoding").is_some();
    let length = head.get("content-length");
    let mut left: usize = length.and_then(|len| len.parse().ok()).unwrap_or(0);
    loop {
        let part = match is_chunked {
            true => reader.chunk().await?,
            false => reader.part(&mut left).await?,
        };
        let Some(part) = part else { break };
        note(&mut |received| received.body.extend_from_slice(&part));
    }
    let trailers = if is_chunked {
        reader.trailers().await?
    } else {
        Vec::new()
    };
    note(&mut |received| {
        received.trailers.clone_from(&trailers);
        received.is_whole = true;
    });
    Ok(())
}
