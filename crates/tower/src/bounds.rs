//! The services and bodies that the layer works with, as bounds that its functions share.

use crate::answer::BoxError;
use crate::request_body::RequestBody;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

/// A body that the layer judges or forwards.
pub(crate) trait ByteBody:
    Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static
{
}

impl<B> ByteBody for B where B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static {}

/// A service that the layer wraps, for requests with bodies `B` and responses with bodies `R`.
pub(crate) trait Wrapped<B, R>:
    Service<Request<RequestBody<B>>, Response = Response<R>, Error: Send + 'static, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S, B, R> Wrapped<B, R> for S
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send,
{
}
