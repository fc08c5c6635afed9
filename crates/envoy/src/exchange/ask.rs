//! Asks the handler, and watches Envoy and the clock meanwhile.

use super::{Exchange, Stop};
use crate::wire::more_time;
use bytes::Bytes;
use futures_util::FutureExt;
use http::StatusCode;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tollgate::{AgentResponse, CancelReason, Event};

/// Time after which Envoy is asked to wait longer. Its own limit is 200 ms by default.
const EXTEND_AFTER: Duration = Duration::from_millis(100);

/// Reason why an answer is not waited for any longer.
enum GivenUp {
    Gone,
    Late,
}

/// Something that happened while the handler worked.
enum Happened<T> {
    Answered(T),
    Gone,
    Due,
}

impl Exchange<'_> {
    /// Asks the handler about an event. The handler is dropped if Envoy ends the exchange.
    pub(super) async fn ask<E: Event>(&mut self, event: &E) -> Result<AgentResponse, Stop> {
        let (agent, id) = (self.agent, self.id);
        let outcome = {
            // The future is large, so it is pinned before anything is put around it.
            let asked = pin!(agent.session.ask(id.as_str(), event));
            let mut asked = AssertUnwindSafe(asked).catch_unwind();
            match poll_fn(|cx| Poll::Ready(asked.poll_unpin(cx))).await {
                Poll::Ready(outcome) => Ok(outcome),
                Poll::Pending => self.wait(&mut asked).await,
            }
        };
        // The future of the handler is gone by now.
        match outcome {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(not_asked))) => {
                tracing::debug!(%not_asked, "an event of Envoy does not fit the agent protocol");
                agent.counters().too_large.add_one();
                Err(Stop::Failed(StatusCode::PAYLOAD_TOO_LARGE))
            }
            Ok(Err(_)) => {
                agent.counters().panics.add_one();
                Err(Stop::Failed(StatusCode::INTERNAL_SERVER_ERROR))
            }
            Err(GivenUp::Gone) => {
                self.is_cancelled = true;
                agent.counters().cancelled.add_one();
                agent
                    .session
                    .cancel(id.as_str(), CancelReason::ClientDisconnect);
                Err(Stop::Gone)
            }
            Err(GivenUp::Late) => {
                agent.counters().timeouts.add_one();
                agent.session.cancel(id.as_str(), CancelReason::Timeout);
                Err(Stop::Failed(StatusCode::GATEWAY_TIMEOUT))
            }
        }
    }

    /// Waits for the handler, and asks Envoy once to wait as well.
    async fn wait<T>(&mut self, mut asked: impl Future<Output = T> + Unpin) -> Result<T, GivenUp> {
        let begun = Instant::now();
        let deadline = begun + self.agent.config().answer_timeout;
        let extends_at = begun + EXTEND_AFTER;
        let mut extends = self.is_timed_by_envoy() && extends_at < deadline;
        let mut timer = pin!(sleep_until(if extends { extends_at } else { deadline }));
        loop {
            let happened = poll_fn(|cx| {
                if let Poll::Ready(answer) = asked.poll_unpin(cx) {
                    return Poll::Ready(Happened::Answered(answer));
                }
                if self.stream.poll_gone(cx).is_ready() {
                    return Poll::Ready(Happened::Gone);
                }
                timer.as_mut().poll(cx).map(|()| Happened::Due)
            });
            match happened.await {
                Happened::Answered(answer) => return Ok(answer),
                Happened::Gone => return Err(GivenUp::Gone),
                Happened::Due if !extends => return Err(GivenUp::Late),
                Happened::Due => {}
            }
            extends = false;
            timer.as_mut().reset(deadline);
            let time = self.agent.config().extended_timeout;
            let frame = more_time(time, &mut self.stream.out);
            if self.stream.send(frame, Bytes::new()).await.is_err() {
                return Err(GivenUp::Gone);
            }
        }
    }

    /// Returns whether Envoy measures the time of the answer.
    fn is_timed_by_envoy(&self) -> bool {
        !self.observes && !self.request.is_duplex() && !self.response.is_duplex()
    }

    /// Tells the handler about the end of the request. Nothing depends on the answer.
    pub(super) async fn tell<E: Event>(&self, event: &E) {
        let asked = self.agent.session.ask(self.id.as_str(), event);
        let told = timeout(
            self.agent.config().answer_timeout,
            AssertUnwindSafe(asked).catch_unwind(),
        );
        match told.await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => self.agent.counters().panics.add_one(),
            Err(_) => self.agent.counters().timeouts.add_one(),
        }
    }
}
