use super::config::ReverseConnectionConfig;
use super::joining::Holder;
use super::pattern::fits;
use super::peer::{Peer, User};
use super::tokens::is_valid;
use crate::error::{ConnectError, RegistrationError};
use crate::protocol::PROTOCOL_VERSION;
use crate::wire::RegistrationRequest;
use std::collections::HashSet;

/// Ids are names, not documents.
const MAX_ID_LEN: usize = 128;

const ROOT: u32 = 0;

/// Decides who may come in.
#[derive(Debug)]
pub(super) struct Gatekeeper {
    config: ReverseConnectionConfig,
    /// The user that the proxy runs as, where that is known.
    own_uid: Option<u32>,
}

impl Gatekeeper {
    pub(super) fn new(config: ReverseConnectionConfig, own_uid: Option<u32>) -> Self {
        Self { config, own_uid }
    }

    /// Whether a peer may say anything at all.
    pub(super) fn check_peer(&self, peer: &Peer) -> Result<(), RegistrationError> {
        match peer.user {
            Some(user) if !self.is_allowed(user) => Err(RegistrationError::UserNotAllowed {
                uid: user.uid,
                gid: user.gid,
            }),
            _ => Ok(()),
        }
    }

    /// Whether an agent may come in, and what makes the id its own. `is_named` says whether its certificate, if it has
    /// shown one, is for this id.
    pub(super) fn admit(
        &self,
        request: &RegistrationRequest,
        peer: &Peer,
        is_named: Option<bool>,
    ) -> Result<Holder, RegistrationError> {
        if !request.supports_our_version() {
            return Err(RegistrationError::Handshake(
                ConnectError::VersionMismatch {
                    expected: PROTOCOL_VERSION,
                    actual: request.protocol_version,
                },
            ));
        }
        let id = &*request.agent_id;
        if id.is_empty() || id.len() > MAX_ID_LEN || id.chars().any(char::is_control) {
            return Err(RegistrationError::InvalidId);
        }
        let allowed = &self.config.allowed_agents;
        if !allowed.is_empty() && !allowed.iter().any(|pattern| fits(pattern, id)) {
            return Err(RegistrationError::NotAllowed);
        }
        if is_named == Some(false) {
            return Err(RegistrationError::CertificateOfAnother);
        }
        let has_own_token = self.check_token(id, request.auth_token.as_deref())?;
        if has_own_token || is_named == Some(true) || self.is_own(peer.user) {
            return Ok(Holder::Credential);
        }
        Ok(Holder::Peer(peer.key))
    }

    /// Whether the token is one that is valid for this id alone.
    fn check_token(&self, id: &str, token: Option<&str>) -> Result<bool, RegistrationError> {
        let mut bound = self
            .config
            .agent_tokens
            .iter()
            .filter(|(pattern, _)| fits(pattern, id))
            .map(|(_, tokens)| tokens)
            .peekable();
        let is_bound = bound.peek().is_some();
        let needs_token = is_bound || (self.config.require_auth && self.config.has_tokens());
        if !needs_token {
            return Ok(false);
        }
        let token = token.ok_or(RegistrationError::TokenMissing)?;
        let is_valid = if is_bound {
            is_valid(token, bound.flatten())
        } else {
            is_valid(token, &self.config.auth_tokens)
        };
        if is_valid {
            Ok(is_bound)
        } else {
            Err(RegistrationError::TokenWrong)
        }
    }

    fn is_allowed(&self, user: User) -> bool {
        let (uids, gids): (&HashSet<_>, &HashSet<_>) =
            (&self.config.allowed_uids, &self.config.allowed_gids);
        if uids.is_empty() && gids.is_empty() {
            return self.is_own(Some(user));
        }
        uids.contains(&user.uid) || gids.contains(&user.gid)
    }

