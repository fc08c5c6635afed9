use super::connection::SocketConnection;
use super::{ANY_ID, Connections, agent, frame};
use crate::engine;
use anyhow::Context;
use serde_json::json;
use std::path::PathBuf;
use tokio::net::{UnixListener, UnixStream};
use tollgate_load_driver::{CONNECTIONS, Subject, Traffic};

/// The floor over Unix sockets.
pub(crate) struct Sockets;

impl Subject for Sockets {
    type Proxy = Connections<SocketConnection>;
    type Address = PathBuf;

    async fn serve(&self, socket: PathBuf) -> anyhow::Result<()> {
        let listener = UnixListener::bind(socket)?;
        // The answer of tollgate's agent.
        let allow = json!({"version": 2, "decision": "allow"});
        let answer = frame::of(&rmp_serde::to_vec(&allow)?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(agent::serve(stream, answer.clone()));
        }
    }

    async fn connect(&self, socket: &PathBuf, traffic: &Traffic) -> anyhow::Result<Self::Proxy> {
        let head = rmp_serde::to_vec_named(&engine::head(ANY_ID).to_event())?;
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let stream = UnixStream::connect(socket).await.context("no connection")?;
            connections.push(SocketConnection::spawn(stream));
        }
        let head = frame::of(&head);
        Ok(Connections::new(connections, head, traffic, |body| {
            frame::of(body)
        }))
    }
}
