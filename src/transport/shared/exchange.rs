//! Replaces a socket by shared memory: the exchange of descriptors after the handshake.
//!
//! The proxy sends its descriptor, the agent its own, and the proxy confirms. Each message is a frame
//! with one byte, 1 for yes and 0 for no. After the confirmation the socket carries nothing but
//! doorbells; after a no, everything goes on as if shared memory had not been offered.

use super::bell::Bell;
use super::link::{self, Rings};
use super::region::{self, NotMapped, OwnRing, OwnWords, PeerRegion};
use crate::connection::link::{Halves, LinkError, LinkPoll, LinkReceiver, LinkUpgrade, Upgraded};
use crate::connection::{SharedMemoryRefusal, Side, Terms};
use crate::lock::lock;
use crate::memory::{MemoryBudget, MemoryCharge};
use crate::transport::socket::{SocketReceiver, UnixReadHalf};
use crate::wire::{FrameBuffer, MAX_HANDSHAKE_LEN, SHARED_MEMORY};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};

/// Part of the memory limit that may be in use when the memory of rings is added: a quarter. Beyond
/// it, connections stay on their sockets.
const MAX_USED: usize = 4;

/// Bytes of handshake messages that are read at once.
const READ_SIZE: usize = 4096;

/// The receiving half of a Unix socket that may be replaced by shared memory.
pub(crate) struct UpgradableReceiver<R> {
    plain: SocketReceiver<R>,
    /// Dead, or the upgrade that is being prepared.
    upgrading: Weak<Upgrading>,
}

/// A socket whose descriptors are kept.
#[derive(Debug)]
struct Upgrading {
    /// A second descriptor of the socket.
    bell: Arc<Bell>,
    kept: Mutex<Kept>,
}

/// Descriptors that have arrived.
#[derive(Debug, Default)]
enum Kept {
    #[default]
    None,
    One(OwnedFd),
    /// More than one, which no peer of ours sends, or one that was cut off.
    Unusable,
}

/// An upgrade that is being prepared.
struct SocketUpgrade(Arc<Upgrading>);

/// The memory that this side has made for the link.
struct OwnSide {
    words: OwnWords,
    ring: OwnRing,
    charge: MemoryCharge,
}

impl<R> UpgradableReceiver<R> {
    pub(crate) fn new(read: R) -> Self {
        Self {
            plain: SocketReceiver(read),
            upgrading: Weak::new(),
        }
    }
}

impl<R: UnixReadHalf> LinkReceiver for UpgradableReceiver<R> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> LinkPoll<usize> {
        match self.upgrading.upgrade() {
            None => self.plain.poll_receive(cx, into),
            Some(upgrading) => upgrading.poll_receive(cx, into).map_err(LinkError::from),
        }
    }

    fn begin_upgrade(&mut self) -> Option<Box<dyn LinkUpgrade>> {
        let second = self.plain.0.socket().try_clone_to_owned().ok()?;
        let upgrading = Arc::new(Upgrading {
            bell: Arc::new(Bell::new(second.into()).ok()?),
            kept: Mutex::default(),
        });
        self.upgrading = Arc::downgrade(&upgrading);
        Some(Box::new(SocketUpgrade(upgrading)))
    }
}

impl Upgrading {
    fn poll_receive(&self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.bell.watched().poll_read_ready(cx))?;
            match receive(self.bell.socket(), into, &mut lock(&self.kept)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                received => return Poll::Ready(received),
            }
        }
    }

    /// Receives one message of the exchange, and the descriptor that came with it.
    async fn receive_message(&self, buffer: &mut FrameBuffer) -> Result<(bool, Kept), LinkError> {
        loop {
            if let Some((message, payload)) = buffer.next_frame(MAX_HANDSHAKE_LEN)? {
                return match (message == SHARED_MEMORY, &payload[..]) {
                    (true, [answer @ 0..=1]) => {
                        Ok((*answer == 1, std::mem::take(&mut *lock(&self.kept))))
                    }
                    _ => Err(LinkError::SharedMemory(
                        "unexpected message in the exchange",
                    )),
                };
            }
            if poll_fn(|cx| self.poll_receive(cx, buffer.spare())).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Sends one message of the exchange. The socket has room, as nothing else is being sent.
    fn send_message(&self, is_yes: bool, file: Option<&OwnedFd>) -> Result<(), LinkError> {
        let frame = [0, 0, 0, 2, SHARED_MEMORY, is_yes.into()];
        let descriptors = file.map(|file| [file.as_fd()]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if let Some(descriptors) = &descriptors {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let pieces = [IoSlice::new(&frame)];
        let sent = rustix::net::sendmsg(self.bell.socket(), &pieces, &mut ancillary, flags);
        match sent.map_err(io::Error::from)? {
            sent if sent == frame.len() => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
        }
    }
}

/// Receives bytes, and keeps the descriptors that come with them.
fn receive(socket: &UnixStream, into: &mut BytesMut, kept: &mut Kept) -> io::Result<usize> {
    let mut bytes = [0; READ_SIZE];
    let room = (into.capacity() - into.len()).min(READ_SIZE);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes[..room])],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for descriptor in descriptors {
                *kept = match kept {
                    Kept::None => Kept::One(descriptor),
                    Kept::One(_) | Kept::Unusable => Kept::Unusable,
                };
            }
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        *kept = Kept::Unusable;
    }
    into.extend_from_slice(&bytes[..received.bytes]);
    Ok(received.bytes)
}

