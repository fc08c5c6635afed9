//! The transaction of one request, shared by those who handle its two bodies.

use bytes::Bytes;
use http::Response;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{MutexGuard, Notify};
use tollgate::proxy::{Rejection, Transaction};

/// A transaction whose request body is judged while the response is awaited.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

struct Inner {
    transaction: tokio::sync::Mutex<Transaction>,
    /// Response for the client because the request's body was rejected.
    rejected: Mutex<Option<Response<Bytes>>>,
    rejection: Notify,
}

impl Shared {
    pub(crate) fn new(transaction: Transaction) -> Self {
        Self(Arc::new(Inner {
            transaction: tokio::sync::Mutex::new(transaction),
            rejected: Mutex::default(),
            rejection: Notify::new(),
        }))
    }

    /// Waits for the transaction. It is held while agents are asked, which takes no longer than
    /// their time limits.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, Transaction> {
        self.0.transaction.lock().await
    }

    /// Notes that the request's body was rejected.
    pub(crate) fn reject(&self, rejection: Rejection) {
        let response = rejection.into_response();
        let mut rejected = self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        *rejected = Some(response);
        drop(rejected);
        self.0.rejection.notify_one();
    }

    /// Returns the response for the client, if the request's body was rejected.
    pub(crate) fn take_rejected(&self) -> Option<Response<Bytes>> {
        let mut rejected = self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        rejected.take()
    }

    /// Waits until the request's body is rejected.
    pub(crate) async fn rejected(&self) -> Response<Bytes> {
        loop {
            self.0.rejection.notified().await;
            if let Some(response) = self.take_rejected() {
                return response;
            }
        }
    }
}

/// The transaction of a request, as its response sees it.
pub(crate) enum Handle {
    /// Nobody else needs the transaction.
    Owned(Transaction),
    /// The request's body may still be judged.
    Shared(Shared),
}
