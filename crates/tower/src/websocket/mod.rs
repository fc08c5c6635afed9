//! Inspection of a WebSocket connection between a client and an upstream, frame by frame.
//!
//! [`relay`] reads each frame whole, checks it against RFC 6455, asks a [`Judge`] and forwards it.
//! Fragments stay fragments, and pings are answered by the peers. The directions are independent:
//! each has its own judge and handles one frame at a time, so that a slow receiver or a slow agent
//! stops the sender of that direction only.
//!
//! Extensions change the meaning of frames, so a caller removes their offer with
//! [`decline_extensions`] before it forwards the request.

mod close;
mod forwarding;
mod header;
mod judge;
mod limits;
mod mask;
mod reader;
mod relay;
mod rules;
mod side;
mod upgrade;
mod wind_down;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use judge::{Frame, FrameVerdict, Judge, JudgeError, Judges};
pub(crate) use limits::Limits;
pub(crate) use relay::{EndCause, RelayEnd, Traffic, relay};
pub(crate) use side::Side;
pub(crate) use upgrade::{decline_extensions, is_websocket_request};
