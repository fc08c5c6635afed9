//! Tells HTTP/1 from HTTP/2 by the first bytes of a connection.

use crate::proxy::Proxy;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora::protocols::Stream;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The bytes that an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Time that a client has to send its first byte: as long as Pingora keeps an idle connection.
const FIRST_BYTE: Duration = Duration::from_secs(60);

/// Time that a client has for the rest of the preface once its first byte has arrived.
const REST: Duration = Duration::from_secs(10);

/// Serves connections with HTTP/1 or HTTP/2.
///
/// Pingora's own detection waits for as many bytes as the preface has, and so for ever if a whole
/// request is shorter.
pub(crate) struct EitherVersion {
    http1: Arc<HttpProxy<Proxy>>,
    http2: Arc<HttpProxy<Proxy>>,
}

impl EitherVersion {
    pub(crate) fn new(proxy: &Proxy, conf: &Arc<ServerConf>) -> Self {
        let app = |options| {
            let mut app = HttpProxy::new(proxy.clone(), Arc::clone(conf));
            app.server_options = Some(options);
            app.handle_init_modules();
            Arc::new(app)
        };
        let mut with_h2c = HttpServerOptions::default();
        with_h2c.h2c = true;
        Self {
            http1: app(HttpServerOptions::default()),
            http2: app(with_h2c),
        }
    }
}

#[async_trait]
impl ServerApp for EitherVersion {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let mut stopped = shutdown.clone();
        let is_http2 = tokio::select! {
            biased;
            is_http2 = begins_with_preface(&mut stream) => is_http2,
            _ = stopped.changed() => return None,
        };
        match is_http2 {
            Ok(true) => self.http2.process_new(stream, shutdown).await,
            Ok(false) => self.http1.process_new(stream, shutdown).await,
            Err(error) => {
                tracing::debug!(%error, "a connection ended before its first request");
                None
            }
        }
    }

    async fn cleanup(&self) {
        self.http1.http_cleanup().await;
        self.http2.http_cleanup().await;
    }
}

async fn begins_with_preface(stream: &mut Stream) -> io::Result<bool> {
    let first = peek(stream, 1);
    if !tokio::time::timeout(FIRST_BYTE, first).await?? {
        return Ok(false);
    }
    let rest = async {
        for length in 2..=PREFACE.len() {
            if !peek(stream, length).await? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    tokio::time::timeout(REST, rest).await?
}

/// Waits for this number of bytes and leaves them in the stream. Returns whether the preface begins
/// with them.
async fn peek(stream: &mut Stream, length: usize) -> io::Result<bool> {
    let mut bytes = [0; PREFACE.len()];
    let bytes = &mut bytes[..length];
    let is_supported = stream.try_peek(bytes).await?;
    Ok(is_supported && PREFACE.starts_with(bytes))
}
