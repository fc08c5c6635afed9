//! `ext-proc-tonic ADDRESS` is a plain ext_proc server: tonic with generated types. It allows every
//! request whose method, path, headers and source it got.

use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HeadersResponse, HttpHeaders, ImmediateResponse, ProcessingRequest, ProcessingResponse,
};
use envoy_types::pb::google::protobuf::{Struct, value::Kind};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::collections::HashMap;
use tonic::{Request, Response, Status, Streaming};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct AllowAll;

#[tonic::async_trait]
impl ExternalProcessor for AllowAll {
    type ProcessStream = BoxStream<'static, Result<ProcessingResponse, Status>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        // Without a task or a channel for each stream, which many servers have.
        let answers = request.into_inner().map(|message| answer(&message?));
        Ok(Response::new(answers.boxed()))
    }
}

fn answer(message: &ProcessingRequest) -> Result<ProcessingResponse, Status> {
    let Some(Phase::RequestHeaders(head)) = &message.request else {
        return Err(Status::invalid_argument("only heads of requests"));
    };
    let answer = match is_whole(head, &message.attributes) {
        true => Answer::RequestHeaders(HeadersResponse::default()),
        false => Answer::ImmediateResponse(ImmediateResponse::default()),
    };
    Ok(ProcessingResponse {
        response: Some(answer),
        ..ProcessingResponse::default()
    })
}

fn is_whole(head: &HttpHeaders, attributes: &HashMap<String, Struct>) -> bool {
    let headers = head.headers.as_ref().map(|map| &map.headers[..]);
    let headers = headers.unwrap_or_default();
    let value = |name: &str| headers.iter().find(|header| header.key == name);
    let is_there = |header: Option<&HeaderValue>| header.is_some_and(|it| !it.raw_value.is_empty());
    let mut sources = attributes
        .values()
        .filter_map(|fields| fields.fields.get("source.address"));
    let source = sources.find_map(|value| match &value.kind {
        Some(Kind::StringValue(text)) => text.parse::<std::net::SocketAddr>().ok(),
        _ => None,
    });
    is_there(value(":method")) && is_there(value(":path")) && source.is_some()
}

fn main() -> anyhow::Result<()> {
    let (address, runtime) = tollgate_ext_proc_agent::begin()?;
    runtime.block_on(async {
        tonic::transport::Server::builder()
            .add_service(ExternalProcessorServer::new(AllowAll))
            .serve(address)
            .await?;
        Ok(())
    })
}
