//! Decoding of random bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate::codec::Decoder;
use tollgate::{Encoding, EventType};

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let mut decoder = Decoder::new(encoding);
            for event_type in EventType::ALL {
                let _ = decoder.decode_event(event_type, bytes.as_slice().into(), |_| ());
            }
            let _ = decoder.decode_answer(bytes.as_slice().into(), |_| ());
        }
    }
}