    /// Whether a process could do to the proxy whatever it likes anyway.
    fn is_own(&self, user: Option<User>) -> bool {
        user.is_some_and(|user| user.uid == ROOT || Some(user.uid) == self.own_uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AgentCapabilities;
    use std::collections::HashMap;

    const OWN_UID: u32 = 1000;

    fn gatekeeper(change: impl FnOnce(&mut ReverseConnectionConfig)) -> Gatekeeper {
        let mut config = ReverseConnectionConfig::default();
        change(&mut config);
        Gatekeeper::new(config, Some(OWN_UID))
    }

    fn set(texts: &[&str]) -> HashSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn request(id: &str, token: Option<&str>) -> RegistrationRequest {
        RegistrationRequest::new(id, &AgentCapabilities::new(id, id, "1"), token, &[])
    }

    fn user(uid: u32, gid: u32) -> Peer {
        Peer::user(User { uid, gid })
    }

    fn remote() -> Peer {
        Peer::at("192.0.2.7:4711".parse().unwrap())
    }

    #[test]
    fn ids_are_names() {
        let gatekeeper = gatekeeper(|_| {});
        for id in ["", "a\n", "\0", &"x".repeat(129)] {
            let admitted = gatekeeper.admit(&request(id, None), &user(OWN_UID, 1), None);
            assert!(
                matches!(admitted, Err(RegistrationError::InvalidId)),
                "{id:?}"
            );
        }
    }

    #[test]
    fn only_ids_on_the_list_come_in() {
        let gatekeeper = gatekeeper(|config| config.allowed_agents = set(&["waf", "auth-*"]));
        let admit = |id| gatekeeper.admit(&request(id, None), &user(OWN_UID, 1), None);
        assert!(admit("waf").is_ok() && admit("auth-7").is_ok());
        for id in ["waf2", "auth", "other"] {
            assert!(
                matches!(admit(id), Err(RegistrationError::NotAllowed)),
                "{id}"
            );
        }
    }

    #[test]
    fn a_token_is_needed_where_there_are_tokens() {
        let gatekeeper = gatekeeper(|config| config.auth_tokens = set(&["old", "new"]));
        for peer in [remote(), user(OWN_UID, 1)] {
            let admit = |token| gatekeeper.admit(&request("waf", token), &peer, None);
            assert!(admit(Some("old")).is_ok() && admit(Some("new")).is_ok());
            assert!(matches!(admit(None), Err(RegistrationError::TokenMissing)));
            for wrong in ["", "ol", "old "] {
                let admitted = admit(Some(wrong));
                assert!(
                    matches!(admitted, Err(RegistrationError::TokenWrong)),
                    "{wrong:?}"
                );
            }
        }
    }

    #[test]
    fn a_token_of_one_agent_is_none_of_anothers() {
        let gatekeeper = gatekeeper(|config| {
            config.auth_tokens = set(&["shared"]);
            config.agent_tokens = HashMap::from([
                ("waf-*".to_owned(), set(&["waf-1", "waf-2"])),
                ("auth".to_owned(), set(&["auth-1"])),
            ]);
        });
        let admit = |id, token| gatekeeper.admit(&request(id, Some(token)), &remote(), None);
        assert!(matches!(admit("waf-eu", "waf-2"), Ok(Holder::Credential)));
        assert!(matches!(admit("auth", "auth-1"), Ok(Holder::Credential)));
        assert!(matches!(admit("other", "shared"), Ok(Holder::Peer(_))));
        for (id, token) in [("waf-eu", "shared"), ("auth", "waf-1"), ("other", "auth-1")] {
            let admitted = admit(id, token);
            assert!(
                matches!(admitted, Err(RegistrationError::TokenWrong)),
                "{id} {token}"
            );
        }
    }

    #[test]
    fn a_certificate_is_for_the_names_in_it() {
        let gatekeeper = gatekeeper(|_| {});
        let admit = |is_named| gatekeeper.admit(&request("waf", None), &remote(), is_named);
        assert!(matches!(admit(Some(true)), Ok(Holder::Credential)));
        let another = admit(Some(false));
        assert!(matches!(
            another,
            Err(RegistrationError::CertificateOfAnother)
        ));
    }

    #[test]
    fn without_a_list_of_users_only_the_proxys_own_comes_in() {
        let closed = gatekeeper(|_| {});
        for (uid, is_allowed) in [(OWN_UID, true), (ROOT, true), (1001, false)] {
            assert_eq!(
                closed.check_peer(&user(uid, 1)).is_ok(),
                is_allowed,
                "{uid}"
            );
        }
        let listed = gatekeeper(|config| {
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
        let holder = listed.admit(&request("waf", None), &user(1001, 1), None);
        assert!(matches!(holder, Ok(Holder::Peer(_))));
    }
}
