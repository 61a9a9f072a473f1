//! What an artifact says of itself: `manifest.json`, written last.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::digest::{ArtifactId, ContentHash, Sha256Hash};
use crate::fault::FileError;
use crate::tree::{digest_of_list, unfit};

/// Name of the manifest in an artifact's directory.
pub const MANIFEST: &str = "manifest.json";

/// Version of the manifest's layout.
pub const MANIFEST_FORMAT: u32 = 1;

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Path from the artifact's directory, parts separated by `/`.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// What the artifact's id is made of.
    pub blake3: ContentHash,
    /// What other tools check.
    pub sha256: Sha256Hash,
}

/// The files of an artifact. Holds no time, host, absolute path or thread count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    id: ArtifactId,
    kind: String,
    files: Vec<ManifestFile>,
    /// BLAKE3 of the canonical JSON of the fields above: what the id does not cover is covered too.
    checksum: ContentHash,
}

/// Why a manifest cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not the JSON of a manifest.
    #[error("the manifest is not valid JSON of the expected shape")]
    Json(#[from] serde_json::Error),
    /// It was written by a newer version.
    #[error("the manifest has format {0}, this version knows {MANIFEST_FORMAT}")]
    Format(u32),
    /// It contradicts itself.
    #[error("the manifest contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl Manifest {
    /// Describes files, in any order, of an artifact of a kind.
    pub fn new(kind: &str, mut files: Vec<ManifestFile>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut manifest = Self {
            format: MANIFEST_FORMAT,
            id: id_of(&files),
            kind: kind.to_owned(),
            files,
            checksum: ContentHash::of(b""),
        };
        manifest.checksum = manifest.sum();
        manifest
    }

    /// Name of the artifact.
    pub fn id(&self) -> ArtifactId {
        self.id
    }

    /// What the files mean, such as `samples`: the kind given by whoever published these bytes first.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[ManifestFile] {
        &self.files
    }

    /// Bytes of all files.
    pub fn length(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// The text of `manifest.json`.
    pub fn to_text(&self) -> String {
        let value = serde_json::json!({
            "format": self.format,
            "id": self.id,
            "kind": self.kind,
            "files": self.files,
            "checksum": self.checksum,
        });
        format!("{:#}\n", canonical::sorted(&value))
    }

    /// Reads `manifest.json` of an artifact's directory and checks that it agrees with itself.
    ///
    /// # Errors
    /// If it cannot be read or a single bit of it is wrong.
    pub fn read(directory: &Path) -> Result<Self, ManifestError> {
        let path = directory.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(FileError::of("read", &path))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_str(text)?;
        if manifest.format != MANIFEST_FORMAT {
            return Err(ManifestError::Format(manifest.format));
        }
        let is_fit = |file: &ManifestFile| file.path.split('/').all(|part| unfit(part).is_none());
        if !manifest.files.iter().all(is_fit) {
            return Err(ManifestError::Contradiction("a path leads elsewhere"));
        }
        if !manifest.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err(ManifestError::Contradiction("files are out of order"));
        }
        if manifest.id != id_of(&manifest.files) {
            return Err(ManifestError::Contradiction(
                "the id is not that of the files",
            ));
        }
        if manifest.checksum != manifest.sum() {
            return Err(ManifestError::Contradiction("the checksum is wrong"));
        }
        // White space is not under the checksum.
        if manifest.to_text() != text {
            return Err(ManifestError::Contradiction("the text is not canonical"));
        }
        Ok(manifest)
    }

    fn sum(&self) -> ContentHash {
        let value = serde_json::json!({
            "format": self.format,
            "id": self.id,
            "kind": self.kind,
            "files": self.files,
        });
        ContentHash::of(canonical::text(&value).as_bytes())
    }
}

/// Name of an artifact that holds these files; they must be sorted by path.
fn id_of(files: &[ManifestFile]) -> ArtifactId {
    ArtifactId::from_bytes(digest_of_list(
        files
            .iter()
            .map(|file| (file.path.as_str(), file.length, file.blake3)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, byte: u8) -> ManifestFile {
        ManifestFile {
            path: path.to_owned(),
            length: 3,
            blake3: ContentHash::of(&[byte]),
            sha256: Sha256Hash::from_bytes([byte; 32]),
        }
    }

    #[test]
    fn order_of_files_does_not_matter() {
        let one = Manifest::new("samples", vec![file("b", 2), file("a/c", 1)]);
        let two = Manifest::new("samples", vec![file("a/c", 1), file("b", 2)]);
        assert_eq!(one, two);
        assert_eq!(one.to_text(), two.to_text());
        assert_eq!(Manifest::parse(&one.to_text()).unwrap(), one);
        assert_eq!(one.length(), 6);
    }

    #[test]
    fn the_id_depends_on_path_length_and_content_but_not_on_kind() {
        let id = |file: ManifestFile| Manifest::new("x", vec![file]).id();
        let base = id(file("a", 1));
        assert_eq!(Manifest::new("y", vec![file("a", 1)]).id(), base);
        assert_ne!(id(file("b", 1)), base);
        assert_ne!(id(file("a", 2)), base);
        assert_ne!(
            id(ManifestFile {
                length: 4,
                ..file("a", 1)
            }),
            base
        );
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let text = Manifest::new("samples", vec![file("a/c", 1), file("b", 2)]).to_text();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(Manifest::parse(&changed).is_err(), "byte {at}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["../a", "a/../b", "/a", "a//b", "", "a/", "a\\b", "."] {
            let text = Manifest::new("x", vec![file(path, 1)]).to_text();
            let error = Manifest::parse(&text).unwrap_err().to_string();
            assert!(error.contains("leads elsewhere"), "{path}: {error}");
        }
        let twice = Manifest::new("x", vec![file("a", 1), file("a", 1)]).to_text();
        assert!(Manifest::parse(&twice).is_err());
    }
}
