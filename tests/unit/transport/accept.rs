use super::*;
use crate::transport::{HandshakeLimiter, PeerKey};
use futures_util::FutureExt;
use std::cell::Cell;
use std::future::ready;
use std::sync::Mutex;

#[tokio::test]
async fn oldest_connection_is_closed_if_no_descriptor_is_free() {
    for error in [EMFILE, ENFILE] {
        let limiter = Mutex::new(HandshakeLimiter::new(10));
        let mut oldest = lock(&limiter).enter(PeerKey::Unknown);
        let mut next = lock(&limiter).enter(PeerKey::Unknown);
        let is_free = Cell::new(false);
        let attempt = || {
            let full = io::Error::from_raw_os_error(error);
            ready(if is_free.get() { Ok(()) } else { Err(full) })
        };
        let closing = async {
            oldest.evicted().await;
            is_free.set(true);
            drop(oldest);
        };
        tokio::join!(biased; accept(&limiter, attempt), closing);
        assert!(next.evicted().now_or_never().is_none());
    }
}

#[tokio::test]
async fn connection_is_accepted_once_the_evicted_one_is_closed() {
    let limiter = Mutex::new(HandshakeLimiter::new(1));
    let evicted = lock(&limiter).enter(PeerKey::Unknown);
    let _new = lock(&limiter).enter(PeerKey::Unknown);
    let mut accepting = Box::pin(accept(&limiter, || ready(Ok(()))));
    assert!((&mut accepting).now_or_never().is_none());
    drop(evicted);
    assert!(accepting.now_or_never().is_some());
    assert!(accept(&limiter, || ready(Ok(()))).now_or_never().is_some());
}

#[tokio::test]
async fn other_errors_close_no_connection() {
    let limiter = Mutex::new(HandshakeLimiter::new(10));
    let mut slot = lock(&limiter).enter(PeerKey::Unknown);
    let is_tried = Cell::new(false);
    let attempt = || {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        ready(if is_tried.replace(true) {
            Ok(())
        } else {
            Err(reset)
        })
    };
    accept(&limiter, attempt).await;
    assert!(slot.evicted().now_or_never().is_none());
}
