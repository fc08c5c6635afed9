use super::*;

#[test]
fn memory_is_reused() {
    let pairs = &[("a", "1"), ("b", "2")][..];
    let list = || {
        let mut headers = BorrowedHeaders::new();
        let kept = headers.items.capacity();
        headers.extend(&pairs);
        (kept, headers.items.as_ptr() as usize)
    };
    let (_, first) = list();
    let (kept, second) = list();
    assert!(kept >= 2);
    assert_eq!(first, second);
}
