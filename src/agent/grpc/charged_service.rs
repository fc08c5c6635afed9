//! Health checks and reflection, charged to the connections that ask for them.

use crate::transport::grpc::{ChargedBody, Http2ConnectionState};
use http::{Request, Response};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// A service whose responses are charged to their HTTP/2 connections.
#[derive(Debug, Clone)]
pub(super) struct ChargedService<S> {
    service: S,
    response_size: usize,
}

impl<S> ChargedService<S> {
    /// Wraps a service that holds up to `response_size` bytes for each response.
    pub(super) fn new(service: S, response_size: usize) -> Self {
        Self {
            service,
            response_size,
        }
    }
}

impl<S> Service<Request<Body>> for ChargedService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let extensions = request.extensions();
        let connection = extensions.get::<Arc<Http2ConnectionState>>().cloned();
        let size = self.response_size;
        let responding = self.service.call(request);
        Box::pin(async move {
            let response = responding.await?;
            let Some(connection) = connection else {
                return Ok(response);
            };
            Ok(response.map(|body| Body::new(ChargedBody::new(body, size, connection))))
        })
    }
}

impl<S: NamedService> NamedService for ChargedService<S> {
    const NAME: &'static str = S::NAME;
}
