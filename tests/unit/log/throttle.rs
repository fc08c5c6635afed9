use super::*;

#[test]
fn lines_beyond_the_share_are_counted() {
    let mut throttle = Throttle::default();
    let start = Instant::now();
    let admitted = (0..50).filter_map(|_| throttle.admit("kind", "peer", start));
    assert_eq!(admitted.collect::<Vec<_>>(), [0; 5]);
    let later = start + Duration::from_secs(10);
    assert_eq!(throttle.admit("kind", "peer", later), Some(45));
    assert_eq!(throttle.admit("kind", "peer", later), None);
}

#[test]
fn kinds_and_peers_have_shares_of_their_own() {
    let mut throttle = Throttle::default();
    let start = Instant::now();
    while throttle.admit("kind", "peer", start).is_some() {}
    assert_eq!(throttle.admit("other kind", "peer", start), Some(0));
    assert_eq!(throttle.admit("kind", "other peer", start), Some(0));
}

#[test]
fn changing_names_gives_no_more_lines() {
    let mut throttle = Throttle::default();
    let start = Instant::now();
    let names = (0..10 * MAX_PEERS).map(|number| format!("peer-{number}"));
    let admitted = names.filter(|name| throttle.admit("kind", name, start).is_some());
    assert_eq!(admitted.count() as f64, OF_ALL.burst);
    assert!(throttle.peers.len() <= MAX_PEERS + 1);
}

#[test]
fn quiet_peers_make_room() {
    let mut throttle = Throttle::default();
    let start = Instant::now();
    for number in 0..MAX_PEERS {
        throttle.admit("kind", &format!("peer-{number}"), start);
    }
    let later = start + Duration::from_secs(60);
    throttle.admit("kind", &"long".repeat(1000), later);
    assert_eq!(throttle.peers.len(), 1);
    assert!(throttle.peers.keys().all(|name| name.len() <= MAX_NAME));
}
