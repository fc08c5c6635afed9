//! The descriptions that reflection serves.

use std::path::Path;

/// The files that are described.
const FILES: [&str; 4] = [
    "envoy/service/auth/v3/external_auth.proto",
    "envoy/service/ext_proc/v3/external_processor.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
];

/// Compares the descriptions with those that are checked in. `UPDATE=1` writes them.
#[test]
fn descriptions_are_those_of_the_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([&folder]).unwrap();
    compiler.include_imports(true);
    compiler.open_files(FILES).unwrap();
    let compiled = compiler.encode_file_descriptor_set();
    let file = folder.join("descriptors.bin");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &compiled).unwrap();
    }
    let checked_in = std::fs::read(&file).unwrap();
    assert!(checked_in == compiled, "run this test with UPDATE=1");
}
