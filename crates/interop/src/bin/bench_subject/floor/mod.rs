//! What bare sockets allow: the same bytes in the same batches, and nothing else. Answers come in the order
//! of the requests, so there are no ids; nobody looks into a frame, sets a deadline or counts anything.

mod agent;
mod connection;
mod frame;
mod waiter;

use crate::engine;
use anyhow::Context;
use bytes::Bytes;
use connection::Connection;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tollgate_load_driver::{CONNECTIONS, Caller, Proxy, Subject, Traffic};
use waiter::Waiter;

/// As long as the ids of the driver.
const ANY_ID: &str = "request-00000000-000000000000000000";

/// The floor below any engine.
pub(crate) struct Floor;

impl Subject for Floor {
    type Proxy = Connections;

    async fn serve(&self, socket: PathBuf) -> anyhow::Result<()> {
        let listener = UnixListener::bind(socket)?;
        // As tollgate's agent puts it.
        let allow = json!({"version": 2, "decision": "allow"});
        let answer = frame::of(&rmp_serde::to_vec(&allow)?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(agent::serve(stream, answer.clone()));
        }
    }

    async fn connect(&self, socket: &Path, traffic: &Traffic) -> anyhow::Result<Connections> {
        let head = rmp_serde::to_vec_named(&engine::head(ANY_ID).to_event())?;
        let frames = std::iter::once(&head[..])
            .chain(traffic.body.as_deref())
            .map(frame::of)
            .collect();
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let stream = UnixStream::connect(socket).await.context("no connection")?;
            connections.push(Connection::drive(stream));
        }
        Ok(Connections {
            connections: connections.into(),
            frames,
        })
    }
}

pub(crate) struct Connections {
    connections: Arc<[Arc<Connection>]>,
    frames: Arc<[Bytes]>,
}

impl Proxy for Connections {
    type Caller = FloorCaller;

    fn encoding(&self) -> &'static str {
        "none"
    }

    fn caller(&self, number: usize) -> FloorCaller {
        FloorCaller {
            connections: Arc::clone(&self.connections),
            turn: number,
            frames: Arc::clone(&self.frames),
            waiter: Arc::default(),
        }
    }
}

pub(crate) struct FloorCaller {
    connections: Arc<[Arc<Connection>]>,
    /// Connections are used in turn.
    turn: usize,
    /// What a request consists of, each sent when the one before it was answered.
    frames: Arc<[Bytes]>,
    waiter: Arc<Waiter>,
}

impl Caller for FloorCaller {
    async fn call(&mut self, _id: &str) -> anyhow::Result<()> {
        self.turn = (self.turn + 1) % self.connections.len();
        for frame in &*self.frames {
            self.connections[self.turn].put(frame, &self.waiter);
            self.waiter.answered().await;
        }
        Ok(())
    }
}
