//! Continuing a connection in shared memory after its handshake.

use super::link::{Link, LinkUpgrade};
use super::shared_memory::{
    LinkCounters, LinkKind, SharedMemory, SharedMemoryConfig, SharedMemoryRefusal, Side, Terms,
};
use crate::error::ConnectError;
use crate::memory::MemoryBudget;
use crate::wire::{FrameBuffer, SharedMemoryOffer};
use std::sync::Arc;

/// This side's offer of shared memory, or its acceptance of one.
pub(crate) struct Offered {
    offer: SharedMemoryOffer,
    mode: SharedMemory,
    upgrade: Box<dyn LinkUpgrade>,
}

impl Link {
    /// Prepares shared memory, if the settings and the transport allow it. The offer goes into the
    /// handshake.
    pub(crate) fn offer_shared_memory(
        &mut self,
        config: SharedMemoryConfig,
    ) -> Result<Offered, SharedMemoryRefusal> {
        if config.mode == SharedMemory::Off {
            return Err(SharedMemoryRefusal::TurnedOff);
        }
        Ok(Offered {
            upgrade: self.receiver.begin_upgrade()?,
            offer: SharedMemoryOffer::new(config.bytes),
            mode: config.mode,
        })
    }

    /// Like [`Link::offer_shared_memory`], if the peer has offered it.
    pub(crate) fn accept_shared_memory(
        &mut self,
        config: SharedMemoryConfig,
        peer: Option<&SharedMemoryOffer>,
    ) -> Result<Offered, SharedMemoryRefusal> {
        let is_known = peer.is_some_and(|offer| offer.bytes().is_some());
        let offered = is_known.then(|| self.offer_shared_memory(config));
        offered.unwrap_or(Err(SharedMemoryRefusal::NotAccepted))
    }

    /// Replaces the link by shared memory if both sides have agreed to it in the handshake. If that
    /// fails without a fault of the peer, the link stays as it is. Returns the kind of the link.
    pub(crate) async fn upgrade(
        &mut self,
        offered: Result<Offered, SharedMemoryRefusal>,
        peer: Option<&SharedMemoryOffer>,
        buffer: &mut FrameBuffer,
        side: Side,
        memory: &MemoryBudget,
    ) -> Result<LinkKind, ConnectError> {
        let own = match offered {
            Ok(own) => own,
            Err(refusal) => return Ok(LinkKind::Transport(refusal)),
        };
        let bytes = |offer: &SharedMemoryOffer| offer.bytes();
        let (Some(own_bytes), Some(peer_bytes)) = (bytes(&own.offer), peer.and_then(bytes)) else {
            return Ok(LinkKind::Transport(SharedMemoryRefusal::NotAccepted));
        };
        let counters = Arc::<LinkCounters>::default();
        let terms = Terms {
            side,
            mode: own.mode,
            own_bytes,
            peer_bytes,
            memory: memory.clone(),
            counters: Arc::clone(&counters),
        };
        match own.upgrade.upgrade(buffer, terms).await? {
            Ok((sender, receiver)) => {
                std::mem::replace(&mut self.sender, sender).hand_over();
                self.receiver = receiver;
                Ok(LinkKind::SharedMemory(counters))
            }
            Err(refusal) => Ok(LinkKind::Transport(refusal)),
        }
    }
}

impl Offered {
    /// Returns what goes into the handshake.
    pub(crate) fn offer(offered: &Result<Self, SharedMemoryRefusal>) -> Option<&SharedMemoryOffer> {
        offered.as_ref().ok().map(|own| &own.offer)
    }
}
