//! UCI Online Retail: one line of an invoice per record, comma separated, plain or gzip.
//!
//! The title of an item is the description of its earliest record with a customer, blank or not; of
//! an item that no customer ever touched, that of its earliest record. Any other choice would let
//! later records speak of earlier ones: the most frequent description, or the first that is not
//! blank. An item of a training part has a record with a customer before the split, which settles
//! its title. Records without a customer are the warehouse's, and their descriptions are notes such
//! as `damaged`.

use std::collections::BTreeMap;
use std::path::Path;

use seed::Seed;
use serde::{Deserialize, Serialize};
use tables::{Event, Instant, Interaction, Item, Reject, SampleId, User};

use crate::dataset::{
    Dataset, DatasetError, FileSummary, Parameter, ParameterError, Raw, Sink, Source, Summary,
    Takes,
};
use crate::fields::{MAX_ID_BYTES, excerpt, number, price_e4, wall_clock};
use crate::raw::{RawError, RawErrorKind, RawFile};
use crate::records::{Fault, MAX_LINES, MAX_RECORD_BYTES, Record, Records};

const COLUMNS: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];
const INVOICE: usize = 0;
const STOCK_CODE: usize = 1;
const DESCRIPTION: usize = 2;
const QUANTITY: usize = 3;
const DATE: usize = 4;
const PRICE: usize = 5;
const CUSTOMER: usize = 6;
const COUNTRY: usize = 7;

#[cfg(test)]
mod tests;

/// Records between two reports of progress.
const REPORT_EVERY: u64 = 1 << 14;

/// Encoding of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    #[default]
    Utf8,
    Latin1,
}

/// Parameters as written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Parameters {
    encoding: Encoding,
}

/// The source.
#[derive(Debug)]
pub(crate) struct OnlineRetail {
    encoding: Encoding,
}

impl Source for OnlineRetail {
    const NAME: &'static str = "online_retail";
    const REVISION: u32 = 2;
    const DOC: &'static str = "UCI Online Retail: invoices of a gift shop, comma separated, plain or gzip; cancellations are events `cancel`.";
    const TAKES: &'static [Takes] = &[Takes::File];
    const PARAMETERS: &'static [Parameter] = &[Parameter {
        name: "encoding",
        doc: "`utf8` or `latin1`",
    }];
    type Parameters = Parameters;

    fn new(parameters: Parameters) -> Result<Self, ParameterError> {
        Ok(Self {
            encoding: parameters.encoding,
        })
    }
}

/// Why a record is refused: the class for the audit, what is wrong, what to do.
struct Refusal {
    class: &'static str,
    reason: String,
    hint: &'static str,
}

impl Refusal {
    fn new(class: &'static str, reason: String, hint: &'static str) -> Self {
        Self {
            class,
            reason,
            hint,
        }
    }
}

/// What the earliest record says of an item or a user.
struct Earliest {
    /// Records without a customer come after all others, then the earlier ones come first.
    place: (bool, Instant),
    text: Option<String>,
}

impl Earliest {
    /// Keeps the text that comes first; of equal places the first in file order.
    fn keep(texts: &mut Shortlex<Self>, id: &str, place: (bool, Instant), text: &str) {
        let id = (id.len(), id.to_owned());
        let is_first = texts.get(&id).is_none_or(|known| place < known.place);
        if is_first {
            let text = filled(text);
            texts.insert(id, Self { place, text });
        }
    }
}

/// Raw identities in shortlex order: by length, then by bytes.
type Shortlex<V> = BTreeMap<(usize, String), V>;

