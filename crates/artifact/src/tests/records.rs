//! Records of keys: found again, compared, damaged, shared.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

#[test]
fn a_recorded_key_is_found_again_with_its_outputs() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    assert_eq!(fixture.store.lookup(&key(1)).unwrap(), None);
    let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    let lock = fixture.store.lock(&key(1)).unwrap();
    assert_eq!((lock.key(), lock.id()), (&key(1), key(1).id()));
    assert_eq!(
        fixture.store.record(&lock, outputs.clone()).unwrap(),
        Recorded::New
    );
    assert_eq!(
        fixture.store.record(&lock, outputs.clone()).unwrap(),
        Recorded::Same
    );
    drop(lock);
    let record = fixture.reopened().lookup(&key(1)).unwrap().unwrap();
    assert_eq!(
        (record.id, record.key, record.outputs),
        (key(1).id(), key(1), outputs)
    );
    assert_eq!(fixture.store.lookup(&key(2)).unwrap(), None);
    assert_eq!(fixture.store.stages().unwrap(), ["estimate"]);
    let producers = fixture.store.producers(id).unwrap();
    assert_eq!(producers.len(), 1);
    assert_eq!(producers[0].1, "samples");
    assert_eq!(
        fixture.names("keys/estimate"),
        [format!("{}.json", key(1).id())]
    );
}

#[test]
fn another_result_of_the_same_key_raises_an_alarm_and_both_are_kept() {
    let fixture = Fixture::new();
    let first = fixture.publish(FILES).unwrap();
    let second = fixture.publish(&[("samples.parquet", "other")]).unwrap();
    let outputs = |id| BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    let lock = fixture.store.lock(&key(1)).unwrap();
    fixture.store.record(&lock, outputs(first)).unwrap();
    let recorded = fixture.store.record(&lock, outputs(second)).unwrap();
    let Recorded::Conflict(conflict) = recorded else {
        panic!("no alarm: {recorded:?}");
    };
    assert_eq!(conflict.roles(), ["samples"]);
    assert_eq!(conflict.earlier.outputs, outputs(first));
    assert_eq!(conflict.now.outputs, outputs(second));
    let served = fixture.store.lookup(&key(1)).unwrap().unwrap();
    assert_eq!(served.outputs, outputs(first));
    assert_eq!(
        fixture.store.conflicts().unwrap(),
        std::slice::from_ref(&conflict.kept_at)
    );
    let kept = fs::read_to_string(&conflict.kept_at).unwrap();
    assert!(kept.contains(&second.to_string()));
    assert!(fixture.store.contains(first) && fixture.store.contains(second));
    // The one that is kept apart is not an answer to anything.
    assert_eq!(fixture.store.latest_records("estimate").unwrap().len(), 1);
}

#[test]
fn a_result_whose_artifacts_are_gone_gives_way() {
    let fixture = Fixture::new();
    let first = fixture.publish(FILES).unwrap();
    let second = fixture.publish(&[("samples.parquet", "other")]).unwrap();
    let outputs = |id| BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    let lock = fixture.store.lock(&key(1)).unwrap();
    fixture.store.record(&lock, outputs(first)).unwrap();
    remove_tree(&fixture.store.object_path(first)).unwrap();
    let recorded = fixture.store.record(&lock, outputs(second)).unwrap();
    assert!(matches!(recorded, Recorded::Conflict(_)));
    let served = fixture.store.lookup(&key(1)).unwrap().unwrap();
    assert_eq!(served.outputs, outputs(second));
    assert_eq!(fixture.store.conflicts().unwrap().len(), 1);
}

#[test]
fn measured_outputs_may_differ_and_the_latest_is_served() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let slow = fixture.publish(&[("measured.json", "slow")]).unwrap();
    let fast = fixture.publish(&[("measured.json", "fast")]).unwrap();
    let outputs = |measured| {
        BTreeMap::from([
            ("measured".to_owned(), produced(measured, true)),
            ("samples".to_owned(), produced(id, false)),
        ])
    };
    let lock = fixture.store.lock(&key(1)).unwrap();
    fixture.store.record(&lock, outputs(slow)).unwrap();
    assert_eq!(
        fixture.store.record(&lock, outputs(fast)).unwrap(),
        Recorded::Same
    );
    let served = fixture.store.lookup(&key(1)).unwrap().unwrap();
    assert_eq!(served.outputs["measured"].id, fast);
    assert_eq!(
        fixture.store.conflicts().unwrap(),
        [""; 0].map(PathBuf::from)
    );
}

