//! The configurations that examples come with.

use crate::proxy::binary;
use std::path::Path;
use std::process::Command;

#[test]
fn envoy_accepts_the_configuration_of_the_example() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/waf.yaml");
    let mut envoy = Command::new(binary());
    envoy
        .args(["--mode", "validate", "-l", "error", "-c"])
        .arg(file);
    let output = envoy.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
