//! The demonstration shows what it says.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::Command;

#[test]
fn the_demonstration_comes_out_as_it_should() {
    let shown = Command::new(env!("CARGO_BIN_EXE_pingora-proxy"))
        .arg("demo")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&shown.stdout);
    let errors = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success(), "{said}\n{errors}");
    for line in [
        "# blocked by its path",
        "< 503 Service Unavailable",
        "< 302 Found",
        "# the agent is back",
        "all as it should be",
    ] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
}
