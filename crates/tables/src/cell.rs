//! The types that a column can have, each with its Arrow type and its way in and out of an array.

use std::fmt;
use std::str::FromStr;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanBuilder, ListBuilder,
    PrimitiveBuilder, StringBuilder, StringDictionaryBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int8Type, Int64Type, TimeUnit, TimestampMillisecondType,
    UInt32Type, UInt64Type,
};
use std::sync::Arc;

/// An instant in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub i64);

/// Text that is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an instant, expected a date such as `2011-12-09` or `2011-12-09T12:50:00Z` (UTC where no offset is given)"
)]
pub struct NotAnInstant(pub String);

/// Reads ISO 8601: a date, a date with a time, or a time with an offset; UTC where none is given.
impl FromStr for Instant {
    type Err = NotAnInstant;
    fn from_str(text: &str) -> Result<Self, NotAnInstant> {
        text.parse::<jiff::Timestamp>()
            .or_else(|_| {
                let civil: jiff::civil::DateTime = text.parse()?;
                jiff::tz::Offset::UTC.to_timestamp(civil)
            })
            .map(|timestamp| Self(timestamp.as_millisecond()))
            .map_err(|_| NotAnInstant(text.to_owned()))
    }
}

/// Writes ISO 8601 in UTC, such as `2011-12-09T12:50:00Z`.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{} ms since 1970-01-01", self.0),
        }
    }
}

impl serde::Serialize for Instant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Instant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A value that can stand in a column.
pub trait Cell: Sized {
    /// Collects values into an array.
    type Builder: Default;
    /// An array of the right type, ready to be read.
    type Reader<'a>;
    /// Whether the column may hold nulls.
    const NULLABLE: bool = false;
    /// Arrow type of the column.
    fn data_type() -> DataType;
    /// Adds one value.
    fn append(self, builder: &mut Self::Builder);
    /// Ends the array.
    fn finish(builder: &mut Self::Builder) -> ArrayRef;
    /// Views an array whose type was checked against [`Cell::data_type`]; `None` if it differs.
    fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>>;
    /// Reads one value.
    fn get(reader: &Self::Reader<'_>, index: usize) -> Self;
}

macro_rules! primitive {
    ($type:ty, $arrow:ty) => {
        impl Cell for $type {
            type Builder = PrimitiveBuilder<$arrow>;
            type Reader<'a> = &'a arrow::array::PrimitiveArray<$arrow>;
            fn data_type() -> DataType {
                <$arrow as ArrowPrimitiveType>::DATA_TYPE
            }
            fn append(self, builder: &mut Self::Builder) {
                builder.append_value(self);
            }
            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }
            fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
                array.as_primitive_opt::<$arrow>()
            }
            fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
                reader.value(index)
            }
        }
        impl Cell for Option<$type> {
            type Builder = PrimitiveBuilder<$arrow>;
            type Reader<'a> = &'a arrow::array::PrimitiveArray<$arrow>;
            const NULLABLE: bool = true;
            fn data_type() -> DataType {
                <$arrow as ArrowPrimitiveType>::DATA_TYPE
            }
            fn append(self, builder: &mut Self::Builder) {
                builder.append_option(self);
            }
            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }
            fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
                array.as_primitive_opt::<$arrow>()
            }
            fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
                reader.is_valid(index).then(|| reader.value(index))
            }
        }
    };
}

primitive!(u32, UInt32Type);
primitive!(u64, UInt64Type);
primitive!(i64, Int64Type);
primitive!(f64, Float64Type);

const UTC: &str = "UTC";

/// Builds a UTC timestamp column.
pub struct InstantBuilder(TimestampMillisecondBuilder);

impl Default for InstantBuilder {
    fn default() -> Self {
        Self(TimestampMillisecondBuilder::new().with_timezone(UTC))
    }
}

impl Cell for Option<Instant> {
    type Builder = InstantBuilder;
    type Reader<'a> = &'a arrow::array::PrimitiveArray<TimestampMillisecondType>;
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()))
    }
    fn append(self, builder: &mut Self::Builder) {
        builder.0.append_option(self.map(|instant| instant.0));
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.0.finish())
    }
    fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
        array.as_primitive_opt::<TimestampMillisecondType>()
    }
    fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
        reader.is_valid(index).then(|| Instant(reader.value(index)))
    }
}

