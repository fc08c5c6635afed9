//! The limit of the memory that peers can make a pool or a server hold.
//!
//! Every connection has an account with what it holds: read buffers, waiting events, unsent
//! answers. Everything else is charged one by one. A connection that holds more than its share is
//! slowed once half of the limit is used; beyond the limit, the connections that hold most end.

use crate::debug_fields::debug_fields;
use crate::entropy::RandomState;
use crate::lock::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Default limit of a pool, and of a server, in bytes: 256 MiB.
pub(crate) const DEFAULT_LIMIT: usize = 256 * 1024 * 1024;

/// Unit of accounts. What a connection holds is rounded up to it, so that an account changes only
/// now and then, and never for the events of an idle connection.
const UNIT: usize = 16 * 1024;

/// Memory that a connection may hold without being slowed, however scarce memory is.
const SMALL: usize = 4 * UNIT;

/// Part of the limit that a connection may hold when memory is scarce, if there are few
/// connections: a sixteenth. If there are more connections, their number takes its place.
const MIN_SHARES: usize = 16;

/// Memory that peers make a pool or a server hold, against its limit. Clones share it.
#[derive(Clone)]
pub(crate) struct MemoryBudget(Arc<Budget>);

struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Part of `used` that is freed soon, by connections that were ended.
    ending: AtomicUsize,
    /// Connections that were ended to free memory.
    ended: AtomicU64,
    accounts: Mutex<Accounts>,
    /// Number of accounts.
    count: AtomicUsize,
}

#[derive(Default)]
struct Accounts {
    next: u64,
    open: HashMap<u64, Arc<Account>, RandomState>,
}

/// Account of a connection. Its balance is returned when this is dropped.
pub(crate) struct MemoryAccount {
    budget: MemoryBudget,
    number: u64,
    shared: Arc<Account>,
    /// Bytes charged, a multiple of [`UNIT`].
    charged: usize,
}

struct Account {
    charged: AtomicUsize,
    /// Bytes that were charged when the connection was ended; 0 before.
    ending: AtomicUsize,
    /// Called when the connection has to end.
    end: Box<dyn Fn() + Send + Sync>,
}

/// Memory that is charged to the [`max_memory`](crate::AgentServerBuilder::max_memory) of a server
/// until this is dropped.
#[derive(Debug)]
pub struct MemoryCharge {
    payer: Payer,
    bytes: usize,
}

#[derive(Debug)]
enum Payer {
    /// Is refused what would exceed the limit.
    Nobody(MemoryBudget),
    /// Has to end if it holds most when the limit is exceeded.
    Connection(Arc<SharedAccount>),
}

/// Account of a connection that holds memory in several places.
#[derive(Debug)]
pub(crate) struct SharedAccount(Mutex<Balance>);

#[derive(Debug)]
struct Balance {
    account: MemoryAccount,
    bytes: usize,
}

impl MemoryBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Budget {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            ending: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            accounts: Mutex::default(),
            count: AtomicUsize::new(0),
        }))
    }

    /// Opens the account of a connection. `end` is called, at most once, when the connection has to
    /// end because it holds most and the limit is exceeded.
    pub(crate) fn open_account(&self, end: impl Fn() + Send + Sync + 'static) -> MemoryAccount {
        let shared = Arc::new(Account {
            charged: AtomicUsize::new(0),
            ending: AtomicUsize::new(0),
            end: Box::new(end),
        });
        let mut accounts = lock(&self.0.accounts);
        let number = accounts.next;
        accounts.next += 1;
        accounts.open.insert(number, Arc::clone(&shared));
        self.0.count.store(accounts.open.len(), Ordering::Relaxed);
        drop(accounts);
        MemoryAccount {
            budget: self.clone(),
            number,
            shared,
            charged: 0,
        }
    }

    /// Charges memory that does not belong to the account of a connection. Returns `None` if it
    /// would exceed the limit.
    pub(crate) fn try_charge(&self, bytes: usize) -> Option<MemoryCharge> {
        let mut charge = self.open_charge();
        charge.resize(bytes).then_some(charge)
    }

    /// Returns a charge of nothing.
    pub(crate) fn open_charge(&self) -> MemoryCharge {
        MemoryCharge {
            payer: Payer::Nobody(self.clone()),
            bytes: 0,
        }
    }

    /// Changes a charge. Returns `false` and changes nothing if it grows beyond the limit.
    fn change(&self, before: usize, after: usize) -> bool {
        let used = &self.0.used;
        if after <= before {
            used.fetch_sub(before - after, Ordering::Relaxed);
            return true;
        }
        let more = after - before;
        let is_free = used.fetch_add(more, Ordering::Relaxed).saturating_add(more) <= self.limit();
        if !is_free {
            used.fetch_sub(more, Ordering::Relaxed);
        }
        is_free
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Returns the bytes that are charged.
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that were ended to free memory.
    pub(crate) fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// Returns the bytes that a connection may hold when memory is scarce.
    fn share(&self) -> usize {
        self.limit() / self.0.count.load(Ordering::Relaxed).max(MIN_SHARES)
    }

    #[cold]
    fn end_largest(&self) {
        for account in self.take_largest() {
            self.0.ended.fetch_add(1, Ordering::Relaxed);
            (account.end)();
        }
    }

    /// Returns whether the limit is exceeded by what connections hold that were not ended.
    fn is_exceeded(&self) -> bool {
        let ending = self.0.ending.load(Ordering::Relaxed);
        self.used().saturating_sub(ending) > self.limit()
    }

    /// Marks connections as ended until those that stay fit into the limit, the largest first.
    fn take_largest(&self) -> Vec<Arc<Account>> {
        let accounts = lock(&self.0.accounts);
        let staying = accounts.open.values().filter(|account| !account.is_ended());
        // The balances change meanwhile, so each is read once.
        let mut staying: Vec<_> = staying
            .map(|account| (account.charged.load(Ordering::Relaxed), account))
            .collect();
        staying.sort_unstable_by_key(|(charged, _)| *charged);
        let mut taken = Vec::new();
        while self.is_exceeded()
            && let Some((charged, largest)) = staying.pop()
            && charged > 0
        {
            largest.ending.store(charged, Ordering::Relaxed);
            self.0.ending.fetch_add(charged, Ordering::Relaxed);
            taken.push(Arc::clone(largest));
        }
        taken
    }
}

