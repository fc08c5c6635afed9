//! Replaces a socket by shared memory: the exchange of descriptors after the handshake.
//!
//! The proxy sends its descriptor, the agent its own, and the proxy confirms. Each message is a
//! frame with one byte, 1 for yes and 0 for no. After the confirmation the socket carries nothing
//! but doorbells; after a no, everything goes on as if shared memory had not been offered.

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
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut, Read};
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

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

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

    fn begin_upgrade(&mut self) -> Result<Box<dyn LinkUpgrade>, SharedMemoryRefusal> {
        let second = self.plain.0.socket().try_clone_to_owned();
        let bell = second.and_then(|second| Bell::new(second.into()));
        let upgrading = Arc::new(Upgrading {
            bell: Arc::new(bell.map_err(|error| refusal_of(&error))?),
            kept: Mutex::default(),
        });
        self.upgrading = Arc::downgrade(&upgrading);
        Ok(Box::new(SocketUpgrade(upgrading)))
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

    /// Sends a yes with the descriptor of what this side has made, or a no. It is a no as well if
    /// the system does not send the descriptor.
    fn send_made<T>(
        &self,
        made: Result<(T, OwnedFd), SharedMemoryRefusal>,
    ) -> Result<Result<T, SharedMemoryRefusal>, LinkError> {
        let made = made.and_then(|(made, file)| match self.send_descriptor(&file) {
            Ok(()) => Ok(made),
            Err(_) => Err(SharedMemoryRefusal::NotSent),
        });
        if made.is_err() {
            self.send_message(false)?;
        }
        Ok(made)
    }

    fn send_descriptor(&self, file: &OwnedFd) -> io::Result<()> {
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let frame = frame(true);
        let pieces = [IoSlice::new(&frame)];
        let sent = rustix::net::sendmsg(self.bell.socket(), &pieces, &mut ancillary, SEND_FLAGS);
        check_whole(sent?, &frame)
    }

    /// Sends one message of the exchange, in a way that a sandbox allows which forbids descriptors.
    /// The socket has room, as nothing else is being sent.
    fn send_message(&self, is_yes: bool) -> io::Result<()> {
        let frame = frame(is_yes);
        let sent = rustix::net::send(self.bell.socket(), &frame, SEND_FLAGS);
        check_whole(sent?, &frame)
    }

    /// Maps the peer's memory. A descriptor that is not what the peer says is an error.
    fn map(
        &self,
        kept: Kept,
        terms: &Terms,
    ) -> Result<Result<PeerRegion, SharedMemoryRefusal>, LinkError> {
        let Kept::One(file) = kept else {
            return Ok(Err(self.why_missing()));
        };
        match PeerRegion::map(&file, terms.peer_bytes) {
            Ok(peer) => Ok(Ok(peer)),
            Err(NotMapped::System) => Ok(Err(SharedMemoryRefusal::System)),
            Err(NotMapped::Invalid(reason)) => Err(LinkError::SharedMemory(reason)),
        }
    }

    /// Returns why the peer's descriptor did not arrive. The system itself does not say it.
    fn why_missing(&self) -> SharedMemoryRefusal {
        match self.bell.socket().try_clone() {
            Err(error) if is_out_of_descriptors(&error) => SharedMemoryRefusal::OpenFiles,
            _ => SharedMemoryRefusal::NoDescriptor,
        }
    }
}

/// Returns a message of the exchange.
fn frame(is_yes: bool) -> [u8; 6] {
    [0, 0, 0, 2, SHARED_MEMORY, is_yes.into()]
}

fn check_whole(sent: usize, frame: &[u8]) -> io::Result<()> {
    if sent < frame.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Receives bytes, and keeps the descriptors that come with them.
fn receive(socket: &UnixStream, into: &mut BytesMut, kept: &mut Kept) -> io::Result<usize> {
    let mut bytes = [0; READ_SIZE];
    let room = (into.capacity() - into.len()).min(READ_SIZE);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(&mut bytes[..room])];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = match rustix::net::recvmsg(socket, &mut pieces, &mut ancillary, flags) {
        // A sandbox forbids descriptors, and so this call.
        Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
            let received = (&mut &*socket).read(&mut bytes[..room])?;
            into.extend_from_slice(&bytes[..received]);
            return Ok(received);
        }
        received => received?,
    };
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
        let own = self.0.send_made(make(&terms))?;
        let (is_yes, kept) = self.0.receive_message(buffer).await?;
        let own = match own {
            Ok(own) => own,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !is_yes {
            return Ok(Err(SharedMemoryRefusal::ByPeer));
        }
        let peer = self.0.map(kept, &terms)?;
        self.0.send_message(peer.is_ok())?;
        Ok(peer.map(|peer| self.finish(own, peer, terms, buffer)))
    }

    async fn of_agent(self, buffer: &mut FrameBuffer, terms: Terms) -> Result<Upgraded, LinkError> {
        let (is_yes, kept) = self.0.receive_message(buffer).await?;
        if !is_yes {
            self.0.send_message(false)?;
            return Ok(Err(SharedMemoryRefusal::ByPeer));
        }
        let made = self.0.map(kept, &terms)?.and_then(|peer| {
            let (own, file) = make(&terms)?;
            Ok(((peer, own), file))
        });
        let (peer, own) = match self.0.send_made(made)? {
            Ok(both) => both,
            Err(refusal) => return Ok(Err(refusal)),
        };
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
    let (words, ring, file) = made.map_err(|error| refusal_of(&error))?;
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

/// Returns why the connection stays on its socket after this error of the system.
fn refusal_of(error: &io::Error) -> SharedMemoryRefusal {
    if is_out_of_descriptors(error) {
        return SharedMemoryRefusal::OpenFiles;
    }
    SharedMemoryRefusal::System
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}
