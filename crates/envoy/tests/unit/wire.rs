//! Compares the wire with generated types.

#![allow(
    deprecated,
    reason = "Envoy reads `append`, which its files call deprecated"
)]

use super::*;
use crate::side::Side;
use bytes::{Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as auth;
use envoy_types::pb::envoy::service::ext_proc::v3 as pb;
use envoy_types::pb::google::protobuf as wkt;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use prost::Message;
use std::collections::HashMap;
use tollgate::AgentResponse;
use tollgate::response::AuditMetadata;

/// Bytes of the prefix of a message.
const PREFIX: usize = 5;

/// Decodes a frame and what follows it.
fn decoded<M: Message + Default>(frame: &Bytes, body: &[u8]) -> M {
    let len = u32::from_be_bytes(frame[1..PREFIX].try_into().unwrap()) as usize;
    let message = [&frame[PREFIX..], body].concat();
    assert_eq!((frame[0], len), (0, message.len()));
    M::decode(&*message).unwrap()
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = prop_oneof![
        "[a-z-]{1,12}",
        Just(":path".to_owned()),
        Just("host".to_owned())
    ];
    prop::collection::vec((name, prop::collection::vec(any::<u8>(), 0..200)), 0..30)
}

fn header_map(headers: &[(String, Vec<u8>)]) -> core::HeaderMap {
    let header = |(key, raw_value): &(String, Vec<u8>)| core::HeaderValue {
        key: key.clone(),
        raw_value: raw_value.clone(),
        ..Default::default()
    };
    core::HeaderMap {
        headers: headers.iter().map(header).collect(),
    }
}

fn text_value(text: &str) -> wkt::Value {
    wkt::Value {
        kind: Some(wkt::value::Kind::StringValue(text.to_owned())),
    }
}

/// A value with lists nested in each other.
fn nested(depth: usize) -> wkt::Value {
    let mut value = text_value("innermost");
    for _ in 0..depth {
        let values = vec![value];
        value = wkt::Value {
            kind: Some(wkt::value::Kind::ListValue(wkt::ListValue { values })),
        };
    }
    value
}

proptest! {
    #[test]
    fn requests_are_read_as_generated_types_write_them(
        headers in headers(),
        phase in 0..6,
        end_of_stream: bool,
        observability: bool,
        body in prop::collection::vec(any::<u8>(), 0..5000),
        modes in prop::option::of((0..7, 0..7)),
        address in "[a-z0-9:.]{0,30}",
        depth in 0..40usize,
    ) {
        use pb::processing_request::Request;
        let http_headers = pb::HttpHeaders {
            headers: Some(header_map(&headers)),
            end_of_stream,
            ..Default::default()
        };
        let http_body = pb::HttpBody { body: body.clone(), end_of_stream, ..Default::default() };
        let request = match phase {
            0 => Request::RequestHeaders(http_headers),
            1 => Request::ResponseHeaders(http_headers),
            2 => Request::RequestBody(http_body),
            3 => Request::ResponseBody(http_body),
            4 => Request::RequestTrailers(pb::HttpTrailers::default()),
            _ => Request::ResponseTrailers(pb::HttpTrailers::default()),
        };
        let fields = HashMap::from([
            ("source.address".to_owned(), text_value(&address)),
            ("other".to_owned(), nested(depth)),
        ]);
        let message = pb::ProcessingRequest {
            request: Some(request),
            attributes: HashMap::from([("filter".to_owned(), wkt::Struct { fields })]),
            observability_mode: observability,
            protocol_config: modes.map(|(request, response)| pb::ProtocolConfiguration {
                request_body_mode: request,
                response_body_mode: response,
                ..Default::default()
            }),
            metadata_context: Some(core::Metadata::default()),
            ..Default::default()
        }
        .encode_to_vec();
        let read = ProcessingRequest::read(&message).unwrap();
        prop_assert_eq!(read.observability, observability);
        let numbers = read.modes.map(|(request, response)| (request as i32, response as i32));
        prop_assert_eq!(numbers, modes.map(|(a, b)| (a.min(5), b.min(5))));
        let attributes = Attributes::read(read.attributes.unwrap()).unwrap();
        prop_assert_eq!(attributes.source_address, &*address);
        match (phase, read.phase) {
            (0, Phase::RequestHeaders(head)) | (1, Phase::ResponseHeaders(head)) => {
                prop_assert_eq!(head.end_of_stream, end_of_stream);
                let read = Head::read(head.headers).unwrap();
                let plain = headers.iter().filter(|(name, _)| !name.starts_with(':'));
                for ((name, value), (own, text)) in plain.zip(&read.fields) {
                    prop_assert_eq!(name, own);
                    match str::from_utf8(value) {
                        Ok(value) => prop_assert_eq!(value, &**text),
                        Err(_) => prop_assert_eq!(value.len(), text.chars().count()),
                    }
                }
            }
            (2, Phase::RequestBody(read)) | (3, Phase::ResponseBody(read)) => {
                prop_assert_eq!((read.body, read.end_of_stream), (&*body, end_of_stream));
            }
            (4, Phase::RequestTrailers) | (5, Phase::ResponseTrailers) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn answers_are_what_generated_types_read(
        is_request: bool,
        removed in prop::collection::vec("x-[a-z]{1,200}", 0..4),
        set in prop::collection::vec(("x-[a-z]{1,9}", "[ -~]{0,300}", any::<bool>()), 0..6),
        length in prop::option::of(0..100_000usize),
        body in prop::collection::vec(any::<u8>(), 0..20_000),
        kind in 0..4,
        tags in prop::collection::vec("[a-z]{0,200}", 0..3),
    ) {
        let name = |text: &String| HeaderName::from_bytes(text.as_bytes()).unwrap();
        let change = HeadChange {
            removed: removed.iter().map(name).collect(),
            set: set
                .iter()
                .map(|(text, value, appends)| {
                    let mode = if *appends { SetMode::Append } else { SetMode::Replace };
                    (name(text), HeaderValue::from_str(value).unwrap(), mode)
                })
                .collect(),
            content_length: length,
            reroutes: false,
        };
        let mut metadata = Metadata::default();
        metadata.absorb(&mut AgentResponse::default_allow().with_audit(AuditMetadata {
            tags: tags.clone(),
            ..AuditMetadata::default()
        }));
        let answer = Answer {
            side: if is_request { Side::Request } else { Side::Response },
            change: (!change.is_empty()).then_some(&change),
            metadata: (!metadata.is_empty()).then_some(&metadata),
            mode_override: None,
        };
        let (content, written) = match kind {
            0 => (Body::Unchanged, &[][..]),
            1 => (Body::Replaced(body.len()), &body[..]),
            2 => (Body::Cleared, &[][..]),
            _ => (Body::Streamed { len: body.len(), is_last: is_request }, &body[..]),
        };
        let frame = answer.body(content, &mut BytesMut::new());
        let read: pb::ProcessingResponse = decoded(&frame, written);
        let namespaces = read.dynamic_metadata.map_or(0, |metadata| metadata.fields.len());
        prop_assert_eq!(namespaces, usize::from(!tags.is_empty()));
        use pb::processing_response::Response;
        let common = match read.response.unwrap() {
            Response::RequestBody(read) if is_request => read.response,
            Response::ResponseBody(read) if !is_request => read.response,
            other => panic!("{other:?}"),
        };
        let common = common.unwrap_or_default();
        let mutation = common.header_mutation.unwrap_or_default();
        prop_assert_eq!(&mutation.remove_headers, &removed);
        prop_assert_eq!(mutation.set_headers.len(), set.len() + usize::from(length.is_some()));
        for (read, (name, value, appends)) in mutation.set_headers.iter().zip(&set) {
            let header = read.header.as_ref().unwrap();
            prop_assert_eq!((&header.key, &*header.raw_value), (name, value.as_bytes()));
            prop_assert_eq!(&header.value, "");
            prop_assert_eq!(read.append.map(|append| append.value), Some(*appends));
            prop_assert_eq!(read.append_action, if *appends { 0 } else { 2 });
        }
        use pb::body_mutation::Mutation;
        match (kind, common.body_mutation.and_then(|mutation| mutation.mutation)) {
            (0, None) => {}
            (1, Some(Mutation::Body(read))) => prop_assert_eq!(read, body),
            (2, Some(Mutation::ClearBody(true))) => {}
            (3, Some(Mutation::StreamedResponse(read))) => {
                prop_assert_eq!((read.body, read.end_of_stream), (body, is_request));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn checks_are_read_as_generated_types_write_them(
        headers in prop::collection::hash_map("[a-z]{1,9}", "[ -~]{0,50}", 0..20),
        body in prop::collection::vec(any::<u8>(), 0..300),
        port in 1..65_535u32,
    ) {
        let http = auth::attribute_context::HttpRequest {
            method: "POST".to_owned(),
            path: "/a?b".to_owned(),
            host: "example.com".to_owned(),
            headers: headers.clone(),
            raw_body: body.clone(),
            protocol: "HTTP/1.1".to_owned(),
            ..Default::default()
        };
        let socket = core::SocketAddress {
            address: "192.0.2.1".to_owned(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
            ..Default::default()
        };
        let message = auth::CheckRequest {
            attributes: Some(auth::AttributeContext {
                source: Some(auth::attribute_context::Peer {
                    address: Some(core::Address {
                        address: Some(core::address::Address::SocketAddress(socket)),
                    }),
                    ..Default::default()
                }),
                request: Some(auth::attribute_context::Request {
                    http: Some(http),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        }
        .encode_to_vec();
        let check = CheckRequest::read(&message).unwrap();
        prop_assert_eq!((&*check.head.method, &*check.head.path), ("POST", "/a?b"));
        prop_assert_eq!(check.head.field("host").is_some(), true);
        prop_assert_eq!((check.source_address, u32::from(check.source_port)), ("192.0.2.1", port));
        prop_assert_eq!(check.body, &*body);
        for (name, value) in &headers {
            prop_assert_eq!(check.head.field(name), Some(&**value));
        }
    }
}

#[test]
fn announced_body_that_is_not_shown_is_partial() {
    let is_partial = |length: &str, body: &str| {
        let http = auth::attribute_context::HttpRequest {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            headers: [("content-length".to_owned(), length.to_owned())].into(),
            body: body.to_owned(),
            ..Default::default()
        };
        let request = auth::attribute_context::Request {
            http: Some(http),
            ..Default::default()
        };
        let attributes = auth::AttributeContext {
            request: Some(request),
            ..Default::default()
        };
        let message = auth::CheckRequest {
            attributes: Some(attributes),
        };
        CheckRequest::read(&message.encode_to_vec())
            .unwrap()
            .is_partial()
    };
    assert!(is_partial("4", ""));
    assert!(!is_partial("4", "evil"));
    assert!(!is_partial("0", ""));
}

#[test]
fn answers_of_all_kinds() {
    let mut out = BytesMut::new();
    let plain = |side| Answer {
        side,
        change: None,
        metadata: None,
        mode_override: None,
    };
    let frames = [Side::Request, Side::Response].map(|side| {
        let answer = plain(side);
        let mut out = BytesMut::new();
        [
            answer.headers(&mut out),
            answer.body(Body::Unchanged, &mut out),
            answer.trailers(&mut out),
        ]
    });
    let tags: Vec<u8> = frames.iter().flatten().map(|frame| frame[PREFIX]).collect();
    assert_eq!(tags, [0x0a, 0x1a, 0x2a, 0x12, 0x22, 0x32]);
    for frame in frames.iter().flatten() {
        let read: pb::ProcessingResponse = decoded(frame, &[]);
        assert!(read.response.is_some());
    }

    let answer = Answer {
        mode_override: Some(ModeOverride {
            response_headers: SendMode::Skip,
            request_body: BodyMode::Streamed,
            response_body: BodyMode::None,
            request_trailers: SendMode::Unchanged,
            response_trailers: SendMode::Skip,
        }),
        ..plain(Side::Request)
    };
    let read: pb::ProcessingResponse = decoded(&answer.headers(&mut out), &[]);
    let modes = read.mode_override.unwrap();
    assert_eq!(
        (modes.request_header_mode, modes.response_header_mode),
        (0, 2)
    );
    assert_eq!((modes.request_body_mode, modes.response_body_mode), (1, 0));
    assert_eq!(
        (modes.request_trailer_mode, modes.response_trailer_mode),
        (0, 2)
    );

    let time = std::time::Duration::from_millis(2500);
    let read: pb::ProcessingResponse = decoded(&more_time(time, &mut out), &[]);
    let duration = read.override_message_timeout.unwrap();
    assert_eq!((duration.seconds, duration.nanos), (2, 500_000_000));

    let response = http::Response::builder()
        .status(403)
        .header("set-cookie", "a")
        .header("set-cookie", "b")
        .header("content-length", "2")
        .body(Bytes::from_static(b"no"))
        .unwrap();
    let immediate = Immediate {
        response: &response,
        details: "rule",
        metadata: None,
    };
    let read: pb::ProcessingResponse = decoded(&immediate.frame(&mut out), b"no");
    let Some(pb::processing_response::Response::ImmediateResponse(read)) = read.response else {
        panic!("{read:?}");
    };
    assert_eq!(read.status.unwrap().code, 403);
    assert_eq!((&*read.body, &*read.details), (&b"no"[..], "rule"));
    let appends = read.headers.unwrap().set_headers;
    let appends: Vec<_> = appends.iter().map(|it| it.append.unwrap().value).collect();
    assert_eq!(appends, [false, true]);
}

#[test]
fn checks_are_answered_in_the_form_that_envoy_reads() {
    let mut out = BytesMut::new();
    let value = HeaderValue::from_static("1");
    let change = HeadChange {
        removed: vec![HeaderName::from_static("x-gone")],
        set: vec![(HeaderName::from_static("x-a"), value, SetMode::Replace)],
        ..HeadChange::default()
    };
    let none = HeadChange::default();
    let allow = CheckAnswer::Allow {
        request: &change,
        response: &none,
    };
    let read: auth::CheckResponse = decoded(&allow.frame(None, &mut out), &[]);
    assert_eq!(read.status.unwrap().code, 0);
    let Some(auth::check_response::HttpResponse::OkResponse(ok)) = read.http_response else {
        panic!("no ok_response");
    };
    assert_eq!(ok.headers_to_remove, ["x-gone"]);
    let header = ok.headers[0].header.as_ref().unwrap();
    assert_eq!((&*header.value, header.raw_value.len()), ("1", 0));

    let response = http::Response::builder()
        .status(403)
        .body(Bytes::from_static(b"no"))
        .unwrap();
    let read: auth::CheckResponse =
        decoded(&CheckAnswer::Deny(&response).frame(None, &mut out), &[]);
    assert_eq!(read.status.unwrap().code, 7);
    let Some(auth::check_response::HttpResponse::DeniedResponse(denied)) = read.http_response
    else {
        panic!("no denied_response");
    };
    assert_eq!((denied.status.unwrap().code, &*denied.body), (403, "no"));
    let read: auth::CheckResponse =
        decoded(&CheckAnswer::Fail(&response).frame(None, &mut out), &[]);
    assert_eq!(read.status.unwrap().code, 13);
}

/// Reads everything that a message holds.
fn read_all(message: &[u8]) -> Result<(), Malformed> {
    let request = ProcessingRequest::read(message)?;
    if let Some(attributes) = request.attributes {
        Attributes::read(attributes)?;
    }
    if let Phase::RequestHeaders(head) | Phase::ResponseHeaders(head) = request.phase {
        Head::read(head.headers)?;
    }
    Ok(())
}

#[test]
fn fuzz_messages() {
    bolero::check!().for_each(|message| {
        let _ = CheckRequest::read(message);
        // What is read is a message for generated types as well, but for texts that are not read.
        if read_all(message).is_ok()
            && let Ok(generated) = pb::ProcessingRequest::decode(message)
        {
            assert!(generated.request.is_some());
        }
    });
}

#[test]
fn unknown_fields_are_passed_over() {
    let mut message = pb::ProcessingRequest {
        request: Some(pb::processing_request::Request::RequestTrailers(
            pb::HttpTrailers::default(),
        )),
        ..Default::default()
    }
    .encode_to_vec();
    // Field 100, of each wire type.
    message.extend_from_slice(&[0xa0, 6, 1, 0xa1, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0xa2, 6, 1, 9]);
    assert!(read_all(&message).is_ok());
    assert_eq!(read_all(&[]), Err(Malformed::NoPhase));
    assert_eq!(read_all(&[0x12, 0, 0x12, 0]), Err(Malformed::Repeated));
}
