//! Responses of services that do not charge what they hold.

use super::http2_connection::Http2ConnectionState;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;

/// Body of a response that is charged to its connection.
#[derive(Debug)]
pub(crate) struct ChargedBody {
    body: Body,
    size: usize,
    connection: Arc<Http2ConnectionState>,
}

impl ChargedBody {
    /// Charges `size` bytes until the body is dropped, and what HTTP/2 takes of it until that is
    /// sent.
    pub(crate) fn new(body: Body, size: usize, connection: Arc<Http2ConnectionState>) -> Self {
        connection.add_unsent(size);
        Self {
            body,
            size,
            connection,
        }
    }
}

impl http_body::Body for ChargedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.connection.add_unsent(data.len());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ChargedBody {
    fn drop(&mut self) {
        self.connection.remove_unsent(self.size);
    }
}
