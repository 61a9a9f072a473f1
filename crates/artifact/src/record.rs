//! What keys produced: one durable record for each, written only by who holds its lock.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::digest::{ArtifactId, ContentHash, KeyId};
use crate::durable::{READ_ONLY_FILE, create_directory, sync_directory, write_new};
use crate::fault::FileError;
use crate::key::{Difference, Key, difference};
use crate::lock::Lock;
use crate::store::{Store, StoreError, check_name, list};
use crate::verify::beside;

/// One output of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Produced {
    /// The artifact.
    pub id: ArtifactId,
    /// What it means, such as `samples`.
    pub kind: String,
    /// Whether it holds measured things (times, memory), which differ from run to run.
    pub measured: bool,
}

/// What a key produced.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Name of the key.
    pub id: KeyId,
    /// The key itself, so that it can be compared with another.
    pub key: Key,
    /// Outputs by role.
    pub outputs: BTreeMap<String, Produced>,
}

/// The exclusive right to compute and record one key.
#[derive(Debug)]
pub struct KeyLock {
    key: Key,
    id: KeyId,
    _lock: Lock,
}

impl KeyLock {
    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

/// How a record was taken in.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// The first of its key, or the only one whose artifacts still exist.
    New,
    /// The same as before, measured outputs apart.
    Same,
    /// Determinism alarm: the same key gave other artifacts before. Both records and all artifacts
    /// are kept; the earlier one goes on being served if its artifacts exist.
    Conflict(Box<Conflict>),
}

/// Two results of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// What was recorded first.
    pub earlier: Record,
    /// What was computed now.
    pub now: Record,
    /// Where the one that is not served was written.
    pub kept_at: PathBuf,
}

impl Conflict {
    /// The roles whose artifacts differ.
    pub fn roles(&self) -> Vec<String> {
        let (earlier, now) = (comparable(&self.earlier), comparable(&self.now));
        let mut roles: Vec<String> = earlier
            .keys()
            .chain(now.keys())
            .map(|role| (*role).to_owned())
            .collect();
        roles.sort();
        roles.dedup();
        roles.retain(|role| earlier.get(role.as_str()) != now.get(role.as_str()));
        roles
    }
}

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// The record was damaged and has been put aside: go on as if there were none, and say so.
    #[error(
        "the record of key `{}` is damaged and was moved to `{}`: {why}",
        id.short(), moved_to.display()
    )]
    Quarantined {
        /// The key.
        id: KeyId,
        /// Where the record lies now.
        moved_to: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A record as JSON. The checksum comes first in the text and covers all of it, itself read as
/// zeros: the text need not survive being parsed and printed to be checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    checksum: ContentHash,
    id: KeyId,
    key: Key,
    outputs: BTreeMap<String, Produced>,
}

const NO_CHECKSUM: ContentHash = ContentHash::from_bytes([0; 32]);

impl Record {
    fn to_text(&self) -> String {
        let value = canonical::sorted(&serde_json::json!({
            "checksum": NO_CHECKSUM,
            "id": self.id,
            "key": self.key.to_json(),
            "outputs": self.outputs,
        }));
        let text = format!("{value:#}\n");
        let checksum = ContentHash::of(text.as_bytes());
        text.replacen(&NO_CHECKSUM.to_string(), &checksum.to_string(), 1)
    }

    fn parse(text: &str, stage: &str, id: KeyId) -> Result<Self, String> {
        let stored: Stored = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let blank = text.replacen(&stored.checksum.to_string(), &NO_CHECKSUM.to_string(), 1);
        if ContentHash::of(blank.as_bytes()) != stored.checksum {
            return Err("the checksum is wrong".to_owned());
        }
        if stored.id != id || stored.key.stage != stage {
            return Err(format!("it is the record of key `{}`", stored.id.short()));
        }
        Ok(Self {
            id: stored.id,
            key: stored.key,
            outputs: stored.outputs,
        })
    }
}

