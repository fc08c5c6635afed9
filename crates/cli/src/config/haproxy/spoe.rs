//! The file `spoe.conf`: what HAProxy tells agents.

use super::{Plan, headers};
use std::fmt::Write;
use tollgate_haproxy::variable_name;

/// Variables that agents set, apart from those for single headers.
const VARIABLES: [&str; 22] = [
    "action",
    "status",
    "data",
    "body",
    "authenticate",
    "deny_set",
    "deny_add",
    "ruleid",
    "rules",
    "tags",
    "reason",
    "confidence",
    "res_action",
    "res_status",
    "req_del",
    "req_set",
    "req_add",
    "req_ops",
    "res_del",
    "res_set",
    "res_add",
    "res_ops",
];

/// Names of variables on one line. HAProxy limits the words of a line.
const PER_LINE: usize = 10;

const REQUEST: &str = "id=unique-id src-ip=src src-port=src_port method=method path=path \
    query=query version=req.ver frontend=fe_name headers=req.hdrs_bin body-len=req.body_len \
    body-size=var(txn.tollgate_size) body=req.body";

const TLS: &str = " ssl=ssl_fc sni=ssl_fc_sni tls-version=ssl_fc_protocol tls-cipher=ssl_fc_cipher";

const RESPONSE: &str = "id=unique-id src-ip=src src-port=src_port \
    method=var(txn.tollgate_method) path=var(txn.tollgate_path) query=var(txn.tollgate_query) \
    version=res.ver status=status frontend=fe_name backend=be_name server=srv_name \
    headers=res.hdrs_bin res-del=var(txn.tollgate.res_del) res-set=var(txn.tollgate.res_set) \
    res-add=var(txn.tollgate.res_add)";

/// Returns the text of the file.
pub(super) fn text(plan: &Plan<'_>) -> String {
    let args = plan.args;
    let tls = if args.tls_fetches { TLS } else { "" };
    let timeout = args.timeout.as_millis().max(1);
    let mut text = String::from(
        "# Written by `tollgate config haproxy`.\n[tollgate]\nspoe-agent tollgate-agent\n    \
         groups       tollgate-req\n",
    );
    if !args.no_responses {
        text.push_str("    messages     tollgate-res\n");
    }
    text.push_str(
        "    option       var-prefix tollgate\n    option       set-on-error error\n    option       \
         set-process-time process_ms\n",
    );
    for names in variables(plan).chunks(PER_LINE) {
        // Writing to a `String` never fails.
        let _ = writeln!(text, "    register-var-names {}", names.join(" "));
    }
    let _ = write!(
        text,
        "    timeout      hello 500ms
    timeout      idle 2m
    timeout      processing {timeout}ms
    use-backend  tollgate-agents
spoe-message tollgate-req
    args {REQUEST}{tls}
"
    );
    if !args.no_responses {
        let _ = write!(
            text,
            "spoe-message tollgate-res\n    args {RESPONSE}\n    event on-http-response\n"
        );
    }
    text.push_str("spoe-group tollgate-req\n    messages tollgate-req\n");
    text
}

fn variables(plan: &Plan<'_>) -> Vec<String> {
    let mut names: Vec<String> = VARIABLES.map(str::to_owned).to_vec();
    names.extend(headers::variables("req", &plan.names.of_requests));
    names.extend(headers::variables("res", &plan.names.of_responses));
    let denials = plan.names.of_denials.iter();
    names.extend(denials.flat_map(|name| headers::denial_variables(name)));
    let routes = plan.args.route.iter();
    names.extend(routes.map(|key| variable_name("route_", key)));
    names
}
