//! Mode `probe` with `gradients: { projection: ... }`: gradients of single samples and requests as rows
//! of numbers, in blocks, at the fitted model or at every state that is wired.
//!
//! At most one block of samples is in memory, [`BLOCK_BYTES`] of it beside what the pass back of 32
//! samples for each thread needs; a block that is written survives a kill. The layout is that of
//! `tensors::projected_layout`.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use models::projected_layout::{
    self as layout, ProjectedHeldOut, ProjectedIndex, ProjectedLayer, ProjectedStep,
};
use models::{GradientRows, History, LossGradients, Projection, Tensors, TrainingData};
use stage::{Exit, Failure, Io};
use tables::{ProjectionFidelity, Sample};

use crate::gradients::{Asked, State, requests_of};
use crate::resume;
use crate::shard;

/// Bytes of a block of gradients, about.
const BLOCK_BYTES: usize = 32 << 20;
/// Numbers in a row above which nothing good follows: no curvature fits in memory, no disk is large
/// enough.
const MOST_COLUMNS: usize = 1 << 16;
/// Samples and requests whose products are also computed whole, to say how good the projection is.
const FIDELITY: (usize, usize) = (256, 16);

/// Writes `projected.json`, the blocks and `projection_fidelity`.
pub(crate) fn write(
    asked: &Asked<'_>,
    states: &[State],
    (numbers, of_part): (&[u32], &[(History<'_>, &[u32])]),
    projection: &Projection,
    io: &Io,
    out: &Path,
) -> Result<(), Failure> {
    let order = table_order(asked.data, io)?;
    let held_out = asked
        .configured
        .held_out
        .map(|part| requests_of(asked, part))
        .transpose()?;
    let mut index: Option<ProjectedIndex> = None;
    let mut fidelity = Vec::new();
    for (at, state) in states.iter().enumerate() {
        let there = match (asked.model.gradients(), &state.weights) {
            (Some(gradients), Some(weights)) => Some(gradients.at(weights).map_err(Failure::data)?),
            _ => None,
        };
        let whole: Option<&dyn LossGradients> = there.as_deref().or(asked.model.gradients());
        // The matrices are the same at every state.
        let seed = asked.seed.child("projection");
        let made: Option<Box<dyn GradientRows>> = whole
            .map(|whole| whole.project(projection, asked.configured.measure(), seed, asked.data));
        let Some(rows) = made.as_deref().or(asked.model.gradient_rows()) else {
            return Ok(());
        };
        let found = of_index(rows, asked.data, of_part.len());
        if found.width == 0 || found.width > MOST_COLUMNS {
            return Err(Failure::new(
                Exit::Configuration,
                format!(
                    "a projected gradient would have {} numbers, wanted 1 to {MOST_COLUMNS}",
                    found.width
                ),
            )
            .hint("write a smaller `gradients.projection.rank`, or `tables: false`"));
        }
        let mut step = ProjectedStep {
            step: state.step,
            learning_rate: state.learning_rate,
            blocks: 0,
            curvature_blocks: 0,
        };
        write_samples(rows, asked, &order, &mut step, io, out)?;
        if asked.is_first {
            let file = layout::requests(step.step);
            write_requests(rows, (numbers, of_part), &file, found.width, out)?;
        }
        if let Some((numbers, requests)) = held_out
            .as_ref()
            .filter(|_| asked.is_first && at + 1 == states.len())
        {
            let file = layout::held_out(step.step);
            write_requests(rows, (numbers, requests), &file, found.width, out)?;
        }
        if let Some(whole) = whole.filter(|_| asked.is_first) {
            fidelity.push(compare(rows, whole, asked, of_part, &found, step.step)?);
        }
        index.get_or_insert(found).states.push(step);
    }
    let Some(mut index) = index else {
        return Ok(());
    };
    index.held_out = asked
        .configured
        .held_out
        .zip(held_out)
        .map(|(part, (numbers, _))| ProjectedHeldOut {
            part: part.to_string(),
            n_requests: numbers.len(),
        });
    let mut text = serde_json::to_string_pretty(&index).map_err(Failure::bug)?;
    text.push('\n');
    let path = out.join(layout::INDEX);
    fs::write(&path, text).map_err(|error| {
        Failure::environment(error).cause(format!("writing `{}`", path.display()))
    })?;
    if !fidelity.is_empty() {
        tables::write_all(out, fidelity).map_err(Failure::environment)?;
    }
    Ok(())
}

/// Positions in the data of the rows of the table `samples`, in its order: the order of a probe.
pub(crate) fn table_order(data: &TrainingData<'_>, io: &Io) -> Result<Vec<u32>, Failure> {
    let mut by_id: Vec<(u64, u32)> = (0_u32..)
        .zip(0..data.n_samples())
        .map(|(at, sample)| (data.sample_id(sample), at))
        .collect();
    by_id.sort_unstable();
    let mut order = Vec::with_capacity(by_id.len());
    for sample in tables::rows::<Sample>(io.input("samples")?).map_err(Failure::data)? {
        let id = sample.map_err(Failure::data)?.sample_id;
        // Every sample was seen when the data were read.
        if let Ok(at) = by_id.binary_search_by_key(&id, |(id, _)| *id) {
            order.push(by_id[at].1);
        }
    }
    Ok(order)
}

/// What is known before the first state is written.
fn of_index(rows: &dyn GradientRows, data: &TrainingData<'_>, n_requests: usize) -> ProjectedIndex {
    let mut width = 0;
    let layers = rows
        .layers()
        .into_iter()
        .map(|layer| {
            let start = width;
            width += layer.width;
            ProjectedLayer {
                name: layer.name,
                start,
                end: width,
                parameters: layer.n_parameters,
                exact: layer.is_exact,
            }
        })
        .collect();
    ProjectedIndex {
        layers,
        width,
        regularisation: rows.regularisation(),
        n_samples: data.n_samples(),
        n_requests,
        states: Vec::new(),
        held_out: None,
    }
}

/// Where a block is made, and where it belongs.
struct Places<'a> {
    /// What outlives a kill.
    kept: Option<&'a Path>,
    out: &'a Path,
}

impl Places<'_> {
    /// Makes a file of the probe unless an earlier run did; whether there is one.
    fn file(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Option<Tensors>, Failure>,
    ) -> Result<bool, Failure> {
        let path = self.out.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| {
                Failure::environment(error).cause(format!("creating `{}`", folder.display()))
            })?;
        }
        let Some(kept) = self.kept else {
            return match make()? {
                Some(tensors) => tensors
                    .save(&path)
                    .map(|()| true)
                    .map_err(Failure::environment),
                None => Ok(false),
            };
        };
        let kept: PathBuf = kept.join(name.replace('/', "-"));
        if !kept.is_file() {
            let Some(tensors) = make()? else {
                return Ok(false);
            };
            resume::write(&kept, &tensors).map_err(Failure::environment)?;
        }
        // Copied, not moved: a run that is killed later still finds it.
        fs::copy(&kept, &path).map(|_| true).map_err(|error| {
            Failure::environment(error).cause(format!("copying `{}`", kept.display()))
        })
    }
}

