//! An agent that violates the protocol at random. It encodes its JSON messages itself, so that it
//! can send what the library's server would not.

use crate::account::{CHECKSUM, checksum};
use crate::common::frames::{frame, receive};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

/// Number of answers that are delayed at once.
const MAX_DELAYED: usize = 2;

pub(crate) async fn serve(socket: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        // The result does not matter: the proxy reconnects.
        tokio::spawn(async move { serve_connection(stream).await.is_ok() });
    }
}

async fn serve_connection(mut stream: UnixStream) -> io::Result<()> {
    receive(&mut stream).await?;
    stream
        .write_all(&frame(0x02, handshake().to_string().as_bytes()))
        .await?;
    let mut delayed = VecDeque::new();
    loop {
        let (message, payload) = receive(&mut stream).await?;
        if message == 0x41 {
            stream.write_all(&frame(0x42, &payload)).await?;
            continue;
        }
        let Some(answer) = answer_to(message, &payload) else {
            continue;
        };
        let answer = frame(0x20, answer.to_string().as_bytes());
        match fastrand::u32(..10_000) {
            0..5 => return stream.write_all(&answer[..answer.len() / 2]).await,
            5..10 => return stream.write_all(&[0; 4]).await,
            10..140 => stream.write_all(&frame(0x20, b"{\"version\":2,")).await?,
            140..240 => stream.write_all(&frame(0x77, b"what is this?")).await?,
            240..440 => {
                stream
                    .write_all(&frame(0x20, &unsolicited_answer()))
                    .await?;
            }
            440..640 => {
                stream.write_all(&answer).await?;
                stream.write_all(&answer).await?;
            }
            640..740 => {
                for byte in answer {
                    stream.write_all(&[byte]).await?;
                }
            }
            740..840 => delayed.push_back(answer),
            840..845 => {
                stream.write_all(&frame(0x33, br#"{"action":1}"#)).await?;
                stream.write_all(&answer).await?;
                stream.write_all(&frame(0x33, br#"{"action":2}"#)).await?;
            }
            _ => stream.write_all(&answer).await?,
        }
        if delayed.len() > MAX_DELAYED
            && let Some(late) = delayed.pop_front()
        {
            stream.write_all(&late).await?;
        }
    }
}

fn answer_to(message: u8, payload: &[u8]) -> Option<Value> {
    let event: Value = serde_json::from_slice(payload).ok()?;
    let id = event["correlation_id"].as_str()?;
    let sum = match message {
        0x10 => checksum(id, event["uri"].as_str()?.as_bytes()),
        _ => return None,
    };
    Some(json!({
        "version": 2,
        "decision": "allow",
        "request_headers": [{"set": {"name": CHECKSUM, "value": format!("{sum:x}")}}],
        "audit": {"custom": {"correlation_id": id}},
    }))
}

fn unsolicited_answer() -> Vec<u8> {
    let id = format!("nobody-{}", fastrand::u64(..));
    json!({"version": 2, "decision": "allow", "audit": {"custom": {"correlation_id": id}}})
        .to_string()
        .into_bytes()
}

fn handshake() -> Value {
    json!({
        "protocol_version": 2,
        "capabilities": {
            "agent_id": "faulty_agent", "name": "FaultyAgent", "version": "1", "supported_events": [1],
            "features": {
                "streaming_body": false, "websocket": false, "guardrails": false, "config_push": false,
                "metrics_export": false, "concurrent_requests": 100, "cancellation": false,
                "flow_control": true, "health_reporting": false,
            },
            "limits": {"max_body_size": 1_000_000, "max_concurrency": 100, "preferred_chunk_size": 65_536},
        },
        "success": true, "error": null, "encoding": "json",
    })
}
