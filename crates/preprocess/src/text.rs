//! Text as shops write it: entities, doubled spaces and control characters out.

/// Named entities that occur in product text, with what they stand for.
const NAMED: &[(&str, char)] = &[
    ("amp", '&'),
    ("apos", '\''),
    ("cent", '¢'),
    ("copy", '©'),
    ("deg", '°'),
    ("eacute", 'é'),
    ("euro", '€'),
    ("frac12", '½'),
    ("frac14", '¼'),
    ("gt", '>'),
    ("hellip", '…'),
    ("ldquo", '“'),
    ("lsquo", '‘'),
    ("lt", '<'),
    ("mdash", '—'),
    ("middot", '·'),
    ("nbsp", ' '),
    ("ndash", '–'),
    ("pound", '£'),
    ("quot", '"'),
    ("rdquo", '”'),
    ("reg", '®'),
    ("rsquo", '’'),
    ("times", '×'),
    ("trade", '™'),
    ("yen", '¥'),
];

/// Longest name or number between `&` and `;` that is looked at.
const LONGEST: usize = 8;

/// What stands between `&` and `;`.
fn meaning(entity: &str) -> Option<char> {
    if let Some(number) = entity.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    NAMED
        .iter()
        .find(|(name, _)| *name == entity)
        .map(|(_, meaning)| *meaning)
}

/// Decodes entities once: what an entity gives is not read as an entity again.
fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        decoded.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(';').filter(|end| *end <= LONGEST + 1);
        if let Some((end, meaning)) = end.and_then(|end| Some((end, meaning(&rest[1..end])?))) {
            decoded.push(meaning);
            rest = &rest[end + 1..];
        } else {
            decoded.push('&');
            rest = &rest[1..];
        }
    }
    decoded.push_str(rest);
    decoded
}

/// Decodes entities, collapses white space and control characters to single spaces, and trims;
/// `None` if nothing is left.
pub(crate) fn clean(text: &str) -> Option<String> {
    let decoded = decode(text);
    let words: Vec<&str> = decoded
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_decoded_and_collapsed() {
        for (raw, cleaned) in [
            ("  BLACK &amp; WHITE\t\tMUG \r\n", "BLACK & WHITE MUG"),
            ("&amp;lt;", "&lt;"),
            ("&pound;5 &#163;5 &#xA3;5", "£5 £5 £5"),
            ("8&quot;&nbsp;plate", "8\" plate"),
            ("红色　杯子", "红色 杯子"),
            // Not entities: left as they are.
            (
                "R&D; &; & &unknown; &#xD800; &#;",
                "R&D; &; & &unknown; &#xD800; &#;",
            ),
        ] {
            assert_eq!(clean(raw).as_deref(), Some(cleaned), "{raw}");
        }
        assert_eq!(clean(" \u{7} &nbsp;"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_left_without_double_spaces(text in "\\PC{0,40}|[&#;xamp0-9 \t]{0,40}") {
            if let Some(cleaned) = clean(&text) {
                prop_assert!(!cleaned.contains("  "));
                prop_assert_eq!(cleaned.trim(), cleaned.as_str());
            }
        }
    }
}
