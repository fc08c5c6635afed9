//! The command over gRPC.
#![cfg(feature = "grpc")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// An agent that is killed with the test.
struct Agent {
    child: Child,
    endpoint: String,
}

impl Agent {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args([
                "agent",
                "--listen",
                "grpc://127.0.0.1:0",
                "--block-path",
                "/admin",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut line = String::new();
        let stderr = child.stderr.take().expect("stderr");
        BufReader::new(stderr).read_line(&mut line).expect("a line");
        let endpoint = line.trim().strip_prefix("listening on ").expect(&line);
        Self {
            endpoint: endpoint.to_owned(),
            child,
        }
    }

    fn run(&self, args: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args([args[0], &self.endpoint, "--json"])
            .args(&args[1..])
            .output()
            .expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_command_takes_a_grpc_endpoint() {
    let agent = Agent::start();
    let probed = agent.run(&["probe"]);
    assert_eq!(probed["encoding"], "protobuf", "{probed}");
    for (uri, decision) in [("/admin", "block"), ("/", "allow")] {
        let sent = agent.run(&["send", "--uri", uri]);
        assert_eq!(sent["decision"], decision, "{sent}");
    }
    let load = agent.run(&["load", "--requests", "2000", "--concurrency", "16"]);
    assert_eq!(
        (&load["requests"], &load["errors"]),
        (&2000.into(), &0.into()),
        "{load}"
    );
}
