//! The transaction of one request, which those who handle its two bodies may share.

use bytes::Bytes;
use http::{Response, StatusCode};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard as StdGuard, PoisonError};
use tokio::sync::{MutexGuard, Notify};
use tollgate::proxy::{Rejection, Transaction, plain_answer};

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

    /// Waits for the transaction. Others hold it while agents are asked, which takes no longer than
    /// the agents' time limits.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, Transaction> {
        self.0.transaction.lock().await
    }

    /// Notes that the request's body was rejected.
    pub(crate) fn reject(&self, rejection: Rejection) {
        self.refuse(rejection.into_response());
    }

    /// Notes that the client broke the request's body off, or that the body is malformed.
    pub(crate) fn break_off(&self) {
        self.refuse(plain_answer(StatusCode::BAD_REQUEST));
    }

    fn refuse(&self, response: Response<Bytes>) {
        *self.response() = Some(response);
        self.0.rejection.notify_one();
    }

    /// Returns the response for the client, if the request's body was rejected.
    pub(crate) fn take_rejected(&self) -> Option<Response<Bytes>> {
        self.response().take()
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

    fn response(&self) -> StdGuard<'_, Option<Response<Bytes>>> {
        // No code under the lock can panic.
        let response = self.0.rejected.lock();
        response.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction as one of those who handle it sees it.
pub(crate) enum Handle {
    /// Nobody else needs the transaction.
    Owned(Transaction),
    Shared(Shared),
}

impl Handle {
    pub(crate) async fn lock(&mut self) -> Locked<'_> {
        match self {
            Self::Owned(transaction) => Locked::Owned(transaction),
            Self::Shared(shared) => Locked::Shared(shared.lock().await),
        }
    }

    /// Ends the transaction by `end`, at once or when nobody else holds it.
    pub(crate) fn end(self, end: impl FnOnce(&mut Transaction) + Send + 'static) {
        match self {
            Self::Owned(mut transaction) => end(&mut transaction),
            Self::Shared(shared) => match shared.0.transaction.try_lock() {
                Ok(mut transaction) => end(&mut transaction),
                Err(_) => {
                    let shared = shared.clone();
                    tokio::spawn(async move { end(&mut *shared.lock().await) });
                }
            },
        }
    }
}

/// Access to a transaction.
pub(crate) enum Locked<'a> {
    Owned(&'a mut Transaction),
    Shared(MutexGuard<'a, Transaction>),
}

impl Deref for Locked<'_> {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        match self {
            Self::Owned(transaction) => transaction,
            Self::Shared(transaction) => transaction,
        }
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Transaction {
        match self {
            Self::Owned(transaction) => transaction,
            Self::Shared(transaction) => transaction,
        }
    }
}
