//! The variables of an answer, as the decision that they stand for.

use std::collections::HashMap;
use tollgate::response::AuditMetadata;
use tollgate::{AgentResponse, Decision, HeaderOp};
use tollgate_haproxy::client::Answer;
use tollgate_haproxy::wire::Reader;

/// Names of the variables of a phase.
pub(super) struct Names {
    pub(super) action: &'static str,
    pub(super) status: &'static str,
}

pub(super) const REQUEST: Names = Names {
    action: "action",
    status: "status",
};
pub(super) const RESPONSE: Names = Names {
    action: "res_action",
    status: "res_status",
};

/// Returns the answer that the variables stand for. What HAProxy would deny is a block.
pub(super) fn response_of(answer: &Answer, names: &Names) -> AgentResponse {
    let mut response = AgentResponse::decided(decision_of(answer, names));
    response.request_headers = changes(answer, "req");
    response.response_headers = changes(answer, "res");
    if response.decision != Decision::Allow {
        let added = pairs(answer.bytes("deny_add"));
        let added = added.map(|(name, value)| HeaderOp::Add { name, value });
        response.response_headers.extend(added);
    }
    response.audit = audit_of(answer);
    let routes = answer.0.keys().filter_map(|name| {
        let key = name.strip_prefix("route_")?;
        Some((key.to_owned(), answer.text(name)?.to_owned()))
    });
    response.routing_metadata = routes.collect();
    response
}

fn decision_of(answer: &Answer, names: &Names) -> Decision {
    let status = answer.number(names.status);
    let status = status.and_then(|status| u16::try_from(status).ok());
    match answer.text(names.action) {
        Some("allow") => Decision::Allow,
        Some("redirect") => Decision::Redirect {
            url: answer.text("data").unwrap_or_default().to_owned(),
            status: status.unwrap_or(302),
        },
        Some(_) => {
            let mut headers = HashMap::new();
            for (name, value) in pairs(answer.bytes("deny_set")) {
                headers.insert(name, value);
            }
            if let Some(challenge) = answer.text("authenticate") {
                headers.insert("www-authenticate".to_owned(), challenge.to_owned());
            }
            Decision::Block {
                status: status.unwrap_or(403),
                body: answer.text("body").map(str::to_owned),
                headers: (!headers.is_empty()).then_some(headers),
            }
        }
        None => Decision::Block {
            status: 503,
            body: Some("no decision".to_owned()),
            headers: None,
        },
    }
}

fn audit_of(answer: &Answer) -> AuditMetadata {
    let list = |name: &str| -> Vec<String> {
        let text = answer.text(name).unwrap_or_default();
        let entries = text.split(',').filter(|entry| !entry.is_empty());
        entries.map(str::to_owned).collect()
    };
    AuditMetadata {
        tags: list("tags"),
        rule_ids: list("rules"),
        reason_codes: list("reason"),
        confidence: answer.text("confidence").and_then(|it| it.parse().ok()),
        ..AuditMetadata::default()
    }
}

fn changes(answer: &Answer, message: &str) -> Vec<HeaderOp> {
    let list = |kind: &str| answer.bytes(&format!("{message}_{kind}"));
    let mut ops: Vec<HeaderOp> = names(list("del"))
        .map(|name| HeaderOp::Remove { name })
        .collect();
    ops.extend(pairs(list("set")).map(|(name, value)| HeaderOp::Set { name, value }));
    ops.extend(pairs(list("add")).map(|(name, value)| HeaderOp::Add { name, value }));
    ops
}

fn names(list: Option<&[u8]>) -> impl Iterator<Item = String> {
    let mut list = Reader::new(list.unwrap_or_default());
    std::iter::from_fn(move || text(&mut list).filter(|name| !name.is_empty()))
}

fn pairs(list: Option<&[u8]>) -> impl Iterator<Item = (String, String)> {
    let mut list = Reader::new(list.unwrap_or_default());
    std::iter::from_fn(move || {
        let pair = (text(&mut list)?, text(&mut list)?);
        (!pair.0.is_empty()).then_some(pair)
    })
}

fn text(list: &mut Reader<'_>) -> Option<String> {
    let bytes = list.string().ok()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}
