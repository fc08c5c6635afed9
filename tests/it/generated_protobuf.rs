//! The checked-in code and descriptor of `proto/agent_v2.proto` are up to date.
//!
//! `TOLLGATE_REGENERATE=1 cargo test --features grpc --test generated_protobuf` regenerates them.
use prost::Message;
use std::fs;
use std::path::Path;

const PROTO: &str = "proto/agent_v2.proto";
const DESCRIPTOR: &str = "proto/agent_v2.bin";
const CODE: &str = "src/wire/protobuf/generated.rs";

#[test]
fn generated_files_are_up_to_date() {
    let descriptors = protox::compile([PROTO], ["proto"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .out_dir(folder.path())
        .compile_fds(descriptors.clone())
        .unwrap();
    let code = fs::read(folder.path().join("zentinel.agent.v2.rs")).unwrap();
    check(CODE, &code);
    check(DESCRIPTOR, &descriptors.encode_to_vec());
}

fn check(file: &str, expected: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("TOLLGATE_REGENERATE").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read(&path).unwrap_or_default();
    assert!(found == expected, "{file} is out of date with {PROTO}");
}