/// Samples of a block.
fn per_block(width: usize) -> usize {
    (BLOCK_BYTES / (4 * width.max(1))).clamp(32, 4096)
}

/// A block of gradients of samples.
fn row_tensors(samples: Vec<u32>, gradients: Vec<f32>, width: usize) -> Result<Tensors, Failure> {
    let n = samples.len();
    let mut tensors = Tensors::new();
    tensors
        .insert_f32(layout::GRADIENT, &[n, width], gradients)
        .and_then(|()| tensors.insert_u32(layout::SAMPLE, &[n], samples))
        .map_err(Failure::computation)?;
    Ok(tensors)
}

/// A block of rows of the curvature.
fn root_tensors(roots: Vec<f32>, width: usize) -> Result<Tensors, Failure> {
    let mut tensors = Tensors::new();
    tensors
        .insert_f32(layout::ROOT, &[roots.len() / width.max(1), width], roots)
        .map_err(Failure::computation)?;
    Ok(tensors)
}

/// Blocks of gradients, and of rows of the curvature where the model knows them.
fn write_samples(
    rows: &dyn GradientRows,
    asked: &Asked<'_>,
    order: &[u32],
    step: &mut ProjectedStep,
    io: &Io,
    out: &Path,
) -> Result<(), Failure> {
    let (data, width) = (asked.data, rows.width());
    let with_loss: Vec<(u32, u32)> = (0_u32..)
        .zip(order)
        .map(|(place, &at)| (place, at))
        .filter(|&(_, at)| rows.has_loss(data, at as usize))
        .collect();
    let places = Places {
        kept: io.resume(),
        out,
    };
    let mut progress = io.progress("projected gradients", with_loss.len() as u64);
    let n_blocks = with_loss.len().div_ceil(per_block(width));
    let Range { start, end } = shard::blocks(asked.shard, n_blocks);
    for block in with_loss.chunks(per_block(width)).take(end).skip(start) {
        let (place, at): (Vec<u32>, Vec<u32>) = block.iter().copied().unzip();
        let name = layout::samples(step.step, step.blocks);
        places.file(&name, || {
            row_tensors(place, rows.sample_rows(data, &at), width).map(Some)
        })?;
        step.blocks += 1;
        let name = layout::curvature(step.step, step.curvature_blocks);
        let is_made = places.file(&name, || {
            let Some(root) = rows.curvature_rows(data, &at) else {
                return Ok(None);
            };
            root_tensors(root, width).map(Some)
        })?;
        step.curvature_blocks += usize::from(is_made);
        progress.advance(at.len() as u64);
    }
    Ok(())
}