impl Cell for bool {
    type Builder = BooleanBuilder;
    type Reader<'a> = &'a arrow::array::BooleanArray;
    fn data_type() -> DataType {
        DataType::Boolean
    }
    fn append(self, builder: &mut Self::Builder) {
        builder.append_value(self);
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
        array.as_boolean_opt()
    }
    fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
        reader.value(index)
    }
}

impl Cell for Option<bool> {
    type Builder = BooleanBuilder;
    type Reader<'a> = &'a arrow::array::BooleanArray;
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Boolean
    }
    fn append(self, builder: &mut Self::Builder) {
        builder.append_option(self);
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
        array.as_boolean_opt()
    }
    fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
        reader.is_valid(index).then(|| reader.value(index))
    }
}

impl Cell for String {
    type Builder = StringBuilder;
    type Reader<'a> = &'a arrow::array::StringArray;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn append(self, builder: &mut Self::Builder) {
        builder.append_value(self);
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
        array.as_string_opt::<i32>()
    }
    fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
        reader.value(index).to_owned()
    }
}

impl Cell for Option<String> {
    type Builder = StringBuilder;
    type Reader<'a> = &'a arrow::array::StringArray;
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn append(self, builder: &mut Self::Builder) {
        builder.append_option(self);
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
        array.as_string_opt::<i32>()
    }
    fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
        reader
            .is_valid(index)
            .then(|| reader.value(index).to_owned())
    }
}

impl Cell for Vec<u8> {
    type Builder = BinaryBuilder;
    type Reader<'a> = &'a arrow::array::BinaryArray;
    fn data_type() -> DataType {
        DataType::Binary
    }
    fn append(self, builder: &mut Self::Builder) {
        builder.append_value(self);
    }
    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
        array.as_binary_opt::<i32>()
    }
    fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
        reader.value(index).to_vec()
    }
}

/// The element field of every list column: named `item`, never null.
fn element(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, false))
}

macro_rules! list {
    ($type:ty, $builder:ident) => {
        /// Builds a list column without null elements.
        pub struct $builder(ListBuilder<<$type as Cell>::Builder>);

        impl Default for $builder {
            fn default() -> Self {
                Self(
                    ListBuilder::new(<$type as Cell>::Builder::default())
                        .with_field(element(<$type as Cell>::data_type())),
                )
            }
        }

        impl Cell for Vec<$type> {
            type Builder = $builder;
            type Reader<'a> = &'a arrow::array::ListArray;
            fn data_type() -> DataType {
                DataType::List(element(<$type as Cell>::data_type()))
            }
            fn append(self, builder: &mut Self::Builder) {
                for value in self {
                    <$type as Cell>::append(value, builder.0.values());
                }
                builder.0.append(true);
            }
            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.0.finish())
            }
            fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
                array.as_list_opt::<i32>()
            }
            fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
                let values = reader.value(index);
                // The schema check before reading fixed the element type.
                <$type as Cell>::reader(&values).map_or_else(Vec::new, |elements| {
                    (0..values.len())
                        .map(|at| <$type as Cell>::get(&elements, at))
                        .collect()
                })
            }
        }
    };
}

list!(u32, U32ListBuilder);
list!(f64, F64ListBuilder);
list!(bool, BoolListBuilder);
list!(String, StringListBuilder);

/// A word that is not one of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`, expected one of {}", list_of(.known))]
pub struct UnknownWord {
    /// The enumeration.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What is known.
    pub known: &'static [&'static str],
}

