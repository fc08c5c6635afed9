//! Rules for bodies: searching, holding, replacing and dropping.

use super::client::{Client, Head, Side};
use super::{blocking, status};
use tollgate::{AgentResponse, response::BodyMutation};

fn rule(side: Side, lines: &str) -> String {
    format!("[[rule]]\non = '{}'\n{lines}\n", side.on())
}

fn mutation(side: Side, answer: &AgentResponse) -> Option<&BodyMutation> {
    match side {
        Side::Request => answer.request_body_mutation.as_ref(),
        Side::Response => answer.response_body_mutation.as_ref(),
    }
}

/// Returns what goes on of a body: a chunk, or what replaces it.
fn passed(side: Side, chunks: &[&str], answers: &[AgentResponse]) -> String {
    let parts = chunks.iter().zip(answers).enumerate();
    let parts = parts.map(|(index, (chunk, answer))| match mutation(side, answer) {
        Some(mutation) => {
            assert_eq!(mutation.chunk_index as usize, index);
            let data = mutation.data.as_deref().expect("a replacement");
            String::from_utf8(data.to_vec()).expect("text")
        }
        None => (*chunk).to_owned(),
    });
    parts.collect()
}

/// Returns every way to cut a text into two, and all single characters.
fn cuts(text: &str) -> Vec<Vec<&str>> {
    let mut cuts: Vec<Vec<&str>> = (0..=text.len())
        .map(|at| vec![&text[..at], &text[at..]])
        .collect();
    cuts.push(text.split_inclusive(|_: char| true).collect());
    cuts.push(vec![text]);
    cuts
}

#[tokio::test]
async fn text_is_found_however_the_body_is_cut() {
    for side in Side::BOTH {
        for options in [&["--encodings", "msgpack"], &["--encodings", "json"]] {
            let file = blocking(side.on(), "body_contains = 'attack'");
            let client = Client::with_options(&file, options).await;
            for (number, chunks) in cuts("an attattack!").iter().enumerate() {
                let answers = client.body(side, &format!("a-{number}"), chunks).await;
                let last = answers.last().expect("an answer");
                assert_eq!(status(last), 418, "{side:?} {chunks:?}");
            }
            for (number, chunks) in cuts("an attac k").iter().enumerate() {
                let answers = client.body(side, &format!("b-{number}"), chunks).await;
                assert!(answers.iter().all(|answer| status(answer) == 200));
                assert!(answers.iter().all(|answer| !answer.needs_more));
            }
        }
    }
}

#[tokio::test]
async fn bodies_of_two_sides_and_exchanges_do_not_mix() {
    let file = blocking("request_body", "body_contains = 'ab'")
        + &blocking("response_body", "body_contains = 'ab'");
    let client = Client::new(&file).await;
    for (side, id, index, data, expected) in [
        (Side::Request, "1", 0, "a", 200),
        (Side::Response, "1", 0, "b", 200),
        (Side::Request, "2", 0, "b", 200),
        (Side::Response, "1", 1, "a", 200),
        (Side::Request, "1", 1, "b", 418),
        (Side::Request, "2", 1, "a", 200),
        (Side::Request, "2", 2, "b", 418),
    ] {
        let answer = client.chunk(side, id, index, data, false).await;
        assert_eq!(status(&answer), expected, "{side:?} {id} {index}");
    }
}

#[tokio::test]
async fn body_without_its_beginning_fails_where_it_is_searched() {
    let client = Client::new(&blocking("request_body", "body_contains = 'ab'")).await;
    let answer = client.chunk(Side::Request, "1", 3, "x", true).await;
    assert_eq!(status(&answer), 500);
    let codes = answer.audit.reason_codes;
    assert_eq!(codes, ["agent_error", "body_without_beginning"]);
    let found = client.chunk(Side::Request, "2", 3, "ab", true).await;
    assert_eq!(status(&found), 418);
}

#[tokio::test]
async fn id_that_is_too_long_to_remember_fails() {
    let id = "x".repeat(300);
    let client = Client::new(&blocking("request_body", "body_contains = 'ab'")).await;
    let begun = client.chunk(Side::Request, &id, 0, "a", false).await;
    assert_eq!(status(&begun), 500);
    let whole = client.chunk(Side::Request, &id, 0, "a", true).await;
    assert_eq!(status(&whole), 200);
    // No rule is about the other body.
    let other = client.chunk(Side::Response, &id, 0, "a", false).await;
    assert_eq!(status(&other), 200);
}

#[tokio::test]
async fn held_body_is_undecided_until_its_end() {
    for side in Side::BOTH {
        let client = Client::new(&blocking(side.on(), "hold = true\ntags = ['t']")).await;
        let answers = client.body(side, "1", &["a", "b", ""]).await;
        let seen: Vec<_> = answers
            .iter()
            .map(|answer| (status(answer), answer.needs_more, answer.audit.tags.len()))
            .collect();
        assert_eq!(seen, [(200, true, 0), (200, true, 0), (418, false, 1)]);
    }
}

#[tokio::test]
async fn held_body_is_denied_when_its_text_is_found() {
    for side in Side::BOTH {
        let file = blocking(side.on(), "hold = true\nbody_contains = 'attack'");
        let client = Client::new(&file).await;
        for (number, chunks) in cuts("an attack!").iter().enumerate() {
            let answers = client.body(side, &format!("a-{number}"), chunks).await;
            let (last, before) = answers.split_last().expect("an answer");
            assert_eq!((status(last), last.needs_more), (418, false), "{chunks:?}");
            assert!(before.iter().all(|answer| answer.needs_more));
        }
        for (number, chunks) in cuts("harmless").iter().enumerate() {
            let answers = client.body(side, &format!("b-{number}"), chunks).await;
            let (last, before) = answers.split_last().expect("an answer");
            assert_eq!((status(last), last.needs_more), (200, false), "{chunks:?}");
            assert!(before.iter().all(|answer| answer.needs_more));
        }
    }
}

