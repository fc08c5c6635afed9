//! Message types of the frame protocol, as the numbers that are sent.

use std::ops::RangeInclusive;

pub const HANDSHAKE_REQUEST: u8 = 0x01;
pub const HANDSHAKE_RESPONSE: u8 = 0x02;
pub const REQUEST_HEADERS: u8 = 0x10;
pub const REQUEST_BODY_CHUNK: u8 = 0x11;
pub const RESPONSE_HEADERS: u8 = 0x12;
pub const RESPONSE_BODY_CHUNK: u8 = 0x13;
pub const REQUEST_COMPLETE: u8 = 0x14;
pub const WEBSOCKET_FRAME: u8 = 0x15;
pub const GUARDRAIL_INSPECT: u8 = 0x16;
pub const CONFIGURE: u8 = 0x17;
pub const AGENT_RESPONSE: u8 = 0x20;
pub const HEALTH_STATUS: u8 = 0x30;
pub const METRICS_REPORT: u8 = 0x31;
pub const CONFIG_UPDATE_REQUEST: u8 = 0x32;
pub const FLOW_CONTROL: u8 = 0x33;
pub const CANCEL: u8 = 0x40;
pub const PING: u8 = 0x41;
pub const PONG: u8 = 0x42;
pub const LOG: u8 = 0x63;

/// Number that no version of the protocol assigns.
pub const UNKNOWN: u8 = 0xee;

/// Events, which the agent answers.
pub const EVENTS: RangeInclusive<u8> = REQUEST_HEADERS..=CONFIGURE;
