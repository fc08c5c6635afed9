//! Frames as they are sent, made without the library's codecs.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) fn frame(message: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    frame.push(message);
    frame.extend(payload);
    frame
}

pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let length = stream.read_u32().await?;
    let message = stream.read_u8().await?;
    let mut payload = vec![0; length as usize - 1];
    stream.read_exact(&mut payload).await?;
    Ok((message, payload))
}
