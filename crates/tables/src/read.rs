//! Reading tables: the schema is checked first, a batch at a time.

use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int8Type, Schema};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::row::Row;
use crate::table::{ReadError, ReadErrorKind, Table};
use crate::write::BATCH_ROWS;

/// The record batches of one table.
pub struct Batches {
    table: &'static Table,
    path: PathBuf,
    n_rows: u64,
    inner: ParquetRecordBatchReader,
}

/// Opens `<directory>/<table>.parquet` and checks its schema.
///
/// # Errors
/// If the file is missing, damaged, or holds other columns.
pub fn batches(directory: &Path, table: &'static Table) -> Result<Batches, ReadError> {
    let path = directory.join(table.file_name());
    let open = || -> Result<_, ReadErrorKind> {
        let file = File::open(&path)?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let wanted = table.schema();
        if builder.schema().fields() != wanted.fields() {
            return Err(ReadErrorKind::Schema {
                wanted: describe(&wanted),
                found: describe(builder.schema()),
            });
        }
        let n_rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        Ok((n_rows, builder.with_batch_size(BATCH_ROWS).build()?))
    };
    match open() {
        Ok((n_rows, inner)) => Ok(Batches {
            table,
            path,
            n_rows,
            inner,
        }),
        Err(kind) => Err(ReadError {
            table: table.name,
            path,
            kind,
        }),
    }
}

fn describe(schema: &Schema) -> String {
    schema
        .fields()
        .iter()
        .map(|field| format!("`{}` {}", field.name(), field.data_type()))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Batches {
    /// Rows of the table, from the footer.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    fn error(&self, kind: ReadErrorKind) -> ReadError {
        ReadError {
            table: self.table.name,
            path: self.path.clone(),
            kind,
        }
    }

    /// Refuses dictionary words outside their enumeration, so that later reads cannot fail.
    fn check_words(&self, batch: &RecordBatch) -> Result<(), ReadErrorKind> {
        for (column, field) in batch.columns().iter().zip(batch.schema().fields()) {
            if !matches!(field.data_type(), DataType::Dictionary(..)) {
                continue;
            }
            let words = column
                .as_dictionary_opt::<Int8Type>()
                .and_then(|dictionary| dictionary.values().as_string_opt::<i32>());
            for word in words.into_iter().flatten().flatten() {
                if !crate::cell::is_known_word(word) {
                    return Err(ReadErrorKind::Word {
                        column: field.name().clone(),
                        word: word.to_owned(),
                    });
                }
            }
            if column.null_count() > 0 {
                return Err(ReadErrorKind::Word {
                    column: field.name().clone(),
                    word: String::new(),
                });
            }
        }
        debug_assert_eq!(batch.num_columns(), self.table.columns.len());
        Ok(())
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.inner.next()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(self.error(error.into()))),
        };
        Some(match self.check_words(&batch) {
            Ok(()) => Ok(batch),
            Err(kind) => Err(self.error(kind)),
        })
    }
}

/// The typed rows of one table, read a batch at a time.
pub struct Rows<R> {
    batches: Batches,
    current: std::vec::IntoIter<R>,
    row: PhantomData<R>,
}

/// Opens `<directory>/<table>.parquet` for reading row by row in bounded memory.
///
/// # Errors
/// If the file is missing, damaged, or holds other columns.
pub fn rows<R: Row>(directory: &Path) -> Result<Rows<R>, ReadError> {
    Ok(Rows {
        batches: batches(directory, R::table())?,
        current: Vec::new().into_iter(),
        row: PhantomData,
    })
}

impl<R> Rows<R> {
    /// Rows of the table, from the footer.
    pub fn n_rows(&self) -> u64 {
        self.batches.n_rows()
    }
}

impl<R: Row> Iterator for Rows<R> {
    type Item = Result<R, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.current.next() {
                return Some(Ok(row));
            }
            let batch = match self.batches.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            };
            match R::read(&batch) {
                Ok(rows) => self.current = rows.into_iter(),
                Err(kind) => return Some(Err(self.batches.error(kind))),
            }
        }
    }
}

/// Reads a whole table into memory.
///
/// # Errors
/// If the file is missing, damaged, or holds other columns.
pub fn read_all<R: Row>(directory: &Path) -> Result<Vec<R>, ReadError> {
    let rows = rows::<R>(directory)?;
    let mut all = Vec::with_capacity(usize::try_from(rows.n_rows()).unwrap_or(0).min(1 << 24));
    for row in rows {
        all.push(row?);
    }
    Ok(all)
}
