use super::common::run_agent_process_serving;
use std::collections::HashMap;
use std::time::Duration;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, Decision, HeaderOp, RequestHeadersView,
};

/// Agent that decides by the URI.
pub struct Answers;

impl Answers {
    pub const HEADER_OPS: &str = "/header-ops";
    pub const BLOCK: &str = "/block";
    /// Answered after the call's deadline.
    pub const LATE: &str = "/late";

    /// Longer than any deadline that the tests let pass.
    const DELAY: Duration = Duration::from_millis(20);

    /// Three operations: a list, and the name and value of each.
    pub const HEADER_OPS_ALLOCATIONS: u64 = 7;

    fn header_ops() -> AgentResponse {
        let headers = ["x-user", "x-tenant", "x-score"];
        let ops = headers.map(|name| HeaderOp::Set {
            name: name.to_owned(),
            value: "some value".to_owned(),
        });
        AgentResponse {
            request_headers: Vec::from(ops),
            ..AgentResponse::default_allow()
        }
    }

    /// A body, a map, and the name and value of each header.
    pub const BLOCK_ALLOCATIONS: u64 = 6;

    fn block() -> AgentResponse {
        let headers = [("x-rule", "42"), ("retry-after", "10")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        AgentResponse::decided(Decision::Block {
            status: 403,
            body: Some("not for you".to_owned()),
            headers: Some(HashMap::from(headers)),
        })
    }

    /// Runs the agent. Called by `#[test] #[ignore] fn agent_process()`.
    pub fn run_process() {
        run_agent_process_serving(Self);
    }
}

impl AgentHandler for Answers {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("answers", "Answers", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        match event.uri {
            Self::HEADER_OPS => Self::header_ops(),
            Self::BLOCK => Self::block(),
            Self::LATE => {
                tokio::time::sleep(Self::DELAY).await;
                AgentResponse::default_allow()
            }
            _ => AgentResponse::default_allow(),
        }
    }
}
