# Sourced by scripts in bash, which run in the repository's root.

nightly=nightly-x86_64-unknown-linux-gnu
# The first toolchain that builds the workspace.
msrv=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml).0

# Versions of Envoy that the tests run with: in each test run, and by `scripts/envoy-oldest`.
envoy_newest=1.40.0
envoy_oldest=1.36.2

# executable NAME: prints the path of a program, from the messages of `cargo build` in JSON.
executable() {
  sed -n "/\"name\":\"$1\"/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -n 1
}
