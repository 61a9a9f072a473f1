//! Names made of 32 bytes: what content hashes, artifacts and keys are called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not {what}: expected 64 lower-case hexadecimal digits")]
pub struct ParseDigestError {
    /// What was expected, with its article.
    pub what: &'static str,
    /// What was found.
    pub found: String,
}

/// Writes bytes as lower-case hexadecimal digits.
fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// Reads 64 lower-case hexadecimal digits.
fn read_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

macro_rules! digest {
    ($(#[doc = $doc:literal])+ $name:ident, $what:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first 8 hexadecimal digits, for people.
            pub fn short(&self) -> String {
                let [a, b, c, d, ..] = self.0;
                format!("{a:02x}{b:02x}{c:02x}{d:02x}")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, ParseDigestError> {
                read_hex(text).map(Self).ok_or_else(|| ParseDigestError {
                    what: $what,
                    found: text.to_owned(),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest! {
    /// BLAKE3 of the content of a file or folder.
    ContentHash, "a content hash"
}

digest! {
    /// SHA-256 of the content of a file: what readers outside this project expect.
    Sha256Hash, "a SHA-256 hash"
}

digest! {
    /// Name of an artifact: BLAKE3 over the list of its files.
    ///
    /// The list has one line for each file in the order of their paths (as bytes):
    /// `PATH <tab> LENGTH <tab> BLAKE3 <newline>`. `manifest.json` is not in it.
    ArtifactId, "an artifact id"
}

digest! {
    /// Name of a key: BLAKE3 of its canonical JSON.
    KeyId, "a key id"
}

impl ContentHash {
    /// Hash of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_and_read_in_lower_case_hexadecimal() {
        let hash = ContentHash::of(b"");
        // The published BLAKE3 of nothing.
        let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(hash.to_string(), text);
        assert_eq!(hash.short(), "af1349b9");
        assert_eq!(text.parse::<ContentHash>().unwrap(), hash);
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<ContentHash>(&json).unwrap(), hash);
    }

    #[test]
    fn other_spellings_are_refused() {
        let text = ContentHash::of(b"").to_string();
        for wrong in [
            text.to_uppercase(),
            text[..63].to_owned(),
            format!("{text}0"),
            text.replace('a', "g"),
            String::new(),
            "ä".repeat(32),
        ] {
            let error = wrong.parse::<ArtifactId>().unwrap_err();
            assert!(error.to_string().contains("is not an artifact id"));
        }
    }
}
