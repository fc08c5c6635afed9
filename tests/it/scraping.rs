//! Scrapes under load agree with the counts of the callers.

use crate::common::{config, request, serve};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tollgate::{AgentPool, CallError, Decision, Encoding};

const CALLERS: u64 = 8;
const CALLS_EACH: u64 = 500;

/// Outcomes as counted by the callers.
#[derive(Default)]
struct Outcomes {
    allowed: AtomicU64,
    blocked: AtomicU64,
    timed_out: AtomicU64,
}

async fn make_calls(pool: AgentPool, caller: u64, seen: Arc<Outcomes>) {
    for call in 0..CALLS_EACH {
        let id = format!("{caller}-{call}");
        let uri = match call % 50 {
            0 => "/wait",
            n if n % 5 == 1 => "/block",
            _ => "/",
        };
        let event = request(&id, uri);
        let answer = if uri == "/wait" {
            let short = Duration::from_millis(2);
            pool.agent("agent")
                .unwrap()
                .send(&id, &event)
                .timeout(short)
                .await
        } else {
            pool.agent("agent").unwrap().send(&id, &event).await
        };
        let count = match answer.map(|answer| answer.decision) {
            Ok(Decision::Allow) => &seen.allowed,
            Ok(Decision::Block { .. }) => &seen.blocked,
            Err(CallError::Timeout { .. }) => &seen.timed_out,
            other => panic!("{other:?}"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        pool.unpin(&id);
    }
}

/// Returns the value of one series.
fn value(text: &str, series: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let line = line.unwrap_or_else(|| panic!("{series} is not exported"));
    line.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_match_the_load_while_scraped() {
    let agent = serve().await;
    let config = config(Encoding::MessagePack).connections_per_agent(2);
    let pool = crate::common::pool_with(config, &agent.path).await;
    let metrics = pool.metrics();
    let is_finished = Arc::new(AtomicBool::new(false));

    let scraping = {
        let (metrics, is_finished) = (metrics.clone(), Arc::clone(&is_finished));
        std::thread::spawn(move || {
            let mut last = [0; 3];
            let mut scrapes = 0;
            while !is_finished.load(Ordering::Relaxed) {
                let text = metrics.to_prometheus("t");
                let made = value(&text, "t_requests_total ");
                let answered = value(&text, "t_responses_total ");
                let timed_out = value(&text, "t_timeouts_total ");
                let in_flight = value(&text, "t_in_flight_requests ");
                let now = [made, answered, timed_out];
                assert!(now.iter().zip(&last).all(|(now, last)| now >= last));
                assert_eq!(made, answered + timed_out + in_flight);
                // Calls that end while the counts are read still seem to be in flight.
                assert!(in_flight <= made - last[0] + CALLERS, "{in_flight}");
                last = now;
                scrapes += 1;
            }
            scrapes
        })
    };

    let seen = Arc::new(Outcomes::default());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(make_calls(pool.clone(), caller, Arc::clone(&seen))))
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }

    is_finished.store(true, Ordering::Relaxed);
    assert!(scraping.join().unwrap() > 0);

    let text = metrics.to_prometheus("t");
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (allowed, blocked) = (count(&seen.allowed), count(&seen.blocked));
    assert_eq!(value(&text, "t_requests_total "), CALLERS * CALLS_EACH);
    assert_eq!(value(&text, "t_responses_total "), allowed + blocked);
    assert_eq!(value(&text, "t_timeouts_total "), count(&seen.timed_out));

    let decided = |decision: &str| {
        let series =
            format!("t_agent_decisions_total{{agent_id=\"agent\",decision=\"{decision}\"}} ");
        value(&text, &series)
    };
    assert_eq!((decided("allow"), decided("block")), (allowed, blocked));

    assert_eq!(value(&text, "t_in_flight_requests "), 0);
    let durations = value(&text, "t_request_duration_seconds_count ");
    assert_eq!(durations, CALLERS * CALLS_EACH);
    assert!(count(&seen.timed_out) > 0);
}
