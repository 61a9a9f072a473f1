//! Text as shops write it: entities, doubled spaces and control characters out.

/// Entities that occur in product text, with what they stand for.
const ENTITIES: &[(&str, &str)] = &[
    ("&nbsp;", " "),
    ("&quot;", "\""),
    ("&#34;", "\""),
    ("&apos;", "'"),
    ("&#39;", "'"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    // Last: what it gives must not be read as an entity again.
    ("&amp;", "&"),
];

/// Decodes entities, collapses white space and control characters to single spaces, and trims;
/// `None` if nothing is left.
pub(crate) fn clean(text: &str) -> Option<String> {
    let mut decoded = text.to_owned();
    if decoded.contains('&') {
        for (entity, meaning) in ENTITIES {
            decoded = decoded.replace(entity, meaning);
        }
    }
    let words: Vec<&str> = decoded
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_and_collapsed() {
        assert_eq!(
            clean("  BLACK &amp; WHITE\t\tMUG \r\n").as_deref(),
            Some("BLACK & WHITE MUG")
        );
        assert_eq!(clean("&amp;lt;").as_deref(), Some("&lt;"));
        assert_eq!(clean("红色　杯子").as_deref(), Some("红色 杯子"));
        assert_eq!(clean(" \u{7} "), None);
    }
}
