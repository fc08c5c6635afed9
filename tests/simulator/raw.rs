//! Scripted agents: they speak JSON frame by frame, and answer late, twice, never or nonsense.

use crate::agents::MARK;
use crate::directive::Directive;
use crate::ledger::Asked;
use crate::network::SimListener;
use crate::plan::{Answer, Wait};
use crate::world::World;
use serde_json::{Value, json};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tollgate::sim::{Stream, Writer, clock};

const HANDSHAKE_RESPONSE: u8 = 0x02;
const REQUEST_HEADERS: u8 = 0x10;
const RESPONSE_HEADERS: u8 = 0x12;
const COMPLETE: u8 = 0x14;
const CONFIGURE: u8 = 0x17;
const ANSWER: u8 = 0x20;
const PING: u8 = 0x41;
const PONG: u8 = 0x42;

/// Serves every connection until the task is dropped.
pub async fn serve(world: Arc<World>, agent: usize, has_streams: bool, listener: SimListener) {
    let mut sessions = JoinSet::new();
    loop {
        let stream = listener.next().await;
        let session = Session {
            world: Arc::clone(&world),
            agent,
            has_streams,
            opened: clock::since_start(),
        };
        sessions.spawn(async move {
            // The proxy ended the connection.
            let _ = session.run(stream).await;
        });
    }
}

struct Session {
    world: Arc<World>,
    agent: usize,
    has_streams: bool,
    opened: Duration,
}

