use super::*;

#[test]
fn every_slot_is_taken_once() {
    for capacity in [1, 63, 64, 65, 100, 128] {
        let slots = SlotBitmap::new(capacity);
        let taken: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(taken, (0..capacity).collect::<Vec<_>>());
        assert_eq!(slots.count(), capacity);
        assert!(slots.is_full());
        assert_eq!(slots.taken().collect::<Vec<_>>(), taken);
    }
}

#[test]
fn several_means_more_than_one() {
    let slots = SlotBitmap::new(100);
    for taken in 0..100 {
        assert_eq!((slots.has_several(), slots.is_full()), (taken > 1, false));
        slots.take();
    }
    (0..98).for_each(|slot| slots.release(slot));
    assert!(slots.has_several());
    slots.release(99);
    assert!(!slots.has_several());
}

#[test]
fn the_lowest_slot_is_taken_first() {
    let slots = SlotBitmap::new(100);
    while slots.take().is_some() {}
    slots.release(70);
    slots.release(3);
    assert_eq!(slots.count(), 98);
    assert_eq!(slots.take(), Some(3));
    assert_eq!(slots.take(), Some(70));
    assert_eq!(slots.take(), None);
}
