use std::collections::HashMap;
use tollgate::{
    AgentResponse, Decision, HeaderOp,
    response::{AuditMetadata, BodyMutation},
};

/// Answer of an agent.
#[derive(Clone, Copy)]
pub enum Answer {
    Allow,
    Block,
    Redirect,
    Challenge,
    HeaderOperations,
    Audit,
    BodyMutation(usize),
    WebSocketClose,
}

impl Answer {
    /// Returns the response. Its maps have at most one entry, since their order differs between
    /// runs.
    pub fn response(self) -> AgentResponse {
        let allow = AgentResponse::default_allow();
        match self {
            Self::Allow => allow,
            Self::Block => AgentResponse::decided(Decision::Block {
                status: 403,
                body: Some("Not for you".to_owned()),
                headers: Some(map("x-reason", "rule 942100")),
            }),
            Self::Redirect => AgentResponse::redirect("https://example.com/login".to_owned(), 302),
            Self::Challenge => AgentResponse::decided(Decision::Challenge {
                challenge_type: "captcha".to_owned(),
                params: map("site_key", "6Le-wvkSAAAAAPBMRTvw0Q4Muexq9bi0DJwx_mJ-"),
            }),
            Self::HeaderOperations => allow
                .add_request_header(HeaderOp::Set {
                    name: "x-user".to_owned(),
                    value: "4711".to_owned(),
                })
                .add_request_header(HeaderOp::Remove {
                    name: "authorization".to_owned(),
                })
                .add_response_header(HeaderOp::Add {
                    name: "x-checked-by".to_owned(),
                    value: "waf".to_owned(),
                }),
            Self::Audit => allow.with_audit(AuditMetadata {
                tags: vec!["sqli".to_owned()],
                rule_ids: vec!["942100".to_owned(), "942200".to_owned()],
                confidence: Some(0.75),
                reason_codes: vec!["libinjection".to_owned()],
                custom: HashMap::from([("score".to_owned(), 7.into())]),
            }),
            Self::BodyMutation(size) => AgentResponse {
                request_body_mutation: Some(BodyMutation::replace(3, vec![b'x'; size])),
                ..allow
            },
            Self::WebSocketClose => AgentResponse::websocket_close(1008, "policy".to_owned()),
        }
    }
}

fn map(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}
