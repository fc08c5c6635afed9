//! Tests of what the example proxies do with HTTP.
//!
//! The rows of one table ([`rig::Case`]) run with every proxy, and with clients of every version of
//! HTTP. What needs more than one request, or more than a reaction to it, stands beside the table.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod addresses;
mod codings;
mod denials;
mod departures;
mod failures;
mod framing;
mod hosts;
mod memory;
mod paths;
mod request_bodies;
mod request_headers;
mod response_bodies;
mod responses;
mod rig;
mod trailers;
mod uploads;
mod websockets;

use rig::Event;
use tollgate::response::BodyMutation;
use tollgate::{AgentResponse, EventType, HeaderOp};
use tollgate_counting_alloc::CountingAlloc;

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

const HEADS: &[EventType] = &[EventType::RequestHeaders];
const REQUESTS: &[EventType] = &[EventType::RequestHeaders, EventType::RequestBodyChunk];
const RESPONSES: &[EventType] = &[EventType::ResponseHeaders, EventType::ResponseBodyChunk];
const EVERYTHING: &[EventType] = &[
    EventType::RequestHeaders,
    EventType::RequestBodyChunk,
    EventType::ResponseHeaders,
    EventType::ResponseBodyChunk,
];

fn allow() -> AgentResponse {
    AgentResponse::default_allow()
}

fn set(name: &str, value: &str) -> HeaderOp {
    HeaderOp::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn needs_more() -> AgentResponse {
    AgentResponse::needs_more_data()
}

fn is_text(bytes: &[u8], text: &str) -> bool {
    bytes == text.as_bytes()
}

/// Replaces the first chunk of a body, and drops the others.
fn mutation(index: u32, new: &str) -> BodyMutation {
    match index {
        0 => BodyMutation::replace(0, new.to_owned()),
        index => BodyMutation::drop_chunk(index),
    }
}

fn replace_requests(new: &'static str) -> impl Fn(&Event) -> Option<AgentResponse> {
    move |event| {
        Some(match event {
            Event::RequestChunk(chunk) => {
                allow().with_request_body_mutation(mutation(chunk.index, new))
            }
            _ => allow(),
        })
    }
}

fn replace_responses(new: &'static str) -> impl Fn(&Event) -> Option<AgentResponse> {
    move |event| {
        Some(match event {
            Event::ResponseChunk(chunk) => {
                allow().with_response_body_mutation(mutation(chunk.index, new))
            }
            _ => allow(),
        })
    }
}
