//! The unary method `ProcessEvent`: one message without a handshake, and its answer.

use crate::agent::answer::{Arrival, FatalEvent, Job, answer};
use crate::agent::handshake::handshake_response;
use crate::agent::server::sessions::Sessions;
use crate::connection::link::{Batch, Link, LinkError, LinkReceiver};
use crate::handler::AgentHandler;
use crate::handler::ExchangeOrder;
use crate::memory::MemoryAccount;
use crate::transport::HandshakeSlot;
use crate::wire::{
    Dialect, Encoding, FrameBuffer, FrameError, HandshakeRequest, MAX_FRAME_LEN, MessageType,
    OutgoingFrame, control, event_of, frame_of,
};
use bytes::BytesMut;
use std::fmt::Display;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::Status;

/// Receives the message of a call and sends its answer.
///
/// Until the message is complete and the call has a place, it occupies a handshake slot: newer
/// calls can evict it, as they can evict connections that have not completed their handshake.
pub(super) async fn serve_call<H: AgentHandler>(
    sessions: &Sessions<H>,
    slot: HandshakeSlot,
    link: Link,
) -> Result<(), Status> {
    let over_memory = Arc::new(Notify::new());
    let ended = Arc::clone(&over_memory);
    let memory = sessions.control.memory();
    let account = memory.open_account(move || ended.notify_one());
    tokio::select! {
        biased;
        () = over_memory.notified() => Err(Status::resource_exhausted(
            "the server's memory limit is exceeded, and this call holds most",
        )),
        served = serve_within(sessions, slot, link, account) => served,
    }
}

/// Serves a call whose memory is charged to `account`.
async fn serve_within<H: AgentHandler>(
    sessions: &Sessions<H>,
    mut slot: HandshakeSlot,
    mut link: Link,
    mut account: MemoryAccount,
) -> Result<(), Status> {
    let received = timeout(sessions.limits.handshake_timeout, async {
        let message = receive_one(&mut *link.receiver, &mut account).await?;
        Ok::<_, Status>((message, sessions.places.acquire().await))
    });
    let received = tokio::select! {
        received = received => received,
        () = slot.evicted() => {
            return Err(Status::resource_exhausted("too many calls have not sent their message"));
        }
    };
    let ((message_number, payload), _place) =
        received.map_err(|_| Status::deadline_exceeded("timed out waiting for the message"))??;
    drop(slot);
    let mut batch = Batch::default();
    batch.push(answer_to(sessions, link.max_frame, message_number, payload).await?);
    // The pipe is empty, so it takes one frame of any size.
    link.sender
        .try_send(&mut batch, &drop)
        .map_err(|error| Status::internal(error.to_string()))
}

/// Receives the only message of a call. Anything after it is an error at once.
async fn receive_one(
    receiver: &mut dyn LinkReceiver,
    account: &mut MemoryAccount,
) -> Result<(u8, BytesMut), Status> {
    let mut buffer = FrameBuffer::default();
    let mut message = None;
    loop {
        let received = poll_fn(|cx| receiver.poll_receive(cx, buffer.spare())).await;
        if received.map_err(|error| read_error(&error))? == 0 {
            return message.ok_or_else(|| Status::invalid_argument("the call has no message"));
        }
        account.set(buffer.memory());
        if message.is_none() {
            message = buffer
                .next_frame(MAX_FRAME_LEN)
                .map_err(|error| invalid_argument(&error))?;
        }
        if message.is_some() && !buffer.is_empty() {
            return Err(Status::invalid_argument(
                "the call has more than one message",
            ));
        }
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
            arrival: Arrival::now(),
            scratch: Box::default(),
            order: Arc::new(ExchangeOrder::new("grpc".into())),
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
            let response = handshake_response(&*sessions.handler, &request, encodings).await;
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
