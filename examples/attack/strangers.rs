//! The attacks on the port where the pool accepts agents that dial.

use crate::agent::DIALED;
use crate::common::frames::{frame, receive};
use crate::connections::{connect_to, drain, repeat, send};
use crate::payloads::{HANDSHAKE_REQUEST, registration};
use crate::places::Places;

/// Registers under the id of the good agent, and under ids that nobody has.
pub(crate) async fn without_a_token(places: &Places) {
    let registrations = [DIALED.to_owned(), "stranger".repeat(1_000)].map(|id| {
        let registration = registration(&id).to_string();
        frame(HANDSHAKE_REQUEST, registration.as_bytes())
    });
    repeat(8, async |number| {
        let mut connection = connect_to(&places.pool).await?;
        send(&mut connection, &registrations[number % 2]).await?;
        receive(&mut connection).await.map(|_| ())
    })
    .await;
}

/// Keeps more connections than may be unregistered.
pub(crate) async fn half_registrations(places: &Places) {
    let registration = registration(DIALED).to_string();
    let registration = frame(HANDSHAKE_REQUEST, registration.as_bytes());
    repeat(500, async |number| {
        let mut connection = connect_to(&places.pool).await?;
        let sent = registration.len() * (number % 4) / 4;
        send(&mut connection, &registration[..sent]).await?;
        drain(&mut connection).await
    })
    .await;
}

pub(crate) async fn connect_and_close(places: &Places) {
    repeat(8, async |_| connect_to(&places.pool).await.map(drop)).await;
}
