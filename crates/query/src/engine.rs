//! A session with everything fixed that could change bytes or exhaust memory.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use tables::Table;

use crate::error::QueryError;

/// Partitions of every plan. A fixed number: it may change the order of equal rows, and with it
/// bytes, so it is never taken from the processor count.
const PARTITIONS: usize = 4;

/// Rows of a batch inside a plan.
const BATCH_ROWS: usize = 8_192;

/// Memory of sorts and aggregates before they spill.
const POOL_BYTES: usize = 4 << 30;

/// A bound value of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// True or false.
    Boolean(bool),
    /// A number.
    Integer(i64),
    /// An instant in milliseconds UTC.
    Instant(i64),
}

impl From<Parameter> for ScalarValue {
    fn from(parameter: Parameter) -> Self {
        match parameter {
            Parameter::Boolean(value) => Self::Boolean(Some(value)),
            Parameter::Integer(value) => Self::Int64(Some(value)),
            Parameter::Instant(value) => {
                Self::TimestampMillisecond(Some(value), Some("UTC".into()))
            }
        }
    }
}

/// A session.
pub struct Engine {
    runtime: tokio::runtime::Runtime,
    context: SessionContext,
}

impl Engine {
    /// Opens a session that may use so many threads; they do not change results.
    ///
    /// # Errors
    /// If threads or the spill directory cannot be had.
    pub fn new(threads: usize) -> Result<Self, QueryError> {
        let open = || -> Result<Self, DataFusionError> {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads.max(1))
                .build()
                .map_err(DataFusionError::IoError)?;
            let mut config = SessionConfig::new()
                .with_target_partitions(PARTITIONS)
                .with_batch_size(BATCH_ROWS);
            let options = config.options_mut();
            // The build side of a hash join does not spill.
            options.optimizer.prefer_hash_join = false;
            // Views of strings gain nothing here, and the canonical writer casts them back.
            options.execution.parquet.schema_force_view_types = false;
            let environment = RuntimeEnvBuilder::new()
                .with_memory_pool(Arc::new(FairSpillPool::new(POOL_BYTES)))
                .build_arc()?;
            Ok(Self {
                runtime,
                context: SessionContext::new_with_config_rt(config, environment),
            })
        };
        open().map_err(|error| QueryError::new("open a query session", error))
    }

    /// Makes the table in a directory known by its name.
    ///
    /// # Errors
    /// If the file is missing or damaged.
    pub fn register(&self, directory: &Path, table: &Table) -> Result<(), QueryError> {
        let path = directory.join(table.file_name());
        let schema = table.schema();
        let text = path.display().to_string();
        let options = ParquetReadOptions::default().schema(&schema);
        self.runtime
            .block_on(
                self.context
                    .register_parquet(table.name, text.as_str(), options),
            )
            .map_err(|error| {
                QueryError::new(format!("open table `{}` at `{text}`", table.name), error)
            })
    }

    /// Makes batches in memory known under a name.
    ///
    /// # Errors
    /// If the batches are not of the schema.
    pub fn register_batches(
        &self,
        name: &str,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<(), QueryError> {
        MemTable::try_new(schema, vec![batches])
            .and_then(|table| {
                self.context
                    .register_table(name, Arc::new(table))
                    .map(|_| ())
            })
            .map_err(|error| QueryError::new(format!("register `{name}`"), error))
    }

    /// Makes a statement known under a name; it is planned now and runs with whoever reads it.
    ///
    /// # Errors
    /// If the statement cannot be planned.
    pub fn register_view(
        &self,
        name: &str,
        statement: &str,
        parameters: &[(&'static str, Parameter)],
    ) -> Result<(), QueryError> {
        let plan = async {
            let frame = self.frame(statement, parameters).await?;
            self.context
                .register_table(name, frame.into_view())
                .map(|_| ())
        };
        self.runtime
            .block_on(plan)
            .map_err(|error| QueryError::new(format!("plan `{name}`"), error))
    }

    async fn frame(
        &self,
        statement: &str,
        parameters: &[(&'static str, Parameter)],
    ) -> Result<datafusion::dataframe::DataFrame, DataFusionError> {
        let frame = self.context.sql(statement).await?;
        if parameters.is_empty() {
            return Ok(frame);
        }
        let values: Vec<(&str, ScalarValue)> = parameters
            .iter()
            .map(|(name, value)| (*name, value.clone().into()))
            .collect();
        frame.with_param_values(values)
    }

    /// Runs a statement; batches come in its order. `action` names it in messages.
    ///
    /// # Errors
    /// If the statement cannot be planned or started.
    pub fn stream(&self, statement: &str, action: &'static str) -> Result<Stream<'_>, QueryError> {
        let start = async { self.frame(statement, &[]).await?.execute_stream().await };
        let inner = self
            .runtime
            .block_on(start)
            .map_err(|error| QueryError::new(action, error))?;
        Ok(Stream {
            engine: self,
            action,
            inner,
        })
    }
}

/// The rows of a statement.
pub struct Stream<'a> {
    engine: &'a Engine,
    action: &'static str,
    inner: SendableRecordBatchStream,
}

impl Stream<'_> {
    /// Columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }
}

impl Iterator for Stream<'_> {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.engine.runtime.block_on(self.inner.next())?;
        Some(next.map_err(|error| QueryError::new(self.action, error)))
    }
}
