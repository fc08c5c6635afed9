//! The file `haproxy.cfg`: a proxy that asks agents, denies unless they allow, and applies what
//! they decide.

use super::headers::{denial_lines, known_changes, lines};
use super::{BUFFER_SIZE, MAX_HEAD, MAX_METHOD, MAX_UNSIZED_BODY, MAX_URL, Plan};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Redirects that HAProxy makes. Others become 302.
const REDIRECTS: [u16; 4] = [301, 303, 307, 308];

/// A plain text that the agent has written.
const TEXT: &str =
    "content-type \"text/plain; charset=utf-8\" lf-string \"%[var(txn.tollgate.body)]\"";

/// Returns the text of the file.
pub(super) fn text(plan: &Plan<'_>) -> String {
    let args = plan.args;
    let mut text = format!(
        "# Written by `tollgate config haproxy`, for HAProxy 2.6 and later. Run it in this folder:
#   haproxy -f haproxy.cfg
global
    log stdout format raw local0
    # A request's head and the body that agents see have to fit into a buffer. All buffers grow.
    tune.bufsize {BUFFER_SIZE}
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
frontend www
    bind {listen}
    unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
    log global
    log-format \"%ci %ST %[unique-id] err=%[var(txn.tollgate.error)] \
         action=%[var(txn.tollgate.action)] res_action=%[var(txn.tollgate.res_action)] \
         rule=%[var(txn.tollgate.ruleid)] reason=%[var(txn.tollgate.reason)] ms=%[var(txn.tollgate.process_ms)]\"
    filter spoe engine tollgate config spoe.conf
    acl denied     var(txn.tollgate.action) -m str deny
    acl redirected var(txn.tollgate.action) -m str redirect
",
        listen = args.listen
    );
    text.push_str(&asking());
    text.push_str(&request_verdict(plan));
    section(
        &mut text,
        "# The changes to the request's headers that the agent asks for.",
        "http-request",
        "req",
        &plan.names.of_requests,
        "500",
    );
    denial_headers(&mut text, plan);
    if !args.no_responses {
        text.push_str(&response_verdict(plan));
    }
    section(
        &mut text,
        "# The changes to the response's headers.",
        "http-response",
        "res",
        &plan.names.of_responses,
        "502",
    );
    text.push_str(&backends(plan));
    text
}

fn asking() -> String {
    format!(
        "    # Ask. A longer head would push the body out of the buffer.
    http-request return status 431 if {{ req.hdrs_bin,length gt {MAX_HEAD} }}
    http-request return status 414 if {{ url,length gt {MAX_URL} }}
    # Agents see nothing of what follows a change of the protocol. Of these only WebSocket is let
    # through: in a tunnel or with HTTP/2 further requests would follow, which nobody judges.
    http-request return status 405 if METH_CONNECT
    http-request del-header upgrade unless {{ req.hdr_cnt(upgrade) eq 1 }} \
         {{ req.hdr(upgrade) -m str -i websocket }}
    # As text: HAProxy 2.6 forgets methods that it does not know.
    http-request set-var-fmt(txn.tollgate_method) %[method]
    http-request return status 431 if {{ var(txn.tollgate_method),length gt {MAX_METHOD} }}
    http-request wait-for-body time 5s
    http-request set-var(txn.tollgate_path) path
    http-request set-var(txn.tollgate_query) query
    # The size of a body without a length is that of its part in the buffer. It is told only if that
    # part leaves the buffer room, and so is all of the body.
    acl has_room   req.body_len le {MAX_UNSIZED_BODY}
    acl has_length req.fhdr_cnt(content-length) gt 0
    http-request set-var(txn.tollgate_size) req.body_size if has_room or has_length
    http-request send-spoe-group tollgate tollgate-req
    # Fail closed.
    http-request return status 503 content-type text/plain string \"no decision\" unless \
         {{ var(txn.tollgate.action) -m found }}
"
    )
}

fn request_verdict(plan: &Plan<'_>) -> String {
    let mut text = format!(
        "    # Decide: one line for each status that is to come through, the last one for all others.
    http-request return status 401 {TEXT} hdr www-authenticate \
         \"%[var(txn.tollgate.authenticate)]\" if denied {{ var(txn.tollgate.authenticate) -m found \
         }}\n"
    );
    for status in &plan.statuses {
        // Writing to a `String` never fails.
        let _ = writeln!(
            text,
            "    http-request return status {status} {TEXT} if denied {{ var(txn.tollgate.status) -m \
             int {status} }}"
        );
    }
    let location = "http-request redirect location %[var(txn.tollgate.data)]";
    for status in REDIRECTS {
        let _ = writeln!(
            text,
            "    {location} code {status} if redirected {{ var(txn.tollgate.status) -m int {status} }}"
        );
    }
    let _ = writeln!(text, "    {location} code 302 if redirected");
    let _ = writeln!(
        text,
        "    http-request return status 403 {TEXT} unless {{ var(txn.tollgate.action) -m str allow }}"
    );
    text
}

