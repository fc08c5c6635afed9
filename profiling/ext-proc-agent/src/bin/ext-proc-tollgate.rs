//! `ext-proc-tollgate ADDRESS` is the agent of `ext-proc-tonic` with tollgate: it allows every
//! request whose method, path, headers and source it got.

use tollgate::{AgentCapabilities, AgentHandler, AgentResponse, AgentServer, RequestHeadersView};
use tollgate_envoy::{EnvoyConfig, EnvoyListener};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let (address, runtime) = tollgate_ext_proc_agent::begin()?;
    runtime.block_on(async {
        let endpoint = format!("envoy://{address}");
        let listener = EnvoyListener::bind(&endpoint, EnvoyConfig::default()).await?;
        AgentServer::builder(AllowAll)
            .listen_on(listener)
            .serve()
            .await?;
        Ok(())
    })
}