impl Dataset for OnlineRetail {
    fn read(&self, raw: &Raw, _: Seed, sink: &mut dyn Sink) -> Result<Summary, DatasetError> {
        // `ingest` has checked that a file is named; an empty path is reported as missing.
        let path = raw.file.as_deref().unwrap_or(Path::new(""));
        let file = RawFile::open(path)?;
        let mut summary = FileSummary {
            name: file.name().to_owned(),
            ..FileSummary::default()
        };
        let n_bytes = file.n_bytes();
        let mut records = Records::new(file, COLUMNS.len());
        let mut record = Record::default();
        check_header(&mut records, &mut record)?;
        let mut titles: Shortlex<Earliest> = BTreeMap::new();
        let mut countries: Shortlex<Earliest> = BTreeMap::new();
        while records.next(&mut record, is_record)? {
            let ordinal = summary.n_records;
            summary.n_records += 1;
            if ordinal.is_multiple_of(REPORT_EVERY) {
                sink.progress(records.file().n_read(), n_bytes);
            }
            let sample_id = SampleId::new(0, ordinal, 0).ok_or_else(|| {
                records
                    .file()
                    .error(Some(record.line), RawErrorKind::TooManyEvents)
            })?;
            let text = self.fields(&record, &records)?;
            match parse(&record, &text) {
                Ok(line) => {
                    let place = (line.user_id.is_none(), line.occurred_at);
                    Earliest::keep(&mut titles, &line.item_id, place, &text[DESCRIPTION]);
                    if let Some(user_id) = &line.user_id {
                        Earliest::keep(&mut countries, user_id, place, &text[COUNTRY]);
                    }
                    sink.interaction(line.interaction(sample_id, record.line))?;
                }
                Err(refusal) => {
                    summary.n_rejected += 1;
                    if summary.first_reject.is_none() {
                        summary.first_reject = Some((record.line, refusal.reason.clone()));
                    }
                    sink.reject(
                        refusal.class,
                        Reject {
                            file: summary.name.clone(),
                            line: record.line,
                            reason: refusal.reason,
                            hint: refusal.hint.to_owned(),
                            raw: record.raw.clone(),
                        },
                    )?;
                }
            }
        }
        sink.progress(n_bytes, n_bytes);
        for ((_, item_id), title) in titles {
            sink.item(Item {
                item_id,
                title: title.text,
                description: None,
                category: None,
                brand: None,
                price_e4: None,
                attributes: Vec::new(),
            })?;
        }
        for ((_, user_id), country) in countries {
            sink.user(User {
                user_id,
                segment: country.text,
            })?;
        }
        Ok(Summary {
            files: vec![summary],
        })
    }
}

fn check_header(records: &mut Records, record: &mut Record) -> Result<(), RawError> {
    if !records.next(record, |_| true)? {
        return Err(records.file().error(None, RawErrorKind::Empty));
    }
    let is_right = record.fault.is_none()
        && record.len() == COLUMNS.len()
        && COLUMNS.iter().enumerate().all(|(index, column)| {
            let found = record.field(index);
            // Spreadsheets put a byte-order mark before the first column.
            found.strip_prefix(b"\xef\xbb\xbf").unwrap_or(found) == column.as_bytes()
        });
    if is_right {
        return Ok(());
    }
    let found = excerpt(&String::from_utf8_lossy(&record.raw));
    let expected = COLUMNS.join(",");
    Err(records
        .file()
        .error(Some(1), RawErrorKind::Header { found, expected }))
}

