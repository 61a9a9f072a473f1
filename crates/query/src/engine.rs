//! A session with everything fixed that could change bytes or exhaust memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use tables::Table;

use crate::error::{QueryError, QueryErrorKind};
use crate::statement::{Joins, Parameter, Relation, Statement};

/// Partitions of every plan. A fixed number, never taken from the processor count: where an order
/// is not total it would change bytes. Every order here is total; this is the second lock.
const PARTITIONS: usize = 4;

/// Rows of a batch inside a plan.
const BATCH_ROWS: usize = 8_192;

/// Least and most memory of sorts and aggregates before they spill. Ten million events are sorted as
/// fast with the least as with eight times that: spilling costs what larger merges would.
const POOL_BYTES: (usize, usize) = (512 << 20, 1 << 30);

/// Most bytes that may be spilled.
const SPILL_BYTES: u64 = 1 << 40;

/// The circumstances of a session; none of them changes a result.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads.
    pub threads: usize,
    /// Partitions of every plan.
    pub partitions: usize,
    /// Rows of a batch inside a plan.
    pub batch_rows: usize,
    /// Memory of sorts and aggregates before they spill. The process stays above it by a few hundred
    /// megabytes: buffers of readers and of the runtime are not counted.
    pub memory_bytes: usize,
    /// Where to spill. It is created if it is missing, and what was spilled is removed at the end.
    pub scratch: PathBuf,
}

impl Settings {
    /// The settings of a stage: a quarter of the machine's memory, within limits.
    pub fn new(threads: usize, scratch: impl Into<PathBuf>) -> Self {
        let machine = rustix::system::sysinfo();
        let bytes = machine.totalram.saturating_mul(machine.mem_unit.into());
        let quarter = usize::try_from(bytes / 4).unwrap_or(usize::MAX);
        Self {
            threads,
            partitions: PARTITIONS,
            batch_rows: BATCH_ROWS,
            memory_bytes: quarter.clamp(POOL_BYTES.0, POOL_BYTES.1),
            scratch: scratch.into(),
        }
    }
}

/// A session.
pub struct Engine {
    runtime: tokio::runtime::Runtime,
    context: SessionContext,
}

impl Engine {
    /// Opens a session.
    ///
    /// # Errors
    /// If threads or the scratch directory cannot be had.
    pub fn new(settings: &Settings) -> Result<Self, QueryError> {
        let open = || -> Result<Self, QueryErrorKind> {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(settings.threads.max(1))
                .build()?;
            let mut config = SessionConfig::new()
                .with_target_partitions(settings.partitions.max(1))
                .with_batch_size(settings.batch_rows.max(1));
            let options = config.options_mut();
            // Views of strings gain nothing here: what leaves is cast to the declared types.
            options.execution.parquet.schema_force_view_types = false;
            let disk = DiskManagerBuilder::default()
                .with_mode(DiskManagerMode::Directories(vec![settings.scratch.clone()]))
                .with_max_temp_directory_size(SPILL_BYTES);
            let environment = RuntimeEnvBuilder::new()
                .with_memory_pool(Arc::new(FairSpillPool::new(settings.memory_bytes)))
                .with_disk_manager_builder(disk)
                .build_arc()?;
            Ok(Self {
                runtime,
                context: SessionContext::new_with_config_rt(config, environment),
            })
        };
        open().map_err(|kind| QueryError::new("open a query session", kind))
    }

    /// Makes the table in a directory known by its name.
    ///
    /// # Errors
    /// If the file is missing, damaged, or holds other columns.
    pub fn register(&self, directory: &Path, table: &'static Table) -> Result<(), QueryError> {
        let register = || -> Result<(), QueryErrorKind> {
            // Refuses other columns with a message that lists them.
            tables::batches(directory, table)?;
            let url = file_url(&directory.join(table.file_name()))?;
            let schema = table.schema();
            let options = ParquetReadOptions::default().schema(&schema);
            let register = self.context.register_parquet(table.name, url, options);
            Ok(self.runtime.block_on(register)?)
        };
        register().map_err(|kind| QueryError::new(format!("open table `{}`", table.name), kind))
    }

    /// Makes batches in memory known under the name of a relation.
    ///
    /// # Errors
    /// If the batches are not of its schema.
    pub fn register_batches(
        &self,
        relation: &Relation,
        batches: Vec<RecordBatch>,
    ) -> Result<(), QueryError> {
        MemTable::try_new((relation.schema)(), vec![batches])
            .and_then(|table| self.context.register_table(relation.name, Arc::new(table)))
            .map(|_| ())
            .map_err(|error| QueryError::new(format!("register `{}`", relation.name), error))
    }

