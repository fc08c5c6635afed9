//! The types and constants that the roadmap of `zentinel-agent-protocol` names. Its calls are
//! examples in the documentation.

use smallvec::SmallVec;
use std::collections::HashMap;
use zentinel_agent_protocol::headers::{HeaderValues, OptimizedHeaderMap, iter_flat};
use zentinel_agent_protocol::v2;
use zentinel_agent_protocol::v2::pool::CHANNEL_BUFFER_SIZE;
use zentinel_agent_protocol::{BinaryRequestBodyChunkEvent, Bytes};

#[test]
fn channels_have_room_for_64_frames() {
    assert_eq!(CHANNEL_BUFFER_SIZE, 64);
    let config = v2::AgentPoolConfig::default();
    assert_eq!(config.channel_buffer_size, CHANNEL_BUFFER_SIZE);
}

#[test]
fn one_header_value_is_stored_inline() {
    let values: HeaderValues = SmallVec::<[String; 1]>::from_buf(["text/html".to_owned()]);
    assert!(!values.spilled());
    let headers: OptimizedHeaderMap = HashMap::from([("accept".to_owned(), values)]);
    assert_eq!(headers["accept"][0], "text/html");
}

#[test]
fn headers_are_iterated_flat() {
    let values = vec!["text/html".to_owned(), "*/*".to_owned()];
    let headers: HashMap<String, Vec<String>> = HashMap::from([("accept".to_owned(), values)]);
    let pairs: Vec<(&str, &str)> = iter_flat(&headers).collect();
    assert_eq!(pairs, [("accept", "text/html"), ("accept", "*/*")]);
}

#[test]
fn binary_chunk_has_the_fields_of_the_roadmap() {
    let chunk = BinaryRequestBodyChunkEvent {
        correlation_id: "correlation-123".to_owned(),
        data: Bytes::from_static(b"binary data"),
        is_last: false,
        total_size: None,
        chunk_index: 0,
        bytes_received: 11,
    };
    let data = Bytes::from_static(b"binary data");
    let new = BinaryRequestBodyChunkEvent::new("correlation-123", data, 0, false);
    assert_eq!(new.data, chunk.data);
}

#[test]
fn versions_up_to_2_are_supported() {
    assert!(v2::supports_version(1) && v2::supports_version(v2::PROTOCOL_VERSION_2));
    assert!(!v2::supports_version(3));
}
