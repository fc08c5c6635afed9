//! A hyper server behind a WAF agent.
//!
//! `cargo run --release -- agent --listen /tmp/waf.sock --block-path /admin` runs an agent, and
//! `cargo run -p tollgate-tower --example hyper` the server, at <http://127.0.0.1:8080>.

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tollgate::proxy::{AgentChain, ChainAgent};
use tollgate::{AgentConfig, AgentPool, Bytes};
use tollgate_tower::{AgentLayer, BoxError, Peer, RequestBody};
use tower::{Layer, ServiceExt, service_fn};

/// Returns the body of a request.
async fn echo(request: Request<RequestBody<Incoming>>) -> Result<Response<Full<Bytes>>, BoxError> {
    let body = request.into_body().collect().await?;
    Ok(Response::new(Full::new(body.to_bytes())))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = AgentPool::new();
    let waf = pool.add(AgentConfig::new("waf", "/tmp/waf.sock")).await?;
    let chain = AgentChain::new(&pool).agent(ChainAgent::new(waf));
    let service = AgentLayer::new(chain).layer(service_fn(echo));

    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, address) = listener.accept().await?;
        let service = service.clone().map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(Peer::new(address));
            request
        });
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(service);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}
