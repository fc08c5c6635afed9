//! Decoding of random bytes.

use crate::protocol::EventType;
use crate::wire::response::decode_answer;
use crate::wire::{IncomingEvent, JsonParser, Payload};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        let payload = Bytes::from(bytes.clone());
        let mut parser = JsonParser::default();
        for event_type in EventType::ALL {
            let _ = IncomingEvent::from_msgpack(event_type, &payload);
            let mut json = bytes.clone();
            if let Ok(document) = parser.parse(&mut json) {
                let _ = IncomingEvent::from_json(event_type, &document);
                parser.reclaim(document);
            }
        }
        let _ = decode_answer(Payload::MessagePack(&payload), |_| ());
        let _ = decode_answer(Payload::Json(&mut bytes, &mut parser), |_| ());
    }
}
