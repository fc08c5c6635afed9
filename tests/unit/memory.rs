use super::*;
use std::sync::atomic::AtomicBool;

const MIB: usize = 1024 * 1024;

fn accounts<const N: usize>(budget: &MemoryBudget, bytes: [usize; N]) -> [MemoryAccount; N] {
    bytes.map(|bytes| {
        let mut account = budget.open_account(|| {});
        account.set(bytes);
        account
    })
}

#[test]
fn balances_are_summed_and_returned() {
    let budget = MemoryBudget::new(100 * MIB);
    let [mut one, two] = accounts(&budget, [MIB, 1]);
    assert_eq!(budget.used(), MIB + UNIT);
    one.set(0);
    let charge = budget.try_charge(5).expect("room");
    assert_eq!(budget.used(), UNIT + 5);
    drop((one, two, charge));
    assert_eq!(budget.used(), 0);
    assert!(lock(&budget.0.accounts).open.is_empty());
}

#[test]
fn balances_may_change_while_the_largest_are_looked_for() {
    let budget = MemoryBudget::new(100 * MIB);
    let all = accounts(&budget, [MIB; 100]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for account in &all {
                    let charged = fastrand::usize(..MIB);
                    account.shared.charged.store(charged, Ordering::Relaxed);
                }
            }
        });
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..5_000).for_each(|_| drop(budget.take_largest()));
        }));
        is_over.store(true, Ordering::Relaxed);
        assert!(looked.is_ok());
    });
}

#[test]
fn largest_connections_end_beyond_the_limit() {
    let budget = MemoryBudget::new(10 * MIB);
    let mut all = accounts(&budget, [MIB, 4 * MIB, 3 * MIB, MIB]);
    assert!(all.iter().all(|account| !account.is_ended()));
    all[0].set(100 * MIB);
    let ended: Vec<_> = all.iter().map(MemoryAccount::is_ended).collect();
    assert_eq!(ended, [true, false, false, false]);
    // What is about to be freed makes no other connection end.
    all[3].set(2 * MIB);
    assert_eq!(budget.ended(), 1);
    all[3].set(5 * MIB);
    let ended: Vec<_> = all.iter().map(MemoryAccount::is_ended).collect();
    assert_eq!(ended, [true, false, false, true]);
}

#[test]
fn connection_above_its_share_is_slowed_when_memory_is_scarce() {
    let budget = MemoryBudget::new(32 * MIB);
    let [mut large, small] = accounts(&budget, [14 * MIB, MIB]);
    assert!(!large.is_slowed());
    // Ten times its share.
    large.set(20 * MIB);
    assert!(large.is_slowed() && !small.is_slowed());
    let many: Vec<_> = (0..31).map(|_| budget.open_account(|| {})).collect();
    assert!(small.is_slowed(), "its share is smaller now");
    drop(many);
    assert!(!small.is_slowed());
}

#[test]
fn charges_are_refused_beyond_the_limit() {
    let budget = MemoryBudget::new(10);
    let held = budget.try_charge(6).expect("room");
    assert!(budget.try_charge(5).is_none());
    let mut growing = budget.open_charge();
    assert!(growing.resize(4) && !growing.resize(5) && growing.resize(0));
    assert_eq!(budget.used(), 6);
    drop(held);
    assert!(budget.try_charge(10).is_some());
    assert!(budget.try_charge(usize::MAX).is_none());
    assert_eq!(budget.used(), 0);
}

#[test]
fn charges_of_a_connection_are_summed_in_its_account() {
    let budget = MemoryBudget::new(10 * MIB);
    let account = SharedAccount::new(budget.open_account(|| {}), UNIT);
    let (mut one, mut two) = (account.open_charge(), account.open_charge());
    assert!(one.resize(MIB) && two.resize(2 * MIB) && one.resize(MIB / 2));
    assert_eq!(budget.used(), UNIT + 5 * MIB / 2);
    drop(two);
    assert_eq!(budget.used(), UNIT + MIB / 2);
    drop((one, account));
    assert_eq!(budget.used(), 0);
}

#[test]
fn connection_with_the_largest_charges_ends_beyond_the_limit() {
    let budget = MemoryBudget::new(10 * MIB);
    let open = |bytes| {
        let account = SharedAccount::new(budget.open_account(|| {}), 0);
        let mut charge = account.open_charge();
        assert!(charge.resize(bytes));
        (account, charge)
    };
    let (large, mut much) = open(6 * MIB);
    let (small, mut little) = open(3 * MIB);
    // The small one is granted what the large one has to give back.
    assert!(little.resize(5 * MIB));
    assert!(large.is_ended() && !small.is_ended());
    assert!(!much.resize(7 * MIB), "it has to end");
    assert!(much.resize(MIB));
    assert_eq!(budget.used(), 6 * MIB);
}