fn response_verdict(plan: &Plan<'_>) -> String {
    let mut text = String::from(
        "    # The response: the same.
    acl res_denied     var(txn.tollgate.res_action) -m str deny
    acl res_redirected var(txn.tollgate.res_action) -m str redirect
    http-response return status 503 content-type text/plain string \"no decision\" unless \
         { var(txn.tollgate.res_action) -m found }\n",
    );
    // Writing to a `String` never fails.
    let _ = writeln!(
        text,
        "    http-response return status 401 {TEXT} hdr www-authenticate \
         \"%[var(txn.tollgate.authenticate)]\" if res_denied {{ var(txn.tollgate.authenticate) -m \
         found }}"
    );
    for status in plan.statuses.iter().chain(&[403]) {
        let _ = writeln!(
            text,
            "    http-response return status {status} {TEXT} if res_denied {{ \
             var(txn.tollgate.res_status) -m int {status} }}"
        );
    }
    for status in REDIRECTS {
        let _ = writeln!(
            text,
            "    http-response redirect location %[var(txn.tollgate.data)] code {status} if \
             res_redirected {{ var(txn.tollgate.res_status) -m int {status} }}"
        );
    }
    let _ = writeln!(
        text,
        "    http-response redirect location %[var(txn.tollgate.data)] code 302 if res_redirected
    http-response return status 502 {TEXT} unless {{ var(txn.tollgate.res_action) -m str allow }}"
    );
    text
}

/// Appends the lines that change the headers of a message.
fn section(
    text: &mut String,
    comment: &str,
    rule: &str,
    message: &str,
    names: &BTreeSet<String>,
    refused: &str,
) {
    let changes = format!("var(txn.tollgate.{message}_ops)");
    let _ = write!(
        text,
        "    {comment}
    .if version_atleast(3.4)
        {rule} del-headers-bin var(txn.tollgate.{message}_del) if {{ \
         var(txn.tollgate.{message}_del) -m found }}
        {rule} set-headers-bin var(txn.tollgate.{message}_set) if {{ \
         var(txn.tollgate.{message}_set) -m found }}
        {rule} add-headers-bin var(txn.tollgate.{message}_add) if {{ \
         var(txn.tollgate.{message}_add) -m found }}
    .else
        # Before 3.4 a rule has to name the header. Other changes are refused.\n"
    );
    let refuse = format!(
        "{rule} return status {refused} content-type text/plain string \"unknown header change\" if \
         {{ {changes} -m found }}"
    );
    match known_changes(names) {
        None => {
            let _ = writeln!(text, "        {refuse}");
        }
        Some(known) => {
            let _ = writeln!(text, "        {refuse} !{{ {changes} -m reg '{known}' }}");
        }
    }
    for line in lines(rule, message, names) {
        let _ = writeln!(text, "        {line}");
    }
    text.push_str("    .endif\n");
}

fn denial_headers(text: &mut String, plan: &Plan<'_>) {
    let rule = "http-after-response";
    let _ = write!(
        text,
        "    # The headers of denials.
    .if version_atleast(3.4)
        {rule} set-headers-bin var(txn.tollgate.deny_set) if {{ \
         var(txn.tollgate.deny_set) -m found }}
        {rule} add-headers-bin var(txn.tollgate.deny_add) if {{ \
         var(txn.tollgate.deny_add) -m found }}
    .else\n"
    );
    for line in denial_lines(rule, &plan.names.of_denials) {
        let _ = writeln!(text, "        {line}");
    }
    text.push_str("    .endif\n");
}

fn backends(plan: &Plan<'_>) -> String {
    let mut text = format!(
        "    default_backend app
backend app
    server app1 {upstream}
backend tollgate-agents
    .if version_atleast(3.1)
        mode spop
    .else
        mode tcp
    .endif
    option spop-check
    option redispatch 1
    timeout connect 1s
    # HAProxy 2.6 may wait this long for an agent that hangs.
    timeout server {server}ms\n",
        upstream = plan.args.upstream,
        server = (2 * plan.args.timeout.as_millis()).max(2_000),
    );
    for (index, agent) in plan.args.agent.iter().enumerate() {
        let (number, address) = (index + 1, agent.server_address());
        let _ = writeln!(text, "    server agent{number} {address} check inter 2s");
    }
    text
}