impl LinkUpgrade for SocketUpgrade {
    fn upgrade<'b>(
        self: Box<Self>,
        buffer: &'b mut FrameBuffer,
        terms: Terms,
    ) -> BoxFuture<'b, Result<Upgraded, LinkError>> {
        Box::pin(async move {
            match terms.side {
                Side::Proxy => self.of_proxy(buffer, terms).await,
                Side::Agent => self.of_agent(buffer, terms).await,
            }
        })
    }
}

impl SocketUpgrade {
    async fn of_proxy(self, buffer: &mut FrameBuffer, terms: Terms) -> Result<Upgraded, LinkError> {
        let made = make(&terms);
        let file = made.as_ref().ok().map(|(_, file)| file);
        self.0.send_message(file.is_some(), file)?;
        let (is_yes, kept) = self.0.receive_message(buffer).await?;
        let own = match made {
            Ok((own, _)) => own,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !is_yes {
            return Ok(Err(SharedMemoryRefusal::ByPeer));
        }
        let peer = map(kept, &terms)?;
        self.0.send_message(peer.is_ok(), None)?;
        Ok(peer.map(|peer| self.finish(own, peer, terms, buffer)))
    }

    async fn of_agent(self, buffer: &mut FrameBuffer, terms: Terms) -> Result<Upgraded, LinkError> {
        let (is_yes, kept) = self.0.receive_message(buffer).await?;
        if !is_yes {
            self.0.send_message(false, None)?;
            return Ok(Err(SharedMemoryRefusal::ByPeer));
        }
        let peer = map(kept, &terms)?;
        let (peer, (own, file)) = match peer.and_then(|peer| Ok((peer, make(&terms)?))) {
            Ok(both) => both,
            Err(refusal) => {
                self.0.send_message(false, None)?;
                return Ok(Err(refusal));
            }
        };
        self.0.send_message(true, Some(&file))?;
        drop(file);
        let (is_confirmed, _) = self.0.receive_message(buffer).await?;
        if !is_confirmed {
            return Ok(Err(SharedMemoryRefusal::ByPeer));
        }
        Ok(Ok(self.finish(own, peer, terms, buffer)))
    }

    fn finish(
        self,
        own: OwnSide,
        peer: PeerRegion,
        terms: Terms,
        buffer: &mut FrameBuffer,
    ) -> Halves {
        // What follows the exchange are doorbells. The ring is looked at in any case.
        *buffer = FrameBuffer::default();
        link::split(Rings {
            words: own.words,
            ring: own.ring,
            peer,
            bell: Arc::clone(&self.0.bell),
            charge: own.charge,
            terms,
        })
    }
}

/// Makes the memory that this side writes. Returns it with the descriptor for the peer.
fn make(terms: &Terms) -> Result<(OwnSide, OwnedFd), SharedMemoryRefusal> {
    let charge = charge(&terms.memory, terms.own_bytes + terms.peer_bytes)
        .ok_or(SharedMemoryRefusal::MemoryLimit)?;
    let made = region::create(terms.own_bytes);
    let (words, ring, file) = made.map_err(|_| SharedMemoryRefusal::System)?;
    let own = OwnSide {
        words,
        ring,
        charge,
    };
    Ok((own, file))
}

/// Charges both rings, as this side may be charged by the system for the pages of either.
fn charge(memory: &MemoryBudget, bytes: usize) -> Option<MemoryCharge> {
    let is_free = memory.used().saturating_add(bytes) <= memory.limit() / MAX_USED;
    is_free.then(|| memory.try_charge(bytes)).flatten()
}

/// Maps the peer's memory. A descriptor that is not what the peer says is an error.
fn map(kept: Kept, terms: &Terms) -> Result<Result<PeerRegion, SharedMemoryRefusal>, LinkError> {
    let Kept::One(file) = kept else {
        return Ok(Err(SharedMemoryRefusal::NoDescriptor));
    };
    match PeerRegion::map(&file, terms.peer_bytes) {
        Ok(peer) => Ok(Ok(peer)),
        Err(NotMapped::System) => Ok(Err(SharedMemoryRefusal::System)),
        Err(NotMapped::Invalid(reason)) => Err(LinkError::SharedMemory(reason)),
    }
}
