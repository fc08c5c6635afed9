//! Files with the token of an agent that dials: slow ones, and those that others can read.

use crate::common::{Proxy, RawAgent, Recorder, TEST_TIMEOUT, dial_with};
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
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

#[tokio::test]
async fn token_file_that_all_users_can_read_is_logged() {
    let recorder = Recorder::of("tollgate::agent::dial");
    // The file is read on a thread of its own. Other tests do not use the default of all threads.
    tracing::subscriber::set_global_default(recorder.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    for (mode, is_logged) in [(0o600, false), (0o640, false), (0o644, true)] {
        let file = folder.path().join(format!("token-{mode:o}"));
        std::fs::write(&file, "token").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let agent = dial_with(|dialer| dialer.dial(&proxy.endpoint).token_file(&file));
        proxy.expect_connections("agent", 1).await;
        let logged = recorder.count(&format!("mode=\"{mode:04o}\""));
        assert_eq!(logged, usize::from(is_logged), "{mode:o}");
        agent.stop().await;
    }
}
