//! Opening raw files: plain or gzip, counted for progress, with errors that name path and line.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

/// Bytes of each read.
const BUFFER_BYTES: usize = 1 << 18;

/// The first bytes of every gzip member.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A raw file is missing or damaged as a whole.
#[derive(Debug, thiserror::Error)]
#[error("failed to read raw file `{}`{}", path.display(), at(*line))]
pub struct RawError {
    /// The file.
    pub path: PathBuf,
    /// 1-based line, where one is to blame.
    pub line: Option<u64>,
    /// Why.
    #[source]
    pub kind: RawErrorKind,
}

fn at(line: Option<u64>) -> String {
    line.map(|line| format!(" at line {line}"))
        .unwrap_or_default()
}

/// Why a raw file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RawErrorKind {
    /// It does not exist.
    #[error("the file does not exist")]
    Missing,
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A compressed file that ends too early or does not decompress.
    #[error("the gzip stream is truncated or damaged: {0}")]
    Gzip(io::Error),
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// A table with other columns.
    #[error("the header is `{found}`, expected `{expected}`")]
    Header {
        /// Columns of the file.
        found: String,
        /// Columns of the data set.
        expected: String,
    },
    /// Bytes that are not text in the declared encoding.
    #[error("the line is not UTF-8")]
    Encoding {
        /// How the configuration can declare another encoding, if it can.
        remedy: &'static str,
    },
    /// A JSON file that does not parse or has another shape.
    #[error("the JSON is not of the expected shape: {0}")]
    Json(#[from] serde_json::Error),
    /// A folder that holds none or several files of the expected kind.
    #[error("the folder holds {} files `.txt`, expected one", stems.len())]
    Ambiguous {
        /// Their names without the ending.
        stems: Vec<String>,
    },
    /// More events than sample identities.
    #[error("more than 2^40 events")]
    TooManyEvents,
}

impl RawErrorKind {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing => "put the file there, or name another with `file` or `folder`".into(),
            Self::Io(_) => "check the disk and the permissions of the file".into(),
            Self::Gzip(_) => {
                "fetch the file again and compare its size and checksum with `data/SOURCES.yaml`"
                    .into()
            }
            Self::Empty => "fetch the file again; an interrupted download leaves it empty".into(),
            Self::Header { .. } => {
                "check that `dataset` fits the file, and that it is comma separated with its header"
                    .into()
            }
            Self::Encoding { remedy } => (*remedy).into(),
            Self::Json(_) => "expected `{\"item\": [attribute, ...], ...}`".into(),
            Self::Ambiguous { stems } => match stems.first() {
                Some(stem) => format!("choose one with `stem`, such as `stem: {stem}`"),
                None => "check `folder` and the data root".into(),
            },
            Self::TooManyEvents => "split the log into several runs".into(),
        }
    }
}

/// A raw file that is being read, decompressed where it is gzip.
pub(crate) struct RawFile {
    path: PathBuf,
    name: String,
    n_bytes: u64,
    n_read: Rc<Cell<u64>>,
    is_gzip: bool,
    reader: Box<dyn BufRead>,
}