/// Whether a line of eight fields is a record of its own, rather than the middle of a quoted field.
fn is_record(field: &dyn Fn(usize) -> Vec<u8>) -> bool {
    let text = |index| String::from_utf8_lossy(&field(index)).into_owned();
    !field(INVOICE).is_empty() && wall_clock(&text(DATE)).is_some()
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A record whose fields make sense.
struct Line {
    invoice: String,
    item_id: String,
    user_id: Option<String>,
    event: Event,
    quantity: f64,
    occurred_at: Instant,
    price_e4: i64,
}

impl Line {
    fn interaction(self, sample_id: SampleId, line: u64) -> Interaction {
        Interaction {
            sample_id: sample_id.0,
            line,
            user_id: self.user_id,
            item_id: self.item_id,
            event: self.event,
            occurred_at: Some(self.occurred_at),
            value: Some(self.quantity),
            price_e4: Some(self.price_e4),
            session_id: Some(self.invoice),
            query_id: None,
            shown_rank: None,
        }
    }
}

impl OnlineRetail {
    /// The fields as text; other bytes than the declared encoding's are damage of the whole file.
    fn fields(&self, record: &Record, records: &Records) -> Result<[String; 8], RawError> {
        let mut text: [String; 8] = Default::default();
        for (index, text) in text.iter_mut().enumerate() {
            let bytes = record.field(index);
            *text = match self.encoding {
                Encoding::Latin1 => bytes.iter().copied().map(char::from).collect(),
                Encoding::Utf8 => match std::str::from_utf8(bytes) {
                    Ok(valid) => valid.to_owned(),
                    Err(_) => {
                        return Err(records.file().error(
                            Some(record.line),
                            RawErrorKind::Encoding {
                                remedy: "write `dataset: { name: online_retail, encoding: latin1 }` if the file is ISO 8859-1",
                            },
                        ));
                    }
                },
            };
        }
        Ok(text)
    }
}

fn parse(record: &Record, text: &[String; 8]) -> Result<Line, Refusal> {
    match record.fault {
        Some(Fault::Quote) => {
            return Err(Refusal::new(
                "broken quote",
                "a quote is not closed, or closed in the middle of a field".to_owned(),
                "close the quote before the next comma; write a quote inside a quoted field twice",
            ));
        }
        Some(Fault::TooLong) => {
            return Err(Refusal::new(
                "record too long",
                format!("more than {MAX_RECORD_BYTES} bytes or {MAX_LINES} lines in one record"),
                "check the line ends of the file",
            ));
        }
        None => {}
    }
    if record.len() != COLUMNS.len() {
        return Err(Refusal::new(
            "wrong number of fields",
            format!("{} fields, expected {}", record.len(), COLUMNS.len()),
            "put fields that hold commas between double quotes",
        ));
    }
    for index in [INVOICE, STOCK_CODE, CUSTOMER] {
        if text[index].len() > MAX_ID_BYTES {
            return Err(Refusal::new(
                "identity too long",
                format!(
                    "`{}` has {} bytes, at most {MAX_ID_BYTES} are read",
                    COLUMNS[index],
                    text[index].len()
                ),
                "check the separators and quotes of the line",
            ));
        }
    }
    for index in [INVOICE, STOCK_CODE] {
        if text[index].is_empty() {
            return Err(Refusal::new(
                "missing value",
                format!("`{}` is empty", COLUMNS[index]),
                "every line needs an invoice and a stock code",
            ));
        }
    }
    let unreadable = |index: usize, expected: &str| {
        format!(
            "`{}` is `{}`, expected {expected}",
            COLUMNS[index],
            excerpt(&text[index])
        )
    };
    let quantity = number(&text[QUANTITY]).ok_or_else(|| {
        Refusal::new(
            "unreadable number",
            unreadable(QUANTITY, "a number"),
            "write a plain decimal number with a point",
        )
    })?;
    let occurred_at = wall_clock(&text[DATE]).ok_or_else(|| {
        Refusal::new(
            "unreadable date",
            unreadable(DATE, "a date such as `12/1/2010 8:26`"),
            "write M/D/YYYY H:MM, DD-MM-YYYY HH:MM or YYYY-MM-DD HH:MM",
        )
    })?;
    let price_e4 = price_e4(&text[PRICE]).ok_or_else(|| {
        Refusal::new(
            "unreadable number",
            unreadable(PRICE, "a decimal number with at most four decimals"),
            "write a plain decimal number with a point",
        )
    })?;
    if price_e4 < 0 {
        return Err(Refusal::new(
            "negative price",
            format!(
                "`{}` is negative: `{}`",
                COLUMNS[PRICE],
                excerpt(&text[PRICE])
            ),
            "book adjustments elsewhere; a cancellation has a negative quantity, never a negative price",
        ));
    }
    let is_cancel = text[INVOICE].starts_with(['C', 'c']) || quantity < 0.0;
    Ok(Line {
        invoice: text[INVOICE].clone(),
        item_id: text[STOCK_CODE].clone(),
        user_id: filled(&text[CUSTOMER]),
        event: if is_cancel {
            Event::Cancel
        } else {
            Event::Purchase
        },
        quantity,
        occurred_at,
        price_e4,
    })
}
