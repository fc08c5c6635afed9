use super::PATIENCE;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tollgate::Encoding;

/// A socket on which a test plays the agent byte by byte.
pub struct RawAgent {
    pub path: PathBuf,
    listener: UnixListener,
    _dir: Option<TempDir>,
}

impl RawAgent {
    pub fn listen() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = Self::listen_at(&dir.path().join("raw.sock"));
        Self {
            _dir: Some(dir),
            ..agent
        }
    }

    /// Listens at a path, also where an agent did so before that is gone.
    pub fn listen_at(path: &Path) -> Self {
        // There is none the first time.
        let _ = std::fs::remove_file(path);
        Self {
            listener: UnixListener::bind(path).unwrap(),
            path: path.to_owned(),
            _dir: None,
        }
    }

    /// Takes the next connection, before any handshake.
    pub async fn accept(&self) -> RawConnection {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let (stream, _) = accepted.expect("nobody connects").unwrap();
        RawConnection::new(stream, Encoding::Json)
    }

    /// Takes the next connection and shakes hands in `encoding`.
    pub async fn accept_in(&self, encoding: Encoding) -> RawConnection {
        self.accept_saying(encoding, |_| {}).await
    }

    /// The same with changes to what the agent says of itself.
    pub async fn accept_saying(
        &self,
        encoding: Encoding,
        change: impl FnOnce(&mut Value),
    ) -> RawConnection {
        let connection = self.accept().await;
        Self::welcome(connection, encoding, change).await
    }

    /// The next connection, however long nobody comes.
    pub async fn accept_at_last(&self, encoding: Encoding) -> RawConnection {
        let (stream, _) = self.listener.accept().await.unwrap();
        let connection = RawConnection::new(stream, encoding);
        Self::welcome(connection, encoding, |_| {}).await
    }

    async fn welcome(
        mut connection: RawConnection,
        encoding: Encoding,
        change: impl FnOnce(&mut Value),
    ) -> RawConnection {
        assert_eq!(connection.message().await.0, 0x01);
        let mut response = accept_handshake(encoding.as_str());
        change(&mut response["capabilities"]);
        connection.send_value(0x02, &response).await;
        connection.encoding = encoding;
        connection
    }
}

/// A handshake response that accepts, as other agents write it.
pub fn accept_handshake(encoding: &str) -> Value {
    json!({
        "protocol_version": 2,
        "capabilities": {
            "agent_id": "raw", "name": "Raw", "version": "0", "supported_events": [1, 2],
            "features": {
                "streaming_body": true, "websocket": false, "guardrails": false,
                "config_push": false, "metrics_export": false, "concurrent_requests": 1,
                "cancellation": true, "flow_control": true, "health_reporting": true,
            },
            "limits": {"max_body_size": 67_108_864, "max_concurrency": 1000, "preferred_chunk_size": 3},
        },
        "success": true, "error": null, "encoding": encoding,
    })
}

/// A handshake request as other proxies write it.
pub fn offer_handshake(encoding: &str) -> Value {
    json!({
        "supported_versions": [2], "proxy_id": "raw", "proxy_version": "0", "config": null,
        "supported_encodings": [encoding],
    })
}

/// The bytes of a frame.
pub fn frame(message: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).unwrap();
    let mut frame = length.to_be_bytes().to_vec();
    frame.push(message);
    frame.extend(payload);
    frame
}

/// A payload, in named maps.
pub fn encode(encoding: Encoding, value: &Value) -> Vec<u8> {
    match encoding {
        Encoding::Json => value.to_string().into_bytes(),
        Encoding::MessagePack => rmp_serde::to_vec_named(value).unwrap(),
        other => unreachable!("{other} is not spoken on Unix sockets"),
    }
}

/// One side of a connection, frame by frame or byte by byte. Waits at most [`PATIENCE`].
pub struct RawConnection {
    stream: UnixStream,
    pub encoding: Encoding,
}

impl RawConnection {
    fn new(stream: UnixStream, encoding: Encoding) -> Self {
        Self { stream, encoding }
    }

    pub async fn connect(path: &Path) -> Self {
        Self::new(UnixStream::connect(path).await.unwrap(), Encoding::Json)
    }

    /// Connects to an agent and shakes hands in `encoding`.
    pub async fn connect_in(path: &Path, encoding: Encoding) -> Self {
        let mut connection = Self::connect(path).await;
        let request = offer_handshake(encoding.as_str());
        connection.send_value(0x01, &request).await;
        let (message, response) = connection.message().await;
        assert_eq!(message, 0x02);
        assert_eq!(response["success"], true);
        assert_eq!(response["encoding"], encoding.as_str());
        connection.encoding = encoding;
        connection
    }

