//! Comma-separated records out of a file that may be broken, one physical line at a time.
//!
//! A quoted field may go over several lines. A quote that is never closed must not swallow what
//! follows, so a record that stays open is a *broken quote* as soon as the next physical line is a
//! record of its own, when the file ends, when the pieces together have another number of fields,
//! or after [`MAX_LINES`] lines. Then only the line where it started is refused and reading resumes
//! at the line after it.
//!
//! Quotes follow RFC 4180: they open a field only at its start, double quotes inside stand for
//! one, and nothing but a comma may follow a closing quote. A quote inside a bare field is text.

use std::collections::VecDeque;

use crate::raw::{RawError, RawFile, without_terminator};

/// Longest record, in bytes.
pub(crate) const MAX_RECORD_BYTES: usize = 1 << 20;

/// Most lines of one record.
pub(crate) const MAX_LINES: usize = 1000;

/// One record, reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// 1-based line where it starts.
    pub(crate) line: u64,
    /// Its bytes as read, without the last line terminator.
    pub(crate) raw: Vec<u8>,
    /// What is wrong with its quotes or length.
    pub(crate) fault: Option<Fault>,
    fields: Fields,
}

/// What can be wrong with a record before its fields are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A quote that is not closed, or closed in the middle of a field.
    Quote,
    /// More bytes than [`MAX_RECORD_BYTES`].
    TooLong,
}

impl Record {
    /// Number of fields.
    pub(crate) fn len(&self) -> usize {
        self.fields.ends.len()
    }

    /// A field without its quotes; empty beyond the last.
    pub(crate) fn field(&self, index: usize) -> &[u8] {
        self.fields.get(index)
    }
}

/// Fields of a record: their text end to end, and where each ends.
#[derive(Debug, Default)]
struct Fields {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Fields {
    fn get(&self, index: usize) -> &[u8] {
        let Some(&end) = self.ends.get(index) else {
            return &[];
        };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..end]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FieldStart,
    Bare,
    Quoted,
    QuoteInQuoted,
    Broken,
}

/// Takes a record apart, a physical line at a time.
#[derive(Debug)]
struct Splitter {
    state: State,
}

impl Splitter {
    fn new(fields: &mut Fields) -> Self {
        fields.text.clear();
        fields.ends.clear();
        Self {
            state: State::FieldStart,
        }
    }

    /// Takes a line with its terminator.
    fn feed(&mut self, line: &[u8], fields: &mut Fields) {
        let content = without_terminator(line);
        for &byte in content {
            self.state = match (self.state, byte) {
                (State::FieldStart, b'"') => State::Quoted,
                (State::FieldStart | State::Bare | State::QuoteInQuoted, b',') => {
                    fields.ends.push(fields.text.len());
                    State::FieldStart
                }
                (State::FieldStart | State::Bare, _) => {
                    fields.text.push(byte);
                    State::Bare
                }
                (State::Quoted, b'"') => State::QuoteInQuoted,
                (State::QuoteInQuoted, b'"') | (State::Quoted, _) => {
                    fields.text.push(byte);
                    State::Quoted
                }
                (State::QuoteInQuoted | State::Broken, _) => State::Broken,
            };
        }
        match self.state {
            // The line break belongs to the field.
            State::Quoted => fields.text.extend_from_slice(&line[content.len()..]),
            State::Broken => {}
            _ => fields.ends.push(fields.text.len()),
        }
    }
}

/// The records of one file.
pub(crate) struct Records {
    file: RawFile,
    n_fields: usize,
    /// Lines that were read ahead and given back.
    ahead: VecDeque<(Vec<u8>, bool)>,
    /// 1-based number of the next line.
    line: u64,
    /// Scratch of the test whether a line stands alone.
    alone: Fields,
}

impl Records {
    /// Reads records of `n_fields` fields.
    pub(crate) fn new(file: RawFile, n_fields: usize) -> Self {
        Self {
            file,
            n_fields,
            ahead: VecDeque::new(),
            line: 1,
            alone: Fields::default(),
        }
    }

    /// The file, for its name, its progress and its errors.
    pub(crate) fn file(&self) -> &RawFile {
        &self.file
    }

