//! `grpc.health.v1.Health`: whether the agent takes requests.

use crate::agent::Agent;
use crate::grpc::{Code, GrpcStream, Status};
use crate::wire::{Fields, Malformed, frame};
use bytes::Bytes;
use std::future::poll_fn;

/// Services whose health is known. The empty name stands for the server.
const SERVICES: [&str; 4] = [
    "",
    "envoy.service.ext_proc.v3.ExternalProcessor",
    "envoy.service.auth.v3.Authorization",
    "grpc.health.v1.Health",
];

/// `ServingStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Serving = 1,
    NotServing = 2,
    Unknown = 3,
}

/// Answers one question about a service.
pub(crate) async fn check(agent: &Agent, mut stream: GrpcStream<'_>) {
    let status = match serving(agent, &mut stream).await {
        Ok(Health::Unknown) => Status::new(Code::NotFound, "the service is not known"),
        Ok(serving) => match send(&mut stream, serving).await {
            Ok(()) => Status::OK,
            Err(()) => return,
        },
        Err(status) => status,
    };
    stream.finish(status);
}

/// Tells about a service until the client ends the call or the server stops.
pub(crate) async fn watch(agent: &Agent, mut stream: GrpcStream<'_>) {
    let serving = match serving(agent, &mut stream).await {
        Ok(serving) => serving,
        Err(status) => return stream.finish(status),
    };
    if send(&mut stream, serving).await.is_err() {
        return;
    }
    tokio::select! {
        biased;
        () = agent.session.stopping() => {}
        () = poll_fn(|cx| stream.poll_gone(cx)) => return,
    }
    if serving == Health::Serving && send(&mut stream, Health::NotServing).await.is_err() {
        return;
    }
    stream.finish(Status::new(Code::Unavailable, "the server stops"));
}

async fn serving(agent: &Agent, stream: &mut GrpcStream<'_>) -> Result<Health, Status> {
    const UNREADABLE: Status = Status::new(Code::Internal, "the question cannot be read");
    let Ok(Some(message)) = stream.next().await else {
        return Err(UNREADABLE);
    };
    let service = service(&message).map_err(|_| UNREADABLE)?;
    Ok(match SERVICES.contains(&service) {
        false => Health::Unknown,
        true if agent.is_stopping() => Health::NotServing,
        true => Health::Serving,
    })
}

/// Reads a `HealthCheckRequest`.
fn service(message: &[u8]) -> Result<&str, Malformed> {
    let mut service = "";
    Fields::of(message).each(|field, value| {
        if field == 1 {
            service = value.str()?;
        }
        Ok(())
    })?;
    Ok(service)
}

async fn send(stream: &mut GrpcStream<'_>, serving: Health) -> Result<(), ()> {
    let frame = frame(&mut stream.out, 0, |message| {
        message.number(1, serving as u64);
    });
    stream.send(frame, Bytes::new()).await.map_err(drop)
}
