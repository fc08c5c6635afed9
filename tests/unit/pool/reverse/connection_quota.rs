use super::*;

#[test]
fn permits_are_limited_and_returned() {
    let quota = Arc::new(ConnectionQuota::new(3, 2));
    let first = quota.try_acquire("a").unwrap();
    let _second = quota.try_acquire("a").unwrap();
    let of_agent = RegistrationError::TooManyConnectionsOfAgent { limit: 2 };
    assert_eq!(
        quota.try_acquire("a").unwrap_err().to_string(),
        of_agent.to_string()
    );
    let other = quota.try_acquire("b").unwrap();
    let in_all = RegistrationError::TooManyConnections { limit: 3 };
    assert_eq!(
        quota.try_acquire("c").unwrap_err().to_string(),
        in_all.to_string()
    );
    drop(first);
    drop(other);
    let _third = quota.try_acquire("a").unwrap();
    assert_eq!(quota.total(), 2);
    assert_eq!(lock(&quota.open_counts).by_agent.len(), 1);
}
