//! Links through shared memory between two processes of one machine.
//!
//! Each side makes and seals the memory that it writes, a ring of bytes, and maps that of the peer
//! for reading only. The ring carries the bytes that the socket would have carried; everything is
//! copied out before it is looked at. The socket stays: it wakes a peer that sleeps, and its end is
//! the end of the connection.

mod bell;
mod copy;
mod exchange;
mod link;
mod region;
mod ring;
mod spin;

pub(super) use exchange::UpgradableReceiver;