/// The gradients of the requests that have one.
fn write_requests(
    rows: &dyn GradientRows,
    (numbers, of_part): (&[u32], &[(History<'_>, &[u32])]),
    file: &str,
    width: usize,
    out: &Path,
) -> Result<(), Failure> {
    let found = rows.request_rows(of_part);
    let (mut request, mut gradient) = (Vec::new(), Vec::new());
    for (&number, row) in numbers.iter().zip(found) {
        if let Some(row) = row {
            request.push(number);
            gradient.extend(row);
        }
    }
    let mut tensors = Tensors::new();
    tensors
        .insert_f32(layout::GRADIENT, &[request.len(), width], gradient)
        .and_then(|()| tensors.insert_u32(layout::REQUEST, &[request.len()], request))
        .map_err(Failure::computation)?;
    let places = Places { kept: None, out };
    places.file(file, || Ok(Some(tensors))).map(|_| ())
}

/// Products of projected gradients beside those of whole ones, on an evenly spread selection.
fn compare(
    rows: &dyn GradientRows,
    whole: &dyn LossGradients,
    asked: &Asked<'_>,
    of_part: &[(History<'_>, &[u32])],
    index: &ProjectedIndex,
    step: u64,
) -> Result<ProjectionFidelity, Failure> {
    let with_loss: Vec<u32> = (0_u32..)
        .take(asked.data.n_samples())
        .filter(|&at| rows.has_loss(asked.data, at as usize))
        .collect();
    let stride = with_loss.len().div_ceil(FIDELITY.0).max(1);
    let chosen: Vec<u32> = with_loss.iter().step_by(stride).copied().collect();
    let stride = of_part.len().div_ceil(FIDELITY.1).max(1);
    let requests: Vec<(History<'_>, &[u32])> = of_part.iter().step_by(stride).copied().collect();
    let of_samples = rows.sample_rows(asked.data, &chosen);
    let of_requests = rows.request_rows(&requests);
    let projection = asked.configured.projection.as_ref();
    let has_tables = projection.is_none_or(|projection| projection.tables);
    let (mut projected, mut exact) = (Vec::new(), Vec::new());
    for (request, of_request) in requests.iter().zip(&of_requests) {
        let Some(of_request) = of_request else {
            continue;
        };
        let target = whole.target(std::slice::from_ref(request), asked.configured.measure());
        let found = whole.samples(asked.data, &chosen, &target, &|_| {});
        for (row, found) in of_samples.chunks_exact(index.width).zip(found) {
            let Some(found) = found else { continue };
            let pairs = row.iter().zip(of_request);
            projected.push(pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum());
            exact.push(if has_tables {
                found.target_product
            } else {
                found.target_product_without_tables
            });
        }
    }
    Ok(ProjectionFidelity {
        step,
        n_pairs: exact.len() as u64,
        width: index.width as u64,
        n_parameters: index
            .layers
            .iter()
            .map(|layer| layer.parameters as u64)
            .sum(),
        pearson: metrics::pearson(&projected, &exact).map_err(Failure::computation)?,
        spearman: metrics::spearman(&projected, &exact).map_err(Failure::computation)?,
    })
}
