//! The one Parquet writer: the same rows give the same bytes, however they arrive.
//!
//! Page boundaries follow the batches that a Parquet writer is handed, so two streams of equal
//! rows in batches of different sizes give different files. Everything that is written passes
//! through [`Writer`], which cuts the stream anew into batches of [`BATCH_ROWS`] rows and fixes
//! every property that could vary.

use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};

use crate::row::Row;
use crate::table::{Table, WriteError, WriteErrorKind};

/// Rows of each batch that reaches the encoder.
pub const BATCH_ROWS: usize = 65_536;

/// Rows of a row group: the unit of memory when reading back.
pub const ROW_GROUP_ROWS: usize = 8 * BATCH_ROWS;

/// Names this project as the producer; the library's default would embed its version.
const CREATED_BY: &str = "touchstone";

/// Everything about the encoding that could otherwise vary.
fn properties() -> Result<WriterProperties, WriteErrorKind> {
    Ok(WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build())
}

/// Writes one table from record batches of any size.
pub struct Writer {
    table: &'static Table,
    path: PathBuf,
    schema: SchemaRef,
    inner: ArrowWriter<BufWriter<File>>,
    pending: Vec<RecordBatch>,
    n_pending: usize,
    n_rows: u64,
}

impl Writer {
    /// Creates `<directory>/<table>.parquet`, which must not exist.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(directory: &Path, table: &'static Table) -> Result<Self, WriteError> {
        let path = directory.join(table.file_name());
        let schema = table.schema();
        let open = || -> Result<_, WriteErrorKind> {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)?;
            Ok(ArrowWriter::try_new(
                BufWriter::new(file),
                schema.clone(),
                Some(properties()?),
            )?)
        };
        match open() {
            Ok(inner) => Ok(Self {
                table,
                path,
                schema,
                inner,
                pending: Vec::new(),
                n_pending: 0,
                n_rows: 0,
            }),
            Err(kind) => Err(WriteError {
                table: table.name,
                path,
                kind,
            }),
        }
    }

    /// Adds the rows of a batch. Columns of an equivalent type (a string view, a dictionary) are
    /// cast to the declared one; names and order must be those of the table.
    ///
    /// # Errors
    /// If the columns are not those of the table or the file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.try_write(batch).map_err(|kind| self.error(kind))
    }

    fn try_write(&mut self, batch: &RecordBatch) -> Result<(), WriteErrorKind> {
        let found = batch.schema();
        let same_names = found.fields().len() == self.schema.fields().len()
            && found
                .fields()
                .iter()
                .zip(self.schema.fields())
                .all(|(found, wanted)| found.name() == wanted.name());
        if !same_names {
            return Err(WriteErrorKind::Schema {
                wanted: names(&self.schema),
                found: names(&found),
            });
        }
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(column.clone())
                } else {
                    cast(column, field.data_type())
                }
            })
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.n_rows += batch.num_rows() as u64;
        let mut start = 0;
        while start < batch.num_rows() {
            let take = (BATCH_ROWS - self.n_pending).min(batch.num_rows() - start);
            self.pending.push(batch.slice(start, take));
            self.n_pending += take;
            start += take;
            if self.n_pending == BATCH_ROWS {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteErrorKind> {
        if self.n_pending > 0 {
            let batch = concat_batches(&self.schema, &self.pending)?;
            self.pending.clear();
            self.n_pending = 0;
            self.inner.write(&batch)?;
        }
        Ok(())
    }

    /// Ends the file and returns the number of rows.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self) -> Result<u64, WriteError> {
        let ended = self
            .flush()
            .and_then(|()| Ok(self.inner.finish().map(|_| ())?));
        match ended {
            Ok(()) => Ok(self.n_rows),
            Err(kind) => Err(self.error(kind)),
        }
    }

    fn error(&self, kind: WriteErrorKind) -> WriteError {
        WriteError {
            table: self.table.name,
            path: self.path.clone(),
            kind,
        }
    }
}

fn names(schema: &SchemaRef) -> String {
    schema
        .fields()
        .iter()
        .map(|field| format!("`{}`", field.name()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Writes one table from typed rows.
pub struct RowWriter<R: Row> {
    inner: Writer,
    builders: R::Builders,
    n_buffered: usize,
}

impl<R: Row> RowWriter<R> {
    /// Creates `<directory>/<table>.parquet`, which must not exist.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(directory: &Path) -> Result<Self, WriteError> {
        Ok(Self {
            inner: Writer::create(directory, R::table())?,
            builders: R::Builders::default(),
            n_buffered: 0,
        })
    }

    /// Adds one row.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn push(&mut self, row: R) -> Result<(), WriteError> {
        row.append(&mut self.builders);
        self.n_buffered += 1;
        if self.n_buffered == BATCH_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        if self.n_buffered == 0 {
            return Ok(());
        }
        self.n_buffered = 0;
        let columns = R::finish(&mut self.builders);
        let batch = RecordBatch::try_new(self.inner.schema.clone(), columns)
            .map_err(|error| self.inner.error(error.into()))?;
        self.inner.write(&batch)
    }

    /// Ends the file and returns the number of rows.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self) -> Result<u64, WriteError> {
        self.flush()?;
        self.inner.finish()
    }
}

/// Writes a whole table from typed rows and returns their number.
///
/// # Errors
/// If the file cannot be created or written.
pub fn write_all<R: Row>(
    directory: &Path,
    rows: impl IntoIterator<Item = R>,
) -> Result<u64, WriteError> {
    let mut writer = RowWriter::create(directory)?;
    for row in rows {
        writer.push(row)?;
    }
    writer.finish()
}
