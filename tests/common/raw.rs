use super::{TEST_TIMEOUT, message};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::yield_now;
use tokio::time::timeout;
use tollgate::Encoding;

/// Socket on which a test plays the agent byte by byte.
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

    /// Listens at a path. Replaces the socket file of an earlier agent.
    pub fn listen_at(path: &Path) -> Self {
        // The first time there is no such file.
        let _ = std::fs::remove_file(path);
        Self {
            listener: UnixListener::bind(path).unwrap(),
            path: path.to_owned(),
            _dir: None,
        }
    }

    /// Accepts the next connection, without a handshake.
    pub async fn accept(&self) -> RawConnection {
        let accepted = timeout(TEST_TIMEOUT, self.listener.accept()).await;
        let (stream, _) = accepted.expect("no connection arrives").unwrap();
        RawConnection::new(stream, Encoding::Json)
    }

    /// Accepts the next connection and completes the handshake in `encoding`.
    pub async fn accept_in(&self, encoding: Encoding) -> RawConnection {
        self.accept_with(encoding, |_| {}).await
    }

    /// Like [`RawAgent::accept_in`], with changes to the response of the agent.
    pub async fn accept_with(
        &self,
        encoding: Encoding,
        change: impl FnOnce(&mut Value),
    ) -> RawConnection {
        let connection = self.accept().await;
        Self::shake_hands(connection, encoding, change).await
    }

    /// Like [`RawAgent::accept_in`], without a timeout.
    pub async fn accept_without_timeout(&self, encoding: Encoding) -> RawConnection {
        let (stream, _) = self.listener.accept().await.unwrap();
        let connection = RawConnection::new(stream, encoding);
        Self::shake_hands(connection, encoding, |_| {}).await
    }

    async fn shake_hands(
        mut connection: RawConnection,
        encoding: Encoding,
        change: impl FnOnce(&mut Value),
    ) -> RawConnection {
        assert_eq!(connection.message().await.0, message::HANDSHAKE_REQUEST);
        let mut response = accept_handshake(encoding.as_str());
        change(&mut response);
        connection
            .send_value(message::HANDSHAKE_RESPONSE, &response)
            .await;
        connection.encoding = encoding;
        connection.stream = response.get("tollgate").map(|_| [0; 8]);
        connection
    }
}

/// Returns a handshake response that accepts, as other agents write it.
pub fn accept_handshake(encoding: &str) -> Value {
    json!({
        "protocol_version": 2,
        "capabilities": {
            "agent_id": "raw", "name": "Raw", "version": "0", "supported_events": [1, 2],
            "features": {
                "streaming_body": true, "websocket": false, "guardrails": true,
                "config_push": false, "metrics_export": false, "concurrent_requests": 1,
                "cancellation": true, "flow_control": true, "health_reporting": true,
            },
            "limits": {"max_body_size": 67_108_864, "max_concurrency": 1000, "preferred_chunk_size": 3},
        },
        "success": true, "error": null, "encoding": encoding,
    })
}

/// Returns a handshake request as other proxies write it.
pub fn offer_handshake(encoding: &str) -> Value {
    json!({
        "supported_versions": [2], "proxy_id": "raw", "proxy_version": "0", "config": null,
        "supported_encodings": [encoding],
    })
}

/// Encodes a frame.
pub fn frame(message: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).unwrap();
    let mut frame = length.to_be_bytes().to_vec();
    frame.push(message);
    frame.extend(payload);
    frame
}

/// Encodes a payload, with structs as maps.
pub fn encode(encoding: Encoding, value: &Value) -> Vec<u8> {
    match encoding {
        Encoding::Json => value.to_string().into_bytes(),
        Encoding::MessagePack => rmp_serde::to_vec_named(value).unwrap(),
        other => unreachable!("{other} is not spoken on Unix sockets"),
    }
}

/// One end of a connection, frame by frame or byte by byte. Waits at most [`TEST_TIMEOUT`].
pub struct RawConnection {
    socket: UnixStream,
    pub encoding: Encoding,
    /// Stream id of the last event, if an agent has accepted the extension.
    stream: Option<[u8; 8]>,
}

impl RawConnection {
    fn new(socket: UnixStream, encoding: Encoding) -> Self {
        Self {
            socket,
            encoding,
            stream: None,
        }
    }

    pub async fn connect(path: &Path) -> Self {
        loop {
            match UnixStream::connect(path).await {
                // The listener's backlog is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock => yield_now().await,
                connected => return Self::new(connected.unwrap(), Encoding::Json),
            }
        }
    }

    /// Connects to an agent and completes the handshake in `encoding`.
    pub async fn connect_in(path: &Path, encoding: Encoding) -> Self {
        let mut connection = Self::connect(path).await;
        let request = offer_handshake(encoding.as_str());
        connection
            .send_value(message::HANDSHAKE_REQUEST, &request)
            .await;
        let (message, response) = connection.message().await;
        assert_eq!(message, message::HANDSHAKE_RESPONSE);
        assert_eq!(response["success"], true);
        assert_eq!(response["encoding"], encoding.as_str());
        connection.encoding = encoding;
        connection
    }

