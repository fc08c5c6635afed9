//! The command over gRPC.

use crate::support::{Agent, run, succeeds};
use serde_json::Value;

#[test]
fn every_command_takes_a_grpc_endpoint() {
    let agent = Agent::start("grpc://127.0.0.1:0", &["--block-path", "/admin"]);
    works(agent.endpoint(), &[]);
}

/// Checks that `probe`, `send` and `load` work with these options on an agent that blocks `/admin`.
pub(crate) fn works(endpoint: &str, options: &[&str]) {
    let json_of = |command: &[&str]| -> Value {
        let args = [&command[..1], &[endpoint, "--json"], options, &command[1..]];
        succeeds(run(&args.concat()))
    };
    let probed = json_of(&["probe"]);
    assert_eq!(probed["encoding"], "protobuf", "{probed}");
    for (uri, decision) in [("/admin", "block"), ("/", "allow")] {
        let sent = json_of(&["send", "--uri", uri]);
        assert_eq!(sent["decision"], decision, "{sent}");
    }
    let load = json_of(&["load", "--requests", "2000", "--concurrency", "16"]);
    assert_eq!(
        (&load["requests"], &load["errors"]),
        (&2000.into(), &0.into()),
        "{load}"
    );
}
