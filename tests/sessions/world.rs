//! Peers and working agents, for all targets.

use crate::agent::{CALLS, Calls, Marks, ask};
use crate::damage::{Plan, plan};
use crate::input::Script;
use crate::peer::play;
use crate::recording::{Session, Side};
use crate::run::{Checked, eventually};
use crate::stream::{Accepted, PeerListener, PeerStream, socket_path, text};
use crate::units::{Framing, split_frames, split_http2};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tollgate::{Agent, AgentConfig, AgentPool, AgentPoolConfig, AgentServer};

/// Time limit for whatever the library does by itself after a connection has ended.
pub const SOON: Duration = Duration::from_secs(1);

/// Time that an agent has to accept its settings on a new connection, which a shutdown does not cut
/// short.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);

const ANSWER: u8 = 0x20;

/// Types of the frames that are sent.
const KNOWN: [u8; 21] = [
    0x01, 0x02, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x30, 0x31, 0x32, 0x33, 0x40, 0x41,
    0x42, 0x60, 0x61, 0x62, 0x63,
];

/// Peers that play the scripts of an input in turns.
pub struct Peers {
    pub scripts: Vec<Script>,
    plans: Vec<Plan>,
    /// All that the plans send.
    sent: Vec<u8>,
    side: Side,
    /// Number of connections that were played to their end.
    played: AtomicUsize,
    /// `true` if the first recorded session has the extension.
    pub has_streams: bool,
    /// `true` if an answer has to name the call that it is for.
    names_calls: bool,
    /// Smallest number of answers if the first script changes nothing, otherwise 0.
    expected: usize,
    /// Number of answers that calls got, or that peers received.
    answers: AtomicUsize,
}

impl Peers {
    /// Creates peers that send one side of sessions.
    pub fn new(scripts: Vec<Script>, sessions: &[Session], side: Side) -> Arc<Self> {
        let of = |number: u8| &sessions[usize::from(number) % sessions.len()];
        let plans: Vec<Plan> = scripts
            .iter()
            .map(|script| {
                let other = of(script.session.wrapping_add(1));
                plan(of(script.session).units(side), other.units(side), script)
            })
            .collect();
        let has_ids = |script: &Script| !of(script.session).has_streams;
        let names_calls = scripts.iter().all(has_ids) && plans.iter().all(|one| !one.is_damaged);
        let expected = if scripts[0].changes_nothing() {
            CALLS
        } else {
            0
        };
        Arc::new(Self {
            has_streams: of(scripts[0].session).has_streams,
            sent: plans.iter().flat_map(Plan::bytes).collect(),
            scripts,
            plans,
            side,
            played: AtomicUsize::new(0),
            names_calls,
            expected,
            answers: AtomicUsize::new(0),
        })
    }

    /// Plays one script on a connection, if there is one, and counts the answers to it. Fails if
    /// something else than messages was received.
    pub async fn play(&self, number: usize, peer: Option<PeerStream>, framing: Framing) -> Checked {
        let number = number % self.scripts.len();
        let (plan, script) = (&self.plans[number], &self.scripts[number]);
        let mut received = Vec::new();
        if let Some(peer) = peer {
            received = play(peer, plan, script).await;
        }
        let answers = answers(&received, framing)?;
        if number == 0 && self.side == Side::Proxy {
            self.answers.fetch_add(answers, Ordering::Relaxed);
        }
        self.played.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Checks that there are answers to all that an unchanged session asks.
    pub fn check_answers(&self) -> Checked {
        let answers = self.answers.load(Ordering::Relaxed);
        if answers < self.expected {
            return Err(format!("an unchanged session has {answers} answers only"));
        }
        Ok(())
    }

    /// Accepts connections and plays the scripts in turns on them, until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: PeerListener, framing: Framing) {
        let mut connections = JoinSet::new();
        for number in 0.. {
            let accepted = accept(&listener, &mut connections).await;
            let peers = Arc::clone(&self);
            connections.spawn(async move {
                let script = &peers.scripts[number % peers.scripts.len()];
                let peer = accepted.secure(script.tls_edit).await;
                let played = peers.play(number, peer, framing).await;
                played.expect("messages are received");
            });
        }
    }

    /// Returns whether the script with a number was played to its end, if they are played in turns.
    pub fn has_played(&self, number: usize) -> bool {
        self.played.load(Ordering::Relaxed) > number
    }

