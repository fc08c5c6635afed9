//! The event at the end of a request.

use super::forms::owned_and_borrowed;

macro_rules! request_complete {
    ($define:ident) => {
        $define! {
            /// The end of an HTTP request
            #[derive(Copy)]
            RequestComplete, RequestCompleteEvent {
                /// Id that joins all events of one HTTP request.
                correlation_id: str = 1,
                /// HTTP status of the response to the client.
                status: u16 = 2,
                /// Time from the first to the last byte, in milliseconds.
                duration_ms: u64 = 3,
                /// Size of the request body in bytes.
                request_body_size: usize = 4,
                /// Size of the response body in bytes.
                response_body_size: usize = 5,
                /// Number of upstreams that were tried.
                upstream_attempts: u32 = 1000 or 1,
                /// Error that the request ended with, if any.
                #[serde(default)]
                error: (Option<str>) = 8,
            }
        }
    };
}

request_complete!(owned_and_borrowed);

pub(crate) use request_complete;
