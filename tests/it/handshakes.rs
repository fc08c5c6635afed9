//! Handlers see the handshake of a proxy, and may refuse it.

use crate::common::{config, request, serve_handler};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tollgate::error::{AddError, ConnectError};
use tollgate::{AgentCapabilities, AgentConfig, AgentHandler, AgentPool, Encoding, Handshake};

/// Notes the handshakes, and refuses those whose settings say so.
#[derive(Clone, Default)]
struct Doorman(Arc<Mutex<Vec<String>>>);

impl AgentHandler for Doorman {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("doorman", "Doorman", "1.0.0")
    }

    async fn on_handshake(&self, handshake: Handshake<'_>) -> Result<(), String> {
        assert_eq!(handshake.supported_versions, [2]);
        let (proxy, version) = (handshake.proxy_id, handshake.proxy_version);
        let seen = format!("{proxy} {version} {}", handshake.config);
        self.0.lock().unwrap().push(seen);
        match handshake.config["refuse"].as_str() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(()),
        }
    }
}

#[tokio::test]
async fn handler_sees_who_connects_and_with_which_settings() {
    let encodings = [
        Encoding::MessagePack,
        Encoding::Json,
        #[cfg(feature = "grpc")]
        Encoding::Protobuf,
    ];
    for encoding in encodings {
        let (folder, doorman) = (tempfile::tempdir().unwrap(), Doorman::default());
        let (endpoint, _) = serve_handler(encoding, &folder, doorman.clone()).await;
        let endpoint = endpoint.display().to_string();
        let named = config(encoding)
            .connections_per_agent(1)
            .proxy_id(Some("gateway".to_owned()));
        let pool = AgentPool::with_config(named);
        let agent = AgentConfig::new("agent", &endpoint).require_connection();
        let agent = pool
            .add(agent.settings(json!({"a": 1}), None))
            .await
            .unwrap();
        agent.send("c-1", &request("c-1", "/")).await.unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let seen = format!(r#"gateway {version} {{"a":1}}"#);
        assert_eq!(*doorman.0.lock().unwrap(), [seen], "{encoding}");

        let refused = AgentConfig::new("other", &endpoint).require_connection();
        let refused = refused.settings(json!({"refuse": "closed today"}), None);
        let error = pool.add(refused).await.unwrap_err();
        let AddError::Connect { source, .. } = error else {
            panic!("{encoding}: {error:?}");
        };
        assert!(
            matches!(&source, ConnectError::HandshakeRefused(reason) if reason == "closed today"),
            "{encoding}: {source:?}"
        );
    }
}