    fn physical_line(&mut self) -> Result<Option<(Vec<u8>, bool)>, RawError> {
        let line = match self.ahead.pop_front() {
            Some(line) => Some(line),
            None => self.read_line(self.line)?,
        };
        self.line += u64::from(line.is_some());
        Ok(line)
    }

    fn read_line(&mut self, number: u64) -> Result<Option<(Vec<u8>, bool)>, RawError> {
        let mut bytes = Vec::new();
        let end = self.file.line(number, MAX_RECORD_BYTES, &mut bytes)?;
        Ok(end.map(|end| (bytes, end.is_cut)))
    }

    /// Reads the next record; false at the end of the file. `stands_alone` tells, by its fields,
    /// whether a line of the right number of fields is a record of its own.
    pub(crate) fn next(
        &mut self,
        record: &mut Record,
        stands_alone: impl Fn(&dyn Fn(usize) -> Vec<u8>) -> bool,
    ) -> Result<bool, RawError> {
        record.line = self.line;
        record.fault = None;
        let Some((first, is_cut)) = self.physical_line()? else {
            return Ok(false);
        };
        record.raw.clear();
        record.raw.extend_from_slice(without_terminator(&first));
        let mut splitter = Splitter::new(&mut record.fields);
        splitter.feed(&first, &mut record.fields);
        if is_cut {
            record.fault = Some(Fault::TooLong);
            return Ok(true);
        }
        if splitter.state == State::Broken {
            record.fault = Some(Fault::Quote);
        }
        if splitter.state != State::Quoted {
            return Ok(true);
        }
        // The quoted field goes on, or its quote is broken: look ahead to tell.
        let mut whole = first;
        let mut looked_at: Vec<(Vec<u8>, bool)> = Vec::new();
        let is_whole = loop {
            let number = self.line + looked_at.len() as u64;
            let next = match self.ahead.pop_front() {
                Some(next) => Some(next),
                None => self.read_line(number)?,
            };
            let Some((line, is_cut)) = next else {
                break false;
            };
            let starts_anew = is_cut || self.is_record(&line, &stands_alone);
            whole.extend_from_slice(&line);
            if !starts_anew {
                splitter.feed(&line, &mut record.fields);
            }
            looked_at.push((line, is_cut));
            if starts_anew || whole.len() > MAX_RECORD_BYTES || looked_at.len() >= MAX_LINES {
                break false;
            }
            if splitter.state != State::Quoted {
                break splitter.state != State::Broken && record.fields.ends.len() == self.n_fields;
            }
        };
        if is_whole {
            record.raw = without_terminator(&whole).to_vec();
            self.line += looked_at.len() as u64;
        } else {
            record.fault = Some(Fault::Quote);
            for line in looked_at.into_iter().rev() {
                self.ahead.push_front(line);
            }
        }
        Ok(true)
    }