#[tokio::test]
async fn held_head_is_decided_at_the_end_of_its_body() {
    for (side, on) in [
        (Side::Request, "request_headers"),
        (Side::Response, "response_headers"),
    ] {
        let condition = "hold = true\nheader = { name = 'x', contains = 'y' }";
        let client = Client::new(&blocking(on, condition)).await;
        for (id, value, expected) in [("a", "y", 418), ("b", "z", 200)] {
            let headers = [("x", value)];
            let head = match side {
                Side::Request => {
                    let head = Head {
                        headers: &headers,
                        ..Head::default()
                    };
                    client.request(id, head).await
                }
                Side::Response => client.response(id, &headers).await,
            };
            let waits = expected == 418;
            assert_eq!((status(&head), head.needs_more), (200, waits), "{on}");
            let answers = client.body(side, id, &["a", ""]).await;
            assert_eq!((status(&answers[0]), answers[0].needs_more), (200, waits));
            assert_eq!(
                (status(&answers[1]), answers[1].needs_more),
                (expected, false)
            );
        }
    }
}

#[tokio::test]
async fn body_is_replaced_or_dropped_however_it_is_cut() {
    for side in Side::BOTH {
        for hold in ["", "hold = true"] {
            for (effect, expected) in [
                ("replace_body = 'new'", "new"),
                ("drop_body = true", ""),
                ("drop_body = false", "original"),
            ] {
                let client = Client::new(&rule(side, &format!("{effect}\n{hold}"))).await;
                for (number, chunks) in cuts("original").iter().enumerate() {
                    let answers = client.body(side, &number.to_string(), chunks).await;
                    assert_eq!(passed(side, chunks, &answers), expected, "{chunks:?}");
                    let (last, before) = answers.split_last().expect("an answer");
                    assert!(!last.needs_more);
                    assert!(
                        before
                            .iter()
                            .all(|answer| answer.needs_more != hold.is_empty())
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn held_body_is_replaced_as_a_whole_if_it_contains_the_text() {
    for side in Side::BOTH {
        let lines = "hold = true\nbody_contains = 'card'\nreplace_body = 'new'";
        let client = Client::new(&rule(side, lines)).await;
        for (number, chunks) in cuts("a card here").iter().enumerate() {
            let answers = client.body(side, &format!("a-{number}"), chunks).await;
            assert_eq!(passed(side, chunks, &answers), "new", "{chunks:?}");
        }
        for (number, chunks) in cuts("a car here").iter().enumerate() {
            let answers = client.body(side, &format!("b-{number}"), chunks).await;
            assert_eq!(passed(side, chunks, &answers), "a car here", "{chunks:?}");
            let (last, before) = answers.split_last().expect("an answer");
            assert!(!last.needs_more && before.iter().all(|answer| answer.needs_more));
        }
        let both = rule(side, &lines.replace("card", "here")) + &rule(side, lines);
        let client = Client::new(&both).await;
        for (number, chunks) in cuts("a here card!").iter().enumerate() {
            let answers = client.body(side, &format!("c-{number}"), chunks).await;
            assert_eq!(passed(side, chunks, &answers), "new", "{chunks:?}");
        }
    }
}

#[tokio::test]
async fn body_that_is_too_long_to_be_withheld_fails() {
    let lines = "hold = true\nbody_contains = 'card'\ndrop_body = true";
    let client = Client::new(&rule(Side::Request, lines)).await;
    let half = "x".repeat(512 * 1024);
    let answers = client
        .body(Side::Request, "a", &[&half, &half, "x", ""])
        .await;
    let statuses: Vec<u16> = answers.iter().map(status).collect();
    assert_eq!(statuses, [200, 200, 500]);
    // What is replaced in any case is not withheld.
    let client = Client::new(&rule(Side::Request, "hold = true\ndrop_body = true")).await;
    let answers = client
        .body(Side::Request, "a", &[&half, &half, "x", ""])
        .await;
    assert!(answers.iter().all(|answer| status(answer) == 200));
}

#[tokio::test]
async fn later_replacement_counts() {
    let side = Side::Response;
    let file = rule(side, "replace_body = 'a'") + &rule(side, "replace_body = 'b'");
    let client = Client::new(&file).await;
    let chunks = ["x", "y"];
    let answers = client.body(side, "1", &chunks).await;
    assert_eq!(passed(side, &chunks, &answers), "b");
}

#[tokio::test]
async fn body_is_replaced_from_the_chunk_on_that_ends_the_text() {
    let side = Side::Response;
    let client = Client::new(&rule(side, "body_contains = 'card'\nreplace_body = '-'")).await;
    let chunks = ["x ca", "rd 4111", " 1111"];
    let answers = client.body(side, "1", &chunks).await;
    assert_eq!(passed(side, &chunks, &answers), "x ca-");
}

#[tokio::test]
async fn changes_of_headers_come_once_for_a_body() {
    let side = Side::Request;
    let client = Client::new(&rule(side, "add_response_headers = [['a', '1']]")).await;
    let answers = client.body(side, "1", &["x", "y", "z"]).await;
    let counts = answers.iter().map(|answer| answer.response_headers.len());
    assert_eq!(counts.collect::<Vec<_>>(), [1, 0, 0]);
}

#[tokio::test]
async fn delay_applies_to_each_chunk() {
    let side = Side::Request;
    let client = Client::new(&rule(side, "delay = '60ms'")).await;
    let started = std::time::Instant::now();
    client.body(side, "1", &["x", "y", "z"]).await;
    assert!(started.elapsed() >= std::time::Duration::from_millis(180));
}
