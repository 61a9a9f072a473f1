//! Mode `merge`: one probe of the parts that `shard` made, to the bytes of the probe that was never
//! split.
//!
//! Rows of samples are put together in the order of their table, blocks of projected gradients are cut
//! anew, a block at a time; everything else is in the first part. Parts have to agree on all that they
//! say of the whole: card, configuration, requests with their losses, layers and states.

use std::fs;
use std::path::{Path, PathBuf};

use models::Tensors;
use models::projected_layout::{self as layout, ProjectedIndex};
use stage::{Exit, Failure, Io};
use tables::{
    PROBE_BLOCK_INFLUENCE, PROBE_DIRECTIONS, PROBE_GRADIENTS, PROBE_UNROLLED, ProbeBlockInfluence,
    ProbeDirection, ProbeGradient, ProbeSample, ProbeUnrolled, Row, RowWriter,
};

use crate::projected::{per_block, root_tensors, row_tensors};
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

/// Cuts rows that come in blocks of any length into blocks of one length, the last one shorter.
struct Cutter<W> {
    per_block: usize,
    width: usize,
    /// What each row belongs to; empty where rows are not numbered.
    numbers: Vec<u32>,
    values: Vec<f32>,
    n_blocks: usize,
    /// Takes the number of a block and its rows.
    write: W,
}

impl<W: FnMut(usize, Vec<u32>, Vec<f32>) -> Result<(), Failure>> Cutter<W> {
    fn new(per_block: usize, width: usize, write: W) -> Self {
        Self {
            per_block: per_block.max(1),
            width: width.max(1),
            numbers: Vec::new(),
            values: Vec::new(),
            n_blocks: 0,
            write,
        }
    }

    fn push(&mut self, numbers: &[u32], values: &[f32]) -> Result<(), Failure> {
        self.numbers.extend_from_slice(numbers);
        self.values.extend_from_slice(values);
        while self.values.len() >= self.per_block * self.width {
            self.cut(self.per_block)?;
        }
        Ok(())
    }

    /// Writes the first rows.
    fn cut(&mut self, n: usize) -> Result<(), Failure> {
        let numbers = self.numbers.split_off(n.min(self.numbers.len()));
        let values = self.values.split_off(n * self.width);
        let numbers = std::mem::replace(&mut self.numbers, numbers);
        let values = std::mem::replace(&mut self.values, values);
        (self.write)(self.n_blocks, numbers, values)?;
        self.n_blocks += 1;
        Ok(())
    }

    /// Writes what is left; gives the number of blocks.
    fn finish(mut self) -> Result<usize, Failure> {
        if !self.values.is_empty() {
            self.cut(self.values.len() / self.width)?;
        }
        Ok(self.n_blocks)
    }
}

fn merge_projected(parts: &[Part], io: &Io, out: &Path) -> Result<(), Failure> {
    let indices: Vec<ProjectedIndex> = parts.iter().map(index).collect::<Result<_, _>>()?;
    for (part, index) in parts.iter().zip(&indices) {
        if outline(index) != outline(&indices[0]) {
            return Err(mixed(part, &parts[0], "`projected.json`"));
        }
    }
    let mut whole = outline(&indices[0]);
    let width = whole.width;
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
                fs::copy(&path, out.join(&file)).map_err(|error| {
                    Failure::environment(error).cause(format!("copying `{}`", path.display()))
                })?;
            }
        }
        let (mut n_rows, mut n_roots) = (0, 0);
        let mut cutter = Cutter::new(per_block(width), width, |block, numbers, values| {
            row_tensors(numbers, values, width)?
                .save(&out.join(layout::samples(step, block)))
                .map_err(Failure::environment)
        });
        for (part, index) in parts.iter().zip(&indices) {
            for block in 0..index.states[at].blocks {
                let path = part.path.join(layout::samples(step, block));
                let tensors = Tensors::load(&path).map_err(Failure::data)?;
                let numbers = tensors.u32(layout::SAMPLE).map_err(Failure::data)?;
                let values = tensors.f32(layout::GRADIENT).map_err(Failure::data)?;
                cutter.push(numbers, values)?;
                n_rows += numbers.len();
                progress.advance(1);
            }
            for block in 0..index.states[at].curvature_blocks {
                let path = part.path.join(layout::curvature(step, block));
                let tensors = Tensors::load(&path).map_err(Failure::data)?;
                n_roots += tensors.f32(layout::ROOT).map_err(Failure::data)?.len() / width;
            }
        }
        state.blocks = cutter.finish()?;
        // Every sample has as many rows of the curvature.
        let per_block = per_block(width) * n_roots.checked_div(n_rows).unwrap_or(0);
        let mut cutter = Cutter::new(per_block, width, |block, _, values| {
            root_tensors(values, width)?
                .save(&out.join(layout::curvature(step, block)))
                .map_err(Failure::environment)
        });
        for (part, index) in parts.iter().zip(&indices) {
            for block in 0..index.states[at].curvature_blocks {
                let path = part.path.join(layout::curvature(step, block));
                let tensors = Tensors::load(&path).map_err(Failure::data)?;
                cutter.push(&[], tensors.f32(layout::ROOT).map_err(Failure::data)?)?;
            }
        }
        state.curvature_blocks = cutter.finish()?;
    }
    let mut text = serde_json::to_string_pretty(&whole).map_err(Failure::bug)?;
    text.push('\n');
    let path = out.join(layout::INDEX);
    fs::write(&path, text)
        .map_err(|error| Failure::environment(error).cause(format!("writing `{}`", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_the_same_however_they_come() {
        let numbers: Vec<u32> = (0..11).collect();
        let values: Vec<f32> = (0_u16..22).map(f32::from).collect();
        for lengths in [vec![11], vec![1; 11], vec![4, 0, 7], vec![8, 3], vec![3, 8]] {
            for is_numbered in [true, false] {
                let mut found = Vec::new();
                let mut cutter = Cutter::new(4, 2, |block, numbers: Vec<u32>, values: Vec<f32>| {
                    found.push((block, numbers, values));
                    Ok(())
                });
                let mut at = 0;
                for &n in &lengths {
                    let own = if is_numbered {
                        &numbers[at..at + n]
                    } else {
                        &[]
                    };
                    cutter.push(own, &values[2 * at..2 * (at + n)]).unwrap();
                    at += n;
                }
                assert_eq!(cutter.finish().unwrap(), 3);
                let blocks = numbers.chunks(4).zip(values.chunks(8)).enumerate();
                let wanted: Vec<_> = blocks
                    .map(|(block, (numbers, values))| {
                        let numbers = if is_numbered {
                            numbers.to_vec()
                        } else {
                            Vec::new()
                        };
                        (block, numbers, values.to_vec())
                    })
                    .collect();
                assert_eq!(found, wanted);
            }
        }
        let empty = Cutter::new(4, 2, |_, _, _| Ok(()));
        assert_eq!(empty.finish().unwrap(), 0);
    }
}
