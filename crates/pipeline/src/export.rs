//! A friendly place for the results of a pipeline: links below `latest/` in the store.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use artifact::Store;
use stage::Failure;

use crate::plan::Plan;
use crate::resolve::Outputs;

/// Kinds of outputs that people look at.
const RESULTS: &[&str] = &["html", "tables"];

/// Links the results of the pipeline's last steps, those that nothing reads, and returns what to
/// look at: the page itself, or the folder. Where nothing may be written, that is the artifact.
///
/// # Errors
/// If a link cannot be made.
pub fn latest(
    plan: &Plan,
    store: &Store,
    done: &[Option<Outputs>],
) -> Result<Vec<PathBuf>, Failure> {
    let folder = store.root().join("latest").join(&plan.pipeline.name);
    let mut links = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let is_read = plan
            .steps
            .iter()
            .any(|other| other.inputs.iter().any(|input| input.producer == index));
        let Some(outputs) = &done[index] else {
            continue;
        };
        for (role, kind) in step.outputs() {
            if is_read || !RESULTS.contains(&kind) {
                continue;
            }
            let Some(produced) = outputs.produced.get(role) else {
                continue;
            };
            let target = store.object_path(produced.id);
            let link = folder.join(step.name()).join(role);
            let place = match point(&link, &target) {
                Ok(()) => link,
                // A store that can only be read: the artifact itself can be looked at.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
                    ) =>
                {
                    target
                }
                Err(error) => {
                    return Err(
                        Failure::environment(error).cause(format!("linking `{}`", link.display()))
                    );
                }
            };
            let page = place.join("index.html");
            links.push(if page.is_file() { page } else { place });
        }
    }
    Ok(links)
}

/// Makes a relative link; an old one is replaced at once.
fn point(link: &Path, target: &Path) -> std::io::Result<()> {
    let folder = link.parent().unwrap_or(Path::new("."));
    // From `latest/<pipeline>/<node>/<output>` back to the store.
    let relative = target
        .ancestors()
        .nth(3)
        .and_then(|root| target.strip_prefix(root).ok())
        .map_or_else(
            || target.to_owned(),
            |rest| Path::new("../../..").join(rest),
        );
    if fs::read_link(link).is_ok_and(|now| now == relative) {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".{}.link", std::process::id()));
    let _ = fs::remove_file(&temporary);
    symlink(relative, &temporary)?;
    fs::rename(temporary, link)
}