fn list_of(known: &[&str]) -> String {
    known
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads and writes an enumeration as a dictionary-encoded word: one byte in memory, readable on disk.
macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident, $what:literal, { $($(#[doc = $vdoc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $vdoc])+ $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Their words, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
            /// The word on disk.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { what: $what, found: word.to_owned(), known: Self::WORDS }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Cell for $name {
            type Builder = StringDictionaryBuilder<Int8Type>;
            type Reader<'a> = (&'a arrow::array::DictionaryArray<Int8Type>, Vec<Option<Self>>);
            fn data_type() -> DataType {
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))
            }
            fn append(self, builder: &mut Self::Builder) {
                builder.append_value(self.as_str());
            }
            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }
            fn reader(array: &ArrayRef) -> Option<Self::Reader<'_>> {
                let dictionary = array.as_dictionary_opt::<Int8Type>()?;
                let words = dictionary.values().as_string_opt::<i32>()?;
                let parsed = words.iter().map(|word| word.and_then(|word| word.parse().ok())).collect();
                Some((dictionary, parsed))
            }
            fn get(reader: &Self::Reader<'_>, index: usize) -> Self {
                // A word outside the enumeration is refused when the batch is opened, see `is_known`.
                reader
                    .0
                    .key(index)
                    .and_then(|key| reader.1.get(key).copied().flatten())
                    .unwrap_or(Self::ALL[0])
            }
        }
    };
}

words! {
    /// What a user did.
    Event, "event", {
        /// Looked at the item.
        View = "view",
        /// Clicked on it.
        Click = "click",
        /// Marked it.
        Favorite = "favorite",
        /// Put it into the cart.
        Cart = "cart",
        /// Bought it.
        Purchase = "purchase",
        /// Rated it.
        Rating = "rating",
        /// Took a purchase back.
        Cancel = "cancel",
    }
}

words! {
    /// A part of the split data.
    Part, "part", {
        /// Samples to train on.
        Training = "training",
        /// Requests for early stopping and as target of importance.
        ValuationFit = "valuation.fit",
        /// Requests for the choice of hyper-parameters.
        ValuationTune = "valuation.tune",
        /// Requests that only judge.
        Test = "test",
    }
}

words! {
    /// What stands between the gradients of a sample and of the target.
    Preconditioner, "preconditioner", {
        /// What `AdamW` divides a gradient by.
        Adam = "adam",
        /// A damped Fisher matrix, a Kronecker product for each layer.
        Kfac = "kfac",
        /// The same with measured eigenvalues.
        Ekfac = "ekfac",
    }
}

words! {
    /// Where a sample comes from.
    Origin, "origin", {
        /// An event of the log.
        Observed = "observed",
        /// A copy made by augmentation.
        Copy = "copy",
    }
}

words! {
    /// The end of a score's scale that marks suspicious samples.
    Suspect, "end of the scale", {
        /// Low scores are suspicious, as for every helpfulness.
        Low = "low",
        /// High scores are suspicious, as for a loss.
        High = "high",
    }
}

words! {
    /// Where a sample stands among all by its score.
    Tier, "tier", {
        /// At the suspicious end.
        Low = "low",
        /// Between the two.
        Middle = "middle",
        /// At the other end.
        High = "high",
        /// Without a score.
        Unscored = "unscored",
    }
}

/// Whether some enumeration has this word. The columns' types do not overlap in meaning, so a word
/// of another enumeration can only come from a file that we did not write.
pub(crate) fn is_known_word(word: &str) -> bool {
    [
        Event::WORDS,
        Part::WORDS,
        Origin::WORDS,
        Preconditioner::WORDS,
        Suspect::WORDS,
        Tier::WORDS,
    ]
    .iter()
    .any(|words| words.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_and_written_in_utc() {
        let noon = Instant(1_323_435_000_000);
        for text in [
            "2011-12-09T12:50:00Z",
            "2011-12-09T12:50",
            "2011-12-09 12:50:00",
            "2011-12-09T13:50:00+01:00",
        ] {
            assert_eq!(text.parse(), Ok(noon), "{text}");
        }
        assert_eq!("1970-01-02".parse(), Ok(Instant(86_400_000)));
        assert_eq!(noon.to_string(), "2011-12-09T12:50:00Z");
        assert_eq!(noon.to_string().parse(), Ok(noon));
        let message = "yesterday".parse::<Instant>().unwrap_err().to_string();
        assert!(message.contains("`yesterday`"), "{message}");
    }
}
