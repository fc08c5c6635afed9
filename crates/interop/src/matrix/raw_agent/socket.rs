use crate::TIMEOUT;
use crate::peer::Version;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tollgate::{
    Encoding,
    control::{FlowControl, FlowControlAction},
};

use super::super::notice::Message;

/// Raw agent on a Unix socket, which encodes its frames itself.
#[derive(Debug)]
pub(in super::super) struct SocketAgent {
    socket: PathBuf,
    frames: UnboundedSender<Frame>,
    pongs: UnboundedReceiver<Vec<u8>>,
    format: Format,
    _folder: TempDir,
}

/// Format of the agent's messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) encoding: Encoding,
    pub(super) version: Version,
}

type Frame = (u8, Vec<u8>);

impl SocketAgent {
    pub(super) fn listen(format: Format) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("raw.sock");
        let listener = UnixListener::bind(&socket).expect("the socket can be bound");
        let (frames, outgoing) = unbounded_channel();
        let (pong_sender, pongs) = unbounded_channel();
        let answers = frames.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("the proxy connects");
            let (reader, writer) = UnixStream::into_split(stream);
            tokio::spawn(write_all(writer, outgoing));
            // Errors end the connection.
            let _ = serve(reader, format, &answers, &pong_sender).await;
        });
        Self {
            socket,
            frames,
            pongs,
            format,
            _folder: folder,
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn send(&self, message: &Message) {
        for frame in self.format.frames_of(message) {
            self.send_frame(frame);
        }
    }

    /// Pings the proxy. Returns whether the pong has the same payload.
    pub(super) async fn ping(&mut self) -> bool {
        let ping = json!({"sequence": 7, "timestamp_ms": 1})
            .to_string()
            .into_bytes();
        self.send_frame((0x41, ping.clone()));
        let pong = timeout(TIMEOUT, self.pongs.recv()).await;
        pong.is_ok_and(|pong| pong == Some(ping))
    }

    fn send_frame(&self, frame: Frame) {
        self.frames.send(frame).expect("the connection is open");
    }
}

impl Format {
    /// Returns the integer forms, which the clients of `zentinel-agent-protocol` read, and the full
    /// forms.
    fn frames_of(self, message: &Message) -> Vec<Frame> {
        match message {
            Message::Health(status) => vec![
                (0x30, self.map(&json!({"state": status.state.number()}))),
                (0x30, self.structure(status)),
            ],
            Message::Metrics(report) => vec![(0x31, self.structure(report))],
            Message::ConfigUpdate(request) => vec![(0x32, self.structure(request))],
            Message::Flow(flow) => vec![(0x33, self.flow(flow))],
        }
    }

    fn flow(self, flow: &FlowControl) -> Vec<u8> {
        match (&flow.correlation_id, flow.action) {
            (None, FlowControlAction::Pause) => self.map(&json!({"action": 1})),
            (None, FlowControlAction::Resume) => self.map(&json!({"action": 2})),
            _ => self.structure(flow),
        }
    }

    /// Encodes a struct. In MessagePack, 0.6.11 writes structs as arrays.
    fn structure(self, message: &impl Serialize) -> Vec<u8> {
        match (self.encoding, self.version) {
            (Encoding::Json, _) => serde_json::to_vec(message).expect("messages have a JSON form"),
            (Encoding::MessagePack, Version::V0_6_11) => packed(rmp_serde::to_vec(message)),
            (Encoding::MessagePack, _) => packed(rmp_serde::to_vec_named(message)),
            (other, _) => unreachable!("{other} is not used on Unix sockets"),
        }
    }

    fn map(self, message: &Value) -> Vec<u8> {
        match self.encoding {
            Encoding::Json => message.to_string().into_bytes(),
            Encoding::MessagePack => packed(rmp_serde::to_vec_named(message)),
            other => unreachable!("{other} is not used on Unix sockets"),
        }
    }

    fn allow(self, id: &str) -> Vec<u8> {
        let custom = json!({"correlation_id": id});
        match (self.encoding, self.version) {
            (Encoding::MessagePack, Version::V0_6_11) => self.map(&json!([
                2,
                "allow",
                [],
                [],
                {},
                [[], [], null, [], custom],
                false,
                null,
                null,
                null,
            ])),
            _ => self.map(&json!({
                "version": 2, "decision": "allow", "request_headers": [], "response_headers": [],
                "routing_metadata": {},
                "audit": {
                    "tags": [], "rule_ids": [], "confidence": null, "reason_codes": [],
                    "custom": custom,
                },
                "needs_more": false, "request_body_mutation": null,
                "response_body_mutation": null, "websocket_decision": null,
            })),
        }
    }

    fn id_of(self, event: &[u8]) -> String {
        let event: Value = match self.encoding {
            Encoding::Json => serde_json::from_slice(event).expect("an event is JSON"),
            Encoding::MessagePack => rmp_serde::from_slice(event).expect("an event is MessagePack"),
            other => unreachable!("{other} is not used on Unix sockets"),
        };
        let id = event["metadata"]["correlation_id"].as_str();
        id.expect("the event is request headers").to_owned()
    }
}

async fn serve(
    mut reader: OwnedReadHalf,
    format: Format,
    answers: &UnboundedSender<Frame>,
    pongs: &UnboundedSender<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let (kind, payload) = read_frame(&mut reader).await?;
        let answer = match kind {
            0x01 => (0x02, accept(format.encoding)),
            0x10 => (0x20, format.allow(&format.id_of(&payload))),
            0x42 => {
                let _ = pongs.send(payload);
                continue;
            }
            _ => continue,
        };
        // Fails only if the connection is closed, which ends this loop as well.
        let _ = answers.send(answer);
    }
}

async fn read_frame(reader: &mut OwnedReadHalf) -> io::Result<Frame> {
    let length = reader.read_u32().await?;
    let kind = reader.read_u8().await?;
    let mut payload = vec![0; length as usize - 1];
    reader.read_exact(&mut payload).await?;
    Ok((kind, payload))
}

async fn write_all(mut writer: OwnedWriteHalf, mut frames: UnboundedReceiver<Frame>) {
    while let Some((kind, payload)) = frames.recv().await {
        let length = u32::try_from(payload.len() + 1).expect("a frame is small");
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(payload);
        if writer.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

/// Returns the handshake response of the server of `zentinel-agent-protocol`.
fn accept(encoding: Encoding) -> Vec<u8> {
    json!({
        "protocol_version": 2,
        "capabilities": {
            "agent_id": "raw", "name": "Raw", "version": "0", "supported_events": [1],
            "features": {
                "streaming_body": true, "websocket": true, "guardrails": true,
                "config_push": true, "metrics_export": true, "concurrent_requests": 100,
                "cancellation": true, "flow_control": true, "health_reporting": true,
            },
            "limits": {
                "max_body_size": 10_485_760, "max_concurrency": 100, "preferred_chunk_size": 65_536,
            },
        },
        "success": true, "error": null, "encoding": encoding.as_str(),
    })
    .to_string()
    .into_bytes()
}

fn packed(written: Result<Vec<u8>, rmp_serde::encode::Error>) -> Vec<u8> {
    written.expect("messages have a MessagePack form")
}