/// The outputs that must be the same whenever a key is computed.
fn comparable(record: &Record) -> BTreeMap<&str, ArtifactId> {
    record
        .outputs
        .iter()
        .filter(|(_, produced)| !produced.measured)
        .map(|(role, produced)| (role.as_str(), produced.id))
        .collect()
}

impl Store {
    fn record_path(&self, stage: &str, id: KeyId) -> PathBuf {
        self.area("keys").join(stage).join(format!("{id}.json"))
    }

    /// Waits until nobody else computes this key and takes the right to. Look it up again
    /// afterwards: who held the lock before has probably recorded it.
    ///
    /// # Errors
    /// If the stage has an unfit name or the lock cannot be taken.
    pub fn lock(&self, key: &Key) -> Result<KeyLock, RecordError> {
        let (id, path) = self.lock_path(key)?;
        Ok(KeyLock {
            key: key.clone(),
            id,
            _lock: Lock::wait(&path)?,
        })
    }

    /// Takes the right to compute this key if nobody else has it.
    ///
    /// # Errors
    /// If the stage has an unfit name or the lock cannot be taken.
    pub fn try_lock(&self, key: &Key) -> Result<Option<KeyLock>, RecordError> {
        let (id, path) = self.lock_path(key)?;
        Ok(Lock::attempt(&path)?.map(|lock| KeyLock {
            key: key.clone(),
            id,
            _lock: lock,
        }))
    }

    fn lock_path(&self, key: &Key) -> Result<(KeyId, PathBuf), RecordError> {
        check_name("stage", &key.stage)?;
        let folder = self.area("keys").join(&key.stage);
        create_directory(&folder)?;
        let id = key.id();
        Ok((id, folder.join(format!("{id}.lock"))))
    }

    /// What a key produced; `None` if nothing is known. The artifacts may be gone or damaged: see
    /// [`Store::contains`] and [`Store::open_verified`].
    ///
    /// # Errors
    /// If the record cannot be read or was damaged; a damaged one is put aside first.
    pub fn lookup(&self, key: &Key) -> Result<Option<Record>, RecordError> {
        check_name("stage", &key.stage)?;
        self.read_record(&key.stage, key.id())
    }

    pub(crate) fn read_record(
        &self,
        stage: &str,
        id: KeyId,
    ) -> Result<Option<Record>, RecordError> {
        let path = self.record_path(stage, id);
        let Some(bytes) = read_if_there(&path)? else {
            return Ok(None);
        };
        let parsed = String::from_utf8(bytes)
            .map_err(|_| "it is not UTF-8".to_owned())
            .and_then(|text| Record::parse(&text, stage, id));
        let why = match parsed {
            Ok(record) => return Ok(Some(record)),
            Err(why) => why,
        };
        let name = format!("{stage}.{id}");
        let _lock = Lock::wait(&self.area("quarantine").join(format!("{name}.lock")))?;
        let moved_to = self.quarantine_path(&name);
        match fs::rename(&path, &moved_to) {
            // Another process has put it aside.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(FileError::of("move to quarantine", &path))?,
        }
        write_new(
            &beside(&moved_to),
            format!("{why}\n").as_bytes(),
            READ_ONLY_FILE,
        )?;
        sync_directory(&self.area("quarantine"))?;
        Err(RecordError::Quarantined { id, moved_to, why })
    }

