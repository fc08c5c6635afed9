//! Bytes as HAProxy 2.6 sends them, and the answers to them.

use bytes::BytesMut;
use tollgate_spoe_agent::session::{InvalidFrame, State, answer_all};

const HELLO: &[u8] = b"\0\0\0\x4b\x01\0\0\0\x01\0\0\
    \x12supported-versions\x08\x032.0\x0emax-frame-size\x03\xfc\xf0\x06\
    \x0ccapabilities\x08\x0apipelining";
const DISCONNECT: &[u8] =
    b"\0\0\0\x22\x02\0\0\0\x01\0\0\x0bstatus-code\x03\0\x07message\x08\x03bye";
const HEADERS: &[u8] = b"\x04host\x04a.io\x03x-a\0\0\0";

fn string(bytes: &[u8]) -> Vec<u8> {
    [&[short(bytes.len())], bytes].concat()
}

/// Returns a number that takes one byte in every encoding here.
fn short(number: usize) -> u8 {
    u8::try_from(number).expect("a short part of a message")
}

fn argument(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    [&string(name.as_bytes()), &[kind][..], data].concat()
}

fn arguments() -> Vec<Vec<u8>> {
    vec![
        argument("method", 8, &string(b"GET")),
        argument("path", 8, &string(b"/a")),
        argument("headers", 9, &string(HEADERS)),
        argument("src", 6, &[192, 0, 2, 7]),
    ]
}

/// Returns a message about a request, with the ids of a stream and a frame in their encoding.
fn notify(ids: &[u8], arguments: &[Vec<u8>]) -> Vec<u8> {
    let count = [short(arguments.len())];
    let message = [&string(b"request"), &count[..], &arguments.concat()].concat();
    let frame = [b"\x03\0\0\0\x01", ids, &message].concat();
    [&[0, 0, 0, short(frame.len())], &frame[..]].concat()
}

fn answers_to(input: &[u8]) -> Result<(Vec<u8>, State), InvalidFrame> {
    let mut answers = Vec::new();
    let state = answer_all(&mut BytesMut::from(input), &mut answers)?;
    Ok((answers, state))
}

#[test]
fn hello_is_answered_with_the_same_frame_size() {
    let answer = b"\0\0\0\x40\x65\0\0\0\x01\0\0\x07version\x08\x032.0\
        \x0emax-frame-size\x03\xfc\xf0\x06\x0ccapabilities\x08\x0apipelining";
    assert_eq!(answers_to(HELLO), Ok((answer.to_vec(), State::Open)));
}

#[test]
fn each_message_of_a_batch_is_allowed_under_its_ids() {
    let ids: [&[u8]; 3] = [b"\x00\x01", b"\xf0\x00\x02", b"\xff\xff\x7f\x01"];
    let input = ids.map(|ids| notify(ids, &arguments())).concat();
    let (answers, _) = answers_to(&input).unwrap();
    let expected = ids.map(|ids| {
        let answer = [
            b"\x67\0\0\0\x01",
            ids,
            b"\x01\x03\x02\x06action\x08\x05allow",
        ]
        .concat();
        [&[0, 0, 0, short(answer.len())], &answer[..]].concat()
    });
    assert_eq!(answers, expected.concat());
}

#[test]
fn message_without_one_of_the_arguments_is_denied() {
    for left_out in 0..arguments().len() {
        let mut rest = arguments();
        rest.remove(left_out);
        let (answers, _) = answers_to(&notify(b"\x01\x01", &rest)).unwrap();
        assert!(answers.ends_with(b"\x06action\x08\x04deny"), "{left_out}");
    }
}

#[test]
fn frame_is_answered_once_it_is_whole() {
    let frame = notify(b"\x01\x01", &arguments());
    let (mut input, mut answers) = (BytesMut::new(), Vec::new());
    for (read, byte) in frame.iter().enumerate() {
        assert!(answers.is_empty(), "{read}");
        input.extend_from_slice(&[*byte]);
        answer_all(&mut input, &mut answers).unwrap();
    }
    assert!(answers.ends_with(b"allow") && input.is_empty());
}

#[test]
fn disconnect_is_answered_and_ends_the_connection() {
    let (answers, state) = answers_to(DISCONNECT).unwrap();
    let mut expected = DISCONNECT.to_vec();
    expected[4] = 102;
    assert_eq!((answers, state), (expected, State::Closed));
}

#[test]
fn invalid_frames_are_errors() {
    let mut endless_list = arguments();
    endless_list[2] = argument("headers", 9, &string(&HEADERS[..HEADERS.len() - 2]));
    let mut long_number = notify(&[0xff; 12], &arguments());
    long_number.truncate(24);
    long_number[3] = 20;
    for input in [
        notify(b"\x01\x01", &endless_list),
        long_number,
        b"\x7f\xff\xff\xff".to_vec(),
        b"\0\0\0\x07\x00\0\0\0\x01\0\0".to_vec(),
        b"\0\0\0\x07\x03\0\0\0\0\0\0".to_vec(),
        b"\0\0\0\0".to_vec(),
    ] {
        assert_eq!(answers_to(&input), Err(InvalidFrame), "{input:x?}");
    }
}
