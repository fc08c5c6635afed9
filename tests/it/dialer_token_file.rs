//! A token file that cannot be read at once does not block the agent's runtime.

use crate::common::{RawAgent, TEST_TIMEOUT, dial_with};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::Builder;

/// Dials a proxy with a token file that blocks, and stops the dialer.
async fn dial_and_stop(token_file: &Path) {
    let proxy = RawAgent::listen();
    let agent = dial_with(|dialer| {
        dialer
            .dial(proxy.path.display().to_string())
            .connect_timeout(Duration::from_millis(50))
            .reconnect_interval(Duration::from_millis(10))
            .token_file(token_file)
    });
    // Each timed-out registration is followed by a new connection.
    for _ in 0..3 {
        proxy.accept().await;
    }
    agent.stop().await;
}

#[test]
fn blocking_token_file_does_not_block_the_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("token");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let (done, is_done) = mpsc::channel();
    let token_file = fifo.clone();
    let dialer = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(dial_and_stop(&token_file));
        done.send(()).unwrap();
    });
    let in_time = is_done.recv_timeout(TEST_TIMEOUT);
    // Ends the read: the runtime waits for its blocking tasks when it is dropped.
    drop(
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&fifo)
            .unwrap(),
    );
    dialer.join().unwrap();
    assert!(in_time.is_ok(), "the token file blocks the runtime");
}