    /// Returns whether each script was played to its end.
    pub fn are_done(&self) -> bool {
        self.has_played(self.scripts.len() - 1)
    }

    fn sends(&self, text: &str) -> bool {
        memchr::memmem::find(&self.sent, text.as_bytes()).is_some()
    }

    /// Makes the recorded calls to the peers' agent. An answer must be one that was sent.
    pub async fn call(&self, pool: &AgentPool) -> Checked {
        let check = |id: &str, mark: Option<&str>| match mark {
            Some(mark) if self.names_calls && mark != id => {
                Err(format!("the answer to {id} is one to {mark}"))
            }
            // A backslash in JSON may stand for a character that was not sent as such.
            Some(mark) if !self.sends(mark) && !self.sends("\\") => Err(format!(
                "the answer to {id} has the mark {mark}, which nobody sent"
            )),
            None if self.names_calls => Err(format!("the answer to {id} has no mark")),
            _ => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        };
        let Some(agent) = pool.agent("agent") else {
            return Ok(());
        };
        let calls = Calls {
            pool,
            agent: &agent,
            check: &check,
        };
        calls.make().await
    }
}

/// Accepts a connection, and forgets those that have ended.
async fn accept(listener: &PeerListener, connections: &mut JoinSet<()>) -> Accepted {
    loop {
        tokio::select! {
            accepted = listener.accept() => return accepted,
            Some(ended) = connections.join_next() => ended.expect("no panic"),
        }
    }
}

/// Counts the answers in what was received. Checks that it is a sequence of frames, whatever was
/// sent. The last frame may be cut off.
fn answers(received: &[u8], framing: Framing) -> Checked<usize> {
    if framing == Framing::Http2 {
        return Ok(split_http2(received)
            .iter()
            .filter(|unit| unit.is_message())
            .count());
    }
    let mut answers = 0;
    for frame in split_frames(received) {
        match frame.bytes.first() {
            Some(&ANSWER) => answers += 1,
            Some(message) if KNOWN.contains(message) => {}
            message => return Err(format!("a frame of type {message:?} was received")),
        }
    }
    Ok(answers)
}

/// A pool and an agent that works.
pub struct Good {
    pub pool: Arc<AgentPool>,
    pub agent: Agent,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Good {
    /// Starts an agent named `good`, and a pool that is connected to it.
    pub async fn start(config: AgentPoolConfig) -> Checked<Self> {
        let path = socket_path("good");
        let server = AgentServer::builder(Marks).listen(path.display().to_string());
        let bound = server.bind().await.map_err(text)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            bound.serve_until(stopped).await.expect("a listener");
        });
        let pool = Arc::new(AgentPool::with_config(config));
        let agent = AgentConfig::new("good", path.display().to_string());
        let agent = pool.add(agent).await.map_err(text)?;
        Ok(Self {
            pool,
            agent,
            stop,
            served,
        })
    }

    /// Shuts everything down. Afterwards the pool has counted the end of every call.
    pub async fn end(self) -> Checked {
        close(&self.pool).await?;
        drop(self.stop);
        let served = timeout(SOON, self.served).await;
        served
            .map_err(|_| "the good agent does not end".to_owned())?
            .map_err(text)
    }
}

/// Shuts a pool down.
pub async fn close(pool: &AgentPool) -> Checked {
    let shutdown = timeout(SOON, pool.shutdown()).await;
    shutdown.map_err(|_| "the pool does not shut down".to_owned())?;
    let calls = || pool.metrics().snapshot().total.calls;
    eventually(
        "every call has ended",
        SETTINGS_TIMEOUT + SOON,
        async || calls().made == calls().ended(),
    )
    .await
    .map_err(|error| format!("{error}: {:?}", calls()))
}

/// Asks a working agent again and again until `work` is done, and once more afterwards.
pub async fn while_asking<T>(
    pool: &AgentPool,
    agent: &Agent,
    work: impl Future<Output = Checked<T>>,
) -> Checked<T> {
    let asking = async {
        loop {
            if let Err(text) = ask(pool, agent).await {
                return text;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::select! {
        done = work => done?,
        text = asking => return Err(text),
    };
    ask(pool, agent).await?;
    Ok(done)
}
