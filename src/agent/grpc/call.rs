//! The unary method `ProcessEvent`: one message without a handshake, and its answer.

use crate::agent::answer::{FatalEvent, Job, answer};
use crate::agent::handler::AgentHandler;
use crate::agent::server::sessions::Sessions;
use crate::agent::session::handshake_response;

use crate::connection::link::{Batch, Link, LinkError, LinkReceiver};
use crate::transport::HandshakeSlot;
use crate::wire::{
    Dialect, Encoding, FrameBuffer, FrameError, HandshakeRequest, MAX_FRAME_LEN, MessageType,
    OutgoingFrame, control, event_of, frame_of,
};
use bytes::BytesMut;
use std::fmt::Display;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tonic::Status;

/// Receives the message of a call and sends its answer.
///
/// Until the message is complete and the call has a permit, it occupies a handshake slot: newer
/// calls can evict it, as they can evict connections that have not completed their handshake.
pub(super) async fn serve_call<H: AgentHandler>(
    sessions: &Sessions<H>,
    mut slot: HandshakeSlot,
    mut link: Link,
) -> Result<(), Status> {
    let received = timeout(
        sessions.limits.handshake_timeout,
        receive_admitted(sessions, &mut *link.receiver),
    );
    let received = tokio::select! {
        received = received => received,
        () = slot.evicted() => {
            return Err(Status::resource_exhausted("too many calls have not sent their message"));
        }
    };
    let (message_number, payload, _permit) =
        received.map_err(|_| Status::deadline_exceeded("timed out waiting for the message"))??;
    drop(slot);
    let mut batch = Batch::default();
    batch.push(answer_to(sessions, link.max_frame, message_number, payload).await?);
    // The pipe is empty, so it takes one frame of any size.
    link.sender
        .try_send(&mut batch, &drop)
        .map_err(|error| Status::internal(error.to_string()))
}

/// Receives the message and waits for a permit.
async fn receive_admitted<'s, H: AgentHandler>(
    sessions: &'s Sessions<H>,
    receiver: &mut dyn LinkReceiver,
) -> Result<(u8, BytesMut, SemaphorePermit<'s>), Status> {
    let (message_number, payload) = receive_one(receiver).await?;
    let permit = sessions.permits.acquire().await;
    let permit = permit.map_err(|_| Status::unavailable("the agent is shutting down"))?;
    Ok((message_number, payload, permit))
}

/// Receives the only message of a call.
async fn receive_one(receiver: &mut dyn LinkReceiver) -> Result<(u8, BytesMut), Status> {
    let mut buffer = FrameBuffer::default();
    while poll_fn(|cx| receiver.poll_receive(cx, buffer.spare()))
        .await
        .map_err(|error| read_error(&error))?
        > 0
    {}
    let message = buffer
        .next_frame(MAX_FRAME_LEN)
        .map_err(|error| invalid_argument(&error))?;
    match message {
        None => Err(Status::invalid_argument("the call has no message")),
        Some(_) if !buffer.is_empty() => Err(Status::invalid_argument(
            "the call has more than one message",
        )),
        Some(message) => Ok(message),
    }
}

async fn answer_to<H: AgentHandler>(
    sessions: &Sessions<H>,
    max_frame: usize,
    message_number: u8,
    payload: BytesMut,
) -> Result<OutgoingFrame, Status> {
    let message = MessageType::from_number(message_number);
    if let Some(event_type) = message.and_then(event_of) {
        let job = Job {
            event_type,
            dialect: Dialect::zentinel(Encoding::Protobuf).within(max_frame),
            stream: None,
            payload,
            scratch: Box::default(),
            order: Arc::default(),
            progress: Arc::default(),
        };
        let done = answer(Arc::clone(&sessions.handler), job).await;
        return match done.result {
            Err(error @ FatalEvent::Unanswerable(_)) => Err(invalid_argument(&error)),
            // A rejection of settings is the answer to the call.
            Ok(()) | Err(FatalEvent::SettingsRejected(_)) => Ok(done.scratch.into_frame()),
        };
    }
    let encodings = &[Encoding::Protobuf];
    let (message, payload) = match message {
        Some(MessageType::HandshakeRequest) => {
            let request = HandshakeRequest::decode_for(encodings, &payload)
                .map_err(|error| invalid_argument(&error))?;
            let response =
                handshake_response(&request, &sessions.handler.capabilities(), encodings);
            (
                MessageType::HandshakeResponse,
                response.encode_for(encodings),
            )
        }
        Some(MessageType::Ping) => {
            let pong = control::pong(&payload, Encoding::Protobuf);
            (
                MessageType::Pong,
                pong.map_err(|error| invalid_argument(&error))?,
            )
        }
        _ => {
            return Err(Status::invalid_argument(
                "the message is not one that is answered",
            ));
        }
    };
    frame_of(message, &payload).map_err(|error| invalid_argument(&error))
}

/// Returns the status for a message that cannot be read.
fn read_error(error: &LinkError) -> Status {
    match error {
        LinkError::Frame(FrameError::TooLarge { .. }) => {
            Status::resource_exhausted(error.to_string())
        }
        LinkError::Frame(FrameError::Compressed) => Status::unimplemented(error.to_string()),
        _ => invalid_argument(error),
    }
}

fn invalid_argument(error: &dyn Display) -> Status {
    Status::invalid_argument(error.to_string())
}