    /// Connects to a proxy and registers. Returns the response as well.
    pub async fn register(path: &Path, registration: &Value) -> (Self, Value) {
        let mut connection = Self::connect(path).await;
        connection
            .send_value(message::HANDSHAKE_REQUEST, registration)
            .await;
        let (message, response) = connection.message().await;
        assert_eq!(message, message::HANDSHAKE_RESPONSE);
        (connection, response)
    }

    /// Returns the socket in blocking mode, for use on a thread.
    pub fn into_std(self) -> std::os::unix::net::UnixStream {
        let stream = self.socket.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = timeout(TEST_TIMEOUT, self.socket.write_all(bytes)).await;
        sent.expect("the other side does not read").unwrap();
    }

    /// Sends bytes to a peer that may have closed the connection.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes).await
    }

    pub async fn send(&mut self, message: u8, payload: &[u8]) {
        self.send_bytes(&frame(message, payload)).await;
    }

    /// Sends a message in the connection's encoding.
    pub async fn send_value(&mut self, message: u8, payload: &Value) {
        self.send(message, &encode(self.encoding, payload)).await;
    }

    /// Returns the next frame, or `None` once the other side has closed the connection.
    pub async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let received = timeout(TEST_TIMEOUT, self.receive_without_timeout());
        received.await.expect("neither a frame nor the end arrives")
    }

    /// Like [`RawConnection::receive`], without a timeout.
    pub async fn receive_without_timeout(&mut self) -> Option<(u8, Vec<u8>)> {
        let length = self.socket.read_u32().await.ok()?;
        let message = self.socket.read_u8().await.ok()?;
        let mut payload = vec![0; length as usize - 1];
        self.socket.read_exact(&mut payload).await.ok()?;
        Some((message, payload))
    }

    /// Returns the next message, which must decode.
    pub async fn message(&mut self) -> (u8, Value) {
        let (message, payload) = self.receive().await.expect("the connection ended");
        if message::EVENTS.contains(&message)
            && let Some(stream) = &mut self.stream
        {
            let (id, event) = payload.split_first_chunk().expect("a stream id");
            *stream = *id;
            return (message, self.decode(event));
        }
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

    /// Asserts that the other side closes the connection without another frame.
    pub async fn expect_end(&mut self) {
        let received = self.receive().await;
        assert!(
            received.is_none(),
            "received {received:?} instead of the end"
        );
    }

    /// Asserts that no further bytes have arrived.
    pub fn expect_silence(&self) {
        let received = self.socket.try_read(&mut [0; 64]);
        assert!(received.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    }

    /// Writes until the other side stops reading. Returns whether it stopped before `limit` bytes.
    pub async fn fill(&mut self, bytes: &[u8], limit: usize) -> bool {
        let stalled = std::time::Duration::from_millis(500);
        for _ in 0..limit / bytes.len() {
            if timeout(stalled, self.socket.write_all(bytes))
                .await
                .is_err()
            {
                return true;
            }
        }
        false
    }

    /// Waits until the other side has processed everything that was sent to it. Returns the types
    /// of the messages that it sent before.
    pub async fn sync(&mut self) -> Vec<u8> {
        let ping = json!({"sequence": u64::MAX, "timestamp_ms": 1}).to_string();
        self.send(message::PING, ping.as_bytes()).await;
        let mut before = Vec::new();
        loop {
            match self.receive().await.expect("the connection ended") {
                (message::PONG, payload) if payload == ping.as_bytes() => return before,
                (message, _) => before.push(message),
            }
        }
    }
}

/// Messages of an agent.
impl RawConnection {
    /// Like [`RawConnection::sync`]. Returns whether an event arrived before.
    pub async fn sync_events(&mut self) -> bool {
        let before = self.sync().await;
        before
            .iter()
            .any(|message| message::EVENTS.contains(message))
    }

    /// Receives an event. Returns its correlation id.
    pub async fn event(&mut self) -> String {
        let (message, event) = self.message().await;
        assert!(
            message::EVENTS.contains(&message),
            "message {message:#04x} is not an event"
        );
        let id = event
            .get("metadata")
            .and_then(|metadata| metadata.get("correlation_id"));
        let id = id.unwrap_or_else(|| &event["correlation_id"]);
        id.as_str().expect("a correlation id").to_owned()
    }

    /// Answers with a block. Its status identifies the answer.
    pub async fn block(&mut self, correlation_id: &str, status: u16) {
        self.answer(&blocking(correlation_id, status)).await;
    }

    pub async fn allow(&mut self, correlation_id: &str) {
        self.answer(&allowing(correlation_id)).await;
    }

    /// Answers the last event.
    async fn answer(&mut self, answer: &Value) {
        let stream = self.stream.as_ref().map_or(&[][..], |stream| stream);
        let payload = [stream, &encode(self.encoding, answer)].concat();
        self.send(message::AGENT_RESPONSE, &payload).await;
    }
}

/// Returns a minimal answer that allows.
pub fn allowing(correlation_id: &str) -> Value {
    json!({
        "version": 2, "decision": "allow", "audit": {"custom": {"correlation_id": correlation_id}},
    })
}

/// Returns a minimal answer that blocks.
pub fn blocking(correlation_id: &str, status: u16) -> Value {
    json!({
        "version": 2, "decision": {"block": {"status": status}},
        "audit": {"custom": {"correlation_id": correlation_id}},
    })
}
