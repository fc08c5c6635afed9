//! The link to an agent in this process, which carries nothing: calls and messages reach the agent
//! without it.

use crate::connection::link::{Batch, Link, LinkError, LinkPoll, LinkReceiver, LinkSender};
use crate::handler::{LocalAgent, SharedHandler};
use crate::wire::MAX_FRAME_LEN;
use bytes::BytesMut;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Opens a link to a handler.
pub(super) fn connect(handler: &SharedHandler) -> Link {
    Link {
        sender: Box::new(LocalSender(Arc::new(LocalAgent::new(handler)))),
        receiver: Box::new(LocalReceiver),
        max_frame: MAX_FRAME_LEN,
    }
}

struct LocalSender(Arc<LocalAgent>);

impl LinkSender for LocalSender {
    fn try_send(&self, batch: &mut Batch, _recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        *batch = Batch::default();
        Ok(())
    }

    fn poll_room(&self, _cx: &mut Context<'_>) -> LinkPoll<()> {
        Poll::Ready(Ok(()))
    }

    fn close(&self) {}

    fn local_agent(&self) -> Option<&Arc<LocalAgent>> {
        Some(&self.0)
    }
}

struct LocalReceiver;

impl LinkReceiver for LocalReceiver {
    fn poll_receive(&mut self, _cx: &mut Context<'_>, _into: &mut BytesMut) -> LinkPoll<usize> {
        Poll::Pending
    }
}
