//! `spoe-tollgate SOCKET` is the agent of `spoe-agent` with tollgate: it listens on a Unix socket,
//! and allows every request whose method, path, headers and source it got.

use anyhow::bail;
use tollgate::{AgentCapabilities, AgentHandler, AgentResponse, AgentServer, RequestHeadersView};
use tollgate_haproxy::{SpopListener, SpopSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name of the message that scripts/haproxy.py configures.
const MESSAGE: &str = "request";

struct AllowAll;

impl AgentHandler for AllowAll {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("allow-all", "Allow all", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let is_missing = event.method.is_empty()
            || event.uri.is_empty()
            || event.metadata.client_ip.is_empty()
            || event.headers.is_empty();
        if is_missing {
            return AgentResponse::block(403, None);
        }
        AgentResponse::default_allow()
    }
}

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(socket), None) = (words.next(), words.next()) else {
        bail!("usage: spoe-tollgate SOCKET");
    };
    // One thread, as the other agent has.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let endpoint = format!("haproxy+unix://{socket}").parse()?;
        let settings = SpopSettings::default().request_message(MESSAGE);
        let listener = SpopListener::bind(&endpoint, settings).await?;
        AgentServer::builder(AllowAll)
            .listen_on(listener)
            .serve()
            .await?;
        Ok(())
    })
}
