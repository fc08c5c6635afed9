//! The attacks on the server, each in a process of its own.

use crate::agent::WAITING;
use crate::common::frames::frame;
use crate::connections::{Burst, connect, drain, flood, repeat, send, shake_hands};
use crate::payloads::{
    CANCEL, HANDSHAKE_REQUEST, MIB, PING, REQUEST_HEADERS, half_frame, offer_handshake, request,
};
use crate::places::Places;
use crate::tally::{Tally, count_sent};
use crate::{Failure, child, grpc_floods, strangers};
use serde_json::json;
use std::io;
use tokio::io::{AsyncWriteExt, split};

/// An attack by its name in the report.
pub(crate) const NAMES: [&str; 18] = [
    "half frames of 16 MiB",
    "events of 8 MiB that wait",
    "answers that nobody reads",
    "no handshake",
    "silence after the handshake",
    "connect and close",
    "cancels of unknown ids",
    "pings",
    "undecodable events",
    "undecodable handshakes",
    "events full of values",
    "gRPC: endless calls",
    "gRPC: silent streams",
    "gRPC: half messages",
    "gRPC: resets",
    "pool: registrations without a token",
    "pool: half registrations",
    "pool: connect and close",
];

/// Attacks until the parent process asks to stop.
pub(crate) async fn run(name: &str, places: &Places) -> Result<(), Failure> {
    println!("ready");
    tokio::select! {
        attacked = attack(name, places) => attacked?,
        () = child::stdin_closed() => {}
    }
    println!("{}", serde_json::to_string(&Tally::of_this_process())?);
    Ok(())
}

async fn attack(name: &str, places: &Places) -> Result<(), Failure> {
    match name {
        "half frames of 16 MiB" => half_frames(places).await,
        "events of 8 MiB that wait" => waiting_events(places).await,
        "answers that nobody reads" => unread_answers(places).await,
        "no handshake" => no_handshake(places).await,
        "silence after the handshake" => silence(places).await,
        "connect and close" => connect_and_close(places).await,
        "cancels of unknown ids" => cancels(places).await,
        "pings" => messages(places, &ping()).await,
        "undecodable events" => messages(places, &undecodable_event()).await,
        "undecodable handshakes" => undecodable_handshakes(places).await,
        "events full of values" => events_full_of_values(places).await,
        "gRPC: endless calls" => grpc_floods::endless_calls(places).await,
        "gRPC: silent streams" => grpc_floods::silent_streams(places).await,
        "gRPC: half messages" => grpc_floods::half_messages(places).await,
        "gRPC: resets" => grpc_floods::resets(places).await,
        "pool: registrations without a token" => strangers::without_a_token(places).await,
        "pool: half registrations" => strangers::half_registrations(places).await,
        "pool: connect and close" => strangers::connect_and_close(places).await,
        _ => return Err(format!("{name}: no such attack").into()),
    }
    Ok(())
}

async fn half_frames(places: &Places) {
    let half = half_frame(REQUEST_HEADERS);
    repeat(100, async |number| {
        let mut connection = shake_hands(places, number).await?;
        send(&mut connection, &half).await?;
        drain(&mut connection).await
    })
    .await;
}

/// Sends two events that each nearly reach the limit of waiting events, and half of a third.
async fn waiting_events(places: &Places) {
    let field = "v".repeat(8 * MIB - 1000);
    let half = half_frame(REQUEST_HEADERS);
    let half = &half[..15 * MIB];
    let events = ["1", "2"].map(|id| request(id, WAITING, &field).to_string());
    let events = events.map(|event| frame(REQUEST_HEADERS, event.as_bytes()));
    repeat(60, async |number| {
        let connection = shake_hands(places, number).await?;
        let (mut receiving, mut sending) = split(connection);
        let sent = async {
            for event in &events {
                send(&mut sending, event).await?;
            }
            send(&mut sending, half).await
        };
        tokio::try_join!(sent, drain(&mut receiving)).map(|((), ())| ())
    })
    .await;
}

