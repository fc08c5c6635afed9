# Sourced by the scripts beside it, which run in the repository's root.

out=target/profiling
mkdir -p "$out"

# build [CARGO OPTION...]: builds the tollgate command with frame pointers and line numbers, in a
# separate target folder.
build() {
  RUSTFLAGS="-C force-frame-pointers=yes" cargo build --release --target-dir "$out/build" "$@" >&2
  tollgate="$out/build/release/tollgate"
}

# start_agent [WRAPPER...]: starts an agent in the background that is ready at "$socket".
start_agent() {
  socket=$(mktemp -u -t tollgate-profiling-XXXXXX.sock)
  "$@" "$tollgate" agent --listen "$socket" >/dev/null 2>&1 &
  agent=$!
  trap 'stop_agent' EXIT
  until "$tollgate" probe "$socket" >/dev/null 2>&1; do
    kill -0 "$agent" 2>/dev/null || { echo "the agent did not start" >&2; exit 1; }
    read -rt 0.05 <> <(:) || true
  done
}

# SIGINT lets the agent end in an orderly way, and its wrapper write its results.
stop_agent() {
  pkill -INT -P "$agent" 2>/dev/null || kill -INT "$agent" 2>/dev/null || true
  wait "$agent" 2>/dev/null || true
  trap - EXIT
}