impl MemoryAccount {
    /// Sets what the connection holds, in bytes.
    pub(crate) fn set(&mut self, bytes: usize) {
        let charged = bytes.div_ceil(UNIT) * UNIT;
        if charged != self.charged {
            self.charge(charged);
        }
    }

    /// Returns whether the connection has to end, because it holds most and the limit is exceeded.
    pub(crate) fn is_ended(&self) -> bool {
        self.shared.is_ended()
    }

    /// Returns whether the connection has to take no more work for now: it holds more than its
    /// share, and half of the limit is used.
    pub(crate) fn is_slowed(&self) -> bool {
        self.charged > SMALL
            && self.budget.used() > self.budget.limit() / 2
            && self.charged > self.budget.share()
    }

    /// Returns whether the connection has to receive nothing until others that were ended have
    /// freed what they hold: nearly all of the limit is used, and not only by those that stay.
    pub(crate) fn has_to_wait(&self) -> bool {
        let limit = self.budget.limit();
        self.charged > SMALL
            && self.budget.used() > limit - limit / 4
            && self.budget.0.ending.load(Ordering::Relaxed) > 0
    }

    fn charge(&mut self, charged: usize) {
        let used = &self.budget.0.used;
        let is_growing = charged > self.charged;
        if is_growing {
            used.fetch_add(charged - self.charged, Ordering::Relaxed);
        } else {
            used.fetch_sub(self.charged - charged, Ordering::Relaxed);
        }
        self.charged = charged;
        self.shared.charged.store(charged, Ordering::Relaxed);
        if is_growing && self.budget.is_exceeded() {
            self.budget.end_largest();
        }
    }
}

impl MemoryCharge {
    /// Charges another number of bytes. Returns `false` and changes nothing if it is larger than
    /// before and would exceed the limit, or if it belongs to a session that holds most while the
    /// limit is exceeded. That session has to end.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let is_changed = match &self.payer {
            Payer::Nobody(budget) => budget.change(self.bytes, bytes),
            Payer::Connection(account) => account.change(self.bytes, bytes),
        };
        if is_changed {
            self.bytes = bytes;
        }
        is_changed
    }
}

impl SharedAccount {
    /// Shares the account of a connection that holds `bytes` from its beginning.
    pub(crate) fn new(mut account: MemoryAccount, bytes: usize) -> Arc<Self> {
        account.set(bytes);
        Arc::new(Self(Mutex::new(Balance { account, bytes })))
    }

    /// Returns a charge of nothing.
    pub(crate) fn open_charge(self: &Arc<Self>) -> MemoryCharge {
        MemoryCharge {
            payer: Payer::Connection(Arc::clone(self)),
            bytes: 0,
        }
    }

    /// Returns whether the connection has to end, because it holds most and the limit is exceeded.
    pub(crate) fn is_ended(&self) -> bool {
        lock(&self.0).account.is_ended()
    }

    /// Changes one of the charges. Returns `false` and changes nothing if it grows and the
    /// connection has to end.
    fn change(&self, before: usize, after: usize) -> bool {
        if before == after {
            return true;
        }
        let mut balance = lock(&self.0);
        let held = balance.bytes;
        let changed = held - before + after;
        balance.account.set(changed);
        if after > before && balance.account.is_ended() {
            balance.account.set(held);
            return false;
        }
        balance.bytes = changed;
        true
    }
}

impl Account {
    fn is_ended(&self) -> bool {
        self.ending.load(Ordering::Relaxed) > 0
    }
}

impl Drop for MemoryAccount {
    fn drop(&mut self) {
        let budget = &self.budget.0;
        let mut accounts = lock(&self.budget.0.accounts);
        accounts.open.remove(&self.number);
        budget.count.store(accounts.open.len(), Ordering::Relaxed);
        // Ends are noted under the lock, so none follows.
        let ending = self.shared.ending.load(Ordering::Relaxed);
        budget.used.fetch_sub(self.charged, Ordering::Relaxed);
        budget.ending.fetch_sub(ending, Ordering::Relaxed);
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.resize(0);
    }
}

debug_fields!(MemoryBudget, |self| limit: self.limit(), used: self.used());
debug_fields!(MemoryAccount, |self| charged: self.charged);

#[cfg(test)]
#[path = "../tests/unit/memory.rs"]
mod tests;
