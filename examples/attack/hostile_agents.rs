//! The hostile agents of the pool, each in a process of its own.

use crate::common::frames::{frame, receive};
use crate::connections::{Burst, Connection, drain, flood, send};
use crate::payloads::{
    AGENT_RESPONSE, CONFIG_UPDATE_REQUEST, FLOW_CONTROL, HANDSHAKE_RESPONSE, HEALTH_STATUS, LOG,
    METRICS_REPORT, MIB, PING, accept_handshake, allow, allow_with_values, counter, half_frame,
    report,
};
use crate::places::Places;
use crate::tally::{Tally, count_connection};
use crate::{Failure, child};
use serde_json::{Map, Value, json};
use std::io;
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};

/// A hostile agent by its name in the report and in the pool.
pub(crate) const NAMES: [&str; 20] = [
    "reports-of-380000-counters",
    "reports-of-5000-counters",
    "reports-with-long-labels",
    "reports-with-names-of-1-mib",
    "answers-of-15-mib-of-values",
    "answers-of-150-kb-of-values",
    "answers-to-nobody",
    "answers-with-ids-of-8-mib",
    "pauses-and-resumes",
    "health-up-and-down",
    "health-with-long-words",
    "log-lines",
    "log-lines-with-8-mib-of-fields",
    "pings",
    "errors-in-settings",
    "errors-in-settings-of-1-mib",
    "restarts",
    "list-updates",
    "half-frames",
    "closes-at-once",
];

/// Serves until the parent process asks to stop.
pub(crate) async fn run(name: &str, places: &Places) -> Result<(), Failure> {
    let listener = UnixListener::bind(places.hostile_agent(name))?;
    let hostile = Arc::new(Hostile::named(name)?);
    println!("ready");
    tokio::select! {
        served = serve(&listener, hostile) => served?,
        () = child::stdin_closed() => {}
    }
    println!("{}", serde_json::to_string(&Tally::of_this_process())?);
    Ok(())
}

async fn serve(listener: &UnixListener, hostile: Arc<Hostile>) -> io::Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        count_connection();
        let hostile = Arc::clone(&hostile);
        // The result does not matter: the pool connects again.
        tokio::spawn(async move { hostile.attack(connection).await.is_ok() });
    }
}

enum Hostile {
    /// Sends the same messages without a pause.
    Floods(Burst),
    HalfFrames(Vec<u8>),
    ClosesAtOnce,
}

impl Hostile {
    fn named(name: &str) -> Result<Self, Failure> {
        match name {
            "half-frames" => return Ok(Self::HalfFrames(half_frame(AGENT_RESPONSE))),
            "closes-at-once" => return Ok(Self::ClosesAtOnce),
            _ => {}
        }
        let burst = reports(name).or_else(|| answers(name));
        let burst = burst.or_else(|| states(name));
        let burst = burst.or_else(|| config_updates(name));
        let burst = burst.ok_or_else(|| format!("{name}: no such agent"))?;
        Ok(Self::Floods(burst))
    }

    async fn attack(&self, mut connection: UnixStream) -> io::Result<()> {
        receive(&mut connection).await?;
        if let Self::ClosesAtOnce = self {
            return send(&mut connection, &[0; 5]).await;
        }
        let accepted = accept_handshake().to_string();
        send(
            &mut connection,
            &frame(HANDSHAKE_RESPONSE, accepted.as_bytes()),
        )
        .await?;
        match self {
            Self::Floods(burst) => flood(Box::new(connection) as Connection, burst).await,
            Self::HalfFrames(half) => {
                send(&mut connection, half).await?;
                drain(&mut connection).await
            }
            Self::ClosesAtOnce => Ok(()),
        }
    }
}

fn reports(name: &str) -> Option<Burst> {
    let counters = |count: usize| (0..count).map(|number| counter(&format!("c{number}")));
    let report = match name {
        "reports-of-380000-counters" => report(counters(380_000).collect()),
        "reports-of-5000-counters" => report(counters(5_000).collect()),
        "reports-with-long-labels" => report((0..200).map(counter_with_long_labels).collect()),
        "reports-with-names-of-1-mib" => report(vec![counter(&"n".repeat(MIB))]),
        _ => return None,
    };
    Some(burst(METRICS_REPORT, &report))
}

