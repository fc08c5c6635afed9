use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// A socket on which a test plays the agent byte by byte.
pub struct RawAgent {
    pub path: PathBuf,
    listener: UnixListener,
    _dir: TempDir,
}

impl RawAgent {
    pub fn listen() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw.sock");
        Self {
            listener: UnixListener::bind(&path).unwrap(),
            path,
            _dir: dir,
        }
    }

    /// Takes the next connection, before any handshake.
    pub async fn accept(&self) -> RawConnection {
        RawConnection(self.listener.accept().await.unwrap().0)
    }

    /// Takes the next connection and shakes hands in `encoding`.
    pub async fn accept_in(&self, encoding: &str) -> RawConnection {
        let mut connection = self.accept().await;
        let (message, _) = connection.receive().await.unwrap();
        assert_eq!(message, 0x01);
        connection.send(0x02, &accept_handshake(encoding)).await;
        connection
    }
}

/// A handshake response that accepts, as other agents write it.
pub fn accept_handshake(encoding: &str) -> Vec<u8> {
    serde_json::json!({
        "protocol_version": 2,
        "capabilities": {
            "agent_id": "raw", "name": "Raw", "version": "0", "supported_events": [1, 2],
            "features": {
                "streaming_body": true, "websocket": false, "guardrails": false,
                "config_push": false, "metrics_export": false, "concurrent_requests": 1,
                "cancellation": true, "flow_control": true, "health_reporting": true,
            },
            "limits": {"max_body_size": 1, "max_concurrency": 2, "preferred_chunk_size": 3},
        },
        "success": true, "error": null, "encoding": encoding,
    })
    .to_string()
    .into_bytes()
}

/// One side of a connection, frame by frame or byte by byte.
pub struct RawConnection(pub UnixStream);

impl RawConnection {
    pub async fn connect(path: &Path) -> Self {
        Self(UnixStream::connect(path).await.unwrap())
    }

    /// Connects to an agent and shakes hands in `encoding`.
    pub async fn connect_in(path: &Path, encoding: &str) -> Self {
        let mut connection = Self::connect(path).await;
        let request = serde_json::json!({
            "supported_versions": [2], "proxy_id": "raw", "proxy_version": "0", "config": null,
            "supported_encodings": [encoding],
        });
        connection.send(0x01, request.to_string().as_bytes()).await;
        let (message, response) = connection.receive().await.unwrap();
        assert_eq!(message, 0x02);
        let response: serde_json::Value = serde_json::from_slice(&response).unwrap();
        assert_eq!(response["success"], true);
        assert_eq!(response["encoding"], encoding);
        connection
    }

    pub async fn send(&mut self, message: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len() + 1).unwrap();
        let mut frame = length.to_be_bytes().to_vec();
        frame.push(message);
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    pub async fn send_json(&mut self, message: u8, payload: &serde_json::Value) {
        self.send(message, payload.to_string().as_bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame; `None` when the other side has ended the connection.
    pub async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let length = self.0.read_u32().await.ok()?;
        let message = self.0.read_u8().await.ok()?;
        let mut payload = vec![0; length as usize - 1];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((message, payload))
    }

    /// The next frame's payload, which is JSON.
    pub async fn receive_json(&mut self) -> (u8, serde_json::Value) {
        let (message, payload) = self.receive().await.expect("a frame");
        (message, serde_json::from_slice(&payload).expect("JSON"))
    }

    /// Answers `allow` to the event with this correlation id, in JSON.
    pub async fn allow(&mut self, correlation_id: &str) {
        let answer = serde_json::json!({
            "version": 2, "decision": "allow",
            "audit": {"custom": {"correlation_id": correlation_id}},
        });
        self.send_json(0x20, &answer).await;
    }
}