impl Session {
    async fn run(mut self, stream: Stream) -> io::Result<()> {
        let Stream { mut reader, writer } = stream;
        let (_, request) = receive(&mut reader).await?;
        let request: Value = serde_json::from_slice(&request).expect("JSON");
        self.has_streams &= request.get("tollgate").is_some();
        let plan = &self.world.plan.agents[self.agent];
        write_all(
            &*writer,
            &frame(
                HANDSHAKE_RESPONSE,
                &handshake(plan.announced_limit, self.has_streams),
            ),
        )
        .await?;
        let (out, mut frames) = mpsc::unbounded_channel::<Vec<u8>>();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(frame) = frames.recv().await {
                if write_all(&*writer, &frame).await.is_err() {
                    return;
                }
            }
        });
        loop {
            let (message, payload) = receive(&mut reader).await?;
            match message {
                PING => {
                    let _ = out.send(frame_of(PONG, &payload));
                }
                REQUEST_HEADERS..=CONFIGURE => {
                    let frames = self.answers(message, payload);
                    let out = out.clone();
                    if let Some((wait, frames)) = frames {
                        tasks.spawn(async move {
                            sleep(wait).await;
                            for frame in frames {
                                // The connection may have ended.
                                let _ = out.send(frame);
                            }
                        });
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns when and with what an event is answered.
    fn answers(&self, message: u8, payload: Vec<u8>) -> Option<(Duration, Vec<Vec<u8>>)> {
        let (stream, payload) = if self.has_streams {
            let (stream, payload) = payload.split_first_chunk::<8>().expect("a stream id");
            (u64::from_be_bytes(*stream), payload.to_vec())
        } else {
            (0, payload)
        };
        let event: Value = serde_json::from_slice(&payload).expect("JSON");
        let id = match &event["metadata"]["correlation_id"] {
            Value::Null => &event["correlation_id"],
            id => id,
        };
        let id = id.as_str().expect("a correlation id");
        let task = tokio::task::id();
        if message == CONFIGURE {
            self.world
                .ledger()
                .configured(self.agent, task, self.opened);
            let answer = self.frame(stream, &answer(id, json!("allow"), None));
            return Some((Duration::ZERO, vec![answer]));
        }
        let directive = Directive::parse(&text(message, &event));
        let asked = Asked {
            agent: self.agent,
            task,
            opened: self.opened,
            label: &directive.label,
        };
        let session = self.world.ledger().asked(&asked);
        let name = &self.world.plan.agents[self.agent].name;
        self.world.note(format_args!(
            "{name} session {session} is asked {}",
            directive.label
        ));
        let wait = match directive.wait {
            Wait::No => Duration::ZERO,
            Wait::For(ms) => Duration::from_millis(ms),
            Wait::Forever => return None,
        };
        Some((wait, self.frames(stream, id, &directive)))
    }

    fn frames(&self, stream: u64, id: &str, directive: &Directive) -> Vec<Vec<u8>> {
        let mark = Some(&*directive.label);
        let decision = if directive.answer == Answer::Block {
            json!({"block": {"status": 403}})
        } else {
            json!("allow")
        };
        let is_blocked = directive.answer == Answer::Block;
        let name = if is_blocked { "block" } else { "allow" };
        self.world.ledger().answered(&directive.label, name);
        let true_answer = self.frame(stream, &answer(id, decision, mark));
        match directive.answer {
            // Without stream ids, a second answer is taken for one to the next event.
            Answer::Twice if self.has_streams => vec![true_answer.clone(), true_answer],
            Answer::Foreign => {
                let other = format!("nobody-{id}");
                let foreign = answer(&other, json!("allow"), Some("foreign"));
                vec![self.frame(stream ^ 1 << 40, &foreign), true_answer]
            }
            Answer::Damaged => vec![self.frame(stream, &answer(id, json!(17), mark))],
            _ => vec![true_answer],
        }
    }

    fn frame(&self, stream: u64, answer: &Value) -> Vec<u8> {
        let mut payload = Vec::new();
        if self.has_streams {
            payload.extend(stream.to_be_bytes());
        }
        payload.extend(answer.to_string().into_bytes());
        frame_of(ANSWER, &payload)
    }
}

/// Returns the directive in an event.
fn text(message: u8, event: &Value) -> String {
    let text = match message {
        REQUEST_HEADERS => &event["uri"],
        RESPONSE_HEADERS => &event["headers"][MARK][0],
        COMPLETE => &event["error"],
        _ => {
            let data = event["data"].as_str().expect("base64");
            let bytes = base64_simd::STANDARD.decode_to_vec(data).expect("base64");
            return String::from_utf8(bytes).expect("text");
        }
    };
    text.as_str().expect("a directive").to_owned()
}

fn answer(id: &str, decision: Value, mark: Option<&str>) -> Value {
    let headers = mark.map_or_else(Vec::new, |mark| {
        vec![json!({"set": {"name": MARK, "value": mark}})]
    });
    json!({
        "version": 2, "decision": decision, "request_headers": headers,
        "audit": {"custom": {"correlation_id": id}},
    })
}

fn handshake(max_concurrency: u32, has_streams: bool) -> Value {
    let mut response = json!({
        "protocol_version": 2,
        "capabilities": {
            "agent_id": "raw", "name": "Raw", "version": "0", "supported_events": [1, 2, 3, 4, 5],
            "features": {
                "streaming_body": true, "websocket": false, "guardrails": false,
                "config_push": false, "metrics_export": false, "concurrent_requests": 1,
                "cancellation": true, "flow_control": true, "health_reporting": true,
            },
            "limits": {
                "max_body_size": 67_108_864, "max_concurrency": max_concurrency,
                "preferred_chunk_size": 3,
            },
        },
        "success": true, "error": null, "encoding": "json",
    });
    if has_streams {
        response["tollgate"] = json!({"version": 1});
    }
    response
}

fn frame(message: u8, payload: &Value) -> Vec<u8> {
    frame_of(message, payload.to_string().as_bytes())
}

pub fn frame_of(message: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).expect("a short frame");
    let mut frame = length.to_be_bytes().to_vec();
    frame.push(message);
    frame.extend(payload);
    frame
}

async fn receive(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let length = reader.read_u32().await?;
    let message = reader.read_u8().await?;
    let mut payload = vec![0; length as usize - 1];
    reader.read_exact(&mut payload).await?;
    Ok((message, payload))
}

/// Writes all bytes.
pub async fn write_all(writer: &dyn Writer, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match writer.try_write_vectored(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| writer.poll_write_ready(cx)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
