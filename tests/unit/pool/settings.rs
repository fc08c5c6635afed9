use super::*;

fn version(store: &SettingsStore) -> Option<Value> {
    let settings = store.get("agent")?;
    settings.object.get("config_version").cloned()
}

fn set(store: &SettingsStore, version: &str) -> Replacement {
    store.replace("agent", Value::Null, Some(version.to_owned()))
}

#[test]
fn restoring_brings_back_what_was_replaced() {
    let store = SettingsStore::new(None);
    let first = set(&store, "1");
    let second = set(&store, "2");
    store.restore("agent", second);
    assert_eq!(version(&store), Some("1".into()));
    store.restore("agent", first);
    assert_eq!(version(&store), None);
}

#[test]
fn newer_settings_are_not_replaced_by_restoring() {
    let store = SettingsStore::new(None);
    let first = set(&store, "1");
    set(&store, "2");
    store.restore("agent", first);
    assert_eq!(version(&store), Some("2".into()));
    let third = set(&store, "3");
    store.forget("agent");
    store.restore("agent", third);
    assert_eq!(version(&store), None);
}

#[test]
fn numbers_are_never_used_twice() {
    let store = SettingsStore::new(None);
    let number = |store: &SettingsStore| {
        let settings = store.get("agent").expect("settings");
        settings.number.load(Ordering::Relaxed)
    };
    set(&store, "1");
    let first = number(&store);
    store.expire("agent");
    let expired = number(&store);
    set(&store, "1");
    let second = number(&store);
    assert!(0 < first && first < expired && expired < second);
}