    fn is_record(
        &mut self,
        line: &[u8],
        stands_alone: impl Fn(&dyn Fn(usize) -> Vec<u8>) -> bool,
    ) -> bool {
        let mut splitter = Splitter::new(&mut self.alone);
        splitter.feed(line, &mut self.alone);
        let is_complete = matches!(
            splitter.state,
            State::Bare | State::FieldStart | State::QuoteInQuoted
        );
        is_complete
            && self.alone.ends.len() == self.n_fields
            && stands_alone(&|index| self.alone.get(index).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = Vec<(u64, Option<Fault>, Vec<String>)>;

    fn read(text: &[u8], n_fields: usize) -> Read {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("raw.csv");
        std::fs::write(&path, text).unwrap();
        let mut records = Records::new(RawFile::open(&path).unwrap(), n_fields);
        let mut record = Record::default();
        let mut all = Vec::new();
        let numeric =
            |field: &dyn Fn(usize) -> Vec<u8>| field(0).first().is_some_and(u8::is_ascii_digit);
        while records.next(&mut record, numeric).unwrap() {
            let fields = (0..record.len())
                .map(|index| String::from_utf8(record.field(index).to_vec()).unwrap())
                .collect();
            all.push((record.line, record.fault, fields));
        }
        all
    }

    fn texts(fields: &[&str]) -> Vec<String> {
        fields.iter().map(|field| (*field).to_owned()).collect()
    }

    #[test]
    fn quoted_fields_go_over_lines_and_lines_stay_exact() {
        let read = read(b"1,\"a \"\"b\"\",\r\nc\",x\r\n2,d,\"\"\r\n3,5\" nail,y", 3);
        assert_eq!(
            read,
            [
                (1, None, texts(&["1", "a \"b\",\r\nc", "x"])),
                (3, None, texts(&["2", "d", ""])),
                (4, None, texts(&["3", "5\" nail", "y"])),
            ]
        );
    }

    #[test]
    fn an_open_quote_costs_its_own_line_only() {
        let read = read(b"1,a,b\n2,\"open,b\n3,\"c, d\",e\n4,5\",f\n5,g,h\n", 3);
        let faults: Vec<_> = read
            .iter()
            .map(|(line, fault, _)| (*line, *fault))
            .collect();
        assert_eq!(
            faults,
            [
                (1, None),
                (2, Some(Fault::Quote)),
                (3, None),
                (4, None),
                (5, None)
            ]
        );
        assert_eq!(read[2].2, texts(&["3", "c, d", "e"]));
    }

    #[test]
    fn text_after_a_closing_quote_is_a_broken_quote() {
        let read = read(b"1,\"a\"b,c\n2,d,e\n", 3);
        assert_eq!(read[0].1, Some(Fault::Quote));
        assert_eq!(read[1], (2, None, texts(&["2", "d", "e"])));
    }

    #[test]
    fn an_open_quote_at_the_end_is_refused_once() {
        let read = read(b"1,a,b\n2,\"c,d\nx,\ny", 3);
        let faults: Vec<_> = read
            .iter()
            .map(|(line, fault, _)| (*line, *fault))
            .collect();
        assert_eq!(
            faults,
            [(1, None), (2, Some(Fault::Quote)), (3, None), (4, None)]
        );
    }

    proptest! {
        /// What a standard writer writes is read back as a standard reader reads it.
        #[test]
        fn well_formed_files_read_as_the_csv_crate_reads_them(
            rows in prop::collection::vec(prop::collection::vec("[a-z\",\n ]{0,12}", 4), 1..20),
        ) {
            let mut writer = csv::WriterBuilder::new()
                .quote_style(csv::QuoteStyle::Always)
                .terminator(csv::Terminator::CRLF)
                .from_writer(Vec::new());
            for row in &rows {
                // No digits, so that no piece of a field stands alone.
                let row: Vec<String> = row.iter().map(|field| format!("x{field}")).collect();
                writer.write_record(&row).unwrap();
            }
            let text = writer.into_inner().unwrap();
            let ours: Vec<Vec<String>> = read(&text, 4)
                .into_iter()
                .map(|(_, fault, fields)| { assert_eq!(fault, None); fields })
                .collect();
            let theirs: Vec<Vec<String>> = csv::ReaderBuilder::new()
                .has_headers(false)
                .from_reader(text.as_slice())
                .records()
                .map(|record| record.unwrap().iter().map(str::to_owned).collect())
                .collect();
            prop_assert_eq!(ours, theirs);
        }

        /// Whatever the bytes, every physical line belongs to exactly one record.
        #[test]
        fn every_line_is_accounted_for(text in "[1a\",\r\n]{0,200}") {
            let mut wanted = text.as_bytes().split_inclusive(|&byte| byte == b'\n').count() as u64;
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("raw.csv");
            std::fs::write(&path, &text).unwrap();
            let mut records = Records::new(RawFile::open(&path).unwrap(), 2);
            let mut record = Record::default();
            let mut next = 1;
            while records.next(&mut record, |_| true).unwrap() {
                prop_assert_eq!(record.line, next);
                let n_lines = record.raw.split(|&byte| byte == b'\n').count() as u64;
                next += n_lines;
                wanted -= n_lines;
            }
            prop_assert_eq!(wanted, 0);
        }
    }
}
