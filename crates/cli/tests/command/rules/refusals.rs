//! Files of rules that are refused: one line on stderr with the file, the line and the reason, and
//! exit status 2.

use crate::support::{TestDir, fails, run};

/// Runs an agent with this file, and checks that it is refused.
fn refused(rules: &str, line: Option<usize>, parts: &[&str]) {
    let dir = TestDir::new();
    let file = dir.file("rules.toml", rules);
    let output = run(&["agent", "--listen", &dir.path("a.sock"), "--rules", &file]);
    let place = line.map_or_else(|| file.clone(), |line| format!("{file}: line {line}: "));
    fails(&output, 2, &[&[&*place], parts].concat());
}

#[test]
fn refused_files_are_named_with_line_and_reason() {
    for (rules, line, reason) in [
        (
            "[[rule]]\non = 'request_headers'\ncolour = 'red'\n",
            3,
            "colour",
        ),
        ("[[rules]]\non = 'request_headers'\n", 1, "rules"),
        ("rule = 1\n", 1, "integer"),
        ("[[rule]]\npath = '/'\n", 1, "`on`"),
        ("[[rule]]\non = 'websocket'\n", 2, "websocket"),
        (
            "[[rule]]\non = 'request_headers'\non = 'request_body'\n",
            3,
            "duplicate",
        ),
        ("[[rule]]\non = 'request_headers\n", 2, "'"),
        (
            "[[rule]]\non = 'request_headers'\n\nblock = { status = 403 }\nredirect = { url = '/' }\n",
            5,
            "at most one of `block`, `redirect` and `challenge`",
        ),
        (
            "[[rule]]\nchallenge = { type = 'x' }\nblock = { status = 403 }\non = 'request_headers'\n",
            3,
            "at most one",
        ),
        (
            "[[rule]]\non = 'request_headers'\nbody_contains = 'x'\n",
            3,
            "`body_contains` needs `on = \"request_body\"`",
        ),
        (
            "[[rule]]\non = 'response_headers'\nbody_contains = 'x'\n",
            3,
            "body_contains",
        ),
        (
            "[[rule]]\non = 'request_headers'\nreplace_body = 'x'\n",
            3,
            "replace_body",
        ),
        (
            "[[rule]]\non = 'response_headers'\ndrop_body = true\n",
            3,
            "drop_body",
        ),
        (
            "[[rule]]\non = 'request_body'\nreplace_body = 'x'\ndrop_body = true\n",
            4,
            "at most one of `replace_body` and `drop_body`",
        ),
        (
            "[[rule]]\non = 'request_body'\nbody_contains = ''\n",
            3,
            "empty",
        ),
        (
            "[[rule]]\non = 'request_body'\nhold = 'yes'\n",
            3,
            "boolean",
        ),
        (
            "[[rule]]\non = 'request_headers'\npath = 'admin'\n",
            3,
            "begin with `/`",
        ),
        (
            "[[rule]]\non = 'request_headers'\npath = '/a?b'\n",
            3,
            "query",
        ),
        (
            "[[rule]]\non = 'request_headers'\nmethod = 'G T'\n",
            3,
            "method",
        ),
        (
            "[[rule]]\non = 'request_headers'\nclient_ip = '192.0.2.300'\n",
            3,
            "192.0.2.300",
        ),
        (
            "[[rule]]\non = 'request_headers'\nclient_ip = '192.0.2.0/33'\n",
            3,
            "network",
        ),
        (
            "[[rule]]\non = 'request_headers'\nheader = { name = 'x' }\n",
            3,
            "contains",
        ),
        (
            "[[rule]]\non = 'request_headers'\nheader = { name = 'x y', contains = 'z' }\n",
            3,
            "x y",
        ),
        (
            "[[rule]]\non = 'request_headers'\nheader = { name = 'x', contains = 'z', is = 1 }\n",
            3,
            "`is`",
        ),
        (
            "[[rule]]\non = 'request_headers'\nblock = { status = 99 }\n",
            3,
            "200 to 599",
        ),
        (
            "[[rule]]\non = 'request_headers'\nblock = { stats = 403 }\n",
            3,
            "stats",
        ),
        (
            "[[rule]]\non = 'request_headers'\nblock = { status = 403, headers = [['a']] }\n",
            3,
            "pair",
        ),
        (
            "[[rule]]\non = 'request_headers'\n[rule.block]\nstatus = 403\nheaders = [\n  ['a', 'b'],\n  ['a\\r', 'b'],\n]\n",
            7,
            "header name",
        ),
        (
            "[[rule]]\non = 'request_headers'\nredirect = { url = '/', status = 200 }\n",
            3,
            "300 to 399",
        ),
        (
            "[[rule]]\non = 'request_headers'\nredirect = { status = 302 }\n",
            3,
            "url",
        ),
        (
            "[[rule]]\non = 'request_headers'\nchallenge = { params = {} }\n",
            3,
            "type",
        ),
        (
            "[[rule]]\non = 'request_headers'\nset_request_headers = [['a', \"b\\n\"], ['c', \"d\\ne\"]]\n",
            3,
            "control characters",
        ),
        (
            "[[rule]]\non = 'request_headers'\nadd_request_headers = ['a']\n",
            3,
            "a",
        ),
        (
            "[[rule]]\non = 'request_headers'\nremove_request_headers = [['a', 'b']]\n",
            3,
            "string",
        ),
        (
            "[[rule]]\non = 'request_headers'\noperations = [['move', 'a', 'b']]\n",
            3,
            "remove",
        ),
        (
            "[[rule]]\non = 'request_headers'\noperations = [['remove', 'a', 'b']]\n",
            3,
            "remove",
        ),
        (
            "[[rule]]\non = 'request_headers'\ndelay = '5'\n",
            3,
            "duration",
        ),
        ("[[rule]]\non = 'request_headers'\ndelay = 5\n", 3, "string"),
        (
            "[[rule]]\non = 'request_headers'\npanic = 1\n",
            3,
            "boolean",
        ),
        (
            "[[rule]]\non = 'request_headers'\ntags = 'a'\n",
            3,
            "sequence",
        ),
        (
            "[[rule]]\non = 'request_headers'\nrule_ids = [1]\n",
            3,
            "string",
        ),
    ] {
        refused(rules, Some(line), &[reason]);
        let later = format!("[[rule]]\non = \"response_body\"\n{rules}");
        if !rules.contains("rules]]") && !rules.starts_with("rule =") {
            refused(&later, Some(line + 2), &[reason]);
        }
    }
}

#[test]
fn unreadable_files_are_named() {
    let dir = TestDir::new();
    let missing = dir.path("missing.toml");
    for file in [&missing, "/"] {
        let output = run(&["agent", "--listen", &dir.path("a.sock"), "--rules", file]);
        fails(&output, 2, &[file, "cannot read rules"]);
    }
}

#[test]
fn short_forms_are_checked_like_the_file() {
    for option in [["--block-path", "admin"], ["--block-body", ""]] {
        let output = run(&["agent", "--listen", "/a.sock", option[0], option[1]]);
        assert_eq!(output.status.code(), Some(2), "{option:?}");
    }
}
