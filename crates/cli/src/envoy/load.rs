//! `tollgate load` on an agent for Envoy: each request is a stream, spread over the connections.

use super::connect;
use crate::connect::Target;
use crate::driver::{Length, Measurement, Run, drive_workers};
use crate::options::LoadOptions;
use crate::tally::Tally;
use crate::traffic::{Request, RequestList};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tollgate::Decision;
use tollgate_envoy::caller::{CallerError, EnvoyCaller};

/// Pause after a request that failed, since some fail at once.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Sends requests, as many at a time as the options say, and measures them.
pub(crate) async fn drive(
    target: &Target,
    request_list: RequestList,
    length: Length,
    options: &LoadOptions,
) -> anyhow::Result<Measurement> {
    let mut callers = Vec::new();
    for _ in 0..options.connections().min(options.concurrency()) {
        callers.push(connect(target, options.timeout()).await?);
    }
    let run = Arc::new(Run::new(request_list, options.concurrency(), length));
    let callers = callers.iter().cycle().take(options.concurrency());
    let workers = callers.map(|caller| work(caller.clone(), Arc::clone(&run), options.timeout()));
    drive_workers(&run, workers.collect()).await
}

async fn work(mut caller: EnvoyCaller, run: Arc<Run>, limit: Duration) -> Tally {
    let mut tally = Tally::new();
    run.begin().await;
    while let Some(number) = run.next() {
        let began = Instant::now();
        let asked = timeout(limit, ask(&mut caller, run.request(number))).await;
        let cause = match asked {
            Ok(Ok(decision)) => {
                tally.record(&decision, began.elapsed());
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("timed out after {limit:?}"),
        };
        tally.errors += 1;
        run.record_cause(cause);
        sleep(PAUSE_AFTER_FAILURE).await;
    }
    tally
}

/// Sends one request, until the agent decides against it.
async fn ask(caller: &mut EnvoyCaller, request: &Request) -> Result<Decision, CallerError> {
    let mut call = caller.begin().await?;
    let mut head = vec![
        (":method", request.method()),
        (":path", request.uri()),
        (":scheme", "https"),
        (":authority", crate::browsers::SITE),
    ];
    let fields = request.headers().iter();
    head.extend(fields.map(|(name, value)| (&**name, &**value)));
    let chunks = request.chunks();
    let answer = call.request_headers(&head, chunks.is_empty()).await?;
    let mut decision = answer.response.decision;
    if answer.skips_request_body {
        return Ok(decision);
    }
    for chunk in chunks {
        if decision != Decision::Allow {
            break;
        }
        let answer = call.request_body(&chunk.data, chunk.is_last).await?;
        decision = answer.response.decision;
    }
    Ok(decision)
}
