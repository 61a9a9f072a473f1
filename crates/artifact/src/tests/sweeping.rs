//! Removing: only by who uses the store alone, and only what is named.

use super::*;

#[test]
fn who_removes_uses_the_store_alone() {
    let fixture = Fixture::new();
    let one = fixture.store.hold().unwrap();
    let other = fixture.reopened().hold().unwrap();
    assert!(fixture.store.hold_alone().unwrap().is_none());
    drop(one);
    assert!(fixture.store.hold_alone().unwrap().is_none());
    drop(other);
    let sole = fixture.store.hold_alone().unwrap().unwrap();
    assert!(fixture.reopened().hold_alone().unwrap().is_none());
    drop(sole);
    assert!(fixture.store.hold_alone().unwrap().is_some());
}

#[test]
fn what_is_removed_is_gone_and_nothing_else() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let gone = fixture.publish(&[("a", "1")]).unwrap();
    let kept = fixture.publish(&[("a", "2")]).unwrap();
    for (number, id) in [(1, gone), (2, kept)] {
        let lock = store.lock(&key(number)).unwrap();
        let outputs = BTreeMap::from([("x".to_owned(), produced(id, false))]);
        store.record(&lock, outputs).unwrap();
    }
    let stage = key(1).stage;
    assert_eq!(store.record_ids(&stage).unwrap().len(), 2);
    assert!(store.size(gone).unwrap() > 1);
    let sole = store.hold_alone().unwrap().unwrap();
    store.remove_artifact(gone, &sole).unwrap();
    // What is not there is as good as removed.
    store.remove_artifact(gone, &sole).unwrap();
    store.remove_record(&stage, key(1).id(), &sole).unwrap();
    assert_eq!(store.artifacts().unwrap(), [kept]);
    assert!(store.lookup(&key(1)).unwrap().is_none());
    assert!(store.lookup(&key(2)).unwrap().is_some());
    store.verify(kept).unwrap();
    assert_eq!(fixture.names("attempts"), [""; 0]);
}

#[test]
fn progress_of_killed_computations_is_listed_and_removed() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let id = {
        let lock = store.lock(&key(1)).unwrap();
        let folder = store.resume_directory(&lock).unwrap();
        fs::write(folder.join("state"), "abc").unwrap();
        lock.id()
    };
    assert_eq!(store.progress().unwrap(), [(id, 3)]);
    let sole = store.hold_alone().unwrap().unwrap();
    store.remove_progress(id, &sole).unwrap();
    assert!(store.progress().unwrap().is_empty());
}
