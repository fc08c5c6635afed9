//! Callers that ask the agents of a pool without a pause, and record each outcome.

use crate::Failure;
use crate::answered::Recorder;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tollgate::{AgentPool, CallError, Metadata, RequestHeaders};

/// Time within which a good call has to be answered.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// Time limit of calls to hostile agents.
pub(crate) const HOSTILE_DEADLINE: Duration = Duration::from_millis(300);

/// Number of callers of each good agent.
pub(crate) const CALLERS: usize = 8;

/// Time between two calls of a caller.
const PAUSE: Duration = Duration::from_millis(5);

/// Callers of a process.
pub(crate) struct Callers {
    pool: Arc<AgentPool>,
    recorders: Vec<Arc<Recorder>>,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Callers {
    /// Starts the callers of good agents.
    pub(crate) fn start(pool: &Arc<AgentPool>, agents: &[&str]) -> Self {
        let mut callers = Self {
            pool: Arc::clone(pool),
            recorders: Vec::new(),
            tasks: Vec::new(),
            stop: Arc::default(),
        };
        for agent in agents {
            let recorder = callers.recorder(agent);
            for number in 0..CALLERS {
                callers.add(agent, number, DEADLINE, &recorder);
            }
        }
        callers
    }

    /// Returns a recorder whose calls are printed at the end.
    pub(crate) fn recorder(&mut self, name: &str) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder::of(name));
        self.recorders.push(Arc::clone(&recorder));
        recorder
    }

    /// Starts a caller.
    pub(crate) fn add(
        &mut self,
        agent: &str,
        number: usize,
        deadline: Duration,
        recorder: &Arc<Recorder>,
    ) {
        let pool = Arc::clone(&self.pool);
        let recorder = Arc::clone(recorder);
        let stop = Arc::clone(&self.stop);
        let agent = agent.to_owned();
        self.tasks.push(tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let id = format!("{agent}-{number}-{count}");
                count += 1;
                let began = Instant::now();
                let outcome = call(&pool, &agent, &id, deadline).await;
                recorder.record(began.elapsed(), outcome.err());
                sleep(PAUSE).await;
            }
        }));
    }

    /// Ends a phase at each line of standard input. Returns once that is closed.
    pub(crate) async fn run(&mut self, mut at_phase: impl AsyncFnMut(&mut Self, &str)) {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.recorders.iter().for_each(|each| each.end_phase());
            at_phase(self, &line).await;
        }
    }

    /// Stops the callers and prints what they saw.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?;
        }
        let courses = self.recorders.iter().map(|recorder| {
            recorder.end_phase();
            recorder.course().ok_or("the run has missed a phase")
        });
        let courses: Vec<_> = courses.collect::<Result<_, _>>()?;
        println!("{}", serde_json::to_string(&courses)?);
        Ok(())
    }
}

/// Waits until an agent has answered a call.
pub(crate) async fn first_answer(pool: &AgentPool, agent: &str) {
    while call(pool, agent, "first", DEADLINE).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the kind of the error if the call is not answered.
async fn call(
    pool: &AgentPool,
    agent: &str,
    id: &str,
    deadline: Duration,
) -> Result<(), &'static str> {
    let agent = pool.agent(agent).ok_or("not in the pool")?;
    let event = RequestHeaders {
        metadata: Metadata::default(),
        method: "GET",
        uri: "/",
        headers: &[("host", "example.com"), ("user-agent", "attack")][..],
    };
    let called = async {
        let mut exchange = agent.exchange(id)?;
        exchange.send(&event).timeout(deadline).await
    };
    called
        .await
        .map(|_| ())
        .map_err(|error: CallError| error.kind())
}
