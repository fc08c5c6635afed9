//! A reverse proxy on hyper that asks agents about every request by the layer of `tollgate-tower`.

#![warn(missing_docs)]

mod client_stream;
mod proxy_header;
pub mod server;
/// An upstream server for tests, that of the example on Pingora.
#[path = "../../pingora-proxy/src/upstream.rs"]
pub mod test_upstream;
pub mod upstream;
mod watched_stream;
