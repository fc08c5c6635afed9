use super::*;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

fn take_one(free: &AtomicUsize) -> Option<()> {
    free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| {
        free.checked_sub(1)
    })
    .ok()
    .map(drop)
}

#[tokio::test]
async fn oldest_waiter_is_woken_first() {
    let queue = Arc::new(WaitQueue::default());
    let free = Arc::new(AtomicUsize::new(0));
    let (acquired, mut order) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..10 {
        let (queue, free, acquired) = (queue.clone(), free.clone(), acquired.clone());
        tokio::spawn(async move {
            queue.acquire(|| take_one(&free)).await;
            acquired.send(n).unwrap();
        });
        tokio::task::yield_now().await;
    }
    for n in 0..10 {
        assert!(queue.try_acquire(|| take_one(&free)).is_none());
        free.fetch_add(1, Ordering::SeqCst);
        queue.notify_one();
        assert_eq!(order.recv().await, Some(n));
    }
}

#[tokio::test]
async fn next_waiter_is_woken_if_the_head_is_aborted() {
    let queue = Arc::new(WaitQueue::default());
    let free = Arc::new(AtomicUsize::new(0));
    let waiting = |queue: Arc<WaitQueue>, free: Arc<AtomicUsize>| {
        tokio::spawn(async move { queue.acquire(|| take_one(&free)).await })
    };
    let first = waiting(queue.clone(), free.clone());
    tokio::task::yield_now().await;
    let second = waiting(queue.clone(), free.clone());
    tokio::task::yield_now().await;
    free.store(1, Ordering::SeqCst);
    queue.notify_one();
    first.abort();
    second.await.unwrap();
}
