//! The questions of a connection, each answered by a future whose memory is used again.

use crate::answer::{AckLimits, write_ack};
use crate::ask::{Complete, Earlier, Fault, Judge, Outcome, Scratch};
use crate::settings::SpopSettings;
use crate::wire::FrameId;
use bytes::Bytes;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Poll, ready};
use tollgate::listener::OtherSession;

/// The work of a connection.
pub(super) enum Job {
    /// A question is to be answered.
    Question {
        id: FrameId,
        payload: Bytes,
        scratch: Box<Scratch>,
    },
    /// The exchange whose id is in the scratch memory has ended.
    Complete {
        complete: Complete,
        scratch: Box<Scratch>,
    },
}

/// The result of a job.
pub(super) struct Done {
    /// Holds the answer, if the job was a question.
    pub(super) scratch: Box<Scratch>,
    pub(super) complete: Option<Complete>,
}

/// State that the jobs of a connection share.
pub(super) struct Context<'s> {
    judge: Judge<'s>,
    limits: AckLimits,
}

impl<'s> Context<'s> {
    pub(super) fn new(
        session: &'s OtherSession,
        settings: &'s SpopSettings,
        name: u64,
        max_ack: usize,
    ) -> Self {
        Self {
            judge: Judge::new(session, settings, name),
            limits: AckLimits {
                max_size: max_ack,
                dialect: settings.dialect,
            },
        }
    }

    pub(super) async fn run(&self, job: Job) -> Done {
        match job {
            Job::Question {
                id,
                payload,
                mut scratch,
            } => {
                let complete = self.answer(id, &payload, &mut scratch).await;
                Done { scratch, complete }
            }
            Job::Complete { complete, scratch } => {
                let told = self.judge.complete(&scratch.id, complete);
                // The verdict is given; a panic has no effect on it.
                let _ = AssertUnwindSafe(told).catch_unwind().await;
                Done {
                    scratch,
                    complete: None,
                }
            }
        }
    }

    async fn answer(
        &self,
        id: FrameId,
        payload: &Bytes,
        scratch: &mut Scratch,
    ) -> Option<Complete> {
        let mut outcome = Outcome::default();
        let judged = self.judge.judge(payload, scratch, &mut outcome);
        // A handler that panics has denied this question. Its state is its own affair.
        let judged = AssertUnwindSafe(judged).catch_unwind().await;
        let earlier = match judged.unwrap_or(Err(Fault::Panicked)) {
            Ok(earlier) => earlier,
            Err(fault) => {
                outcome.fail(fault);
                Earlier::default()
            }
        };
        let complete = outcome.complete;
        write_ack(&mut scratch.ack, id, &mut outcome, earlier, self.limits);
        complete
    }
}

/// A job with its memory, which serves one job after another.
pub(super) struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    /// Bytes of the question.
    pub(super) held: usize,
}

impl<F> Default for Slot<F> {
    fn default() -> Self {
        Self {
            future: Box::pin(None),
            held: 0,
        }
    }
}

impl<F: Future<Output = Done>> Slot<F> {
    /// Begins a job. The future of the last one is dropped.
    pub(super) fn begin(&mut self, future: F, held: usize) {
        self.future.set(Some(future));
        self.held = held;
    }

    /// Polls the job.
    pub(super) fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Done> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let done = ready!(future.poll(cx));
        self.future.set(None);
        Poll::Ready(done)
    }
}

/// A job that waits. Yields its result with its memory.
pub(super) struct Waiting<F>(pub(super) Option<Slot<F>>);

impl<F: Future<Output = Done>> Future for Waiting<F> {
    type Output = (Slot<F>, Done);

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let Some(slot) = &mut self.0 else {
            return Poll::Pending;
        };
        let done = ready!(slot.poll(cx));
        match self.0.take() {
            Some(slot) => Poll::Ready((slot, done)),
            None => Poll::Pending,
        }
    }
}
