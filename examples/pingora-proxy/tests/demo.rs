//! Runs the demonstration.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::process::Command;

#[test]
fn demonstration_succeeds() {
    let output = Command::new(env!("CARGO_BIN_EXE_pingora-proxy"))
        .arg("demo")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    for line in [
        "# blocked by its path",
        "< 503 Service Unavailable",
        "< 302 Found",
        "# the agent is back",
        "all responses are as expected",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
}
