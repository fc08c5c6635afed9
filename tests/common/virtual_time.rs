use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::sleep;

/// Runs a test whose waits take no real time, if the library is built with the feature `__sim`.
/// Otherwise they do.
///
/// Both sides of every socket have to be in the test, and the sockets Unix sockets: what one side
/// has sent can be read by the other at once. Tokio's clock advances only while all tasks wait. A
/// task that sleeps for a millisecond again and again limits the advance. The library's clock
/// follows it; tests have to take the time from [`tokio::time::Instant`] as well.
pub fn in_virtual_time(test: impl Future<Output = ()>) {
    #[cfg(feature = "__sim")]
    tollgate::sim::clock::start(std::time::SystemTime::now());
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(cfg!(feature = "__sim"))
        .build();
    runtime.unwrap().block_on(async {
        #[cfg(feature = "__sim")]
        tollgate::sim::clock::enter(Duration::ZERO);
        tokio::spawn(async {
            loop {
                sleep(Duration::from_millis(1)).await;
            }
        });
        test.await;
    });
    #[cfg(feature = "__sim")]
    tollgate::sim::clock::stop();
}
