//! WebSocket connections through the proxies.

use crate::HEADS;
use crate::rig::{Event, Kind, Rig, agent};
use futures_util::{SinkExt, StreamExt};
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};
use tollgate::{AgentResponse, EventType};
use tollgate_example_settings::{Settings, WebSockets};

const FRAMES: &[EventType] = &[EventType::RequestHeaders, EventType::WebSocketFrame];

/// Starts an upstream that sends every message back.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await?;
                while let Some(message) = socket.next().await {
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await?;
                    }
                }
                Ok::<_, tungstenite::Error>(())
            });
        }
    });
    address
}

async fn rig(kind: Kind, events: &[EventType], mode: WebSockets) -> Rig {
    let upstream = echo().await;
    let judge = agent(events).answers(|event| {
        Some(match event {
            Event::Frame(frame) if frame.is_from_client => match &frame.data[..] {
                b"drop" => AgentResponse::websocket_drop(),
                b"close" => AgentResponse::websocket_close(4001, "enough".to_owned()),
                _ => AgentResponse::websocket_allow(),
            },
            _ => AgentResponse::default_allow(),
        })
    });
    let configure = |settings: &mut Settings| {
        settings.upstream = upstream;
        settings.websockets = mode;
    };
    Rig::start(kind, &[judge], Vec::new(), configure)
        .await
        .unwrap()
}

async fn connect(rig: &Rig) -> tungstenite::Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let opened = client_async("ws://example.test/chat", stream).await;
    opened.map(|(socket, _)| socket)
}

async fn expect_echo(socket: &mut WebSocketStream<TcpStream>, message: Message) {
    socket.send(message.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), message);
}

async fn expect_refused(rig: &Rig, status: u16) {
    match connect(rig).await.map(drop) {
        Err(tungstenite::Error::Http(response)) => {
            assert_eq!(response.status(), status, "{:?}", rig.kind);
        }
        opened => panic!("{:?}: {opened:?}", rig.kind),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_judged_in_both_directions() {
    for kind in Kind::ALL {
        let rig = rig(kind, FRAMES, WebSockets::Inspect).await;
        let mut socket = connect(&rig).await.unwrap();
        expect_echo(&mut socket, Message::text("hello")).await;
        expect_echo(&mut socket, Message::binary(vec![7; 300_000])).await;
        let frames = rig
            .events(0)
            .all()
            .into_iter()
            .filter_map(|event| match event {
                Event::Frame(frame) => Some((frame.is_from_client, frame.data.len())),
                _ => None,
            });
        let expected = [(true, 5), (false, 5), (true, 300_000), (false, 300_000)];
        assert_eq!(frames.collect::<Vec<_>>(), expected, "{kind:?}");

        socket.send(Message::text("drop")).await.unwrap();
        expect_echo(&mut socket, Message::text("after")).await;

        socket.send(Message::text("close")).await.unwrap();
        let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else {
            panic!("{kind:?}: a close frame is expected");
        };
        assert_eq!((u16::from(close.code), &*close.reason), (4001, "enough"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_nobody_inspects_are_refused_or_passed() {
    for kind in Kind::ALL {
        let inspecting = rig(kind, HEADS, WebSockets::Inspect).await;
        expect_refused(&inspecting, 501).await;
        let refusing = rig(kind, FRAMES, WebSockets::Refuse).await;
        expect_refused(&refusing, 501).await;
        let passing = rig(kind, HEADS, WebSockets::Pass).await;
        let mut socket = connect(&passing).await.unwrap();
        expect_echo(&mut socket, Message::text("hello")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_that_breaks_a_rule_ends_the_connection_with_a_close_code() {
    let frames: [(&str, &[u8], u16); 12] = [
        ("no mask", &[0x81, 0x02, b'h', b'i'], 1002),
        ("reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("reserved control opcode", &[0x8b, 0x80, 0, 0, 0, 0], 1002),
        ("reserved bit", &[0xc1, 0x80, 0, 0, 0, 0], 1002),
        (
            "text that is not UTF-8",
            &[0x81, 0x81, 0, 0, 0, 0, 0xff],
            1007,
        ),
        ("continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("fragmented ping", &[0x09, 0x80, 0, 0, 0, 0], 1002),
        ("long ping", &[0x89, 0xfe, 0, 126, 0, 0, 0, 0], 1002),
        (
            "long spelling of a length",
            &[0x82, 0xfe, 0, 5, 0, 0, 0, 0],
            1002,
        ),
        (
            "length of 64 bits",
            &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            1002,
        ),
        (
            "frame above 1 MiB",
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0],
            1009,
        ),
        ("half a close code", &[0x88, 0x81, 0, 0, 0, 0, 3], 1002),
    ];
    for kind in Kind::ALL {
        let rig = rig(kind, FRAMES, WebSockets::Inspect).await;
        for (name, frame, code) in frames {
            let mut socket = connect(&rig).await.unwrap();
            socket.get_mut().write_all(frame).await.unwrap();
            let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else {
                panic!("{kind:?}: {name}: a close frame is expected");
            };
            assert_eq!(u16::from(close.code), code, "{kind:?}: {name}");
        }
    }
}
