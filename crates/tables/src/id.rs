//! Sample identities and the order of raw identities.

use std::cmp::Ordering;

/// File number of inserted events.
pub const INSERTED_FILE: u8 = 255;

/// Stands in `better` for a relevant item that is no candidate (cold): a miss.
pub const NOT_RANKED: u32 = u32::MAX;

/// Identity of an event and of the sample made from it: 8 bits file, 40 bits ordinal of the event
/// as read (a line may hold several), 16 bits copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId(pub u64);

impl SampleId {
    /// Largest ordinal that fits.
    pub const MAX_ORDINAL: u64 = (1 << 40) - 1;

    /// Packs an identity; `None` if the ordinal does not fit into 40 bits.
    pub const fn new(file: u8, ordinal: u64, copy: u16) -> Option<Self> {
        if ordinal > Self::MAX_ORDINAL {
            return None;
        }
        Some(Self(((file as u64) << 56) | (ordinal << 16) | copy as u64))
    }

    /// File number; [`INSERTED_FILE`] for inserted events.
    pub const fn file(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Ordinal of the event in its file.
    pub const fn ordinal(self) -> u64 {
        (self.0 >> 16) & Self::MAX_ORDINAL
    }

    /// Copy number; 0 for the event itself.
    pub const fn copy(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

/// Shortlex order: shorter first, then by bytes. For decimal numbers without leading zeros this is
/// the numeric order, so dense numbers keep the order of numeric identities.
pub fn shortlex(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}