    /// Connects to a proxy and registers. Returns the answer as well.
    pub async fn register(path: &Path, registration: &Value) -> (Self, Value) {
        let mut connection = Self::connect(path).await;
        connection.send_value(0x01, registration).await;
        let (message, response) = connection.message().await;
        assert_eq!(message, 0x02);
        (connection, response)
    }

    /// The bare socket, for a thread.
    pub fn into_std(self) -> std::os::unix::net::UnixStream {
        let stream = self.stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        sent.expect("the other side does not read").unwrap();
    }

    /// Sends what the other side may not want any more.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub async fn send(&mut self, message: u8, payload: &[u8]) {
        self.send_bytes(&frame(message, payload)).await;
    }

    /// Sends a message in the connection's encoding.
    pub async fn send_value(&mut self, message: u8, payload: &Value) {
        self.send(message, &encode(self.encoding, payload)).await;
    }

    /// The next frame; `None` when the other side has ended the connection.
    pub async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let received = timeout(PATIENCE, self.receive_at_last());
        received.await.expect("neither a frame nor the end comes")
    }

    /// The same, however long nothing comes.
    pub async fn receive_at_last(&mut self) -> Option<(u8, Vec<u8>)> {
        let length = self.stream.read_u32().await.ok()?;
        let message = self.stream.read_u8().await.ok()?;
        let mut payload = vec![0; length as usize - 1];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((message, payload))
    }

    /// The next message, which must decode.
    pub async fn message(&mut self) -> (u8, Value) {
        let (message, payload) = self.receive().await.expect("the connection ended");
        (message, self.decode(&payload))
    }

    pub fn decode(&self, payload: &[u8]) -> Value {
        match self.encoding {
            Encoding::Json => serde_json::from_slice(payload).unwrap(),
            Encoding::MessagePack => {
                let value = rmpv::decode::read_value(&mut &payload[..]).unwrap();
                serde_json::to_value(value).unwrap()
            }
            other => unreachable!("{other} is not spoken on Unix sockets"),
        }
    }

    /// The other side ends the connection without another word.
    pub async fn expect_end(&mut self) {
        let received = self.receive().await;
        assert!(
            received.is_none(),
            "received {received:?} instead of the end"
        );
    }

    /// Nothing has come that was not received yet.
    pub fn expect_silence(&self) {
        let received = self.stream.try_read(&mut [0; 64]);
        assert!(received.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }

    /// Writes until the other side reads no more; returns whether that was so before `limit` bytes.
    pub async fn fill(&mut self, bytes: &[u8], limit: usize) -> bool {
        let patience = std::time::Duration::from_millis(500);
        for _ in 0..limit / bytes.len() {
            if timeout(patience, self.stream.write_all(bytes))
                .await
                .is_err()
            {
                return true;
            }
        }
        false
    }

    /// Waits until the other side has taken notice of everything that was sent to it. Returns the
    /// messages that it sent before.
    pub async fn sync(&mut self) -> Vec<u8> {
        let ping = json!({"sequence": u64::MAX, "timestamp_ms": 1}).to_string();
        self.send(0x41, ping.as_bytes()).await;
        let mut before = Vec::new();
        loop {
            match self.receive().await.expect("the connection ended") {
                (0x42, payload) if payload == ping.as_bytes() => return before,
                (message, _) => before.push(message),
            }
        }
    }
}

/// What an agent says.
impl RawConnection {
    /// Waits until the other side has taken notice of everything. Says whether an event came before.
    pub async fn sync_events(&mut self) -> bool {
        let before = self.sync().await;
        before.iter().any(|message| (0x10..=0x17).contains(message))
    }

    /// The correlation id of the next message, which is an event.
    pub async fn event(&mut self) -> String {
        let (message, event) = self.message().await;
        assert!(
            (0x10..=0x17).contains(&message),
            "message {message:#04x} is no event"
        );
        let id = event
            .get("metadata")
            .and_then(|metadata| metadata.get("correlation_id"));
        let id = id.unwrap_or_else(|| &event["correlation_id"]);
        id.as_str().expect("a correlation id").to_owned()
    }

    /// Answers with a block whose status tells one answer from another.
    pub async fn block(&mut self, correlation_id: &str, status: u16) {
        let answer = blocking(correlation_id, status);
        self.send_value(0x20, &answer).await;
    }

    pub async fn allow(&mut self, correlation_id: &str) {
        self.send_value(0x20, &allowing(correlation_id)).await;
    }
}

/// The least that an answer may be.
pub fn allowing(correlation_id: &str) -> Value {
    json!({
        "version": 2, "decision": "allow", "audit": {"custom": {"correlation_id": correlation_id}},
    })
}

pub fn blocking(correlation_id: &str, status: u16) -> Value {
    json!({
        "version": 2, "decision": {"block": {"status": status}},
        "audit": {"custom": {"correlation_id": correlation_id}},
    })
}
