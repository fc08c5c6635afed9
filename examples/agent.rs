use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, AgentServer, RequestHeadersView,
    error::BindError,
};

struct NoAdmin;

impl AgentHandler for NoAdmin {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("no-admin", "Blocks /admin", "1.0.0")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        if event.path().starts_with("/admin") {
            return AgentResponse::block(403, Some("Forbidden".to_owned()));
        }
        AgentResponse::default_allow()
    }
}

#[tokio::main]
async fn main() -> Result<(), BindError> {
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    AgentServer::builder(NoAdmin)
        .listen("/run/no-admin.sock")
        .serve_until(stop)
        .await
}
