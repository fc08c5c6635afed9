use super::*;

const NEVER: Duration = Duration::MAX;

fn map_of(max: usize, lifetime: Duration) -> ExpiringMap<u32> {
    ExpiringMap::new(max, lifetime, |_| ())
}

fn set(map: &ExpiringMap<u32>, id: &str, value: u32) -> Result<(), Full> {
    map.change(id, |_| Some(value), |_| ())
}

fn unset(map: &ExpiringMap<u32>, id: &str) -> Result<(), Full> {
    map.change(id, |_| None, |_| ())
}

fn get(map: &ExpiringMap<u32>, id: &str) -> Option<u32> {
    map.get(id, |value| *value)
}

#[test]
fn ids_of_every_length_are_distinct() {
    let map = map_of(1_000, NEVER);
    let ids: Vec<String> = (0..100).map(|length| "x".repeat(length)).collect();
    for (value, id) in ids.iter().enumerate() {
        assert_eq!(set(&map, id, value as u32), Ok(()));
    }
    for (value, id) in ids.iter().enumerate() {
        assert_eq!(get(&map, id), Some(value as u32));
    }
    assert_eq!(map.len(), 100);
    assert_eq!(get(&map, "y"), None);
}

#[test]
fn number_of_entries_is_bounded() {
    let map = map_of(2, NEVER);
    assert_eq!(set(&map, "a", 1), Ok(()));
    assert_eq!(set(&map, "b", 2), Ok(()));
    assert_eq!(set(&map, "c", 3), Err(Full));
    assert_eq!(set(&map, "b", 4), Ok(()), "it is present already");
    assert!(map.remove("a") && !map.remove("a"));
    assert_eq!(set(&map, "c", 3), Ok(()));
    assert_eq!(unset(&map, "b"), Ok(()));
    assert_eq!(unset(&map, "b"), Ok(()));
    assert_eq!(
        (get(&map, "b"), get(&map, "c"), map.len()),
        (None, Some(3), 1)
    );
}

#[test]
fn unused_entries_expire() {
    let mut map = map_of(10, Duration::from_secs(60));
    set(&map, "a", 1).expect("the map is not full");
    set(&map, "b", 2).expect("the map is not full");
    let Some(past) = map.epoch.checked_sub(Duration::from_secs(59)) else {
        return;
    };
    map.epoch = past;
    assert_eq!(get(&map, "b"), Some(2), "a use");
    map.epoch -= Duration::from_secs(2);
    assert_eq!(map.remove_expired(), 1);
    assert_eq!(
        (get(&map, "a"), get(&map, "b"), map.len()),
        (None, Some(2), 1)
    );
    map.epoch -= Duration::from_secs(61);
    assert_eq!((get(&map, "b"), map.len()), (None, 0), "found expired");
}
