//! Mode `merge`: one probe of the parts that `shard` made, to the bytes of the probe that was never
//! split.
//!
//! Rows of samples are put together in the order of their table, blocks of projected gradients are
//! numbered anew; everything else is in the first part. Parts have to agree on all that they say of the
//! whole: card, configuration, inputs, requests with their losses, layers and states.

use std::fs;
use std::path::{Path, PathBuf};

use models::projected_layout::{self as layout, ProjectedIndex};
use stage::{Exit, Failure, Io};
use tables::{
    PROBE_BLOCK_INFLUENCE, PROBE_DIRECTIONS, PROBE_GRADIENTS, PROBE_UNROLLED, ProbeBlockInfluence,
    ProbeDirection, ProbeGradient, ProbeSample, ProbeUnrolled, Row, RowWriter,
};

use crate::shard::{self, ROLE, Said};

/// Files on which all parts agree to the byte.
const AGREED: [&str; 2] = ["probe.json", "probe_requests.parquet"];
/// Files that are made of all parts.
const MADE: [&str; 7] = [
    "probe_samples.parquet",
    "probe_gradients.parquet",
    "probe_directions.parquet",
    "probe_block_influence.parquet",
    "probe_unrolled.parquet",
    layout::INDEX,
    shard::FILE,
];

/// One part.
struct Part {
    said: Said,
    path: PathBuf,
}

pub(crate) fn run(io: &Io) -> Result<(), Failure> {
    let mut parts = Vec::new();
    for input in io.many(ROLE) {
        parts.push(Part {
            said: shard::read(&input.path)?,
            path: input.path.clone(),
        });
    }
    let shards: Vec<_> = parts.iter().map(|part| part.said.shard).collect();
    shard::check_complete(&shards)?;
    parts.sort_by_key(|part| part.said.shard);
    check_agreement(&parts)?;
    let out = io.output("probe")?;
    let first = &parts[0].path;
    copy_rest(first, &out)?;
    merge_samples(&parts, &out)?;
    if first.join(PROBE_GRADIENTS.file_name()).is_file() {
        merge_rows::<ProbeGradient, _>(
            &parts,
            &out,
            |row| (row.step, row.sample_id),
            |row| (row.step, row.target_norm.to_bits()),
        )?;
    }
    if first.join(PROBE_DIRECTIONS.file_name()).is_file() {
        merge_rows::<ProbeDirection, _>(
            &parts,
            &out,
            |row| (row.step, row.preconditioner, row.sample_id),
            |row| (row.step, row.target_norm.to_bits()),
        )?;
    }
    if first.join(PROBE_BLOCK_INFLUENCE.file_name()).is_file() {
        merge_rows::<ProbeBlockInfluence, _>(&parts, &out, |row| row.sample_id, |_| (0, 0))?;
    }
    if first.join(PROBE_UNROLLED.file_name()).is_file() {
        merge_rows::<ProbeUnrolled, _>(&parts, &out, |row| row.sample_id, |_| (0, 0))?;
    }
    if first.join(layout::INDEX).is_file() {
        merge_projected(&parts, io, &out)?;
    }
    Ok(())
}

fn mixed(part: &Part, first: &Part, what: &str) -> Failure {
    Failure::new(
        Exit::Data,
        format!(
            "shards `{}` and `{}` are of different probes: see {what}",
            first.said.shard, part.said.shard
        ),
    )
    .hint("wire shards of one model, made with one configuration")
}

