//! The link between a typed row and its table: one declaration makes both.

use arrow::array::{ArrayRef, RecordBatch};

use crate::table::{ReadErrorKind, Table};

/// A typed row of one table.
pub trait Row: Sized + Send + 'static {
    /// Collects rows into columns.
    type Builders: Default;
    /// The table it belongs to.
    fn table() -> &'static Table;
    /// Adds the row to the columns.
    fn append(self, builders: &mut Self::Builders);
    /// Ends the columns, in the order of the table.
    fn finish(builders: &mut Self::Builders) -> Vec<ArrayRef>;
    /// Reads all rows of a batch whose schema was checked.
    ///
    /// # Errors
    /// If a column is not of the declared type.
    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ReadErrorKind>;
}

/// Declares a table: the static, its typed row and the conversion between rows and columns.
///
/// The row's fields are the columns, in order; a field's documentation is the column's.
macro_rules! table {
    (
        $(#[doc = $doc:literal])+
        pub $static:ident = $name:literal of $row:ident {
            $( $(#[doc = $field_doc:literal])+ $field:ident: $type:ty, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $row { $( $(#[doc = $field_doc])+ pub $field: $type, )+ }

        $(#[doc = $doc])+
        pub static $static: $crate::table::Table = $crate::table::Table {
            name: $name,
            doc: concat!($($doc, "\n"),+),
            columns: &[ $( $crate::table::Column {
                name: stringify!($field),
                data_type: <$type as $crate::cell::Cell>::data_type,
                is_nullable: <$type as $crate::cell::Cell>::NULLABLE,
                doc: concat!($($field_doc),+),
            }, )+ ],
        };

        const _: () = {
            /// One builder for each column.
            #[derive(Default)]
            pub struct Builders { $( $field: <$type as $crate::cell::Cell>::Builder, )+ }

            impl $crate::row::Row for $row {
                type Builders = Builders;
                fn table() -> &'static $crate::table::Table { &$static }
                fn append(self, builders: &mut Builders) {
                    $( <$type as $crate::cell::Cell>::append(self.$field, &mut builders.$field); )+
                }
                fn finish(builders: &mut Builders) -> Vec<arrow::array::ArrayRef> {
                    vec![ $( <$type as $crate::cell::Cell>::finish(&mut builders.$field), )+ ]
                }
                fn read(batch: &arrow::array::RecordBatch) -> Result<Vec<Self>, $crate::table::ReadErrorKind> {
                    let mut columns = batch.columns().iter();
                    $(
                        let $field = columns
                            .next()
                            .and_then(<$type as $crate::cell::Cell>::reader)
                            .ok_or($crate::table::ReadErrorKind::Column(stringify!($field)))?;
                    )+
                    Ok((0..batch.num_rows())
                        .map(|index| Self {
                            $( $field: <$type as $crate::cell::Cell>::get(&$field, index), )+
                        })
                        .collect())
                }
            }
        };
    };
}

pub(crate) use table;
