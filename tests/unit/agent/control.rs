use super::*;
use crate::protocol::LogLevel;

#[test]
fn a_proxy_gets_a_notice_once_although_a_handshake_is_under_way() {
    let control = AgentControl::default();
    let sessions: Vec<_> = (0..5)
        .map(|_| control.register(Origin::Forward, Peer::named("proxy")))
        .collect();
    sessions[0].set_proxy_id("first".to_owned());
    control.log(LogMessage::new(LogLevel::Info, "line"));
    for (session, id) in sessions[1..].iter().zip(["first", "second", "second"]) {
        session.set_proxy_id(id.to_owned());
    }
    let takes = |session: &Arc<SessionHandle>| session.next_notice().is_some();
    let taken: Vec<_> = sessions.iter().map(takes).collect();
    // The last one has no proxy with the extension.
    assert_eq!(taken, [true, false, true, false, true]);
}
