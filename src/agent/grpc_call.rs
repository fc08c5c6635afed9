//! `ProcessEvent`: one message, without a handshake, and its answer.

use super::answer::{Job, answer};
use super::grpc_service::AgentService;
use super::handler::AgentHandler;
use super::session::respond;
use crate::connection::link::{Batch, Link, LinkReceiver};
use crate::wire::{
    Dialect, Encoding, FrameBuffer, FrameError, HandshakeRequest, MAX_FRAME_LEN, MessageType,
    OutgoingFrame, control, event_of, frame_of,
};
use bytes::BytesMut;
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tonic::Status;

/// Takes the message of a call and sends its answer. Until the message is whole and there is a place for it, the
/// call gives way to newer ones, as connections do that have not shaken hands.
pub(super) async fn attend<H: AgentHandler>(
    service: &AgentService<H>,
    mut link: Link,
) -> Result<(), Status> {
    let mut visit = service.enter();
    let admitted = timeout(
        service.reception().handshake_timeout,
        admit(service, &mut *link.receiver),
    );
    let admitted = tokio::select! {
        admitted = admitted => admitted,
        () = visit.turned_away() => {
            return Err(Status::resource_exhausted("too many calls wait for their message"));
        }
    };
    let (number, payload, _place) =
        admitted.map_err(|_| Status::deadline_exceeded("the message took too long"))??;
    drop(visit);
    let mut batch = Batch::default();
    batch.push(answer_to(service, link.max_frame, number, payload).await?);
    // The pipe is empty and takes any one frame.
    link.sender
        .try_send(&mut batch, &drop)
        .map_err(|error| Status::internal(error.to_string()))
}

async fn admit<'s, H: AgentHandler>(
    service: &'s AgentService<H>,
    receiver: &mut dyn LinkReceiver,
) -> Result<(u8, BytesMut, SemaphorePermit<'s>), Status> {
    let (number, payload) = receive_one(receiver).await?;
    let place = service.reception().places.acquire().await;
    let place = place.map_err(|_| Status::unavailable("the agent stops"))?;
    Ok((number, payload, place))
}

/// The one message of a call.
async fn receive_one(receiver: &mut dyn LinkReceiver) -> Result<(u8, BytesMut), Status> {
    let mut buffer = FrameBuffer::default();
    while poll_fn(|cx| receiver.poll_receive(cx, buffer.spare()))
        .await
        .map_err(|error| unreadable(&error))?
        > 0
    {}
    let message = buffer
        .next_frame(MAX_FRAME_LEN)
        .map_err(|error| invalid(&error))?;
    match message {
        None => Err(Status::invalid_argument("a call without a message")),
        Some(_) if !buffer.is_empty() => {
            Err(Status::invalid_argument("a call with several messages"))
        }
        Some(message) => Ok(message),
    }
}

async fn answer_to<H: AgentHandler>(
    service: &AgentService<H>,
    max_frame: usize,
    number: u8,
    payload: BytesMut,
) -> Result<OutgoingFrame, Status> {
    let message = MessageType::from_number(number);
    if let Some(event_type) = message.and_then(event_of) {
        let job = Job {
            event_type,
            dialect: Dialect::published(Encoding::Protobuf).within(max_frame),
            stream: None,
            payload,
            scratch: Box::default(),
            order: Arc::default(),
            progress: Arc::default(),
        };
        let done = answer(Arc::clone(service.handler()), job).await;
        done.result.map_err(|error| invalid(&error))?;
        return Ok(done.scratch.into_frame());
    }
    let encodings = &[Encoding::Protobuf];
    let (message, payload) = match message {
        Some(MessageType::HandshakeRequest) => {
            let request = HandshakeRequest::decode_for(encodings, &payload)
                .map_err(|error| invalid(&error))?;
            let response = respond(&request, &service.handler().capabilities(), encodings);
            (
                MessageType::HandshakeResponse,
                response.encode_for(encodings),
            )
        }
        Some(MessageType::Ping) => {
            let pong = control::pong(&payload, Encoding::Protobuf);
            (MessageType::Pong, pong.map_err(|error| invalid(&error))?)
        }
        _ => return Err(Status::invalid_argument("a message that has no answer")),
    };
    frame_of(message, &payload).map_err(|error| invalid(&error))
}

/// What a message that cannot be read is called by its status.
fn unreadable(error: &io::Error) -> Status {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(FrameError::TooLarge { .. }) => Status::resource_exhausted(error.to_string()),
        Some(FrameError::Compressed) => Status::unimplemented(error.to_string()),
        _ => invalid(error),
    }
}

fn invalid(error: &dyn Display) -> Status {
    Status::invalid_argument(error.to_string())
}