    /// Makes what a statement gives known under its relation's name; it is planned now and runs with
    /// every statement that reads it.
    ///
    /// # Errors
    /// If the statement cannot be planned.
    pub fn register_view(
        &self,
        statement: &Statement,
        parameters: &[(&'static str, Parameter)],
    ) -> Result<(), QueryError> {
        let register = || -> Result<(), QueryErrorKind> {
            let view = self.plan(statement, parameters)?.into_view();
            self.context.register_table(statement.gives.name, view)?;
            Ok(())
        };
        register().map_err(|kind| QueryError::new(statement.action, kind))
    }

    /// Runs a statement; batches come in its order and of the schema that it declares.
    ///
    /// # Errors
    /// If the statement cannot be planned or started.
    pub fn stream(
        &self,
        statement: &'static Statement,
        parameters: &[(&'static str, Parameter)],
    ) -> Result<Stream<'_>, QueryError> {
        let start = || -> Result<SendableRecordBatchStream, QueryErrorKind> {
            let frame = self.plan(statement, parameters)?;
            Ok(self.runtime.block_on(frame.execute_stream())?)
        };
        let inner = start().map_err(|kind| QueryError::new(statement.action, kind))?;
        Ok(Stream {
            engine: self,
            statement,
            schema: (statement.gives.schema)(),
            inner,
        })
    }

    /// Plans a statement.
    pub(crate) fn plan(
        &self,
        statement: &Statement,
        parameters: &[(&'static str, Parameter)],
    ) -> Result<DataFrame, QueryErrorKind> {
        check_parameters(statement, parameters)?;
        let mut state = self.context.state();
        let optimizer = &mut state.config_mut().options_mut().optimizer;
        optimizer.prefer_hash_join = statement.joins == Joins::Hash;
        let plan = self
            .runtime
            .block_on(state.create_logical_plan(statement.text))?;
        let frame = DataFrame::new(state, plan);
        if parameters.is_empty() {
            return Ok(frame);
        }
        let values: Vec<(&str, ScalarValue)> = parameters
            .iter()
            .map(|(name, value)| (*name, scalar(*value)))
            .collect();
        Ok(frame.with_param_values(values)?)
    }
}

fn scalar(parameter: Parameter) -> ScalarValue {
    match parameter {
        Parameter::Boolean(value) => ScalarValue::Boolean(Some(value)),
        Parameter::Integer(value) => ScalarValue::Int64(Some(value)),
        Parameter::Instant(value) => {
            ScalarValue::TimestampMillisecond(Some(value), Some("UTC".into()))
        }
    }
}

fn check_parameters(
    statement: &Statement,
    given: &[(&'static str, Parameter)],
) -> Result<(), QueryErrorKind> {
    let are_alike = given.len() == statement.parameters.len()
        && statement.parameters.iter().all(|(name, kind)| {
            given
                .iter()
                .any(|(other, value)| name == other && kind.is_like(*value))
        });
    if are_alike {
        Ok(())
    } else {
        Err(QueryErrorKind::Parameters {
            wanted: format!("{:?}", statement.parameters),
            found: format!("{given:?}"),
        })
    }
}

/// The URL of a file: a plain path would be read as a pattern where it holds `*`, `?` or `[`.
fn file_url(path: &Path) -> Result<String, std::io::Error> {
    let path = std::path::absolute(path)?;
    let mut url = String::from("file://");
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push('%');
            for half in [byte >> 4, byte & 0xf] {
                url.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
            }
        }
    }
    Ok(url)
}

/// The rows of a statement.
pub struct Stream<'a> {
    engine: &'a Engine,
    statement: &'static Statement,
    schema: SchemaRef,
    inner: SendableRecordBatchStream,
}

impl Stream<'_> {
    /// Casts columns to the declared types; a plan may give equivalent ones, such as views of strings.
    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch, QueryErrorKind> {
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
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

impl Iterator for Stream<'_> {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.engine.runtime.block_on(self.inner.next())?;
        let batch = next
            .map_err(QueryErrorKind::from)
            .and_then(|batch| self.conform(&batch));
        Some(batch.map_err(|kind| QueryError::new(self.statement.action, kind)))
    }
}
