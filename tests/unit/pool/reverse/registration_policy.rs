use super::*;
use crate::protocol::AgentCapabilities;

const OWN_UID: u32 = 1000;

fn policy(change: impl FnOnce(&mut ReverseConnectionConfig)) -> RegistrationPolicy {
    let mut config = ReverseConnectionConfig::default();
    change(&mut config);
    RegistrationPolicy::new(config, Some(OWN_UID))
}

fn user(uid: u32, gid: u32) -> Peer {
    Peer::user(User { uid, gid })
}

#[test]
fn default_users_are_root_and_the_proxys_own() {
    let closed = policy(|_| {});
    for (uid, is_allowed) in [(OWN_UID, true), (ROOT, true), (1001, false)] {
        assert_eq!(
            closed.check_peer(&user(uid, 1)).is_ok(),
            is_allowed,
            "{uid}"
        );
    }
    let listed = policy(|config| {
        config.allowed_uids = HashSet::from([1001]);
        config.allowed_gids = HashSet::from([7]);
    });
    for (uid, gid, is_allowed) in [(1001, 1, true), (1002, 7, true), (OWN_UID, 1, false)] {
        assert_eq!(
            listed.check_peer(&user(uid, gid)).is_ok(),
            is_allowed,
            "{uid} {gid}"
        );
    }
    let capabilities = AgentCapabilities::new("waf", "waf", "1");
    let request = RegistrationRequest::new("waf", &capabilities, None, &[]);
    let owner = listed.check_registration(&request, &user(1001, 1), None);
    assert!(matches!(owner, Ok(IdOwner::Peer(_))));
}