impl RawFile {
    /// Opens a file and looks at its first bytes.
    pub(crate) fn open(path: &Path) -> Result<Self, RawError> {
        let failed = |error: io::Error| RawError {
            path: path.to_owned(),
            line: None,
            kind: match error.kind() {
                io::ErrorKind::NotFound => RawErrorKind::Missing,
                _ => RawErrorKind::Io(error),
            },
        };
        let file = File::open(path).map_err(failed)?;
        let n_bytes = file.metadata().map_err(failed)?.len();
        let n_read = Rc::new(Cell::new(0));
        let counted = Counted {
            inner: file,
            n_read: Rc::clone(&n_read),
        };
        let mut buffered = BufReader::with_capacity(BUFFER_BYTES, counted);
        let is_gzip = buffered
            .fill_buf()
            .map_err(failed)?
            .starts_with(&GZIP_MAGIC);
        let reader: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::with_capacity(
                BUFFER_BYTES,
                MultiGzDecoder::new(buffered),
            ))
        } else {
            Box::new(buffered)
        };
        Ok(Self {
            path: path.to_owned(),
            name: path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            n_bytes,
            n_read,
            is_gzip,
            reader,
        })
    }

    /// Name of the file without folders.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file on disk.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Bytes taken from disk so far.
    pub(crate) fn n_read(&self) -> u64 {
        self.n_read.get()
    }

    /// An error of this file.
    pub(crate) fn error(&self, line: Option<u64>, kind: RawErrorKind) -> RawError {
        RawError {
            path: self.path.clone(),
            line,
            kind,
        }
    }

    /// Appends bytes up to and including the next line feed; false at the end of the file.
    ///
    /// Bytes beyond `limit` are passed over, and `true` is returned beside.
    pub(crate) fn line(
        &mut self,
        number: u64,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<Option<LineEnd>, RawError> {
        let mut n_taken = 0;
        let mut is_cut = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let kind = if self.is_gzip
                        && matches!(
                            error.kind(),
                            io::ErrorKind::UnexpectedEof
                                | io::ErrorKind::InvalidInput
                                | io::ErrorKind::InvalidData
                        ) {
                        RawErrorKind::Gzip(error)
                    } else {
                        RawErrorKind::Io(error)
                    };
                    return Err(self.error(Some(number), kind));
                }
            };
            if available.is_empty() {
                return Ok((n_taken > 0).then_some(LineEnd { is_cut }));
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let take = end.map_or(available.len(), |end| end + 1);
            let keep = take.min(limit.saturating_sub(n_taken));
            into.extend_from_slice(&available[..keep]);
            is_cut |= keep < take;
            n_taken += take;
            self.reader.consume(take);
            if end.is_some() {
                return Ok(Some(LineEnd { is_cut }));
            }
        }
    }

    /// Reads the rest of the file as JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(mut self) -> Result<T, RawError> {
        let reader = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        serde_json::from_reader(reader).map_err(|error| {
            let line = u64::try_from(error.line()).ok().filter(|&line| line > 0);
            self.error(line, RawErrorKind::Json(error))
        })
    }
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineEnd {
    /// Whether it was longer than the limit, and only its start was kept.
    pub(crate) is_cut: bool,
}

/// Cuts `\n` or `\r\n` off the end of a line.
pub(crate) fn without_terminator(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Counts the bytes that pass.
struct Counted {
    inner: File,
    n_read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.n_read.set(self.n_read.get() + n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(bytes: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, bool)>, RawError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("raw");
        std::fs::write(&path, bytes).unwrap();
        let mut file = RawFile::open(&path)?;
        let mut all = Vec::new();
        loop {
            let mut line = Vec::new();
            match file.line(all.len() as u64 + 1, limit, &mut line)? {
                Some(end) => all.push((line, end.is_cut)),
                None => return Ok(all),
            }
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzip_of_several_members_read_the_same() {
        let plain = lines(b"one\r\ntwo\nthree", 100).unwrap();
        assert_eq!(plain.len(), 3);
        assert_eq!(without_terminator(&plain[0].0), b"one");
        let members = [gzip(b"one\r\ntw"), gzip(b"o\nthree")].concat();
        assert_eq!(lines(&members, 100).unwrap(), plain);
    }

    #[test]
    fn a_truncated_gzip_names_its_line() {
        let noise: Vec<u8> = (0..20_000_u32)
            .flat_map(|i| format!("{}\n", i.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        let mut bytes = gzip(&noise);
        bytes.truncate(bytes.len() / 2);
        let error = lines(&bytes, 100).unwrap_err();
        assert!(matches!(error.kind, RawErrorKind::Gzip(_)), "{error:?}");
        assert!(error.line.unwrap() > 5000, "{error:?}");
    }

    #[test]
    fn endless_lines_are_cut_in_bounded_memory() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend_from_slice(b"\nnext\n");
        let all = lines(&bytes, 1000).unwrap();
        assert_eq!((all[0].0.len(), all[0].1), (1000, true));
        assert_eq!(all[1], (b"next\n".to_vec(), false));
    }
}
