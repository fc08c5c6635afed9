//! The health service (`grpc.health.v1`) of a gRPC agent server.
use crate::common::{TEST_TIMEOUT, config, eventually, pool_with, request, serve_grpc};
use tokio::time::timeout;
use tollgate::{Decision, Encoding};
use tonic::Streaming;
use tonic::transport::Endpoint;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Watches a service, or the whole server if the name is empty, on a new connection.
async fn watch(endpoint: &str, service: &str) -> Streaming<HealthCheckResponse> {
    let address = endpoint.replacen("grpc", "http", 1);
    let channel = Endpoint::from_shared(address).unwrap().connect().await;
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let watching = HealthClient::new(channel.unwrap()).watch(request).await;
    watching.unwrap().into_inner()
}

async fn next_status(watching: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    let message = timeout(TEST_TIMEOUT, watching.message()).await;
    let response = message.expect("no status").unwrap();
    response.expect("the watch ended").status()
}

#[tokio::test]
async fn server_that_drains_reports_not_serving() {
    let agent = serve_grpc().await;
    let endpoint = agent.path.to_str().unwrap().to_owned();
    let pool = pool_with(config(Encoding::Protobuf), &agent.path).await;

    let mut watches = Vec::new();
    for service in ["", "zentinel.agent.v2.AgentServiceV2"] {
        let mut watching = watch(&endpoint, service).await;
        assert_eq!(next_status(&mut watching).await, ServingStatus::Serving);
        watches.push(watching);
    }

    let calling = tokio::spawn(async move {
        let event = request("c-1", "/wait");
        pool.agent("agent").unwrap().send("c-1", &event).await
    });
    eventually("the event arrives", async || {
        agent.seen.lock().unwrap().len() == 1
    })
    .await;

    let release = agent.release.clone();
    let stopped = tokio::spawn(agent.stop());
    for watching in &mut watches {
        assert_eq!(next_status(watching).await, ServingStatus::NotServing);
    }

    assert!(!calling.is_finished(), "the exchange is still unfinished");
    release.notify_one();
    let answer = calling.await.unwrap().unwrap();
    assert_eq!(answer.decision, Decision::Allow);
    drop(watches);
    stopped.await.unwrap();
}