fn counter_with_long_labels(number: usize) -> Value {
    let labels = (0..31).map(|label| (format!("l{label}"), json!("\"\\".repeat(500))));
    let labels: Map<_, _> = labels.collect();
    json!({"name": format!("m{number}"), "labels": labels, "value": 1})
}

fn answers(name: &str) -> Option<Burst> {
    let answer = match name {
        "answers-of-15-mib-of-values" => allow_with_values(7_000_000),
        "answers-of-150-kb-of-values" => allow_with_values(70_000),
        "answers-to-nobody" => allow("nobody").to_string(),
        "answers-with-ids-of-8-mib" => allow(&"i".repeat(8 * MIB)).to_string(),
        _ => return None,
    };
    Some(Burst::of(&frame(AGENT_RESPONSE, answer.as_bytes())))
}

/// Messages about the agent's own state.
fn states(name: &str) -> Option<Burst> {
    let pair = |message, values: [Value; 2]| {
        let frames = values.map(|value| frame(message, value.to_string().as_bytes()));
        let pair = Burst::of(&frames.concat());
        Burst {
            messages: 2 * pair.messages,
            ..pair
        }
    };
    Some(match name {
        "pauses-and-resumes" => pair(FLOW_CONTROL, [json!({"action": 1}), json!({"action": 2})]),
        "health-up-and-down" => pair(HEALTH_STATUS, [json!({"state": 1}), json!({"state": 4})]),
        "health-with-long-words" => burst(HEALTH_STATUS, &health_with_long_words()),
        "log-lines" => burst(LOG, &log_line("x".repeat(10_000), Map::new())),
        "log-lines-with-8-mib-of-fields" => {
            let fields = (0..90_000).map(|number| (format!("k{number}"), json!("v".repeat(80))));
            burst(LOG, &log_line("m".to_owned(), fields.collect()))
        }
        "pings" => burst(PING, &json!({"sequence": 1, "timestamp_ms": 1})),
        _ => return None,
    })
}

fn health_with_long_words() -> Value {
    let unhealthy = json!({"reason": "r".repeat(MIB), "recoverable": false});
    json!({
        "agent_id": "a".repeat(100_000), "state": {"unhealthy": unhealthy},
        "message": "m".repeat(MIB), "load": null, "resources": null, "valid_until_ms": null,
        "timestamp_ms": 1,
    })
}

fn log_line(message: String, fields: Map<String, Value>) -> Value {
    json!({
        "level": "error", "message": message, "correlation_id": null, "fields": fields,
        "timestamp_ms": 1,
    })
}

fn config_updates(name: &str) -> Option<Burst> {
    let error = |text: String| json!({"type": "config_error", "error": text, "field": text});
    let update = match name {
        "errors-in-settings" => error("e".to_owned()),
        "errors-in-settings-of-1-mib" => error("e".repeat(MIB)),
        "restarts" => json!({
            "type": "restart_required", "reason": "e".repeat(100), "grace_period_ms": u64::MAX,
        }),
        "list-updates" => json!({
            "type": "list_update", "list_id": "l", "add": ["x"], "remove": [],
        }),
        _ => return None,
    };
    let frames = (0..500).map(|number| {
        let request = json!({
            "request_id": format!("r{number}"), "update_type": update, "timestamp_ms": 1,
        });
        frame(CONFIG_UPDATE_REQUEST, request.to_string().as_bytes())
    });
    let messages = if update.to_string().len() > MIB {
        4
    } else {
        500
    };
    Some(Burst {
        bytes: frames.take(messages).flatten().collect(),
        messages,
    })
}

fn burst(message: u8, value: &Value) -> Burst {
    Burst::of(&frame(message, value.to_string().as_bytes()))
}
