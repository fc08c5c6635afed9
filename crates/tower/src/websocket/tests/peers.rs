//! Another implementation of RFC 6455 at both ends.

use super::*;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame as TheirFrame};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

/// A client and an upstream that are connected over TCP, with a relay between them.
struct Peers {
    client: WebSocketStream<TcpStream>,
    upstream: WebSocketStream<TcpStream>,
    relay: JoinHandle<RelayEnd>,
}

impl Peers {
    async fn connect(judges: Judges<impl Judge + Send + 'static>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind_address = behind.local_addr().unwrap();
        let relay = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut upstream = TcpStream::connect(behind_address).await.unwrap();
            forward_head(&mut client, &mut upstream).await;
            forward_head(&mut upstream, &mut client).await;
            relay(client, upstream, judges, &Limits::default()).await
        });
        let (client, upstream) = tokio::join!(
            async {
                let stream = TcpStream::connect(address).await.unwrap();
                client_async("ws://localhost/", stream).await.unwrap().0
            },
            async {
                accept_async(behind.accept().await.unwrap().0)
                    .await
                    .unwrap()
            },
        );
        Self {
            client,
            upstream,
            relay,
        }
    }

    /// Closes from the client's end, and returns what the client and the relay report.
    async fn close(mut self) -> (Option<CloseFrame>, RelayEnd) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "done".into(),
        };
        self.client.close(Some(frame)).await.unwrap();
        let (at_client, _) = tokio::join!(last_close(self.client), last_close(self.upstream));
        (at_client, self.relay.await.unwrap())
    }
}

/// Copies the head of a request or a response.
async fn forward_head(from: &mut TcpStream, to: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await.unwrap());
    }
    to.write_all(&head).await.unwrap();
}

/// Reads until the connection ends cleanly, and returns the close frame.
async fn last_close(mut stream: WebSocketStream<TcpStream>) -> Option<CloseFrame> {
    let mut close = None;
    while let Some(message) = stream.next().await {
        if let Message::Close(frame) = message.expect("the connection ends cleanly") {
            close = frame;
        }
    }
    close
}

#[tokio::test]
async fn messages_arrive_in_both_directions() {
    let mut peers = Peers::connect(forward_all()).await;
    let megabyte: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    let messages = [
        Message::text("hello €"),
        Message::text(""),
        Message::binary(vec![0, 255, 127]),
        Message::binary(vec![1; 126]),
        Message::binary(vec![2; 65_536]),
        Message::binary(megabyte.clone()),
        Message::text("x".repeat(1 << 20)),
    ];
    for message in messages {
        // Each end reads while the other writes.
        let (sent, received) =
            tokio::join!(peers.client.send(message.clone()), peers.upstream.next());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message);
        let (sent, received) =
            tokio::join!(peers.upstream.send(message.clone()), peers.client.next());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message);
    }
    let (close, end) = peers.close().await;
    assert_eq!(close.map(|frame| frame.code), Some(CloseCode::Normal));
    assert_eq!(end.cause, EndCause::Closed { by: Side::Client });
    assert_eq!((end.client.frames, end.upstream.frames), (8, 8));
    assert!(end.client.bytes > 2 << 20);
}

#[tokio::test]
async fn fragments_are_joined_by_the_receiver() {
    let mut peers = Peers::connect(forward_all()).await;
    let (text, more) = (OpCode::Data(Data::Text), OpCode::Data(Data::Continue));
    let (start, rest) = "fragments of €".as_bytes().split_at(13);
    for (data, opcode, fin) in [(start, text, false), (&[], more, false), (rest, more, true)] {
        let frame = TheirFrame::message(data.to_vec(), opcode, fin);
        peers.client.send(Message::Frame(frame)).await.unwrap();
        if !fin {
            peers
                .client
                .send(Message::Ping("between".into()))
                .await
                .unwrap();
            assert_eq!(
                peers.upstream.next().await.unwrap().unwrap(),
                Message::Ping("between".into())
            );
        }
    }
    let received = peers.upstream.next().await.unwrap().unwrap();
    assert_eq!(received, Message::text("fragments of €"));
    let (_, end) = peers.close().await;
    assert_eq!(end.client.frames, 6);
}

#[tokio::test]
async fn pings_are_answered_by_the_other_end() {
    let mut peers = Peers::connect(forward_all()).await;
    peers
        .client
        .send(Message::Ping("one".into()))
        .await
        .unwrap();
    assert_eq!(
        peers.upstream.next().await.unwrap().unwrap(),
        Message::Ping("one".into())
    );
    // The answer is sent with the next message or flush.
    peers.upstream.flush().await.unwrap();
    assert_eq!(
        peers.client.next().await.unwrap().unwrap(),
        Message::Pong("one".into())
    );
    peers
        .upstream
        .send(Message::Ping("two".into()))
        .await
        .unwrap();
    assert_eq!(
        peers.client.next().await.unwrap().unwrap(),
        Message::Ping("two".into())
    );
    peers.client.flush().await.unwrap();
    assert_eq!(
        peers.upstream.next().await.unwrap().unwrap(),
        Message::Pong("two".into())
    );
    peers.close().await;
}

#[tokio::test]
async fn a_decision_closes_both_ends_cleanly() {
    let judges = both(By(|frame: Frame<'_>| {
        Ok(match frame.data.starts_with(b"attack") {
            true => FrameVerdict::Close {
                code: 4001,
                reason: "attack".to_owned(),
            },
            false => FrameVerdict::Forward,
        })
    }));
    let mut peers = Peers::connect(judges).await;
    peers.client.send(Message::text("harmless")).await.unwrap();
    assert_eq!(
        peers.upstream.next().await.unwrap().unwrap(),
        Message::text("harmless")
    );
    peers.client.send(Message::text("attack")).await.unwrap();
    let (client, upstream) = tokio::join!(last_close(peers.client), last_close(peers.upstream));
    let expected = CloseFrame {
        code: CloseCode::Library(4001),
        reason: "attack".into(),
    };
    assert_eq!(client, Some(expected.clone()));
    assert_eq!(upstream, Some(expected));
    let end = peers.relay.await.unwrap();
    assert!(matches!(
        end.cause,
        EndCause::ClosedByJudge {
            side: Side::Client,
            code: 4001,
            ..
        }
    ));
}