    /// Records what a key produced. All artifacts must have been published before.
    ///
    /// If the key has a record with other artifacts, measured ones apart, that is a determinism
    /// alarm: both are kept.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn record(
        &self,
        lock: &KeyLock,
        outputs: BTreeMap<String, Produced>,
    ) -> Result<Recorded, RecordError> {
        let now = Record {
            id: lock.id,
            key: lock.key.clone(),
            outputs,
        };
        let path = self.record_path(&now.key.stage, now.id);
        let earlier = match self.read_record(&now.key.stage, now.id) {
            Ok(earlier) => earlier,
            // Put aside; ours takes its place.
            Err(RecordError::Quarantined { .. }) => None,
            Err(error) => return Err(error),
        };
        let Some(earlier) = earlier else {
            self.replace_file(&path, &now.to_text())?;
            return Ok(Recorded::New);
        };
        if comparable(&earlier) == comparable(&now) {
            // What was measured lately replaces what was measured before, which may be gone.
            if earlier.outputs != now.outputs {
                self.replace_file(&path, &now.to_text())?;
            }
            return Ok(Recorded::Same);
        }
        let kept_at = self.conflict_path(&now);
        let serves = earlier
            .outputs
            .values()
            .all(|produced| self.contains(produced.id));
        if serves {
            self.replace_file(&kept_at, &now.to_text())?;
        } else {
            self.replace_file(&kept_at, &earlier.to_text())?;
            self.replace_file(&path, &now.to_text())?;
        }
        Ok(Recorded::Conflict(Box::new(Conflict {
            earlier,
            now,
            kept_at,
        })))
    }

    /// A free name beside the record. The caller holds the key's lock.
    fn conflict_path(&self, record: &Record) -> PathBuf {
        let folder = self.area("keys").join(&record.key.stage);
        let mut number = 1;
        loop {
            let path = folder.join(format!("{}.conflict-{number}.json", record.id));
            if !path.exists() {
                return path;
            }
            number += 1;
        }
    }

    /// Results that are kept but not served because their key also gave others.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub fn conflicts(&self) -> Result<Vec<PathBuf>, RecordError> {
        let keys = self.area("keys");
        let mut conflicts = Vec::new();
        for stage in list(&keys)? {
            let folder = keys.join(stage);
            for name in list(&folder)? {
                if name.contains(".conflict-") {
                    conflicts.push(folder.join(name));
                }
            }
        }
        Ok(conflicts)
    }

    /// All records of a stage, latest first. Times order the past; no result depends on them.
    /// Damaged records are left out.
    ///
    /// # Errors
    /// If the store cannot be listed or read.
    pub fn latest_records(&self, stage: &str) -> Result<Vec<Record>, RecordError> {
        check_name("stage", stage)?;
        let folder = self.area("keys").join(stage);
        let mut records = Vec::new();
        for name in list(&folder)? {
            let Some(id) = name.strip_suffix(".json").and_then(|id| id.parse().ok()) else {
                continue;
            };
            let path = folder.join(&name);
            let Some(bytes) = read_if_there(&path)? else {
                continue;
            };
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(record) = Record::parse(&text, stage, id) {
                records.push(((metadata.mtime(), metadata.mtime_nsec()), record));
            }
        }
        // Stable: records of one instant stay in the order of their names.
        records.sort_by_key(|(written_at, _)| std::cmp::Reverse(*written_at));
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    /// The past key of the same stage that differs least from this one, the latest among equals,
    /// with the differences from it to this one.
    ///
    /// # Errors
    /// If the store cannot be listed or read.
    pub fn nearest(&self, key: &Key) -> Result<Option<(Record, Vec<Difference>)>, RecordError> {
        let id = key.id();
        let records = self.latest_records(&key.stage)?;
        Ok(records
            .into_iter()
            .filter(|record| record.id != id)
            .map(|record| {
                let differences = difference(&record.key, key);
                (record, differences)
            })
            // The first of equals: the latest.
            .min_by_key(|(_, differences)| differences.len()))
    }

    /// Names of the stages that have records.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub fn stages(&self) -> Result<Vec<String>, RecordError> {
        Ok(list(&self.area("keys"))?)
    }

    /// The records, with the role, that produced an artifact.
    ///
    /// # Errors
    /// If the store cannot be listed or read.
    pub fn producers(&self, id: ArtifactId) -> Result<Vec<(Record, String)>, RecordError> {
        let mut producers = Vec::new();
        for stage in self.stages()? {
            for record in self.latest_records(&stage)? {
                for (role, produced) in &record.outputs {
                    if produced.id == id {
                        producers.push((record.clone(), role.clone()));
                    }
                }
            }
        }
        Ok(producers)
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::of("read", path)(error)),
    }
}
