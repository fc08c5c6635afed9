//! Settings that a connection begins with, between tollgate and `zentinel-agent-protocol`, over
//! Unix sockets and gRPC: a proxy uses an agent only if it has accepted them.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use serde_json::{Value, json};
use std::path::Path;
use tollgate::error::{AddError, ConnectError};
use tollgate::{Agent, AgentConfig, AgentPool, AgentPoolConfig, CallError, Encoding};
use tollgate_interop::{
    AGENT, Peer, PeerAgent, RecordingServer, TIMEOUT, Version, Via, events,
    run_client_with_settings, selected_versions,
};

/// Step of the script that follows the settings.
const STEP: &str = "request_headers:/allow";

/// Connection between the two sides.
#[derive(Debug, Clone, Copy)]
enum Wire {
    Unix,
    Grpc,
}

const WIRES: [Wire; 2] = [Wire::Unix, Wire::Grpc];

impl Wire {
    async fn serve(self) -> RecordingServer {
        match self {
            Self::Unix => RecordingServer::serve(&[Encoding::MessagePack], |_| {}).await,
            Self::Grpc => RecordingServer::serve_grpc(|_| {}).await,
        }
    }

    async fn start(self, version: Version) -> PeerAgent {
        let peer = Peer::find(version, Encoding::MessagePack);
        match self {
            Self::Unix => PeerAgent::start(&peer).await,
            Self::Grpc => PeerAgent::start_grpc(&peer).await,
        }
    }
}

fn newest() -> Peer {
    Peer::find(Version::V0_6_54, Encoding::MessagePack)
}

/// Adds a peer's agent with settings.
async fn add(pool: &AgentPool, endpoint: &Path, settings: Value) -> Result<Agent, AddError> {
    let agent = AgentConfig::new(AGENT, endpoint.to_str().unwrap())
        .settings(settings, Some("7".to_owned()))
        .require_connection();
    pool.add(agent).await
}

fn pool(connections: usize) -> AgentPool {
    AgentPool::with_config(
        AgentPoolConfig::default()
            .connections_per_agent(connections)
            .connect_timeout(TIMEOUT)
            .request_timeout(TIMEOUT),
    )
}

#[tokio::test]
async fn zentinel_proxy_gives_tollgate_agent_settings_first() {
    for wire in WIRES {
        for via in Via::ALL {
            let server = wire.serve().await;
            let settings = json!({"mode": "strict"});
            let lines =
                run_client_with_settings(&newest(), via, server.socket(), &settings, STEP).await;
            assert_eq!(lines[0]["ok"], true, "{wire:?} {via:?}: {lines:?}");
            assert_eq!(lines[1]["response"]["decision"], "allow", "{lines:?}");
            let records = server.stop().await;
            let names: Vec<_> = records.iter().map(|record| &*record.event).collect();
            assert_eq!(names, ["configure", "request_headers"], "{wire:?} {via:?}");
            assert_eq!(records[0].value["config"], settings);
        }
    }
}

#[tokio::test]
async fn zentinel_proxy_does_not_use_a_tollgate_agent_that_rejects_settings() {
    for wire in WIRES {
        for via in Via::ALL {
            let server = wire.serve().await;
            let settings = json!({"reject": true});
            let lines =
                run_client_with_settings(&newest(), via, server.socket(), &settings, STEP).await;
            assert_eq!(lines.len(), 1, "{wire:?} {via:?}: {lines:?}");
            assert_eq!(lines[0]["ok"], false, "{wire:?} {via:?}: {lines:?}");
            let records = server.stop().await;
            let names: Vec<_> = records.iter().map(|record| &*record.event).collect();
            assert_eq!(names, ["configure"], "{wire:?} {via:?}");
        }
    }
}

#[tokio::test]
async fn tollgate_pool_gives_zentinel_agent_settings_first() {
    for wire in WIRES {
        let mut peer = wire.start(Version::V0_6_54).await;
        let (pool, settings) = (pool(2), json!({"mode": "strict"}));
        let agent = add(&pool, peer.socket(), settings.clone()).await.unwrap();
        assert_eq!(agent.stats().active_connections, 2);
        for _ in 0..2 {
            let handshake = peer.next_event().await;
            assert_eq!(handshake.event, "handshake");
            assert_eq!(handshake.value["config"], settings, "{wire:?}");
            let configured = peer.next_event().await;
            assert_eq!(configured.event, "configure", "{wire:?}");
            let expected = json!({"config": settings, "version": "7"});
            assert_eq!(configured.value, expected);
        }
        agent
            .send("c", &events::request_headers("c", "/allow"))
            .await
            .unwrap();
        assert_eq!(peer.next_event().await.event, "request_headers");

        let changed = json!({"mode": "lax"});
        assert_eq!(agent.configure(changed.clone(), None).await.unwrap(), 2);
        for _ in 0..2 {
            let expected = json!({"config": changed, "version": null});
            assert_eq!(peer.next_event().await.value, expected);
        }
    }
}

#[tokio::test]
async fn tollgate_pool_does_not_use_a_zentinel_agent_that_rejects_settings() {
    for wire in WIRES {
        for (settings, reason) in [
            (json!({"reject": true}), "settings"),
            (json!({"reject_handshake": true}), "Handshake rejected"),
        ] {
            let peer = wire.start(Version::V0_6_54).await;
            let pool = pool(1);
            let error = add(&pool, peer.socket(), settings).await.unwrap_err();
            let is_rejection = matches!(
                &error,
                AddError::Connect {
                    source: ConnectError::SettingsRefused(_) | ConnectError::HandshakeRefused(_),
                    ..
                }
            );
            assert!(is_rejection, "{wire:?}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(AGENT) && text.contains(reason), "{text}");
            let events = peer.kill().await;
            assert!(
                events
                    .iter()
                    .all(|logged| logged.event != "request_headers")
            );
        }
    }
}

#[tokio::test]
async fn changed_settings_that_a_zentinel_agent_rejects_do_not_replace_the_former_ones() {
    for wire in WIRES {
        let peer = wire.start(Version::V0_6_54).await;
        let (pool, settings) = (pool(1), json!({"mode": "strict"}));
        let agent = add(&pool, peer.socket(), settings.clone()).await.unwrap();
        let rejected = agent.configure(json!({"reject": true}), None).await;
        let is_rejection = matches!(rejected, Err(CallError::SettingsRefused { .. }));
        assert!(is_rejection, "{wire:?}: {rejected:?}");
        assert_eq!(agent.settings().unwrap()["config"], settings);
    }
}

/// Those that do not report settings to their handler answer the ping all the same.
#[tokio::test]
async fn tollgate_pool_uses_zentinel_agents_of_every_version() {
    for wire in WIRES {
        for version in selected_versions() {
            let peer = wire.start(version).await;
            let pool = pool(1);
            let agent = add(&pool, peer.socket(), json!({"mode": "strict"})).await;
            let agent = agent.unwrap_or_else(|error| panic!("{version} {wire:?}: {error}"));
            agent
                .send("c", &events::request_headers("c", "/allow"))
                .await
                .unwrap();
        }
    }
}
