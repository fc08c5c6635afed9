//! Ids of exchanges that are used again.

use super::RULES;
use crate::support::{Agent, TestDir};
use tollgate_haproxy::client::{Answer, Question, SpopClient};
use tollgate_haproxy::wire::Value;

/// Asks about a request with this path, or about the response to it.
async fn ask(client: &mut SpopClient, name: &str, path: &str) -> Answer {
    let arguments = [
        ("id", Value::from("7")),
        ("src-ip", Value::Ipv4([192, 0, 2, 7].into())),
        ("method", Value::from("GET")),
        ("path", Value::from(path)),
        ("status", Value::Int64(200)),
        ("headers", Value::from("a: b\r\n\r\n")),
    ];
    let question = Question {
        name,
        arguments: &arguments,
    };
    client.ask(&[question]).await.expect("answer")
}

#[tokio::test]
async fn response_belongs_to_the_request_that_it_tells() {
    let dir = TestDir::new();
    let rules = dir.file("rules.toml", RULES);
    let endpoint = format!("haproxy+unix://{}", dir.path("agent.sock"));
    let _agent = Agent::start(&endpoint, &["--rules", &rules]);
    let endpoint = endpoint.parse().expect("endpoint");
    let mut client = SpopClient::connect(&endpoint).await.expect("connect");
    // The request that each response belongs to had its id from an earlier one, and was judged by
    // another agent.
    for (earlier, path, action) in [("/ok", "/secret", "deny"), ("/secret", "/ok", "allow")] {
        let answer = ask(&mut client, "tollgate-req", earlier).await;
        assert_eq!(answer.text("action"), Some("allow"));
        let answer = ask(&mut client, "tollgate-res", path).await;
        assert_eq!(answer.text("res_action"), Some(action), "{path}");
    }
    // A request with the id of one that has not ended is an exchange of its own.
    ask(&mut client, "tollgate-req", "/secret").await;
    ask(&mut client, "tollgate-req", "/ok").await;
    let answer = ask(&mut client, "tollgate-res", "/secret").await;
    assert_eq!(answer.text("res_action"), Some("deny"));
}
