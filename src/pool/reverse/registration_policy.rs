//! The rules that decide which agents may register.

use super::config::ReverseConnectionConfig;
use super::owner::IdOwner;
use super::pattern::matches;
use super::peer::{Peer, User};
use super::tokens::is_valid;
use crate::error::{ConnectError, RegistrationError};
use crate::pool::agent_config::is_valid_id;
use crate::protocol::PROTOCOL_VERSION;
use crate::wire::RegistrationRequest;
use std::collections::HashSet;

const ROOT: u32 = 0;

/// Decides which agents may register.
#[derive(Debug)]
pub(super) struct RegistrationPolicy {
    config: ReverseConnectionConfig,
    /// The user that the proxy runs as, if the listener is a Unix socket.
    own_uid: Option<u32>,
}

impl RegistrationPolicy {
    pub(super) fn new(config: ReverseConnectionConfig, own_uid: Option<u32>) -> Self {
        Self { config, own_uid }
    }

    /// Checks whether a peer may connect, before anything is received from it.
    pub(super) fn check_peer(&self, peer: &Peer) -> Result<(), RegistrationError> {
        match peer.user {
            Some(user) if !self.is_allowed(user) => {
                let User { uid, gid } = user;
                Err(RegistrationError::UserNotAllowed { uid, gid })
            }
            _ => Ok(()),
        }
    }

    /// Checks a registration. Returns the owner of the id.
    ///
    /// `is_valid_for_id` says whether the peer's certificate is valid for the id; `None` if it has
    /// presented none.
    pub(super) fn check_registration(
        &self,
        request: &RegistrationRequest,
        peer: &Peer,
        is_valid_for_id: Option<bool>,
    ) -> Result<IdOwner, RegistrationError> {
        if !request.supports_our_version() {
            let (expected, actual) = (PROTOCOL_VERSION, request.protocol_version);
            return Err(ConnectError::VersionMismatch { expected, actual }.into());
        }
        let id = &*request.agent_id;
        if !is_valid_id(id) {
            return Err(RegistrationError::InvalidId);
        }
        let allowed = &self.config.allowed_agents;
        if !allowed.is_empty() && !allowed.iter().any(|pattern| matches(pattern, id)) {
            return Err(RegistrationError::NotAllowed);
        }
        if is_valid_for_id == Some(false) {
            return Err(RegistrationError::CertificateOfAnother);
        }
        let has_own_token = self.check_token(id, request.auth_token.as_deref())?;
        if has_own_token || is_valid_for_id == Some(true) || self.is_trusted(peer.user) {
            return Ok(IdOwner::Credential);
        }
        Ok(IdOwner::Peer(peer.key))
    }

    /// Checks the token. Returns whether it is one for this id's pattern rather than for all ids.
    fn check_token(&self, id: &str, token: Option<&str>) -> Result<bool, RegistrationError> {
        let mut matching = self
            .config
            .agent_tokens
            .iter()
            .filter(|(pattern, _)| matches(pattern, id))
            .map(|(_, tokens)| tokens)
            .peekable();
        let has_pattern = matching.peek().is_some();
        let needs_token = has_pattern || (self.config.require_auth && self.config.has_tokens());
        if !needs_token {
            return Ok(false);
        }
        let token = token.ok_or(RegistrationError::TokenMissing)?;
        let is_valid = if has_pattern {
            is_valid(token, matching.flatten())
        } else {
            is_valid(token, &self.config.auth_tokens)
        };
        let verified = is_valid.then_some(has_pattern);
        verified.ok_or(RegistrationError::TokenWrong)
    }

    fn is_allowed(&self, user: User) -> bool {
        let (uids, gids): (&HashSet<_>, &HashSet<_>) =
            (&self.config.allowed_uids, &self.config.allowed_gids);
        if uids.is_empty() && gids.is_empty() {
            return self.is_trusted(Some(user));
        }
        uids.contains(&user.uid) || gids.contains(&user.gid)
    }

    /// Returns whether the peer is root or the proxy's own user, which could control the proxy
    /// anyway.
    fn is_trusted(&self, user: Option<User>) -> bool {
        user.is_some_and(|user| user.uid == ROOT || Some(user.uid) == self.own_uid)
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/pool/reverse/registration_policy.rs"]
mod tests;
