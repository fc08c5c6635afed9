use crate::events;
use crate::peer_agent::Logged;
use crate::peer_client::Via;
use serde::Serialize;
use serde_json::{Value, json};
use tollgate::{
    Agent, AgentResponse, CallError, CancelReason, RequestHeadersEvent,
    events::{
        BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, GuardrailInspectEvent,
        RequestBodyChunkEvent, RequestCompleteEvent, ResponseBodyChunkEvent, ResponseHeadersEvent,
        WebSocketFrameEvent,
    },
};

/// Call of a proxy. `zentinel-agent-protocol` has two for chunks; the second sends raw bytes in
/// MessagePack.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is the method of the same name")]
pub enum Call {
    RequestHeaders(RequestHeadersEvent),
    RequestBodyChunk(RequestBodyChunkEvent),
    RequestBodyChunkBinary(BinaryRequestBodyChunkEvent),
    ResponseHeaders(ResponseHeadersEvent),
    ResponseBodyChunk(ResponseBodyChunkEvent),
    ResponseBodyChunkBinary(BinaryResponseBodyChunkEvent),
    RequestComplete(RequestCompleteEvent),
    WebSocketFrame(WebSocketFrameEvent),
    GuardrailInspect(GuardrailInspectEvent),
    Configure(Value),
    CancelRequest(CancelReason),
    CancelAll(CancelReason),
    Ping,
}

/// A call, the exchange it belongs to, and what the agent answers.
#[derive(Debug)]
pub struct Step {
    /// Name that the peers' client prints.
    pub name: String,
    /// Correlation id.
    pub id: String,
    /// Call to make.
    pub call: Call,
    /// Expected answer, or `None` if the call is not answered.
    pub answer: Option<AgentResponse>,
}

impl Step {
    /// Returns the event that tollgate's agent records, if any. A peer's agent receives settings in
    /// another form: see [`Step::logged_by_peer`].
    pub fn logged(&self) -> Option<Logged> {
        let logged = match &self.call {
            Call::RequestHeaders(event) => logged("request_headers", event),
            Call::RequestBodyChunk(event) | Call::RequestBodyChunkBinary(event) => {
                logged("request_body_chunk", event)
            }
            Call::ResponseHeaders(event) => logged("response_headers", event),
            Call::ResponseBodyChunk(event) | Call::ResponseBodyChunkBinary(event) => {
                logged("response_body_chunk", event)
            }
            Call::RequestComplete(event) => logged("request_complete", event),
            Call::WebSocketFrame(event) => logged("websocket_frame", event),
            Call::GuardrailInspect(event) => logged("guardrail_inspect", event),
            Call::Configure(settings) => logged("configure", settings),
            Call::CancelRequest(reason) => logged("cancel", (&self.id, reason.number())),
            // Nothing is pending, so nothing is reported to the agent.
            Call::CancelAll(_) | Call::Ping => return None,
        };
        Some(logged)
    }

    /// Returns the event that a peer's agent records, if any. It receives settings in two parts.
    pub fn logged_by_peer(&self) -> Option<Logged> {
        let Call::Configure(settings) = &self.call else {
            return self.logged();
        };
        let value = json!({"config": settings["config"], "version": settings["config_version"]});
        Some(logged("configure", value))
    }

    /// Returns the line that the peers' client prints on success.
    pub fn line(&self, via: Via) -> Value {
        if via != Via::Client && !self.call.is_supported_by_zentinel_pool() {
            return json!({"call": self.name, "ok": false, "kind": "Unsupported"});
        }
        json!({"call": self.name, "ok": true, "response": self.printed_answer()})
    }

    /// Makes the call to an agent of tollgate's pool.
    ///
    /// # Errors
    ///
    /// As for [`Agent::send`].
    pub async fn send_to(&self, agent: &Agent) -> Result<Option<AgentResponse>, CallError> {
        let id = self.id.as_str();
        let answer = match &self.call {
            Call::RequestHeaders(event) => agent.send(id, event).await,
            Call::RequestBodyChunk(event) => agent.send(id, event).await,
            Call::RequestBodyChunkBinary(event) => agent.send(&event.correlation_id, event).await,
            Call::ResponseHeaders(event) => agent.send(id, event).await,
            Call::ResponseBodyChunk(event) => agent.send(id, event).await,
            Call::ResponseBodyChunkBinary(event) => agent.send(&event.correlation_id, event).await,
            Call::RequestComplete(event) => agent.send(id, event).await,
            Call::WebSocketFrame(event) => agent.send(id, event).await,
            Call::GuardrailInspect(event) => agent.send(id, event).await,
            Call::Configure(settings) => agent.send(id, &events::configure(id, settings)).await,
            Call::CancelRequest(reason) => {
                agent.cancel(id, *reason).await?;
                return Ok(None);
            }
            Call::CancelAll(reason) => {
                agent.cancel_all(*reason).await?;
                return Ok(None);
            }
            Call::Ping => {
                agent.ping().await?;
                return Ok(None);
            }
        };
        answer.map(Some)
    }

    /// Returns the answer as printed. The client of `zentinel-agent-protocol` leaves the
    /// correlation id in `audit.custom`.
    fn printed_answer(&self) -> Value {
        let Some(answer) = &self.answer else {
            return match self.call {
                Call::CancelAll(_) => json!({"cancelled": 0}),
                _ => Value::Null,
            };
        };
        let mut printed = to_value(answer);
        printed["audit"]["custom"]["correlation_id"] = json!(self.id);
        printed
    }
}

impl Call {
    const fn is_supported_by_zentinel_pool(&self) -> bool {
        matches!(
            self,
            Self::RequestHeaders(_)
                | Self::RequestBodyChunk(_)
                | Self::ResponseHeaders(_)
                | Self::ResponseBodyChunk(_)
                | Self::GuardrailInspect(_)
                | Self::CancelRequest(_)
        )
    }
}

fn logged(event: &str, value: impl Serialize) -> Logged {
    Logged {
        event: event.to_owned(),
        value: to_value(value),
    }
}

fn to_value(value: impl Serialize) -> Value {
    serde_json::to_value(value).expect("messages have a JSON form")
}
