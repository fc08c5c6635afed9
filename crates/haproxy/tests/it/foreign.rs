//! The crate `spop`, an agent's side by other people: it reads what this crate writes as HAProxy,
//! and this crate reads its answers.

use proptest::prelude::*;
use spop::frame::{FramePayload, FrameType};
use spop::frames::{Ack, AgentHello, FrameCapabilities, HaproxyHello};
use spop::{SpopFrame, TypedData, VarScope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tollgate_haproxy::SpopEndpoint;
use tollgate_haproxy::client::{Question, SpopClient};
use tollgate_haproxy::wire::{Action, Actions, Frame, FrameId, FrameKind, Scope, Value};

use crate::peer::notify;

fn foreign_values() -> impl Strategy<Value = TypedData> {
    prop_oneof![
        Just(TypedData::Null),
        any::<bool>().prop_map(TypedData::Bool),
        any::<i32>().prop_map(TypedData::Int32),
        any::<u32>().prop_map(TypedData::UInt32),
        any::<i64>().prop_map(TypedData::Int64),
        any::<u64>().prop_map(TypedData::UInt64),
        any::<u32>().prop_map(|bits| TypedData::IPv4(bits.into())),
        any::<u128>().prop_map(|bits| TypedData::IPv6(bits.into())),
        "[a-zé]{0,300}".prop_map(TypedData::String),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(TypedData::Binary),
    ]
}

/// Returns the value that the foreign one stands for.
fn ours(value: &TypedData) -> Value<'_> {
    match value {
        TypedData::Null => Value::Null,
        TypedData::Bool(value) => Value::Bool(*value),
        TypedData::Int32(number) => Value::Int32(*number),
        TypedData::UInt32(number) => Value::Uint32(*number),
        TypedData::Int64(number) => Value::Int64(*number),
        TypedData::UInt64(number) => Value::Uint64(*number),
        TypedData::IPv4(address) => Value::Ipv4(*address),
        TypedData::IPv6(address) => Value::Ipv6(*address),
        TypedData::String(text) => Value::String(text.as_bytes()),
        TypedData::Binary(bytes) => Value::Binary(bytes),
    }
}

proptest! {
    #[test]
    fn questions_are_read_by_the_foreign_side(
        stream: u64,
        arguments in prop::collection::vec(("[a-z-]{0,12}", foreign_values()), 1..12),
    ) {
        let given: Vec<(&str, Value<'_>)> = arguments
            .iter()
            .map(|(name, value)| (name.as_str(), ours(value)))
            .collect();
        let question = Question { name: "tollgate-req", arguments: &given };
        let bytes = notify(FrameId { stream, frame: 1 }, &[question]);
        let (rest, frame) = spop::parser::parse_frame(&bytes).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(frame.metadata().stream_id, stream);
        let FramePayload::ListOfMessages([message]) = frame.payload() else {
            return Err(TestCaseError::fail("not one message"));
        };
        prop_assert_eq!((message.name.as_str(), &message.args), ("tollgate-req", &arguments));
    }

    #[test]
    fn foreign_answers_are_read(value in foreign_values(), stream: u64) {
        let ack = Ack::new(stream, 1)
            .set_var(VarScope::Transaction, "action", value.clone())
            .unset_var(VarScope::Request, "body");
        let bytes = ack.serialize().unwrap();
        let frame = Frame::read(&bytes[4..]).unwrap();
        prop_assert_eq!((frame.kind, frame.id), (FrameKind::Ack, FrameId { stream, frame: 1 }));
        let mut actions = Actions::new(frame.payload);
        let scope = Scope::Transaction;
        let set = Action::SetVar { scope, name: b"action", value: ours(&value) };
        prop_assert_eq!(actions.read_next(), Ok(Some(set)));
        let unset = Action::UnsetVar { scope: Scope::Request, name: b"body" };
        prop_assert_eq!(actions.read_next(), Ok(Some(unset)));
        prop_assert_eq!(actions.read_next(), Ok(None));
    }
}

/// Answers a frame of HAProxy as an agent that denies `/admin`.
fn foreign_answer(bytes: &[u8]) -> Vec<u8> {
    let (_, frame) = spop::parser::parse_frame(bytes).unwrap();
    match frame.frame_type() {
        FrameType::HaproxyHello => {
            let hello = HaproxyHello::try_from(frame.payload()).unwrap();
            let answer = AgentHello {
                version: hello.negotiate_version().unwrap(),
                max_frame_size: hello.max_frame_size,
                capabilities: vec![FrameCapabilities::Pipelining],
            };
            answer.serialize().unwrap()
        }
        FrameType::Notify => {
            let metadata = frame.metadata();
            let FramePayload::ListOfMessages([message]) = frame.payload() else {
                panic!("not one message");
            };
            let path = TypedData::String("/admin".to_owned());
            let is_admin = message.get("path") == Some(&path);
            let action = if is_admin { "deny" } else { "allow" };
            Ack::new(metadata.stream_id, metadata.frame_id)
                .set_var(VarScope::Transaction, "action", action)
                .serialize()
                .unwrap()
        }
        other => panic!("{other:?}"),
    }
}

async fn serve_foreign(mut stream: TcpStream) {
    while let Ok(len) = stream.read_u32().await {
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.resize(4 + len as usize, 0);
        stream.read_exact(&mut bytes[4..]).await.unwrap();
        stream.write_all(&foreign_answer(&bytes)).await.unwrap();
    }
}

#[tokio::test]
async fn foreign_agent_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("haproxy://{}", listener.local_addr().unwrap());
    let endpoint: SpopEndpoint = endpoint.parse().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve_foreign(stream).await;
    });
    let mut client = SpopClient::connect(&endpoint).await.unwrap();
    for (path, action) in [("/", "allow"), ("/admin", "deny")] {
        let question = Question {
            name: "tollgate-req",
            arguments: &[("path", Value::from(path))],
        };
        let answer = client.ask(&[question]).await.unwrap();
        assert_eq!(answer.text("action"), Some(action));
    }
}
