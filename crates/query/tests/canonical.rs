//! The canonical writer at two million rows: how a sorted stream is cut into batches, and over how
//! many partitions it was computed, does not reach the bytes.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use tables::{Event, Instant, Row, SEQUENCES, SequenceEvent, Writer};

const ROWS: u64 = 2_000_000;

fn unsorted() -> arrow::array::RecordBatch {
    let mut builders = <SequenceEvent as Row>::Builders::default();
    for n in 0..ROWS {
        // A permutation of the rows: an odd multiplier modulo a power of two beyond them.
        let shuffled = n.wrapping_mul(0x9E37_79B9) % (1 << 21);
        let row = SequenceEvent {
            sequence: u32::try_from(shuffled / 40).unwrap(),
            position: u32::try_from(shuffled % 40).unwrap(),
            item: u32::try_from(shuffled % 9_973).unwrap(),
            event: Event::ALL[usize::try_from(shuffled).unwrap() % 6],
            occurred_at: (shuffled % 3 > 0).then_some(Instant(shuffled.cast_signed() * 1_000)),
            sample_id: shuffled << 16,
            part: tables::Part::Training,
        };
        row.append(&mut builders);
    }
    let columns = <SequenceEvent as Row>::finish(&mut builders);
    arrow::array::RecordBatch::try_new(SEQUENCES.schema(), columns).unwrap()
}

#[test]
fn two_million_rows_give_the_same_bytes_over_batch_sizes_and_partitions() {
    let rows = unsorted();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let mut hashes = Vec::new();
    for (partitions, batch_rows) in [(1, 8_192), (2, 65_536), (4, 1_000), (3, 77_777)] {
        let config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(batch_rows);
        let context = SessionContext::new_with_config(config);
        let third = rows.num_rows() / 3;
        let pieces = vec![
            vec![rows.slice(0, third)],
            vec![rows.slice(third, third)],
            vec![rows.slice(2 * third, rows.num_rows() - 2 * third)],
        ];
        let table = MemTable::try_new(SEQUENCES.schema(), pieces).unwrap();
        context.register_table("rows", Arc::new(table)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(directory.path(), &SEQUENCES).unwrap();
        runtime.block_on(async {
            let frame = context
                .sql("SELECT * FROM rows ORDER BY sequence, position")
                .await
                .unwrap();
            let mut stream = frame.execute_stream().await.unwrap();
            while let Some(batch) = stream.next().await {
                writer.write(&batch.unwrap()).unwrap();
            }
        });
        assert_eq!(writer.finish().unwrap(), ROWS);
        hashes.push(std::fs::read(directory.path().join("sequences.parquet")).unwrap());
    }
    assert!(hashes.iter().all(|bytes| *bytes == hashes[0]));
}