#[test]
fn a_damaged_record_is_put_aside_and_can_be_written_again() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    let path = fixture
        .root
        .path()
        .join(format!("keys/estimate/{}.json", key(1).id()));
    let length = {
        let lock = fixture.store.lock(&key(1)).unwrap();
        fixture.store.record(&lock, outputs.clone()).unwrap();
        fs::metadata(&path).unwrap().len()
    };
    for position in (0..length * 8).step_by(41) {
        let (at, bit) = (position / 8, u8::try_from(position % 8).unwrap());
        flip_in_place(&path, at, bit);
        let error = fixture.store.lookup(&key(1)).unwrap_err();
        let RecordError::Quarantined { moved_to, .. } = &error else {
            panic!("byte {at}, bit {bit}: {error}");
        };
        assert!(moved_to.exists() && !path.exists());
        assert!(fixture.store.reason(moved_to).is_ok());
        assert_eq!(fixture.store.lookup(&key(1)).unwrap(), None);
        let lock = fixture.store.lock(&key(1)).unwrap();
        assert_eq!(
            fixture.store.record(&lock, outputs.clone()).unwrap(),
            Recorded::New
        );
    }
    assert!(fixture.store.lookup(&key(1)).unwrap().is_some());
}

#[test]
fn a_record_under_another_name_is_not_believed() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    let lock = fixture.store.lock(&key(1)).unwrap();
    let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
    fixture.store.record(&lock, outputs).unwrap();
    let folder = fixture.root.path().join("keys/estimate");
    let name = |key: &Key| folder.join(format!("{}.json", key.id()));
    fs::copy(name(&key(1)), name(&key(2))).unwrap();
    assert!(matches!(
        fixture.store.lookup(&key(2)),
        Err(RecordError::Quarantined { .. })
    ));
}

#[test]
fn the_nearest_past_key_has_the_fewest_differences_and_is_the_latest() {
    let fixture = Fixture::new();
    let id = fixture.publish(FILES).unwrap();
    assert!(fixture.store.nearest(&key(1)).unwrap().is_none());
    let far = Key {
        executable: ContentHash::of(b"older executable"),
        ..key(7)
    };
    for key in [&key(5), &key(6), &far] {
        let lock = fixture.store.lock(key).unwrap();
        let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
        fixture.store.record(&lock, outputs).unwrap();
        // Far apart compared with the resolution of file times.
        std::thread::sleep(Duration::from_millis(20));
    }
    let order: Vec<KeyId> = fixture
        .store
        .latest_records("estimate")
        .unwrap()
        .into_iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(order, [far.id(), key(6).id(), key(5).id()]);
    let (nearest, differences) = fixture.store.nearest(&key(8)).unwrap().unwrap();
    assert_eq!(nearest.id, key(6).id());
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].to_string(), "config.number: 6 -> 8");
    // A key is not its own past.
    assert_ne!(fixture.store.nearest(&far).unwrap().unwrap().0.id, far.id());
}

#[test]
fn one_of_many_computes_a_key_and_the_others_find_it() {
    let fixture = Fixture::new();
    let computed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Each with a store of its own, as separate processes would have.
                let store = fixture.reopened();
                let lock = store.lock(&key(1)).unwrap();
                if store.lookup(&key(1)).unwrap().is_none() {
                    computed.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                    let id = publish_into(&store, FILES).unwrap();
                    let outputs = BTreeMap::from([("samples".to_owned(), produced(id, false))]);
                    store.record(&lock, outputs).unwrap();
                }
            });
        }
    });
    assert_eq!(computed.into_inner(), 1);
    let lock = fixture.store.lock(&key(1)).unwrap();
    assert!(fixture.reopened().try_lock(&key(1)).unwrap().is_none());
    drop(lock);
    assert!(fixture.reopened().try_lock(&key(1)).unwrap().is_some());
}
