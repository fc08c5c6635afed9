//! `tollgate load` on an agent for HAProxy: each connection has its share of the requests in
//! flight.

use super::question::Prepared;
use super::{connect, within};
use crate::correlation_id::CorrelationId;
use crate::driver::{Length, Measurement, Run, drive_workers};
use crate::options::LoadOptions;
use crate::tally::Tally;
use crate::traffic::{Request, RequestList};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tollgate::Decision;
use tollgate_haproxy::client::{ClientError, SpopClient};
use tollgate_haproxy::wire::{Action, Actions, Malformed};

/// Sends requests, as many at a time as the options say, and measures them.
pub(crate) async fn drive(
    endpoint: &str,
    request_list: RequestList,
    length: Length,
    options: &LoadOptions,
) -> anyhow::Result<Measurement> {
    let requests: Arc<[Prepared]> = request_list.requests().iter().map(prepare).collect();
    let connections = options.connections().min(options.concurrency());
    let run = Arc::new(Run::new(request_list, connections, length));
    let mut workers = Vec::with_capacity(connections);
    for number in 0..connections {
        let share = options.concurrency() / connections;
        let extra = usize::from(number < options.concurrency() % connections);
        let worker = Worker {
            endpoint: endpoint.to_owned(),
            client: connect(endpoint, options.timeout()).await?,
            requests: Arc::clone(&requests),
            time_limit: options.timeout(),
            open: vec![Instant::now(); share + extra],
            id: CorrelationId::new(run.nonce()),
            tally: Tally::new(),
        };
        workers.push(worker.run(Arc::clone(&run)));
    }
    drive_workers(&run, workers).await
}

fn prepare(request: &Request) -> Prepared {
    let mut body = Vec::new();
    for chunk in request.chunks() {
        body.extend_from_slice(&chunk.data);
    }
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (&**name, &**value));
    Prepared::new(request.method(), request.uri(), headers, body)
}

/// A connection with its requests in flight.
struct Worker {
    endpoint: String,
    client: SpopClient,
    requests: Arc<[Prepared]>,
    time_limit: Duration,
    /// Begin of the request in each of its streams.
    open: Vec<Instant>,
    id: CorrelationId,
    tally: Tally,
}

impl Worker {
    async fn run(mut self, run: Arc<Run>) -> Tally {
        run.begin().await;
        let mut in_flight = 0;
        let outcome = self.serve(&run, &mut in_flight).await;
        if let Err(cause) = outcome {
            // The connection is of no use any more.
            for _ in 0..in_flight.max(1) {
                self.tally.errors += 1;
                run.record_cause(cause.clone());
            }
            run.stop();
        }
        self.tally
    }

    async fn serve(&mut self, run: &Run, in_flight: &mut usize) -> Result<(), String> {
        for stream in 0..self.open.len() {
            if self.begin(run, stream)? {
                *in_flight += 1;
            }
        }
        while *in_flight > 0 {
            let answer = self.client.next_answer(decision_of);
            let answer = within(&self.endpoint, self.time_limit, answer).await;
            let (stream, decision) = answer.map_err(|failure| failure.cause().to_owned())?;
            let stream = usize::try_from(stream).unwrap_or(usize::MAX);
            let began = self.open.get(stream).ok_or("an answer to no question")?;
            self.tally.record(&decision, began.elapsed());
            *in_flight -= 1;
            if self.begin(run, stream)? {
                *in_flight += 1;
            }
        }
        Ok(())
    }

    /// Begins the next request in a stream, if there is one.
    fn begin(&mut self, run: &Run, stream: usize) -> Result<bool, String> {
        let Some(number) = run.next() else {
            return Ok(false);
        };
        let at = (number % self.requests.len() as u64) as usize;
        self.open[stream] = Instant::now();
        let id = self.id.for_request(number);
        let queued = self.requests[at].queue(&mut self.client, stream as u64, id);
        queued.map_err(|error: ClientError| error.to_string())?;
        Ok(true)
    }
}

/// Reads the decision of an answer without keeping anything of it.
fn decision_of(payload: &[u8]) -> Result<Decision, Malformed> {
    let mut actions = Actions::new(payload);
    let mut decision = denial();
    while let Some(action) = actions.read_next()? {
        if let Action::SetVar {
            name: b"action",
            value,
            ..
        } = action
        {
            decision = match value.as_bytes() {
                Some(b"allow") => Decision::Allow,
                Some(b"redirect") => Decision::Redirect {
                    url: String::new(),
                    status: 302,
                },
                _ => denial(),
            };
        }
    }
    Ok(decision)
}

const fn denial() -> Decision {
    Decision::Block {
        status: 403,
        body: None,
        headers: None,
    }
}