async fn unread_answers(places: &Places) {
    let event = request("unread", "/", "v").to_string();
    let burst = Burst::of(&frame(REQUEST_HEADERS, event.as_bytes()));
    repeat(100, async |number| {
        let mut connection = shake_hands(places, number).await?;
        loop {
            connection.write_all(&burst.bytes).await?;
            count_sent(burst.messages, burst.bytes.len());
        }
    })
    .await;
}

/// Keeps twice as many connections as the server has places. Half of them send the first byte.
async fn no_handshake(places: &Places) {
    repeat(2_000, async |number| {
        let mut connection = connect(places, number).await?;
        if number % 4 < 2 {
            send(&mut connection, &[0]).await?;
        }
        drain(&mut connection).await
    })
    .await;
}

/// Keeps more connections than the server has places.
async fn silence(places: &Places) {
    repeat(1_200, async |number| {
        let mut connection = shake_hands(places, number).await?;
        drain(&mut connection).await
    })
    .await;
}

async fn connect_and_close(places: &Places) {
    let offer = frame(HANDSHAKE_REQUEST, offer_handshake().to_string().as_bytes());
    repeat(8, async |number| {
        let mut connection = connect(places, number).await?;
        match number / 2 {
            0 => Ok(()),
            1 => send(&mut connection, &offer[..offer.len() / 2]).await,
            _ => send(&mut connection, &offer).await,
        }
    })
    .await;
}

/// Cancels unknown ids while a thousand handlers wait.
async fn cancels(places: &Places) {
    let waiting = (0..1_000).map(|number| {
        let event = request(&number.to_string(), WAITING, "v").to_string();
        frame(REQUEST_HEADERS, event.as_bytes())
    });
    let cancel = |number: usize| {
        let cancel = json!({"correlation_id": format!("unknown-{number}"), "reason": 1});
        frame(CANCEL, cancel.to_string().as_bytes())
    };
    let cancels = (0..20_000).map(cancel);
    let burst = Burst {
        messages: waiting.len() + cancels.len(),
        bytes: waiting.chain(cancels).flatten().collect(),
    };
    repeat(8, async |number| {
        flood(shake_hands(places, number).await?, &burst).await
    })
    .await;
}

/// Sends the same message on eight connections without a pause.
async fn messages(places: &Places, message: &[u8]) {
    let burst = Burst::of(message);
    repeat(8, async |number| {
        flood(shake_hands(places, number).await?, &burst).await
    })
    .await;
}

fn ping() -> Vec<u8> {
    let ping = json!({"sequence": 1, "timestamp_ms": 1});
    frame(PING, ping.to_string().as_bytes())
}

/// Returns an event whose id is long and would control a terminal.
fn undecodable_event() -> Vec<u8> {
    let event = json!({"metadata": {"correlation_id": long_text()}, "method": 7});
    frame(REQUEST_HEADERS, event.to_string().as_bytes())
}

async fn undecodable_handshakes(places: &Places) {
    let offer = json!({"supported_versions": long_text()}).to_string();
    let offer = frame(HANDSHAKE_REQUEST, offer.as_bytes());
    repeat(8, async |number| {
        let mut connection = connect(places, number).await?;
        send(&mut connection, &offer).await?;
        match drain(&mut connection).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            ended => ended,
        }
    })
    .await;
}

/// Sends events with more values than are accepted, and with as many as are.
async fn events_full_of_values(places: &Places) {
    let bursts = [7 * MIB, 90_000].map(|values| {
        let values = "0,".repeat(values);
        let event = request("values", "/", "v").to_string();
        let event = event.trim_end_matches('}');
        let event = format!("{event}}},\"x\":[{values}0]}}");
        Burst {
            bytes: frame(REQUEST_HEADERS, event.as_bytes()),
            messages: 1,
        }
    });
    repeat(8, async |number| {
        flood(shake_hands(places, number).await?, &bursts[number / 2 % 2]).await
    })
    .await;
}

fn long_text() -> String {
    "\u{202e}\u{1b}[31m\n".repeat(3_000)
}
