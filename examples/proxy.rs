use tollgate::{
    Agent, AgentConfig, AgentPool, BodyChunk, Bytes, CallError, Decision, Metadata,
    RequestBodyChunk, RequestHeaders,
};

/// Asks the agent about a request: first its head, then its body.
async fn judge(agent: &Agent, id: &str, body: Bytes) -> Result<Decision, CallError> {
    let head = RequestHeaders {
        metadata: Metadata {
            request_id: id,
            client_ip: "192.0.2.7",
            ..Metadata::default()
        },
        method: "POST",
        uri: "/search",
        headers: &[("host", "example.com"), ("user-agent", "curl/8.5")][..],
    };
    let mut exchange = agent.exchange(id)?;
    let answer = exchange.send(&head).await?;
    if answer.decision != Decision::Allow {
        return Ok(answer.decision);
    }
    let chunk = RequestBodyChunk(BodyChunk::new(id, body, 0, true));
    Ok(exchange.send(&chunk).await?.decision)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = AgentPool::new();
    let config = AgentConfig::new("no-admin", "/run/no-admin.sock");
    let agent = pool.add(config).await?;
    match judge(&agent, "request-1", Bytes::from_static(b"q=tollgate")).await {
        Ok(decision) => println!("{decision:?}"),
        // Nothing is allowed by accident: the proxy decides what a missing answer means.
        Err(error) => println!("answer the client with 503: {error}"),
    }
    Ok(())
}