fn check_agreement(parts: &[Part]) -> Result<(), Failure> {
    let first = &parts[0];
    let mut next = 0;
    for part in parts {
        if part.said.config != first.said.config {
            return Err(mixed(part, first, "`config` in `shard.json`"));
        }
        if part.said.inputs != first.said.inputs {
            return Err(mixed(part, first, "`inputs` in `shard.json`"));
        }
        if part.said.n_samples != first.said.n_samples || part.said.first != next {
            return Err(mixed(part, first, "the numbers of samples in `shard.json`"));
        }
        next = part.said.end;
        for file in AGREED {
            if read(&part.path.join(file))? != read(&first.path.join(file))? {
                return Err(mixed(part, first, &format!("`{file}`")));
            }
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path)
        .map_err(|error| Failure::data(error).cause(format!("reading `{}`", path.display())))
}

/// Copies what speaks of the whole: files of the first part beside its own samples.
fn copy_rest(first: &Path, out: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::environment(error).cause(format!("copying from `{}`", first.display()))
    };
    for entry in fs::read_dir(first).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        let is_made = MADE.iter().any(|made| name == *made) || name == "manifest.json";
        if path.is_file() && !is_made {
            fs::copy(&path, out.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}

fn merge_samples(parts: &[Part], out: &Path) -> Result<(), Failure> {
    let mut writer = RowWriter::<ProbeSample>::create(out).map_err(Failure::environment)?;
    for part in parts {
        let mut n = 0;
        for row in tables::rows::<ProbeSample>(&part.path).map_err(Failure::data)? {
            writer
                .push(row.map_err(Failure::data)?)
                .map_err(Failure::environment)?;
            n += 1;
        }
        if n != part.said.end - part.said.first {
            return Err(mixed(part, &parts[0], "`probe_samples`"));
        }
    }
    writer.finish().map_err(Failure::environment)?;
    Ok(())
}

/// Rows of all parts, the smallest key first. `target` tells what has to be the same for all rows of
/// one state, wherever they are.
fn merge_rows<R: Row, K: Ord + Copy>(
    parts: &[Part],
    out: &Path,
    key: impl Fn(&R) -> K,
    target: impl Fn(&R) -> (u64, u64),
) -> Result<(), Failure> {
    let mut writer = RowWriter::<R>::create(out).map_err(Failure::environment)?;
    let mut rows = Vec::new();
    for part in parts {
        rows.push(
            tables::rows::<R>(&part.path)
                .map_err(Failure::data)?
                .peekable(),
        );
    }
    // What the target's gradient is like at the state that is written.
    let mut known: Option<(u64, u64)> = None;
    loop {
        let mut smallest: Option<(usize, K)> = None;
        for (at, rows) in rows.iter_mut().enumerate() {
            if let Some(Ok(row)) = rows.peek() {
                let key = key(row);
                if smallest.is_none_or(|(_, other)| key < other) {
                    smallest = Some((at, key));
                }
            } else if let Some(Err(error)) = rows.next() {
                return Err(Failure::data(error));
            }
        }
        let Some((at, _)) = smallest else { break };
        let Some(Ok(row)) = rows[at].next() else {
            break;
        };
        let of_row = target(&row);
        match known {
            Some(of) if of.0 == of_row.0 && of != of_row => {
                return Err(mixed(
                    &parts[at],
                    &parts[0],
                    &format!("`target_norm` in `{}`", R::table().name),
                ));
            }
            _ => known = Some(of_row),
        }
        writer.push(row).map_err(Failure::environment)?;
    }
    writer.finish().map_err(Failure::environment)?;
    Ok(())
}

fn index(part: &Part) -> Result<ProjectedIndex, Failure> {
    let path = part.path.join(layout::INDEX);
    serde_json::from_slice(&read(&path)?)
        .map_err(|error| Failure::data(error).cause(format!("reading `{}`", path.display())))
}

/// The same without the numbers of blocks, which are those of a part.
fn outline(index: &ProjectedIndex) -> ProjectedIndex {
    let mut outline = index.clone();
    for state in &mut outline.states {
        state.blocks = 0;
        state.curvature_blocks = 0;
    }
    outline
}

fn merge_projected(parts: &[Part], io: &Io, out: &Path) -> Result<(), Failure> {
    let indices: Vec<ProjectedIndex> = parts.iter().map(index).collect::<Result<_, _>>()?;
    for (part, index) in parts.iter().zip(&indices) {
        if outline(index) != outline(&indices[0]) {
            return Err(mixed(part, &parts[0], "`projected.json`"));
        }
    }
    let mut whole = outline(&indices[0]);
    let all = indices.iter().flat_map(|index| &index.states);
    let n_blocks: usize = all.map(|state| state.blocks).sum();
    let mut progress = io.progress("merging blocks", n_blocks as u64);
    for (at, state) in whole.states.iter_mut().enumerate() {
        let step = state.step;
        let folder = out.join(layout::folder(step));
        fs::create_dir_all(&folder).map_err(|error| {
            Failure::environment(error).cause(format!("creating `{}`", folder.display()))
        })?;
        for file in [layout::requests(step), layout::held_out(step)] {
            let path = parts[0].path.join(&file);
            if path.is_file() {
                copy(&path, &out.join(&file))?;
            }
        }
        for (part, index) in parts.iter().zip(&indices) {
            let of_part = &index.states[at];
            for block in 0..of_part.blocks {
                let from = part.path.join(layout::samples(step, block));
                copy(&from, &out.join(layout::samples(step, state.blocks)))?;
                state.blocks += 1;
                progress.advance(1);
            }
            for block in 0..of_part.curvature_blocks {
                let from = part.path.join(layout::curvature(step, block));
                let to = layout::curvature(step, state.curvature_blocks);
                copy(&from, &out.join(to))?;
                state.curvature_blocks += 1;
            }
        }
    }
    let mut text = serde_json::to_string_pretty(&whole).map_err(Failure::bug)?;
    text.push('\n');
    let path = out.join(layout::INDEX);
    fs::write(&path, text)
        .map_err(|error| Failure::environment(error).cause(format!("writing `{}`", path.display())))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|error| Failure::environment(error).cause(format!("copying `{}`", from.display())))
}
