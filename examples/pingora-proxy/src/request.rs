//! The state of one request across Pingora's phases.

use bytes::Bytes;
use http::Response;
use pingora::prelude::HttpPeer;
use pingora::{Error, ErrorType};
use tollgate::proxy::{Message, Rejection, Transaction};

/// State of one request across Pingora's phases.
pub struct Request {
    /// The request on its way through the agents.
    pub transaction: Transaction,
    /// Response to the client instead of the upstream's.
    pub(crate) answer: Option<Response<Bytes>>,
    /// The part of the request's body that was judged before its head went on.
    pub(crate) judged: Option<JudgedBody>,
    /// That part while this attempt has not sent it.
    pub(crate) pending: Option<PendingBody>,
    /// Set once the upstream has changed to another protocol. Pingora's session knows it only when
    /// the head is written, which is after the first bytes have been filtered.
    pub(crate) is_upgraded: bool,
    /// Where a WebSocket request goes in place of the upstream to be judged with its frames. The
    /// transaction here is not used then.
    pub(crate) inspected: Option<HttpPeer>,
}

/// The beginning of a request's body that was read and judged before its head went on.
#[derive(Debug, Clone)]
pub(crate) struct JudgedBody {
    /// The bytes that agents have let go.
    pub(crate) data: Bytes,
    /// Set if this is the whole body.
    pub(crate) is_whole: bool,
}

/// A [`JudgedBody`] that goes on with the next chunk that Pingora hands over.
#[derive(Debug)]
pub(crate) struct PendingBody {
    pub(crate) body: JudgedBody,
    /// Set if the next chunk comes from Pingora's buffer, and was judged already.
    pub(crate) replaces_chunk: bool,
}

impl Request {
    pub(crate) fn new(transaction: Transaction) -> Self {
        Self {
            transaction,
            answer: None,
            judged: None,
            pending: None,
            is_upgraded: false,
            inspected: None,
        }
    }

    /// Stores the response for the client and returns the error that ends the request.
    pub(crate) fn reject(&mut self, rejection: Rejection) -> Box<Error> {
        self.end_with(rejection.into_response())
    }

    /// Like [`Request::reject`], with a response.
    pub(crate) fn end_with(&mut self, answer: Response<Bytes>) -> Box<Error> {
        let status = answer.status().as_u16();
        self.answer = Some(answer);
        Error::explain(
            ErrorType::HTTPStatus(status),
            "ended by an agent or its failure",
        )
    }

    /// Counts that the request's body did not arrive in time.
    pub(crate) fn count_body_timeout(&mut self) {
        if let Some(limit) = self.transaction.body_timeout(Message::Request) {
            let rejection = Rejection::RequestBodyTimeout(limit);
            self.transaction.count_rejection(&rejection);
        }
    }

    /// Returns whether the request can be sent to another upstream: agents must not see a body
    /// twice.
    pub(crate) fn can_repeat(&self) -> bool {
        let is_judged = self.judged.as_ref().is_some_and(|judged| judged.is_whole);
        is_judged || self.transaction.received_bytes(Message::Request) == 0
    }
}
